"""Live forecasts stay calibrated between retrainings: the adaptive state of a bundle is loaded, stepped and kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.calibration.adaptive import AdaptiveCalibrator
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import NotReady
from forexgpt_core.features.windows import MarketArrays, Windows

_ATTEMPTS = 5
_CATCH_UP_BARS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratorKey:
    """Whose state it is: a deployed bundle's."""

    symbol: str
    timeframe: str
    bundle_hash: str


class CalibratorStore(Protocol):
    """Where states are kept. A version is written once; a reader may get BadInput for one it cannot understand."""

    def newest(self, key: CalibratorKey) -> AdaptiveCalibrator | None:
        """Return the newest state of a bundle, None before its first step."""
        ...

    def at(self, key: CalibratorKey, as_of_utc: np.datetime64) -> AdaptiveCalibrator | None:
        """Return the state whose newest origin is this one, None where there is none (any more)."""
        ...

    def advance(self, key: CalibratorKey, state: AdaptiveCalibrator, *, after: int | None) -> bool:
        """Store a state if `after` is still the newest version stored (None: none is), and return whether it was."""
        ...


@dataclass(frozen=True, slots=True)
class OnlyRead:
    """A store for those who look and trade nothing: its states are the live ones, and no step of theirs is kept."""

    store: CalibratorStore

    def newest(self, key: CalibratorKey) -> AdaptiveCalibrator | None:
        """Return the newest state of a bundle."""
        return self.store.newest(key)

    def at(self, key: CalibratorKey, as_of_utc: np.datetime64) -> AdaptiveCalibrator | None:
        """Return the state as of an origin."""
        return self.store.at(key, as_of_utc)

    def advance(self, key: CalibratorKey, state: AdaptiveCalibrator, *, after: int | None) -> bool:
        """Keep nothing."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCalibration:
    """Calibrates the newest bar's forecast by the adaptive state, which steps once per bar whoever asks, how often.

    Bars missed since the last step (an outage, the time between training and deployment) are forecast and followed
    first, at most the newest `catch_up_bars` of them, so an outage leaves the state as it would be without one.

    Attributes:
        initial: gives the state that the bundle carries, for before the first step.
    """

    store: CalibratorStore
    key: CalibratorKey
    initial: Callable[[], AdaptiveCalibrator]
    catch_up_bars: int = _CATCH_UP_BARS

    def calibrate(self, arrays: MarketArrays, pooled: Callable[[Windows], ForecastBatch]) -> ForecastBatch:
        """Return the calibrated forecast of the newest bar, and keep the state after it.

        Args:
            arrays: the pair's bars and features up to the newest closed bar.
            pooled: forecasts before calibration.

        Raises:
            NotReady: the state has gone beyond this bar, or other processes kept stepping it.
            BundleError: the bundle's initial state cannot be read. BadInput: nor can the stored one.
            StoreError: the store cannot be reached.
        """
        origin = arrays.ts_utc[-1]
        for _ in range(_ATTEMPTS):
            stored = self.store.newest(self.key)
            state = self.initial() if stored is None else stored
            if state.as_of_utc > origin:
                earlier = self.store.at(self.key, origin)
                if earlier is None:
                    raise NotReady(f"the calibrator state is as of {state.as_of_utc}, after the bar of {origin}")
                state = earlier
            if state.as_of_utc == origin:
                return self._again(state, arrays, pooled)
            calibrated, after = self._stepped(state, arrays, pooled)
            if self.store.advance(self.key, after, after=None if stored is None else stored.version):
                return calibrated
        raise NotReady(f"other processes stepped the calibrator state {_ATTEMPTS} times at the bar of {origin}")

    def _again(
        self, state: AdaptiveCalibrator, arrays: MarketArrays, pooled: Callable[[Windows], ForecastBatch]
    ) -> ForecastBatch:
        """Return the forecast of the state's own newest bar as it was made the first time."""
        newest = arrays.ts_utc.size - 1
        return state.apply(pooled(Windows(arrays=arrays, rows=np.array([newest]))), newest)[0]

    def _stepped(
        self, state: AdaptiveCalibrator, arrays: MarketArrays, pooled: Callable[[Windows], ForecastBatch]
    ) -> tuple[ForecastBatch, AdaptiveCalibrator]:
        """Return the newest bar's forecast, and the state after it and after every bar missed before it."""
        placed = state.placed(arrays.ts_utc)
        placed = placed.told(arrays.returns[placed.pending.rows])
        rows = self._unseen(state, arrays)
        calibrated, after = placed.follow(pooled(Windows(arrays=arrays, rows=rows)), arrays.returns[rows], rows)
        newest = calibrated.take(np.array([rows.size - 1]))
        return replace(newest, calibrator=f"{after.name} v{after.version}"), after

    def _unseen(self, state: AdaptiveCalibrator, arrays: MarketArrays) -> NDArray[np.int64]:
        """Return the rows since the state's newest origin that can be forecast, the newest last."""
        n = arrays.ts_utc.size
        first = int(np.searchsorted(arrays.ts_utc, state.as_of_utc, side="right"))
        rows = np.arange(max(first, n - self.catch_up_bars), n)
        known = np.isfinite(arrays.features[rows]).all(axis=1)
        return np.asarray(rows[known | (rows == n - 1)])  # whoever asks for the newest has seen to its features
