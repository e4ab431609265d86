"""The quality suite: what passes, what does not, and what it says. Great Expectations runs for real."""

import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.candles import suite
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.quality import EXPECTATIONS, QualityLimits, SuiteBroken, find_gaps, judge
from forexgpt_core.domain.bars import PRICES, SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe, bar_close, expected_opens, from_utc
from forexgpt_core.errors import BadInput
from forexgpt_core.reporting.candles import price_with_gaps

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real candles at {DATA}")


def walk(bars: int, timeframe: Timeframe = Timeframe.H1, start: str = "2018-07-02") -> pl.DataFrame:
    """Return lawful bars without a gap."""
    rng = np.random.default_rng(7)
    first = np.datetime64(start, "us")
    span = np.timedelta64(timeframe.seconds * 2 * bars + 7 * 86400, "s")
    opens = expected_opens(first, first + span, timeframe)[:bars]
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 5e-4, bars)))
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": close,
            "high": close * 1.0005,
            "low": close / 1.0005,
            "close": close,
            "volume": np.ones(bars),
        },
        schema=SCHEMA,
    )


def at(row: int, value: pl.Expr | float | None, column: str) -> pl.Expr:
    """Return the column with another value in one row."""
    new = value if isinstance(value, pl.Expr) else pl.lit(value, dtype=pl.Float64)
    return pl.when(pl.int_range(pl.len()) == row).then(new).otherwise(pl.col(column)).alias(column)


def failed(raw: pl.DataFrame, timeframe: Timeframe = Timeframe.H1, **limits: float) -> set[str]:
    return {failure.expectation for failure in judge(raw, timeframe, limits=QualityLimits(**limits)).failures}


def test_lawful_bars_pass_every_expectation() -> None:
    verdict = judge(walk(100), Timeframe.H1)
    assert verdict.passed
    assert verdict.failures == ()
    assert verdict.rows == 100 == verdict.figures["rows"]
    assert verdict.figures["gap_share"] == 0.0
    assert verdict.figures["stale_bars"] == "not judged"
    assert all(isinstance(value, float | int | str) for value in verdict.figures.values())


def quoted(bars: pl.DataFrame, spread: float = 0.0002) -> pl.DataFrame:
    """Return bars with an ask that stands a spread above the bid."""
    return bars.with_columns((pl.col(name) + spread).alias(f"ask_{name}") for name in PRICES)


BASE = walk(100)
BROKEN = {
    "ts_utc_given": BASE.with_columns(
        pl.when(pl.int_range(pl.len()) == 50).then(None).otherwise("ts_utc").alias("ts_utc")
    ),
    "open_given": BASE.with_columns(at(50, None, "open")),
    "high_given": BASE.with_columns(at(50, float("nan"), "high")),
    "low_given": BASE.with_columns(at(50, None, "low")),
    "close_given": BASE.with_columns(at(50, None, "close")),
    "open_positive": BASE.with_columns(at(50, 0.0, "open")),
    "high_positive": BASE.with_columns(at(50, float("inf"), "high")),
    "low_positive": BASE.with_columns(at(50, -1.0, "low")),
    "close_positive": BASE.with_columns(at(50, -1.0, "close")),
    "ohlc_ordered": BASE.with_columns(at(50, pl.col("close") * 0.999, "high")),
    "volume_counts": BASE.with_columns(at(50, -1.0, "volume")),
    "ask_possible": quoted(BASE).with_columns(ask_low="ask_high", ask_high="ask_low"),
    "ask_above_bid": quoted(BASE, spread=-0.0002),
    "ask_near_bid": quoted(BASE).with_columns(pl.col("^ask_.*$") * 100_000),
    "times_unique": pl.concat([BASE.head(50), BASE.tail(51)]),
    "times_increasing": BASE.reverse(),
    "on_grid": BASE.with_columns(pl.col("ts_utc") + timedelta(minutes=7)),
    "inside_fx_week": BASE.with_columns(pl.col("ts_utc") + timedelta(days=4)),
    "few_gaps": pl.concat([BASE.head(40), BASE.tail(50)]),
    "few_spikes": BASE.with_columns(at(50, pl.col("high") * 1.08, "high")),
    "no_absurd_move": BASE.with_columns(at(50, pl.col("high") * 10, "high")),
    "opens_follow_closes": BASE.with_columns(
        close=pl.col("close").shift().fill_null(1.1), high=pl.col("high") * 1.01, low=pl.col("low") * 0.99
    ),
    "bars_connected": BASE.gather_every(4),
    "some_rows": empty_bars(),
    "columns_complete": BASE.drop("low", "close"),
    "columns_known": BASE.with_columns(spread=1.0),
}


@pytest.mark.parametrize("expectation", BROKEN)
def test_each_defect_fails_its_expectation_and_says_so(expectation: str) -> None:
    verdict = judge(BROKEN[expectation], Timeframe.H1)
    assert not verdict.passed
    found = {failure.expectation: failure for failure in verdict.failures}
    assert expectation in found
    line = found[expectation].line
    assert "must" in line
    assert "\n" not in line
    assert "{" not in line


