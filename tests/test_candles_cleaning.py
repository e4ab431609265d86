"""What the cleaning drops, under which reason, and what it leaves alone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.candles.cleaning import REASONS, clean
from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.bars import PRICES, SCHEMA, require_bars
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput

MONDAY = datetime(2018, 7, 2, tzinfo=UTC)


def lawful(bars: int, seed: int = 0, start: str = "2018-07-02") -> pl.DataFrame:
    """Return a random walk on the H1 grid, weekends skipped."""
    rng = np.random.default_rng(seed)
    first = np.datetime64(start, "us")
    opens = expected_opens(first, first + np.timedelta64(2 * bars + 100, "h"), Timeframe.H1)[:bars]
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, bars)))
    open_ = np.concatenate([[1.1], close[:-1]])[:bars]
    wick = 1 + rng.uniform(1e-5, 1e-3, bars)
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * wick,
            "low": np.minimum(open_, close) / wick,
            "close": close,
            "volume": rng.integers(1, 1000, bars).astype(np.float64),
        },
        schema=SCHEMA,
    )


def bar(moment: datetime, price: float = 1.1, **changes: float | None) -> pl.DataFrame:
    values = {"open": price, "high": price, "low": price, "close": price, "volume": 1.0} | changes
    return pl.DataFrame({"ts_utc": [moment], **{k: [v] for k, v in values.items()}}, schema=SCHEMA)


def test_lawful_bars_pass_through_unchanged_and_every_reason_is_named() -> None:
    cleaned = clean(lawful(50), Timeframe.H1)
    assert_frame_equal(cleaned.bars, lawful(50))
    assert cleaned.dropped == dict.fromkeys(REASONS, 0)
    assert cleaned.dropped_bars == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"low": 1.2},
        {"high": 1.0},
        {"close": None},
        {"open": float("nan")},
        {"low": 0.0},
        {"low": -1.0},
        {"high": np.inf},
        {"volume": -1.0},
        {"volume": float("nan")},
        {"ask_low": 1.2},
        {"ask_high": 1.0},
        {"ask_open": float("nan")},
        {"ask_low": 0.0},
    ],
)
def test_an_impossible_bar_is_dropped_as_such(broken: dict[str, float | None]) -> None:
    quoted = bar(MONDAY).with_columns(pl.lit(1.1).alias(f"ask_{name}") for name in PRICES)
    cleaned = clean(quoted.with_columns(pl.lit(v, pl.Float64).alias(k) for k, v in broken.items()), Timeframe.H1)
    assert cleaned.bars.is_empty()
    assert cleaned.dropped["impossible"] == 1 == cleaned.dropped_bars


def test_bars_built_of_shorter_ones_of_which_some_lack_an_ask_are_no_less_possible() -> None:
    bars = lawful(500)
    known = pl.when(pl.int_range(pl.len()) % 5 != 0).then
    quoted = bars.with_columns(known(pl.col(name) + 0.0002).alias(f"ask_{name}") for name in PRICES)
    days = resample(quoted, Timeframe.H1, Timeframe.D1)
    assert 0 < days["ask_open"].null_count() < days.height
    assert clean(days, Timeframe.D1).dropped_bars == 0


def test_a_bar_that_has_not_closed_is_put_aside_as_unfinished() -> None:
    bars = lawful(50)
    for now, unfinished in ((bars["ts_utc"][49] + timedelta(minutes=59), 1), (bars["ts_utc"][49], 1), (MONDAY, 50)):
        cleaned = clean(bars, Timeframe.H1, now_utc=now)
        assert cleaned.dropped["unfinished"] == unfinished == cleaned.dropped_bars
        assert_frame_equal(cleaned.bars, bars.head(50 - unfinished))
    assert clean(bars, Timeframe.H1, now_utc=bars["ts_utc"][49] + timedelta(hours=1)).dropped_bars == 0


def test_a_bar_without_a_time_is_impossible() -> None:
    untimed = bar(MONDAY).with_columns(ts_utc=pl.lit(None, dtype=SCHEMA["ts_utc"]))
    assert clean(untimed, Timeframe.H1).dropped["impossible"] == 1


def test_bars_off_the_grid_and_outside_the_week_are_told_apart() -> None:
    saturday, stub = datetime(2018, 7, 7, 12, tzinfo=UTC), datetime(2018, 7, 6, 21, tzinfo=UTC)
    raw = pl.concat([bar(MONDAY), bar(MONDAY + timedelta(minutes=30)), bar(saturday), bar(stub)])
    cleaned = clean(raw, Timeframe.H1)
    assert cleaned.bars["ts_utc"].to_list() == [MONDAY]
    assert (cleaned.dropped["off_grid"], cleaned.dropped["outside_week"]) == (1, 2)


def test_a_daily_bar_from_utc_midnight_is_off_the_grid_of_new_york() -> None:
    assert clean(bar(MONDAY), Timeframe.D1).dropped["off_grid"] == 1
    assert clean(bar(datetime(2018, 7, 1, 21, tzinfo=UTC)), Timeframe.D1).dropped_bars == 0


def test_the_first_of_repeated_times_is_kept_and_conflicts_are_told_from_copies() -> None:
    first, other = bar(MONDAY, 1.1), bar(MONDAY, 1.2)
    cleaned = clean(pl.concat([first, other, first, other]), Timeframe.H1)
    assert_frame_equal(cleaned.bars, first)
    assert (cleaned.dropped["exact_repeat"], cleaned.dropped["conflicting_repeat"]) == (1, 2)


def test_copies_without_volume_are_exact_repeats() -> None:
    silent = bar(MONDAY, volume=None)
    assert clean(pl.concat([silent, silent]), Timeframe.H1).dropped["exact_repeat"] == 1


def test_ask_prices_travel_and_unknown_columns_do_not() -> None:
    raw = bar(MONDAY).with_columns(ask_open=1.11, ask_high=1.11, ask_low=1.11, ask_close=1.11, spread=3)
    assert clean(raw, Timeframe.H1).bars.columns == [*SCHEMA, "ask_open", "ask_high", "ask_low", "ask_close"]


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (bar(MONDAY).drop("low"), "lack the column 'low'"),
        (bar(MONDAY).with_columns(pl.col("close").cast(pl.String)), "'close' is String"),
        (bar(MONDAY).with_columns(pl.col("ts_utc").dt.replace_time_zone(None)), "'ts_utc' is Datetime"),
    ],
)
def test_a_table_that_is_not_one_of_candles_is_refused(raw: pl.DataFrame, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        clean(raw, Timeframe.H1)


@given(seed=st.integers(0, 2**32 - 1), bars=st.integers(0, 120))
@settings(deadline=None, max_examples=50)
def test_cleaning_is_lawful_accounts_for_every_row_and_is_idempotent(seed: int, bars: int) -> None:
    rng = np.random.default_rng(seed)
    base = lawful(bars, seed)
    copies = base.sample(fraction=0.1, seed=seed % 1000)
    conflicts = base.sample(fraction=0.1, seed=seed % 999).with_columns(high=pl.col("high") * 1.01)
    shifted = base.sample(fraction=0.1, seed=seed % 998).with_columns(
        pl.col("ts_utc") + pl.duration(minutes=int(rng.integers(0, 10_000)))
    )
    broken = base.sample(fraction=0.1, seed=seed % 997).with_columns(low=pl.col("high") * 2)
    raw = pl.concat([base, copies, conflicts, shifted, broken]).sample(fraction=1, shuffle=True, seed=seed % 996)
    cleaned = clean(raw, Timeframe.H1)
    assert cleaned.bars.height + cleaned.dropped_bars == raw.height
    assert require_bars(cleaned.bars).height == cleaned.bars.height
    again = clean(cleaned.bars, Timeframe.H1)
    assert_frame_equal(again.bars, cleaned.bars)
    assert again.dropped_bars == 0
