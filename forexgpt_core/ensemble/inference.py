"""Forecasts served from bundles that are loaded once: any horizons, cached, with latency and provenance."""

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from cachetools import LRUCache, TTLCache

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.ensemble.bundle import KIND, write_ensemble_bundle
from forexgpt_core.ensemble.forecaster import EnsembleForecaster
from forexgpt_core.ensemble.horizons import MINUTES, at_horizons, in_bars
from forexgpt_core.ensemble.pooling import pool
from forexgpt_core.errors import BadInput
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.bundle import BundleStore

__all__ = [
    "KIND",
    "MINUTES",
    "Answer",
    "EnsembleForecaster",
    "InferenceService",
    "Provenance",
    "ServiceSettings",
    "pool",
    "write_ensemble_bundle",
]

_BundleKey = tuple[str, str, str]
_Key = tuple[str, tuple[str, ...] | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """How much is kept, and for how long.

    Attributes:
        cache_seconds: age at which a forecast is made again.
        cached_forecasts: the least recently used go first.
        held_bundles: likewise.
    """

    cache_seconds: float = 3600.0
    cached_forecasts: int = 1024
    held_bundles: int = 16

    def __post_init__(self) -> None:
        if not self.cache_seconds > 0 or self.cached_forecasts < 1 or self.held_bundles < 1:
            raise BadInput(
                "cache_seconds must be above 0, cached_forecasts and held_bundles 1 or more; were"
                f" {self.cache_seconds}, {self.cached_forecasts} and {self.held_bundles}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What an answer was made of.

    Attributes:
        bundle_hash: of the ensemble.
        member_hashes, model_hashes: calibration and model bundle by family, of the members used.
        calibrator: what calibrated the combination.
        recipe_hash: of the features.
        input_hash: SHA-256 of every bar and feature the forecast may depend on.
        cached: whether it was made for an earlier question.
        interpolated_bars: horizons that were not trained; see `horizons.at_horizons`.
    """

    bundle_hash: str
    member_hashes: Mapping[str, str]
    model_hashes: Mapping[str, str]
    calibrator: str
    recipe_hash: str
    input_hash: str
    cached: bool
    interpolated_bars: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A forecast, how long it took, and what it was made of.

    Attributes:
        forecasts: column by column the horizons that were asked, in bars of the bundle's timeframe.
        latency_ms: from the question to the answer; the first one of a bundle loads it.
    """

    forecasts: ForecastBatch
    latency_ms: float
    provenance: Provenance


@dataclass(slots=True)
class _Held:
    """One bundle: its lock lets one thread load it, and one at a time ask it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    ensemble: EnsembleForecaster | None = None


class InferenceService:
    """Answers questions to deployed ensembles. Safe to share between threads.

    Each bundle is verified and loaded once in a process, however many threads ask first. An equal question (same
    bundle, bars and features) is answered from memory until it is `cache_seconds` old, for whatever horizons. A bundle
    is asked by one thread at a time, so equal questions at the same moment are computed once, too.
    """

    def __init__(
        self,
        store: BundleStore,
        *,
        settings: ServiceSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember where bundles are.

        Args:
            clock: seconds, never going back; cached forecasts age by it.
        """
        chosen = settings or ServiceSettings()
        self._store = store
        self._lock = threading.Lock()
        self._held: LRUCache[_BundleKey, _Held] = LRUCache(chosen.held_bundles)
        self._cache: TTLCache[_Key, ForecastBatch] = TTLCache(chosen.cached_forecasts, chosen.cache_seconds, clock)

    def ensemble(self, symbol: str, timeframe: str, hash12: str) -> EnsembleForecaster:
        """Return the ensemble of a bundle, loaded on first use.

        Raises:
            BundleError: a bundle is missing or altered, or a member does not fit; the next call tries again.
        """
        held = self._slot(symbol, timeframe, hash12)
        with held.lock:
            return self._loaded(held, symbol, timeframe, hash12)

    def forecast(
        self,
        windows: Windows,
        hash12: str,
        *,
        horizons: Sequence[int] | None = None,
        unit: Timeframe | str | None = None,
        families: Collection[str] | None = None,
        calibrate: Callable[[EnsembleForecaster], ForecastBatch] | None = None,
    ) -> Answer:
        """Return the forecasts of one bundle from some origins.

        Args:
            windows: origins on bars and features built by the bundle's recipe; its pair and timeframe name the bundle.
            hash12: of the ensemble bundle.
            horizons: increasing; those that were trained by default.
            unit: timeframe whose bars `horizons` count, or "minutes"; the bundle's own timeframe by default.
            families: members to use, all by default.
            calibrate: makes the forecast where a state outside the bundle calibrates it; such answers are not kept.

        Raises:
            BundleError: the bundle is missing, altered, or the windows have other features.
            BadInput: a horizon is not a whole number of bars, or lies outside the trained ones.
            NotReady: none of `families` is a member.
        """
        started = time.perf_counter()
        symbol, base = windows.arrays.symbol, windows.arrays.timeframe
        bars = None if horizons is None else in_bars(horizons, unit or base, base)
        held = self._slot(symbol, str(base), hash12)
        with held.lock:
            ensemble = self._loaded(held, symbol, str(base), hash12)
            fingerprint = input_hash(windows)
            chosen = None if families is None else tuple(sorted(set(families)))
            if calibrate is None:
                made, cached = self._made(ensemble, windows, (hash12, chosen, fingerprint))
            else:
                made, cached = calibrate(ensemble), False
        batch, interpolated = at_horizons(made, bars or made.horizons_bars)
        used = {f: m for f, m in ensemble.members.items() if families is None or f in families}
        provenance = Provenance(
            bundle_hash=hash12,
            member_hashes={family: member.bundle.hash12 for family, member in used.items()},
            model_hashes={family: member.model.bundle.hash12 for family, member in used.items()},
            calibrator=made.calibrator,
            recipe_hash=ensemble.recipe.hash12,
            input_hash=fingerprint,
            cached=cached,
            interpolated_bars=interpolated,
        )
        return Answer(forecasts=batch, latency_ms=(time.perf_counter() - started) * 1e3, provenance=provenance)

    def _slot(self, symbol: str, timeframe: str, hash12: str) -> _Held:
        key = (symbol, timeframe, hash12)
        with self._lock:
            if key not in self._held:
                self._held[key] = _Held()
            return self._held[key]

    def _loaded(self, held: _Held, symbol: str, timeframe: str, hash12: str) -> EnsembleForecaster:
        if held.ensemble is None:
            held.ensemble = EnsembleForecaster.load(self._store, symbol, timeframe, hash12)
        return held.ensemble

    def _made(self, ensemble: EnsembleForecaster, windows: Windows, key: _Key) -> tuple[ForecastBatch, bool]:
        with self._lock:
            known = self._cache.get(key)
        if known is not None:
            return known, True
        made = ensemble.forecast(windows, families=key[1])
        with self._lock:
            self._cache[key] = made
        return made, False


def input_hash(windows: Windows) -> str:
    """Return the SHA-256 of everything a forecast of these windows may read: nothing later than the newest origin."""
    arrays, rows = windows.arrays, windows.rows
    end = int(rows.max()) + 1 if rows.size else 0
    digest = hashlib.sha256(repr((arrays.symbol, str(arrays.timeframe), arrays.feature_names, rows.tolist())).encode())
    base = (arrays.ts_utc[:end].astype("datetime64[us]").view(np.int64), arrays.close[:end], windows.features)
    sequences = (
        part
        for timeframe, bars in sorted(arrays.sequences.items())
        for last in [int(bars.newest[rows].max()) + 1 if rows.size else 0]
        for part in (
            np.frombuffer(repr((str(timeframe), bars.names)).encode(), dtype=np.uint8),
            bars.ts_utc[:last].astype("datetime64[us]").view(np.int64),
            bars.values[:last],
            bars.newest[rows],
        )
    )
    for part in chain(base, sequences):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
