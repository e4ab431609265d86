"""The measured opening of the week: silent on the right clock, and the right numbers on a wrong one."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.candles.quality import judge
from forexgpt_core.candles.week_open import week_open
from forexgpt_core.domain.bars import SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe, expected_opens

H1 = Timeframe.H1
DATA = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real candles at {DATA}")


def year(timeframe: Timeframe = H1) -> pl.DataFrame:
    """Return every bar of 2018: 51 weeks from weekend to weekend."""
    opens = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-31T21", "us"), timeframe)
    price = np.full(opens.size, 1.2)
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": price,
            "high": price + 1e-4,
            "low": price - 1e-4,
            "close": price,
            "volume": price,
        },
        schema=SCHEMA,
    )


def misread(bars: pl.DataFrame, written: str, read: str, hours_ahead: int = 0) -> pl.DataFrame:
    """Return bars whose clock was `written` (and so many hours ahead) when somebody reads it as `read`."""
    local = pl.col("ts_utc").dt.convert_time_zone(written).dt.replace_time_zone(None).dt.offset_by(f"{hours_ahead}h")
    return bars.with_columns(
        local.dt.replace_time_zone(read, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone("UTC")
        .alias("ts_utc")
    ).drop_nulls("ts_utc")


# clock of the file, hours that it is ahead of it, zone stated; the opening seen, in how many of 51 weeks, and when
WRONG = [
    ("America/New_York", 0, "Etc/GMT+5", "18:00", 34, "in American summer time"),  # HistData as it is documented
    ("America/New_York", 7, "Etc/GMT-2", "18:00", 34, "in American summer time"),
    ("America/New_York", 7, "Europe/Helsinki", "18:00", 3, "while only one of America and Europe has summer time"),
    ("Europe/Helsinki", -7, "America/New_York", "16:00", 3, "while only one of America and Europe has summer time"),
    ("Europe/London", -5, "Etc/GMT+5", "18:00", 31, "in American summer time"),  # but for the 3 weeks
    ("UTC", 0, "Etc/GMT-2", "15:00", 51, ""),
    ("UTC", 0, "Asia/Kolkata", "11:30", 51, ""),
]


@pytest.mark.parametrize("timeframe", [Timeframe.M15, H1])
@pytest.mark.parametrize(("written", "ahead", "stated", "opens", "weeks", "season"), WRONG)
def test_a_wrong_zone_is_told_with_the_hour_and_the_weeks(
    written: str, ahead: int, stated: str, opens: str, weeks: int, season: str, timeframe: Timeframe
) -> None:
    found = week_open(misread(year(timeframe), written, stated, ahead), timeframe)
    assert (found.weeks.height, found.shifted.height) == (51, weeks)
    warning = found.warning(stated)
    assert warning.startswith(f"the week opens at {opens} New York instead of 17:00 in {weeks} of 51 weeks")
    assert warning.endswith(f"is the time zone {stated} right?")
    assert (f", all {season}, from" if season else f"{weeks} of 51 weeks, from") in warning
    assert found.figure == f"17:00 New York in {51 - weeks} of 51 weeks"


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_the_right_zone_gives_no_warning_on_any_timeframe(timeframe: Timeframe) -> None:
    found = week_open(year(timeframe), timeframe)
    assert found.weeks.height >= 50
    assert found.shifted.is_empty()
    assert found.warning("America/New_York") == ""


def test_a_spell_on_another_clock_is_found_where_it_is() -> None:
    bars = year()
    spell = pl.col("ts_utc").is_between(datetime(2018, 5, 5, tzinfo=UTC), datetime(2018, 5, 26, tzinfo=UTC))
    moved = bars.with_columns(pl.when(spell).then(pl.col("ts_utc").dt.offset_by("3h")).otherwise("ts_utc"))
    found = week_open(moved, H1)
    assert found.shifted["shift_hours"].to_list() == [3.0, 3.0, 3.0]
    assert "opens at 20:00 New York instead of 17:00 in 3 of 51 weeks, from 2018-05-07 to 2018-05-21" in found.warning()


def test_holes_holidays_and_stubs_at_the_edge_of_a_week_are_no_clock() -> None:
    bars = year().with_columns(gap=pl.col("ts_utc").diff() > pl.duration(hours=24))
    late = bars.filter(~pl.col("gap").fill_null(False)).drop("gap")  # no week has its first hour
    ends = late.filter(pl.col("ts_utc").diff(-1) < pl.duration(hours=-24))
    stubs = ends.with_columns(pl.col("ts_utc").dt.offset_by("1h"), high=pl.col("low"))
    broker = pl.concat([late, stubs]).sort("ts_utc")  # both are what real brokers do
    assert week_open(broker, H1).warning() == ""
    christmas = pl.col("ts_utc").is_between(datetime(2018, 12, 24, 14, tzinfo=UTC), datetime(2018, 12, 26, tzinfo=UTC))
    assert week_open(year().filter(~christmas), H1).warning() == ""


@given(share=st.floats(0.0, 0.2), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_missing_bars_never_accuse_the_right_clock(share: float, seed: int) -> None:
    bars = year()
    kept = bars.filter(pl.Series(np.random.default_rng(seed).random(bars.height) >= share))
    assert week_open(kept.sample(fraction=1.0, shuffle=True, seed=seed), H1).warning() == ""


@pytest.mark.parametrize("bars", [empty_bars(), year().head(1), year().head(200)])
def test_where_no_week_is_whole_none_is_judged(bars: pl.DataFrame) -> None:
    found = week_open(bars, H1)
    assert (found.weeks.height, found.warning()) == (0, "")
    assert found.figure == "not judged"


def test_the_verdict_carries_the_warning_without_stopping_anything() -> None:
    verdict = judge(misread(year(), "America/New_York", "Europe/Helsinki", 7), H1)
    assert verdict.passed
    assert verdict.figures["week_open"] == "17:00 New York in 48 of 51 weeks"
    assert verdict.warnings == (verdict.figures["warning"],)
    assert "in 3 of 51 weeks" in verdict.warnings[0]
    assert "warning" not in judge(year(), H1).figures


@cache
def real(name: str) -> pl.DataFrame:
    return pl.read_parquet(DATA / f"{name}.parquet", columns=["ts_utc", "high", "low"])


H1_FILES = ("AUDJPY", "AUDUSD", "EURGBP", "EURJPY", "EURUSD", "GBPJPY", "GBPUSD", "NZDUSD", "USDCAD", "USDJPY")
M1_FILES = ("AUDUSD", "EURUSD", "GBPUSD", "USDCAD", "USDJPY")
RIGHT = [*(f"{name}_H1" for name in H1_FILES), *(f"{name}_M1" for name in M1_FILES)]


@real_data
@pytest.mark.parametrize("name", RIGHT)
def test_real_candles_on_their_right_clock_give_no_warning(name: str) -> None:
    found = week_open(real(name), Timeframe(name[-2:]))
    assert found.weeks.height >= 89
    assert found.shifted.is_empty()


@real_data
def test_the_documented_zone_of_histdata_is_contradicted_by_its_data() -> None:
    bars = real("EURUSD_M1").filter(pl.col("ts_utc").dt.year() == 2018)  # New York time in this year
    found = week_open(misread(bars, "America/New_York", "EST"), Timeframe.M1)
    assert "opens at 18:00 New York instead of 17:00 in 34 of 51 weeks, all in American summer time" in found.warning()


@real_data
@pytest.mark.parametrize(
    ("written", "ahead", "stated", "shown"),
    [
        ("America/New_York", 7, "Etc/GMT-2", "18:00 New York instead of 17:00 in 396 of 614 weeks, all in American"),
        ("America/New_York", 7, "Europe/Helsinki", "18:00 New York instead of 17:00 in 40 of 614 weeks, all while"),
        ("Europe/Helsinki", -7, "America/New_York", "16:00 New York instead of 17:00 in 40 of 614 weeks, all while"),
    ],
)
def test_twelve_real_years_on_a_wrong_clock_are_told(written: str, ahead: int, stated: str, shown: str) -> None:
    assert shown in week_open(misread(real("EURUSD_H1"), written, stated, ahead), H1).warning(stated)
