"""Adaptive conformal calibration: intervals that keep covering while the market changes, learning from every outcome.

Scores are normalised by the forecast's scale, so the volatility that can be forecast is divided out and what adapts is
the rest. See `online` for the method and its sources. An outcome over h bars is known h bars after its origin and is
learnt from then, so every horizon has a state of its own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from forexgpt_core.calibration.ranks import MISCOVERAGES, require_scales, widened
from forexgpt_core.calibration.state import (
    Ints,
    Learned,
    Pending,
    learned_from,
    pending_from,
    require_shapes,
    to_arrays,
)
from forexgpt_core.domain.forecasts import INTERVALS, Floats, ForecastBatch, Times
from forexgpt_core.errors import BadInput, BundleError
from forexgpt_core.models.files import read_json, write_json

ADAPTIVE = "adaptive"
FILE = "adaptive.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveSettings:
    """How an adaptive calibrator learns.

    Attributes:
        gammas: step of each expert, increasing; a single one is plain ACI, several are aggregated. 0 is the rolling
            window that never adapts.
        window_scores: newest scores that a radius is ranked among.
    """

    gammas: tuple[float, ...] = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
    window_scores: int = 1000

    def __post_init__(self) -> None:
        if not self.gammas or list(self.gammas) != sorted(set(self.gammas)):
            raise BadInput(f"gammas must be given in increasing order, each once; were {list(self.gammas)}")
        if self.gammas[0] < 0 or self.gammas[-1] > 1:
            raise BadInput(f"gammas must lie between 0 and 1, were {list(self.gammas)}")
        if self.window_scores < 20:
            raise BadInput(f"window_scores must be at least 20, was {self.window_scores}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdaptiveCalibrator:
    """The state of an adaptive calibrator after its newest origin. Never changed: every step returns the next one.

    Walking along a batch (`follow`) and stepping bar by bar (`observe`, then `apply`) give the same to the last bit.
    An infinite radius becomes the largest score of the window and as much again, an empty interval the smallest score,
    because a forecast's quantiles are finite; `learned.capped` counts where such bounds prevailed.

    Attributes:
        version: origins calibrated since the start; rises by one with each.
        as_of_utc: OPEN of the newest origin.
    """

    settings: AdaptiveSettings
    horizons_bars: tuple[int, ...]
    version: int
    as_of_utc: np.datetime64
    learned: Learned
    pending: Pending
    name: str = field(default=ADAPTIVE, init=False)

    def __post_init__(self) -> None:
        sizes = len(self.horizons_bars), self.settings.window_scores, len(self.settings.gammas)
        require_shapes(self.learned, self.pending, *sizes)

    @classmethod
    def start(
        cls, forecasts: ForecastBatch, returns: Floats, rows: Ints, *, settings: AdaptiveSettings | None = None
    ) -> Self:
        """Return the state after a calibration block, whose outcomes fill the window.

        Those of the block's end that are due later than its last row wait, as they will in earnest.

        Args:
            forecasts: uncalibrated, in time order.
            returns: (n, H) realised log returns, NaN where not matured.
            rows: (n,) place of each origin among the pair's bars; horizons count such bars.

        Raises:
            BadInput: shapes differ, origins are not in order, a scale is not positive, or the block is empty.
        """
        chosen = settings or AdaptiveSettings()
        if not len(forecasts):
            raise BadInput("an adaptive calibrator starts from a calibration block, which has no forecast")
        _require_order(forecasts, returns, rows, None, None)
        experts = len(chosen.gammas)
        nothing = Learned.empty(len(forecasts.horizons_bars), chosen.window_scores, MISCOVERAGES, experts)
        block = Pending.of(forecasts, returns, rows, experts)
        learned, block = _walked(forecasts.horizons_bars, chosen, nothing, block, len(block), int(rows[-1]))
        return cls(
            settings=chosen,
            horizons_bars=forecasts.horizons_bars,
            version=0,
            as_of_utc=np.datetime64(forecasts.origin_utc[-1], "us"),
            learned=learned,
            pending=block.unfinished(),
        )

    def follow(self, forecasts: ForecastBatch, returns: Floats, rows: Ints) -> tuple[ForecastBatch, Self]:
        """Return calibrated forecasts of later origins, each from what was due by its row, and the state after them.

        Args:
            forecasts: uncalibrated, in time order.
            returns: (n, H) realised log returns; one that is NaN when due is lost, one due after the last row waits.
            rows: (n,) place of each origin among the pair's bars, on from those of the state's own forecasts.

        Raises:
            BadInput: other horizons, shapes that differ, a scale that is not positive, or origins not after this state.
        """
        self._require_horizons(forecasts)
        newest = int(self.pending.rows[-1]) if len(self.pending) else None
        _require_order(forecasts, returns, rows, newest, self.as_of_utc)
        if not len(forecasts):
            return forecasts, self
        first = len(self.pending)
        both = self.pending.joined(Pending.of(forecasts, returns, rows, len(self.settings.gammas)))
        learned, both = _walked(self.horizons_bars, self.settings, self.learned, both, first, int(rows[-1]))
        after = replace(
            self,
            version=self.version + len(forecasts),
            as_of_utc=np.datetime64(forecasts.origin_utc[-1], "us"),
            learned=learned,
            pending=both.unfinished(),
        )
        label = f"{ADAPTIVE} v{self.version + 1}" + (f" to v{after.version}" if len(forecasts) > 1 else "")
        return _calibrated(forecasts, both.mixed[:, first:].transpose(1, 0, 2), label), after

    def observe(self, row: int, returns: Floats) -> Self:
        """Return the state once every outcome due by a row has been learnt from; again with the same row: unchanged.

        Args:
            row: place of the newest closed bar.
            returns: (P, H) realised log returns of `pending`'s forecasts, NaN where not known.
        """
        told = self.told(returns).pending
        learned, pending = _walked(self.horizons_bars, self.settings, self.learned, told, len(told), row)
        return replace(self, learned=learned, pending=pending.unfinished())

    def apply(self, forecasts: ForecastBatch, row: int) -> tuple[ForecastBatch, Self]:
        """Return the newest origin's forecast calibrated, and the state that now waits for its outcome.

        The state's own newest origin again gives the same forecast and the same state.

        Raises:
            BadInput: not one forecast, or of an origin before the state's newest.
        """
        if len(forecasts) != 1:
            raise BadInput(f"a step calibrates one forecast, was given {len(forecasts)}; `follow` takes many")
        again = self.version > 0 and forecasts.origin_utc[0] == self.as_of_utc
        if again and len(self.pending) and self.pending.origin_utc[-1] == self.as_of_utc:
            self._require_horizons(forecasts)
            mixed = self.pending.mixed[:, -1:].transpose(1, 0, 2)
            return _calibrated(forecasts, mixed, f"{ADAPTIVE} v{self.version}"), self
        return self.follow(forecasts, np.full(forecasts.scale.shape, np.nan), np.array([row]))

    def told(self, returns: Floats) -> Self:
        """Return the state with outcomes filled in, without learning from them: that is for their due row.

        Raises:
            BadInput: returns are not (P, H), or hold an infinite value.
        """
        if returns.shape != self.pending.returns.shape or np.isinf(returns).any():
            raise BadInput(
                f"outcomes must be finite or NaN, of shape {self.pending.returns.shape}; got shape {returns.shape}"
            )
        known = np.where(np.isnan(self.pending.returns), returns, self.pending.returns)
        return replace(self, pending=replace(self.pending, returns=known))

    def placed(self, ts_utc: Times) -> Self:
        """Return the state with its forecasts' rows counted among these bars, by time.

        Forecasts whose bar is not among them can never mature: they are left out and counted as lost.

        Args:
            ts_utc: (n,) OPEN of the pair's bars, increasing.
        """
        origins = self.pending.origin_utc
        rows, found = np.searchsorted(ts_utc, origins), np.isin(origins, ts_utc)
        learned = self.learned.copied()
        learned.fed[:, 1] += self.pending.waiting[:, ~found].sum(axis=1)
        pending = replace(self.pending, rows=rows.astype(np.int64)).take(found)
        return replace(self, learned=learned, pending=pending)

    def to_document(self) -> dict[str, object]:
        """Return the state as JSON that keeps every bit."""
        return {
            "format": _FORMAT,
            "settings": asdict(self.settings),
            "horizons_bars": list(self.horizons_bars),
            "coverages": list(INTERVALS),
            "version": self.version,
            "as_of_utc": str(self.as_of_utc.astype("datetime64[us]")),
            "learned": to_arrays(self.learned),
            "pending": to_arrays(self.pending),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the state that `to_document` wrote.

        Raises:
            BadInput: the document is something else, or was altered.
        """
        try:
            if (document["format"], document["coverages"]) != (_FORMAT, list(INTERVALS)):
                raise BadInput(f"it has format {document['format']} and coverages {document['coverages']}")
            settings = document["settings"]
            return cls(
                settings=AdaptiveSettings(**settings | {"gammas": tuple(settings["gammas"])}),
                horizons_bars=tuple(int(h) for h in document["horizons_bars"]),
                version=int(document["version"]),
                as_of_utc=np.datetime64(str(document["as_of_utc"]), "us"),
                learned=learned_from(document["learned"]),
                pending=pending_from(document["pending"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"this is no adaptive state of this release: {error}") from error

    def save(self, folder: Path) -> None:
        """Write adaptive.json, the state that live forecasting begins with."""
        write_json(folder / FILE, self.to_document())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: the file is missing or holds something else.
        """
        try:
            return cls.from_document(read_json(folder / FILE))
        except BadInput as error:
            raise BundleError(f"{FILE} cannot be read: {error}") from error

    def _require_horizons(self, forecasts: ForecastBatch) -> None:
        if forecasts.horizons_bars != self.horizons_bars:
            raise BadInput(f"calibrated for horizons {self.horizons_bars}, was given {forecasts.horizons_bars}")


def _walked(
    horizons_bars: tuple[int, ...],
    settings: AdaptiveSettings,
    learned: Learned,
    pending: Pending,
    first_new: int,
    until: int,
) -> tuple[Learned, Pending]:
    """Return both parts after a walk along every horizon; those given stay as they are."""
    from forexgpt_core.calibration.online import walk  # numba, which most processes do without

    after, walked = learned.copied(), pending.copied()
    offsets = pending.offsets()
    for h, horizon in enumerate(horizons_bars):
        after.size[h] = walk(
            horizon,
            until,
            first_new,
            walked.rows,
            offsets[h],
            walked.waiting[h],
            walked.radii[h],
            walked.mixed[h],
            walked.bounds[h],
            MISCOVERAGES,
            np.array(settings.gammas),
            after.scores[h],
            int(after.size[h]),
            after.working[h],
            after.regrets[h],
            after.moments[h],
            after.missed[h],
            after.capped[h],
            after.fed[h],
        )
    return after, walked


def _calibrated(forecasts: ForecastBatch, radii: Floats, label: str) -> ForecastBatch:
    quantiles = widened(forecasts.quantiles, radii * forecasts.scale[..., None])
    return replace(forecasts, quantiles=quantiles, paths=None, calibrator=label)


def _require_order(
    forecasts: ForecastBatch, returns: Floats, rows: Ints, newest_row: int | None, as_of_utc: np.datetime64 | None
) -> None:
    if returns.shape != forecasts.scale.shape:
        raise BadInput(f"returns have shape {returns.shape}, the forecasts {forecasts.scale.shape}")
    if rows.shape != (len(forecasts),) or not np.issubdtype(rows.dtype, np.integer):
        raise BadInput(f"rows must be {len(forecasts)} whole numbers, one per origin, got shape {rows.shape}")
    require_scales(forecasts)
    if (np.diff(rows) <= 0).any() or (np.diff(forecasts.origin_utc) <= np.timedelta64(0)).any():
        raise BadInput("origins must be in time order, each once, and so their rows")
    if not len(forecasts):
        return
    if as_of_utc is not None and forecasts.origin_utc[0] <= as_of_utc:
        raise BadInput(f"the state is as of {as_of_utc}; it cannot go back to {forecasts.origin_utc[0]}")
    if newest_row is not None and rows[0] <= newest_row:
        raise BadInput(f"the state's newest forecast is of row {newest_row}; the next cannot be of row {rows[0]}")
