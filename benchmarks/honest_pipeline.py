"""The pipeline without its graph: features, walk-forward with refits, calibrated forecasts, report card."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.evaluation.report_card import HorizonScore, score_family
from forexgpt_core.evaluation.walk_forward import (
    TEST,
    Candidate,
    WalkForwardSettings,
    fold_parts,
    plan_folds,
    run_fold,
)
from forexgpt_core.features.build import build_features
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.windows import MarketArrays, Windows, market_arrays, usable
from forexgpt_core.models.catalogue import new_forecaster
from forexgpt_core.models.forecaster import FitRun

Floats = NDArray[np.float64]
Options = Mapping[str, object]

SYMBOL = "EURUSD"
RECIPE = Recipe.from_document(
    {
        "timeframes": ["H1"],
        "indicators": {
            "candle": None,
            "relative_range": None,
            "rsi": None,
            "bollinger": None,
            "returns": [{"bars": 1}, {"bars": 24}],
            "ewma_volatility": None,
        },
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matured:
    """Forecasts that are not calibrated yet, and what came.

    Attributes:
        returns: (n, H) realised log returns.
        rows: (n,) place of each origin among the pair's bars.
    """

    forecasts: ForecastBatch
    returns: Floats
    rows: NDArray[np.int64]


Calibrate = Callable[[Matured, Matured], ForecastBatch]  # (calibration block, test block) -> calibrated test block


def with_indicators(candles: pl.DataFrame, horizons_bars: tuple[int, ...]) -> MarketArrays:
    """Return candles with the few indicators of `RECIPE`."""
    return market_arrays(SYMBOL, Timeframe.H1, candles, build_features(candles, Timeframe.H1, RECIPE), horizons_bars)


def with_columns(candles: pl.DataFrame, columns: Floats, horizons_bars: tuple[int, ...]) -> MarketArrays:
    """Return candles with made-up features; `columns` is (n, f)."""
    named = {f"feature_{n}": column for n, column in enumerate(columns.T)}
    return market_arrays(SYMBOL, Timeframe.H1, candles, candles.select("ts_utc").with_columns(**named), horizons_bars)


def walk_forward(
    windows: Windows, family: str, options: Options, settings: WalkForwardSettings, *, seed: int = 0
) -> tuple[ForecastBatch, Floats]:
    """Return calibrated forecasts of every test block of a family that was refitted before each, and what came."""
    candidate = Candidate(name=family, family=family, options=options, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = FitRun(seed=seed, folder=Path(folder))
        tables = [run_fold(windows, fold, candidate, settings, run) for fold in plan_folds(windows, settings)]
    tested = pl.concat(tables).filter(pl.col("part") == TEST)
    return from_table(tested, symbol=SYMBOL, timeframe="H1", family=family)


def uncalibrated_folds(
    windows: Windows, family: str, options: Options, settings: WalkForwardSettings
) -> list[tuple[Matured, Matured]]:
    """Return per fold the calibration and the test block of a refitted family, as a calibrator is handed them."""
    blocks = []
    with tempfile.TemporaryDirectory() as folder:
        for fold in plan_folds(windows, settings):
            parts = fold_parts(windows, fold, embargo_bars=settings.embargo_bars)
            run = FitRun(seed=0, folder=Path(folder))
            model = new_forecaster(family, options).fit(parts.train, parts.valid, run=run)
            both = (parts.calibration, parts.test)
            past, coming = (Matured(forecasts=model.forecast(p), returns=p.returns, rows=p.rows) for p in both)
            blocks.append((past, coming))
    return blocks


def judged(
    arrays: MarketArrays, families: Sequence[tuple[str, Options]], settings: WalkForwardSettings, *, seed: int
) -> list[HorizonScore]:
    """Return the report cards of some families against the random walk, all refitted on the same folds."""
    windows = usable(arrays, matured=True)
    reference, returns = walk_forward(windows, "random_walk", {}, settings, seed=seed)
    scores = []
    for family, options in families:
        forecasts, _ = walk_forward(windows, family, options, settings, seed=seed)
        scores += score_family(forecasts, returns, reference, seed=seed)
    return scores