def test_every_expectation_has_a_table_that_fails_it() -> None:
    assert set(EXPECTATIONS) == {*BROKEN, "fresh", "not_in_future", "near_stored"}
    assert len(EXPECTATIONS) == len(set(EXPECTATIONS))


def test_a_failure_carries_count_limit_and_examples() -> None:
    (failure,) = judge(BROKEN["times_unique"], Timeframe.H1).failures
    assert (failure.unexpected, failure.rows, failure.column) == (2, 101, "ts_utc")
    assert failure.limit == pytest.approx(0.101)
    assert failure.examples[0].startswith("row 50 2018-07-04 01:00")
    assert failure.line.startswith("ts_utc must be unique; 2 of 101 do not, 0.1 tolerated: row 50")


def test_the_same_defect_is_tolerated_in_a_long_table() -> None:
    long = walk(5000)
    assert judge(pl.concat([long.head(2500), long.tail(2501)]), Timeframe.H1).passed


def test_only_the_worst_of_the_moves_is_refused_in_a_long_history_and_longer_bars_may_move_more() -> None:
    long = walk(20_000).with_columns(at(500, pl.col("high") * 1.08, "high"))
    assert judge(long, Timeframe.H1).passed
    assert failed(long.with_columns(at(600, pl.col("high") * 10, "high"))) == {"no_absurd_move"}
    daily = walk(100, Timeframe.D1).with_columns(at(50, pl.col("high") * 1.08, "high"))
    assert failed(daily, Timeframe.D1) == set()


def test_a_wrong_timeframe_is_refused() -> None:
    assert "on_grid" in failed(walk(200, Timeframe.M15), Timeframe.H1)
    assert "few_gaps" in failed(walk(200, Timeframe.H4), Timeframe.H1)


def test_christmas_is_nobodys_gap_but_find_gaps_shows_it() -> None:
    whole = walk(300, start="2018-12-18")
    day = pl.col("ts_utc").is_between(datetime(2018, 12, 24, 22, tzinfo=UTC), datetime(2018, 12, 25, 21, tzinfo=UTC))
    without = whole.filter(~day)
    verdict = judge(without, Timeframe.H1)
    assert verdict.passed
    assert verdict.figures["missing_bars"] == 0
    assert find_gaps(without, Timeframe.H1).rows() == [
        (datetime(2018, 12, 24, 22, tzinfo=UTC), datetime(2018, 12, 25, 22, tzinfo=UTC), 24)
    ]


def test_staleness_counts_closed_bars_and_knows_the_weekend() -> None:
    friday = walk(117)  # 2018-07-02 00:00 to Friday 20:00, the week's last bar
    assert friday["ts_utc"][-1] == datetime(2018, 7, 6, 20, tzinfo=UTC)
    sunday, wednesday = datetime(2018, 7, 8, 20, tzinfo=UTC), datetime(2018, 7, 11, tzinfo=UTC)
    fresh = judge(friday, Timeframe.H1, now_utc=sunday)
    assert fresh.passed
    assert fresh.figures["stale_bars"] == 0
    stale = judge(friday, Timeframe.H1, now_utc=wednesday)
    assert [failure.expectation for failure in stale.failures] == ["fresh"]
    assert stale.failures[0].unexpected == 51 == stale.figures["stale_bars"]
    assert "2018-07-06 20:00" in stale.failures[0].line
    assert judge(friday, Timeframe.H1, limits=QualityLimits(max_stale_bars=None), now_utc=wednesday).passed
    assert judge(friday, Timeframe.H1, limits=QualityLimits(max_stale_bars=51), now_utc=wednesday).passed


def test_having_nothing_new_may_be_declared_no_fault() -> None:
    assert not judge(empty_bars(), Timeframe.H1).passed
    assert judge(empty_bars(), Timeframe.H1, limits=QualityLimits(least_rows=0)).passed


def test_a_column_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(BadInput, match="'close' is String"):
        judge(BASE.with_columns(pl.col("close").cast(pl.String)), Timeframe.H1)


def test_a_suite_that_cannot_run_never_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = suite._Law(  # an expectation about a column that its view does not have
        name="impossible_to_ask",
        column="nowhere",
        wanted="be there",
        expect=lambda gx, mostly, terms: gx.ExpectColumnValuesToNotBeNull(column="nowhere"),
    )
    monkeypatch.setattr(suite, "_ROW_LAWS", (*suite._ROW_LAWS, broken))
    with pytest.raises(SuiteBroken, match="'impossible_to_ask' could not run"):
        judge(BASE, Timeframe.H1)


