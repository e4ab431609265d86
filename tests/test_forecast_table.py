"""Forecast tables keep what they are given."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from forexgpt_core.domain.forecast_table import common_origins, from_table, to_table
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput


def batch(n: int, start: int = 0) -> tuple[ForecastBatch, np.ndarray]:
    rng = np.random.default_rng(n)
    origins = np.datetime64("2018-01-02", "us") + (start + np.arange(n)) * np.timedelta64(1, "h")
    forecasts = ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="linear",
        origin_utc=origins,
        horizons_bars=(1, 4),
        quantiles=np.sort(rng.normal(size=(n, 2, 9)), axis=-1),
        scale=rng.uniform(size=(n, 2)),
    )
    return forecasts, rng.normal(size=(n, 2))


def test_a_table_gives_back_the_same_forecasts() -> None:
    forecasts, returns = batch(5)
    back, outcomes = from_table(to_table(forecasts, returns), symbol="EURUSD", timeframe="H1", family="linear")
    assert np.array_equal(back.quantiles, forecasts.quantiles)
    assert np.array_equal(back.origin_utc, forecasts.origin_utc)
    assert np.array_equal(outcomes, returns)


def test_a_table_says_what_calibrated_it_and_an_old_one_does_not() -> None:
    forecasts, returns = batch(5)
    made = to_table(replace(forecasts, calibrator="split normalised"), returns)
    names = {"symbol": "EURUSD", "timeframe": "H1", "family": "linear"}
    assert from_table(made, **names)[0].calibrator == "split normalised"
    assert from_table(made.drop("calibrator"), **names)[0].calibrator == ""
    half = pl.when(pl.col("horizon_bars") == 1).then(pl.lit("adaptive v2")).otherwise("calibrator")
    assert from_table(made.with_columns(calibrator=half), **names)[0].calibrator == "adaptive v2, split normalised"


def test_a_table_that_lost_a_row_is_refused() -> None:
    with pytest.raises(BadInput, match="9 rows for 5 origins"):
        from_table(to_table(*batch(5)).head(9), symbol="EURUSD", timeframe="H1", family="linear")


def test_families_are_compared_on_the_origins_they_share() -> None:
    (a, _), (b, _) = common_origins([batch(10), batch(10, start=4)])
    assert np.array_equal(a.origin_utc, b.origin_utc)
    assert len(a) == 6
