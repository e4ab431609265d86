"""The plainer walks are walks, and stand on the same origins as the reference."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from forexgpt_core.adapters.providers.sample import SampleSource
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecast_table import from_table
from forexgpt_core.domain.forecasts import MEDIAN, ForecastBatch
from forexgpt_core.evaluation.references import SECOND_REFERENCES
from forexgpt_core.evaluation.report_card import score_family
from forexgpt_core.evaluation.walk_forward import Candidate, WalkForwardSettings, plan_folds, run_fold
from forexgpt_core.features.build import build_features
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.windows import market_arrays, usable
from forexgpt_core.models.forecaster import FitRun


def test_the_time_of_day_is_worth_something_and_the_plainer_walks_show_it(tmp_path: Path) -> None:
    raw = SampleSource().fetch("EURUSD", Timeframe.H1, since_utc=None, until_utc=None)
    bars = clean(raw, Timeframe.H1).bars
    recipe = Recipe.usual(["H1"])
    arrays = market_arrays("EURUSD", Timeframe.H1, bars, build_features(bars, Timeframe.H1, recipe), (1, 4, 24))
    windows, settings, run = usable(arrays, matured=True), WalkForwardSettings(), FitRun(seed=1, folder=tmp_path)
    fold = plan_folds(windows, settings)[-1]

    def forecast(name: str, options: Mapping[str, object]) -> tuple[ForecastBatch, np.ndarray]:
        candidate = Candidate(name=name, family="random_walk", options=options, seed=1)
        rows = run_fold(windows, fold, candidate, settings, run).filter(pl.col("part") == "test")
        return from_table(rows, symbol="EURUSD", timeframe="H1", family=name)

    reference, returns = forecast("random_walk", {})
    for name, options in SECOND_REFERENCES.items():
        forecasts, _ = forecast(name, options)
        assert not forecasts.quantiles[:, :, MEDIAN].any(), "a driftless walk calls no direction"
        hourly, _, daily = score_family(forecasts, returns, reference, seed=1)
        assert hourly.family == name
        assert hourly.skill < 0, "at one bar the hour of the week is known"
        assert abs(daily.skill) < abs(hourly.skill) + 0.05, "at 24 bars it hardly matters"
        assert math.isnan(hourly.direction)
