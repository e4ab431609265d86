"""The plainer walks are walks, and stand on the same origins as the reference."""

import math
from pathlib import Path

import numpy as np

from forexgpt_core.adapters.providers.sample import SampleSource
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import MEDIAN
from forexgpt_core.evaluation.references import SECOND_REFERENCES, second_references
from forexgpt_core.evaluation.report_card import score_family
from forexgpt_core.features.build import build_features
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.splits import SplitShares, evidence_parts
from forexgpt_core.features.windows import market_arrays, usable
from forexgpt_core.models.catalogue import new_forecaster
from forexgpt_core.models.forecaster import FitRun


def test_the_time_of_day_is_worth_something_and_the_plainer_walks_show_it(tmp_path: Path) -> None:
    raw = SampleSource().fetch("EURUSD", Timeframe.H1, since_utc=None, until_utc=None)
    bars = clean(raw, Timeframe.H1).bars
    recipe = Recipe.usual(["H1"])
    arrays = market_arrays("EURUSD", Timeframe.H1, bars, build_features(bars, Timeframe.H1, recipe), (1, 4, 24))
    parts = evidence_parts(usable(arrays, matured=True), SplitShares())
    run = FitRun(seed=1, folder=tmp_path)
    reference = new_forecaster("random_walk").fit(parts.train, parts.valid, run=run).forecast(parts.test)
    plainer = second_references(parts, run)
    assert set(plainer) == set(SECOND_REFERENCES)
    for name, forecasts in plainer.items():
        assert np.array_equal(forecasts.origin_utc, parts.test.origin_utc)
        assert not forecasts.quantiles[:, :, MEDIAN].any(), "a driftless walk calls no direction"
        hourly, _, daily = score_family(forecasts, parts.test.returns, reference, seed=1)
        assert hourly.family == name
        assert hourly.skill < 0, "at one bar the hour of the week is known"
        assert abs(daily.skill) < abs(hourly.skill) + 0.05, "at 24 bars it hardly matters"
        assert math.isnan(hourly.direction)
