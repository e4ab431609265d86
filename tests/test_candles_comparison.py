"""Two feeds of one pair: how far apart, how complete, and a wrong clock found in the weeks in which it was wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.comparison import Comparison, compare
from forexgpt_core.domain.bars import PRICES, SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
H1, M15, PIP = Timeframe.H1, Timeframe.M15, 1e-4
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared candles are not on this machine")


def walk(
    frame: Timeframe = H1, seed: int = 0, first: str = "2018-01-07T22", last: str = "2018-03-02T20"
) -> pl.DataFrame:
    opens = expected_opens(np.datetime64(first, "us"), np.datetime64(last, "us"), frame)
    close = 1.2 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 3e-4, opens.size)))
    prices = dict.fromkeys(PRICES, close)
    return pl.DataFrame(
        {"ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), **prices, "volume": np.ones(opens.size)},
        schema=SCHEMA,
    )


def moved(bars: pl.DataFrame, by: timedelta, where: pl.Expr | None = None, frame: Timeframe = H1) -> pl.DataFrame:
    """Return bars whose clock was wrong, cleaned as any source is."""
    at = pl.lit(True) if where is None else where
    raw = bars.with_columns(ts_utc=pl.when(at).then(pl.col("ts_utc") + by).otherwise("ts_utc"))
    return clean(raw.sort("ts_utc", maintain_order=True), frame).bars


def test_a_feed_agrees_with_itself() -> None:
    found = compare(walk(), H1, walk(), H1, PIP)
    assert (found.median_pips, found.high_pips, found.max_pips, found.lag_minutes) == (0.0, 0.0, 0.0, 0)
    assert found.bars == found.other_bars == found.common_bars == found.expected_bars == walk().height
    assert found.weeks_at_lag_0 == found.weeks.height == 8


def test_differences_are_told_in_pips_with_their_place_and_their_bias() -> None:
    bars = walk()
    apart = pl.when(pl.int_range(pl.len()) == 77).then(0.0030).otherwise(0.0002)
    other = bars.with_columns(close=pl.col("close") + apart)
    found = compare(bars, H1, other, H1, PIP)
    assert found.median_pips == found.bias_pips == pytest.approx(2.0)
    assert found.max_pips == pytest.approx(30.0)
    assert found.worst["ts_utc"][0] == bars["ts_utc"][77]
    assert found.worst["difference_pips"][0] == pytest.approx(30.0)


def test_coverage_counts_what_each_has_in_the_time_both_have() -> None:
    bars = walk()
    found = compare(bars[100:600], H1, bars[200:].filter(pl.int_range(pl.len()) % 10 != 5), H1, PIP)
    assert (found.first_utc, found.last_utc) == (bars["ts_utc"][200], bars["ts_utc"][599])
    assert (found.bars, found.other_bars, found.common_bars, found.expected_bars) == (400, 360, 360, 400)


@pytest.mark.parametrize("hours", [-5, -1, 1, 2, 7])
def test_a_clock_that_is_wrong_all_the_time_is_found(hours: int) -> None:
    found = compare(walk(), H1, moved(walk(), timedelta(hours=hours)), H1, PIP)
    assert found.lag_minutes == 60 * hours
    assert set(found.weeks["lag_minutes"]) == {60 * hours}
    assert found.weeks["best_pips"].max() == 0.0
    assert found.weeks["median_pips"].min() > 1.0


def test_a_clock_that_was_wrong_for_two_weeks_is_found_in_these() -> None:
    spell = datetime(2018, 1, 21, tzinfo=UTC), datetime(2018, 2, 3, tzinfo=UTC)
    wrong = pl.col("ts_utc").is_between(*spell)
    found = compare(walk(), H1, moved(walk(), timedelta(hours=1), wrong), H1, PIP)
    assert found.lag_minutes == 0
    off = found.weeks.filter(pl.col("lag_minutes") != 0)
    assert off["lag_minutes"].to_list() == [60, 60]
    assert [f"{week:%Y-%m-%d}" for week in off["week_utc"]] == ["2018-01-22", "2018-01-29"]


def test_half_hours_and_single_bars_are_found_on_shorter_bars() -> None:
    bars = walk(M15)
    for minutes in (-30, 15, 90):
        assert compare(bars, M15, moved(bars, timedelta(minutes=minutes), frame=M15), M15, PIP).lag_minutes == minutes


def test_shorter_bars_are_resampled_to_the_longer_ones_whichever_side_they_are_on() -> None:
    bars = walk(M15, last="2018-03-02T20:45")
    hourly = bars.group_by_dynamic("ts_utc", every="1h").agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    for found in (compare(bars, M15, hourly, H1, PIP), compare(hourly, H1, bars, M15, PIP)):
        assert (found.timeframe, found.max_pips, found.common_bars) == (H1, 0.0, hourly.height)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BadInput, match="holds no bar"):
        compare(walk(), H1, empty_bars(), H1, PIP)
    early = walk(first="2017-01-08T22", last="2017-02-03T20")
    with pytest.raises(BadInput, match="no time in common: one covers 2018-01-07 to 2018-03-02, the other 2017-01-08"):
        compare(walk(), H1, early, H1, PIP)


# Two independent real feeds ------------------------------------------------------------------------------------------


def feeds(pair: str, shift: timedelta = timedelta(0)) -> Comparison:
    minutes, hours = (pl.read_parquet(DATA / f"{pair}_{frame}.parquet") for frame in ("M1", "H1"))
    other = moved(hours, shift)
    return compare(clean(minutes, Timeframe.M1).bars, Timeframe.M1, other, H1, instrument(pair).pip)


@needs_data
@pytest.mark.parametrize("pair", ["GBPUSD", "USDJPY", "AUDUSD", "USDCAD"])
def test_two_real_feeds_differ_as_measured_and_agree_at_lag_0_in_every_week(pair: str) -> None:
    found = feeds(pair)
    assert 0.15 < found.median_pips <= 0.55
    assert 1.45 < found.high_pips <= 3.25
    assert found.lag_minutes == 0
    assert found.weeks_at_lag_0 == found.weeks.height >= 90
    assert found.common_bars / found.expected_bars > 0.99
    if pair == "GBPUSD":
        last_hour = found.worst["ts_utc"].dt.convert_time_zone("America/New_York").dt.hour() == 16
        assert last_hour.sum() >= 8, "the largest differences stand in the last hour of the day"


@needs_data
def test_an_hour_planted_in_a_real_feed_is_found_in_every_week() -> None:
    found = feeds("GBPUSD", timedelta(hours=1))
    assert found.lag_minutes == 60
    assert found.weeks_at_lag_0 == 0
    assert found.median_pips > 4
