"""Higher bars: only closed ones, never changed by what comes later."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.bars import ASK_PRICES, SCHEMA, empty_bars, require_bars
from forexgpt_core.domain.clock import NEW_YORK, Timeframe, bar_close, bar_open, expected_opens, from_utc
from forexgpt_core.errors import BadInput

PAIRS = [
    (Timeframe.M15, Timeframe.M30),
    (Timeframe.M15, Timeframe.H1),
    (Timeframe.H1, Timeframe.H4),
    (Timeframe.H1, Timeframe.D1),
    (Timeframe.H4, Timeframe.W1),
    (Timeframe.H1, Timeframe.H1),
]


def walk(timeframe: Timeframe, bars: int, seed: int, missing: float = 0.2) -> pl.DataFrame:
    """Return a walk with holes and some missing volumes, across a change of the clocks."""
    rng = np.random.default_rng(seed)
    start = np.datetime64("2018-10-29T03:00", "us")
    span = np.timedelta64(timeframe.seconds * 2 * bars + 7 * 86400, "s")
    opens = expected_opens(start, start + span, timeframe)[:bars]
    opens = opens[rng.random(bars) >= missing]
    n = opens.size
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    open_ = close * np.exp(rng.normal(0, 1e-3, n))
    volume = pl.Series(rng.integers(1, 9, n).astype(np.float64)).set(pl.Series(rng.random(n) < 0.3), None)
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.001,
            "low": np.minimum(open_, close) / 1.001,
            "close": close,
            "volume": volume,
        },
        schema=SCHEMA,
    )


def by_hand(bars: pl.DataFrame, source: Timeframe, target: Timeframe) -> list[tuple[object, ...]]:
    """Aggregate bar by bar, as slowly and plainly as possible."""
    groups: dict[np.datetime64, list[dict[str, object]]] = {}
    for row in bars.to_dicts():
        moment = np.array([np.datetime64(row["ts_utc"].replace(tzinfo=None), "us")])
        groups.setdefault(bar_open(moment, target)[0], []).append(row)
    if not groups:
        return []
    last = np.array([np.datetime64(bars["ts_utc"][-1].replace(tzinfo=None), "us")])
    known = bar_close(last, source)[0]
    result = []
    for opened, rows in groups.items():
        if bar_close(np.array([opened]), target)[0] > known:
            continue
        volumes = [row["volume"] for row in rows if row["volume"] is not None]
        result.append(
            (
                from_utc(opened),
                rows[0]["open"],
                max(row["high"] for row in rows),
                min(row["low"] for row in rows),
                rows[-1]["close"],
                sum(volumes) if volumes else None,
            )
        )
    return result


@given(seed=st.integers(0, 2**32 - 1), bars=st.integers(0, 200), pair=st.sampled_from(PAIRS))
@settings(deadline=None, max_examples=60)
def test_it_equals_the_plain_aggregation(seed: int, bars: int, pair: tuple[Timeframe, Timeframe]) -> None:
    lower = walk(pair[0], bars, seed)
    assert resample(lower, *pair).rows() == by_hand(lower, *pair)


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 200), pair=st.sampled_from(PAIRS))
@settings(deadline=None, max_examples=60)
def test_what_was_emitted_never_changes_when_later_bars_arrive(
    seed: int, cut: int, pair: tuple[Timeframe, Timeframe]
) -> None:
    lower = walk(pair[0], 200, seed)
    whole, early = resample(lower, *pair), resample(lower.head(cut), *pair)
    assert_frame_equal(early, whole.head(early.height))


@given(seed=st.integers(0, 2**32 - 1), minutes=st.integers(-5000, 20_000))
@settings(deadline=None, max_examples=40)
def test_no_bar_is_emitted_before_it_is_known(seed: int, minutes: int) -> None:
    lower = walk(Timeframe.H1, 200, seed)
    known = lower["ts_utc"][0] + timedelta(minutes=minutes)
    higher = resample(lower, Timeframe.H1, Timeframe.H4, known_until_utc=known)
    assert (higher["ts_utc"] + timedelta(hours=4) <= known).all()
    everything = resample(lower, Timeframe.H1, Timeframe.H4, known_until_utc=datetime(2040, 1, 1, tzinfo=UTC))
    assert_frame_equal(higher, everything.filter(pl.col("ts_utc") + timedelta(hours=4) <= known))


def test_daily_bars_open_at_seventeen_in_new_york_all_year() -> None:
    daily = resample(walk(Timeframe.H1, 400, 1, missing=0.0), Timeframe.H1, Timeframe.D1)
    assert {moment.astimezone(NEW_YORK).hour for moment in daily["ts_utc"].to_list()} == {17}
    assert {moment.hour for moment in daily["ts_utc"].to_list()} == {21, 22}
    assert require_bars(daily).height == daily.height


def test_holding_the_same_timeframe_changes_nothing() -> None:
    lower = walk(Timeframe.H1, 60, 2)
    assert_frame_equal(resample(lower, Timeframe.H1, Timeframe.H1), lower)


def test_ask_prices_are_aggregated_like_the_bid() -> None:
    lower = walk(Timeframe.H1, 100, 3).with_columns(
        pl.col(name.removeprefix("ask_")).alias(name) for name in ASK_PRICES
    )
    higher = resample(lower, Timeframe.H1, Timeframe.H4)
    assert higher.height > 10
    for name in ASK_PRICES:
        assert higher[name].equals(higher[name.removeprefix("ask_")].alias(name))


def test_it_refuses_a_shorter_target_and_bars_outside_the_week() -> None:
    lower = walk(Timeframe.H1, 10, 4)
    with pytest.raises(BadInput, match="must be the longer"):
        resample(lower, Timeframe.H1, Timeframe.M15)
    saturday = lower.with_columns(pl.col("ts_utc") + timedelta(days=5))
    with pytest.raises(BadInput, match="outside the FX week"):
        resample(saturday, Timeframe.H1, Timeframe.H4)


def test_no_bars_make_no_bars() -> None:
    assert_frame_equal(resample(empty_bars(), Timeframe.H1, Timeframe.D1), empty_bars())
