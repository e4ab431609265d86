"""How long one forecast takes: per tabular family, by an ensemble of five, and through the inference service."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from benchmarks.measurement import Measurement, alone
from forexgpt_core.calibration.conformal import ConformalCalibrator, write_calibration_bundle
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.ensemble.bundle import write_ensemble_bundle
from forexgpt_core.ensemble.forecaster import EnsembleForecaster
from forexgpt_core.ensemble.inference import InferenceService
from forexgpt_core.ensemble.regimes import REGIMES, RegimeModel, RegimeSettings
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.splits import Parts, SplitShares, evidence_parts
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable
from forexgpt_core.models.bundle import Bundle, BundleStore
from forexgpt_core.models.bundled import load_model, write_model_bundle
from forexgpt_core.models.catalogue import FAMILIES, new_forecaster
from forexgpt_core.models.forecaster import FitRun

NAMES = ("tabular_forecast", "ensemble_forecast", "inference_service")
_BARS, _FEATURES, _HORIZONS, _REPEATS = 5000, 45, (1, 4, 24), 200
_TEN = tuple(range(1, 11))
_GOAL_MS, _ENSEMBLE_GOAL_MS, _SERVICE_GOAL = 10.0, 50.0, 100.0
_MEMBERS: dict[str, tuple[str, dict[str, object]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "plain_walk": ("random_walk", {"seasonal": False}),  # the fifth member
}


def measure(only: set[str] | None = None) -> list[Measurement]:
    """Return the time of one origin's forecast by the slowest family, by an ensemble of five, and by the service."""
    wanted = set(NAMES) if only is None else only & set(NAMES)
    if not wanted:
        return []
    arrays = _market()
    parts = evidence_parts(usable(arrays, matured=True), SplitShares())
    newest = [Windows(arrays=arrays, rows=np.array([row])) for row in range(_BARS - _REPEATS, _BARS)]
    with tempfile.TemporaryDirectory() as folder:
        store = BundleStore(Path(folder) / "bundles")
        calibrations, slowest = _members(store, parts, newest, Path(folder))
        hash12 = _ensemble(store, calibrations)
        measured = [slowest, _ensemble_time(store, hash12, newest), _service_rate(store, hash12, newest)]
    return [one for one in measured if one.name in wanted]


def _members(
    store: BundleStore, parts: Parts, newest: list[Windows], folder: Path
) -> tuple[dict[str, Bundle], Measurement]:
    calibrations, times = {}, {}
    for name, (family, options) in _MEMBERS.items():
        model = new_forecaster(family, options).fit(parts.train, parts.valid, run=FitRun(seed=1, folder=folder))
        written = write_model_bundle(
            store, model, parts.train, recipe_json=Recipe.usual().to_json(), kind=f"{name}_model", metadata={}
        )
        loaded = load_model(store, "EURUSD", "H1", written.kind, written.hash12).forecaster
        times[name], _ = _times(loaded.forecast, newest)
        calibrations[name] = write_calibration_bundle(
            store,
            ConformalCalibrator.fit(loaded.forecast(parts.calibration), parts.calibration.returns),
            symbol="EURUSD",
            timeframe="H1",
            kind=f"{name}_calibration",
            parent=written,
            metadata={},
        )
    note = f"one origin of {len(_HORIZONS)} horizons, {_FEATURES} features, {_BARS} bars; p95 ms: "
    note += ", ".join(f"{family} {times[family]:.2f}" for family in FAMILIES)
    worst = max(times[family] for family in FAMILIES)
    return calibrations, alone("tabular_forecast", worst, unit="ms p95", at_most=_GOAL_MS, note=note)


def _ensemble(store: BundleStore, calibrations: dict[str, Bundle]) -> str:
    arrays = _market()
    equal = {name: np.full(len(_HORIZONS), 1 / len(calibrations)) for name in calibrations}
    bundle = write_ensemble_bundle(
        store,
        symbol="EURUSD",
        timeframe="H1",
        members={name: (one.kind, one.hash12) for name, one in calibrations.items()},
        weights=equal,
        recalibrator=ConformalCalibrator(
            horizons_bars=_HORIZONS,
            radii=np.zeros((len(_HORIZONS), 4)),
            score_count=np.zeros(len(_HORIZONS), dtype=np.int64),
        ),
        recipe_json=Recipe.usual().to_json(),
        metadata={},
        uncertainty_exponent=1.0,
        regimes=RegimeModel.fit(arrays.close, RegimeSettings()),
        regime_weights=dict.fromkeys(REGIMES, equal),
    )
    return bundle.hash12


def _ensemble_time(store: BundleStore, hash12: str, newest: list[Windows]) -> Measurement:
    p95, rate = _times(EnsembleForecaster.load(store, "EURUSD", "H1", hash12).forecast, newest)
    note = f"{len(_MEMBERS)} members ({', '.join(_MEMBERS)}), calibrated, weights by regime and spread, recalibrated;"
    note += f" one origin of {len(_HORIZONS)} horizons, {_BARS} bars; {rate:.0f} forecasts/s"
    return alone("ensemble_forecast", p95, unit="ms p95", at_most=_ENSEMBLE_GOAL_MS, note=note)


def _service_rate(store: BundleStore, hash12: str, newest: list[Windows]) -> Measurement:
    """Return the rate of new questions; the goal is not met by answering the same one again."""
    service = InferenceService(store)
    service.forecast(newest[0], hash12)  # loads the bundle
    rates = []
    for _ in ("uncached", "cached"):
        asked = newest[1:]
        started = perf_counter()
        for origin in asked:
            service.forecast(origin, hash12, horizons=_TEN)
        rates.append(len(asked) / (perf_counter() - started))
    note = f"one process, one thread, {len(_TEN)} horizons of which {len(_TEN) - 2} interpolated, {len(_MEMBERS)}"
    note += f" members; uncached {rates[0]:.0f}/s (the figure), the same questions cached {rates[1]:.0f}/s"
    return alone("inference_service", rates[0], unit="forecasts/s", at_least=_SERVICE_GOAL, note=note)


def _times(forecast: Callable[[Windows], object], origins: list[Windows]) -> tuple[float, float]:
    """Return the 95th percentile in ms and the forecasts per second."""
    forecast(origins[0])  # imports and caches are not part of a forecast
    times = []
    for origin in origins:
        started = perf_counter()
        forecast(origin)
        times.append(perf_counter() - started)
    return float(np.percentile(times, 95)) * 1e3, len(times) / sum(times)


def _market() -> MarketArrays:
    """Return bars whose features tell something of the next return, so that no family is measured empty."""
    rng = np.random.default_rng(1)
    ts = expected_opens(np.datetime64("2018-01-01T00:00"), np.datetime64("2018-12-31T00:00"), Timeframe.H1)[:_BARS]
    features = rng.normal(size=(_BARS, _FEATURES))
    noise = rng.standard_t(5, size=_BARS) * np.exp(0.4 * np.roll(features[:, 0], 1))
    close = 1.1 * np.exp(np.cumsum(5e-4 * (noise + 0.3 * np.roll(features[:, 1], 1))))
    stamps = pl.Series("ts_utc", ts)
    table = pl.DataFrame({"ts_utc": stamps, **{f"feature_{n}": features[:, n] for n in range(_FEATURES)}})
    return market_arrays("EURUSD", Timeframe.H1, pl.DataFrame({"ts_utc": stamps, "close": close}), table, _HORIZONS)