@pytest.mark.parametrize(
    "limits",
    [
        {"gap_share": 1.5},
        {"repeat_share": -0.1},
        {"spike_log_return": 0.0},
        {"spike_log_return": 0.9},
        {"least_bars": -1},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="quality limit"):
        QualityLimits(**limits)


def test_the_suite_is_quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        judge(BASE, Timeframe.H1)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.0, 0.95), frame=st.sampled_from([Timeframe.M15, Timeframe.H4]))
@settings(deadline=None, max_examples=40)
def test_gaps_and_bars_together_are_the_fx_week(seed: int, share: float, frame: Timeframe) -> None:
    rng = np.random.default_rng(seed)
    whole = walk(150, frame, start="2018-10-29")
    kept = whole.filter(pl.Series(rng.random(150) >= share))
    gaps = find_gaps(kept, frame)
    filled = [t for a, b, _ in gaps.rows() for t in _opens(a, b, frame)]
    assert len(filled) == gaps["missing_bars"].sum()
    if kept.height:
        span = whole.filter(pl.col("ts_utc").is_between(kept["ts_utc"][0], kept["ts_utc"][-1]))
        assert sorted([*filled, *kept["ts_utc"].to_list()]) == span["ts_utc"].to_list()


def _opens(start: datetime, end: datetime, frame: Timeframe) -> list[datetime]:
    first, last = (np.datetime64(moment.replace(tzinfo=None), "us") for moment in (start, end))
    return [from_utc(t) for t in expected_opens(first, last, frame) if bar_close(np.array([t]), frame)[0] <= last]


def test_tables_without_rows_have_no_gaps() -> None:
    assert find_gaps(empty_bars(), Timeframe.H1).is_empty()
    assert find_gaps(BASE.head(1), Timeframe.H1).is_empty()


def test_the_picture_is_a_png_and_leaves_no_global_figure_behind() -> None:
    gappy = pl.concat([BASE.head(40), BASE.tail(50)])
    for bars in (gappy, BASE, walk(5000), empty_bars()):
        picture = price_with_gaps(bars, find_gaps(bars, Timeframe.H1), "EURUSD H1")
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 5000
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


@real_data
def test_a_real_file_with_two_repeats_passes() -> None:
    raw = pl.read_parquet(DATA / "GBPUSD_H1.parquet")
    verdict = judge(raw, Timeframe.H1)
    assert verdict.passed, [failure.line for failure in verdict.failures]
    assert (verdict.figures["repeated_times"], verdict.figures["outside_week_bars"]) == (2, 21)
    assert verdict.figures["largest_move"] == pytest.approx(0.0946, abs=1e-4)  # the crash of 2016-10-07 in Asia
    cleaned = clean(raw, Timeframe.H1)
    assert cleaned.dropped["conflicting_repeat"] == 2
    assert cleaned.dropped["outside_week"] == 21
    assert cleaned.bars.height == 42514 - 23


@real_data
def test_a_real_file_on_another_four_hour_grid_is_refused() -> None:
    verdict = judge(pl.read_parquet(DATA / "EURUSD_H4.parquet"), Timeframe.H4)
    assert [failure.expectation for failure in verdict.failures] == ["on_grid"]


def test_a_few_moments_with_the_ask_below_the_bid_and_bars_without_an_ask_are_no_fault() -> None:
    bars = quoted(walk(1000))
    crossed = bars.with_columns(at(500, pl.col("close") - 0.0001, "ask_close"))
    unknown = pl.when(pl.int_range(pl.len()) < 300).then(None)
    silent = bars.with_columns(unknown.otherwise(pl.col(f"ask_{name}")).alias(f"ask_{name}") for name in PRICES)
    for table in (bars, crossed, silent, walk(1000), walk(1000).with_columns(volume=pl.lit(None, pl.Float64))):
        verdict = judge(table, Timeframe.H1)
        assert verdict.passed, verdict.failures


def test_bars_of_the_future_fail_and_the_one_still_forming_does_not() -> None:
    bars = walk(100)
    newest = bars["ts_utc"][-1]
    assert judge(bars, Timeframe.H1, closed_by_utc=newest + timedelta(minutes=5)).passed
    verdict = judge(bars, Timeframe.H1, closed_by_utc=newest - timedelta(hours=5))
    assert [failure.expectation for failure in verdict.failures] == ["not_in_future"]


def test_closes_worlds_apart_from_the_nearest_stored_bar_fail() -> None:
    bars = walk(200)
    stored, tenth = bars.head(120), bars.with_columns(pl.col(PRICES) / 10)
    assert judge(bars[80:], Timeframe.H1, stored=stored).passed
    for table in (tenth[80:110], tenth[120:], tenth):
        verdict = judge(table, Timeframe.H1, stored=stored)
        assert [failure.expectation for failure in verdict.failures] == ["near_stored"]
        assert "stored_move 2.30" in verdict.failures[0].line
    assert judge(tenth[120:], Timeframe.H1, stored=stored.head(0)).passed
    years_ago = stored.with_columns(pl.col("ts_utc") - timedelta(days=700))
    assert judge(tenth, Timeframe.H1, stored=years_ago).passed, "a price may have gone anywhere since"
