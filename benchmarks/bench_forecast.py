"""How long one forecast takes, per tabular family and for the ensemble of all of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from benchmarks.measurement import Measurement, alone
from forexgpt_core.calibration.conformal import ConformalCalibrator, write_calibration_bundle
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.ensemble.inference import EnsembleForecaster, write_ensemble_bundle
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.splits import Parts, SplitShares, evidence_parts
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable
from forexgpt_core.models.bundle import BundleStore
from forexgpt_core.models.bundled import load_model, write_model_bundle
from forexgpt_core.models.catalogue import FAMILIES, new_forecaster
from forexgpt_core.models.forecaster import FitRun

NAMES = ("tabular_forecast",)
_BARS, _FEATURES, _HORIZONS, _REPEATS = 5000, 45, (1, 4, 24), 200
_GOAL_MS = 10.0


def measure(only: set[str] | None = None) -> list[Measurement]:
    """Return the 95th percentile of one origin's forecast by the slowest family, loaded from its bundle."""
    if only is not None and not only & set(NAMES):
        return []
    arrays = _market()
    parts = evidence_parts(usable(arrays, matured=True), SplitShares())
    newest = [Windows(arrays=arrays, rows=np.array([row])) for row in range(_BARS - _REPEATS, _BARS)]
    with tempfile.TemporaryDirectory() as folder:
        store, calibrations, worst, notes = BundleStore(Path(folder) / "bundles"), {}, 0.0, []
        recipe_json = Recipe.usual().to_json()
        for family in FAMILIES:
            forecaster = new_forecaster(family).fit(parts.train, parts.valid, run=FitRun(seed=1, folder=Path(folder)))
            written = write_model_bundle(
                store, forecaster, parts.train, recipe_json=recipe_json, kind=f"{family}_model", metadata={}
            )
            loaded = load_model(store, "EURUSD", "H1", written.kind, written.hash12)
            p95, _ = _times(loaded.forecaster.forecast, newest)
            worst = max(worst, p95)
            notes.append(f"{family} {p95:.2f}")
            calibrator = ConformalCalibrator.fit(
                loaded.forecaster.forecast(parts.calibration), parts.calibration.returns
            )
            calibrations[family] = write_calibration_bundle(
                store,
                calibrator,
                symbol="EURUSD",
                timeframe="H1",
                kind=f"{family}_calibration",
                parent=written,
                metadata={},
            )
        ensemble = _ensemble(store, calibrations, parts, recipe_json)
        p95, rate = _times(ensemble.forecast, newest)
    note = f"one origin of {len(_HORIZONS)} horizons, {_FEATURES} features, {_BARS} bars; p95 ms: {', '.join(notes)};"
    note += f" ensemble of all, calibrated and recalibrated: {p95:.2f} ms, {rate:.0f} forecasts/s"
    return [alone("tabular_forecast", worst, unit="ms p95", at_most=_GOAL_MS, note=note)]


def _ensemble(store: BundleStore, calibrations: dict, parts: Parts, recipe_json: str) -> EnsembleForecaster:
    equal = {family: np.full(len(_HORIZONS), 1 / len(calibrations)) for family in calibrations}
    neutral = ConformalCalibrator(
        horizons_bars=_HORIZONS,
        radii=np.zeros((len(_HORIZONS), 4)),
        score_count=np.zeros(len(_HORIZONS), dtype=np.int64),
    )
    bundle = write_ensemble_bundle(
        store,
        symbol="EURUSD",
        timeframe="H1",
        members={family: (one.kind, one.hash12) for family, one in calibrations.items()},
        weights=equal,
        recalibrator=neutral,
        recipe_json=recipe_json,
        metadata={},
    )
    return EnsembleForecaster.load(store, "EURUSD", "H1", bundle.hash12)


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
