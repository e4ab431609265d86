"""Quotes laid out for a backtest: both sides, slippage, nights, and what a round trip is expected to cost."""

import itertools
from dataclasses import fields, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest.fills import entry_price, exit_price, opening_price, quoted_bar
from forexgpt_core.backtest.quotes import Quotes, lay_out_quotes, mean_spread_pips, new_york_hour, nights_held
from forexgpt_core.domain.clock import NEW_YORK, Timeframe, expected_opens, from_utc, week_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared candles are not on this machine")

HOURS = tuple(float(hour) for hour in range(24))
ASKS = ("ask_open", "ask_high", "ask_low", "ask_close")


def opens_between(start: str, end: str, timeframe: Timeframe = Timeframe.H1) -> np.ndarray:
    return expected_opens(np.datetime64(start, "us"), np.datetime64(end, "us"), timeframe)


def bars(opens: np.ndarray, seed: int = 0) -> pl.DataFrame:
    """Return lawful bars with an ask side at these opens."""
    random, n = np.random.default_rng(seed), opens.size
    close = 1.25 * np.exp(random.normal(0, 0.002, n).cumsum())
    opened = np.concatenate([[1.25], close[:-1]])
    bid = {
        "open": opened,
        "high": np.maximum(opened, close) + random.uniform(0, 0.001, n),
        "low": np.minimum(opened, close) - random.uniform(0, 0.001, n),
        "close": close,
    }
    ask_open, ask_close = opened + random.uniform(0, 4e-4, n), close + random.uniform(0, 4e-4, n)
    ask = (ask_open, np.maximum(ask_open, ask_close) + 0.001, np.minimum(ask_open, ask_close) - 1e-5, ask_close)
    columns = {"ts_utc": opens, **bid, **dict(zip(ASKS, ask, strict=True))}
    ts, volume = pl.col("ts_utc").dt.replace_time_zone("UTC"), pl.lit(None, dtype=pl.Float64).alias("volume")
    return pl.DataFrame(columns).with_columns(ts, volume)


WEEK = opens_between("2018-03-05T00:00", "2018-03-09T20:00")
RICH = Costs(
    spread_pips=1.3,
    slippage_pips=0.2,
    slippage_range_share=0.03,
    slippage_spread_share=0.1,
    commission_percent=0.002,
    swap_long_pips=-0.6,
    swap_short_pips=0.2,
)


# Nights -------------------------------------------------------------------------------------------------------------


def slow_nights(before: datetime, now: datetime, triple_weekday: int) -> int:
    """Return the nights in (before, now], day by day on New York's own clock."""
    nights, day = 0, before.astimezone(NEW_YORK).date()
    while day <= now.astimezone(NEW_YORK).date():
        begins = datetime.combine(day, time(17), NEW_YORK)
        if before < begins <= now and day.weekday() < 5:
            nights += 3 if day.weekday() == triple_weekday else 1
        day += timedelta(days=1)
    return nights


@given(
    start=st.datetimes(datetime(2005, 1, 1), datetime(2019, 1, 1)),
    gaps=st.lists(st.integers(1, 60 * 24 * 4), min_size=1, max_size=30),
    triple=st.integers(0, 4),
)
def test_nights_are_those_of_new_yorks_clock(start: datetime, gaps: list[int], triple: int) -> None:
    minutes = np.concatenate([[0], np.cumsum(gaps)])
    opens = np.datetime64(start.replace(second=0, microsecond=0), "us") + minutes.astype("timedelta64[m]")
    moments = [from_utc(one) for one in opens]
    slow = [0, *(slow_nights(a, b, triple) for a, b in itertools.pairwise(moments))]
    assert nights_held(opens, triple).tolist() == slow


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_a_week_has_seven_nights_in_every_timeframe_whatever_the_clocks_do(timeframe: Timeframe) -> None:
    for week in (1470, 1471, 1472, 1504, 1505):  # around the clock changes of 2018
        first, last = week_opens()[week], week_opens()[week + 1]
        opens = np.concatenate([expected_opens(first, last - np.timedelta64(3, "D"), timeframe), [last]])
        assert nights_held(np.unique(opens), 2).sum() == 7


def test_nights_are_charged_at_the_bar_that_opens_at_or_after_seventeen() -> None:
    found = nights_held(opens_between("2018-07-02T00:00", "2018-07-09T22:00"), 2)
    opens = opens_between("2018-07-02T00:00", "2018-07-09T22:00")
    charged = {str(opens[n])[:13]: int(found[n]) for n in np.flatnonzero(found)}
    assert charged == {
        "2018-07-02T21": 1,
        "2018-07-03T21": 1,
        "2018-07-04T21": 3,
        "2018-07-05T21": 1,
        "2018-07-08T21": 1,  # Friday's, at the first bar after it; Sunday is no night
        "2018-07-09T21": 1,
    }


def test_swap_is_in_quote_currency_per_unit_and_gold_counts_ten_cent_pips() -> None:
    quotes = lay_out_quotes(bars(WEEK), RICH, symbol="XAUUSD")
    nights = nights_held(WEEK, 2)
    assert nights.sum() == 1 + 1 + 3 + 1
    np.testing.assert_allclose(quotes.swap_long, nights * -0.06, rtol=1e-15)
    np.testing.assert_allclose(quotes.swap_short, nights * 0.02, rtol=1e-15)
    thursday = lay_out_quotes(bars(WEEK), replace(RICH, swap_triple_weekday=3), symbol="USDCAD")
    assert round(thursday.swap_short.max() / 0.00002) == 3
    assert str(WEEK[thursday.swap_short.argmax()]) == "2018-03-08T22:00:00.000000"


# Both sides ---------------------------------------------------------------------------------------------------------


def test_a_constant_spread_is_one_addition_and_costs_are_those_of_the_first_release() -> None:
    candles, costs = bars(WEEK), Costs(spread_pips=1.3, slippage_pips=0.2)
    quotes = lay_out_quotes(candles, costs, symbol="EURUSD")
    for name in ("open", "high", "low", "close"):
        bid = getattr(quotes, f"bid_{name}")
        np.testing.assert_array_equal(bid, candles[name].to_numpy())
        np.testing.assert_array_equal(getattr(quotes, f"ask_{name}"), bid + 1.3 * 0.0001)
    np.testing.assert_array_equal(quotes.slippage, np.full(WEEK.size, 0.2 * 0.0001))
    assert quotes.cost_return.tolist() == [costs.round_trip_return("EURUSD", price) for price in candles["close"]]
    assert (quotes.missing_ask_bars, quotes.crossed_ask_bars, quotes.stale_rate_bars) == (0, 0, 0)
    assert (quotes.lot_units, quotes.base_is_account) == (100_000.0, False)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("source", ["constant", "session", "candles"])
def test_an_order_fills_at_the_price_that_its_spread_and_the_bar_before_say(side: Side, source: str) -> None:
    candles = bars(WEEK)
    costs = replace(RICH, spread_source=source, spread_by_hour_pips=HOURS)
    quotes = lay_out_quotes(candles, costs, symbol="EURUSD")
    moved = 0.0
    for n, row in enumerate(candles.iter_rows(named=True)):
        bar = quoted_bar(quotes, n)
        told = {"ask": bar.ask_open, "range_pips": moved / 0.0001}
        entry = entry_price(row["open"], side, costs, "EURUSD", **told)
        exit_ = exit_price(row["open"], side, costs, "EURUSD", **told)
        expected = (opening_price(side, bar), opening_price(side.opposite, bar))
        assert (entry, exit_) == pytest.approx(expected, abs=1e-14)
        moved = row["high"] - row["low"]


def test_a_bar_without_an_ask_has_the_usual_spread_and_one_below_the_bid_is_raised() -> None:
    candles = bars(WEEK).with_columns(
        ask_open=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("ask_open"),
        ask_low=pl.when(pl.int_range(pl.len()) == 5).then(pl.col("low") - 0.0002).otherwise("ask_low"),
    )
    quotes = lay_out_quotes(candles, replace(RICH, spread_source="candles"), symbol="EURUSD")
    assert (quotes.missing_ask_bars, quotes.crossed_ask_bars) == (1, 1)
    for name in ASKS:
        assert getattr(quotes, name)[3] == candles[name[4:]][3] + 1.3 * 0.0001
        assert getattr(quotes, name)[4] == candles[name][4]
    assert quotes.ask_low[5] == candles["low"][5]
    bare = lay_out_quotes(candles.drop(ASKS), replace(RICH, spread_source="candles"), symbol="EURUSD")
    assert bare.missing_ask_bars == WEEK.size
    constant = lay_out_quotes(candles, RICH, symbol="EURUSD")
    np.testing.assert_array_equal(bare.cost_return, constant.cost_return)
    np.testing.assert_array_equal(bare.slippage, constant.slippage)


def test_the_hour_of_the_session_is_new_yorks_in_winter_and_summer() -> None:
    opens = np.concatenate([opens_between("2018-03-08T00:00", "2018-03-14T00:00")])
    assert new_york_hour(opens).tolist() == [from_utc(one).astimezone(NEW_YORK).hour for one in opens]
    costs = replace(RICH, spread_source="session", spread_by_hour_pips=HOURS)
    quotes = lay_out_quotes(bars(opens), costs, symbol="EURUSD")
    np.testing.assert_allclose((quotes.ask_open - quotes.bid_open) / 0.0001, new_york_hour(opens), atol=1e-9)
    assert quotes.cost_return[7] == pytest.approx(
        costs.round_trip_return(
            "EURUSD",
            quotes.bid_close[7:8],
            spread_pips=float(new_york_hour(opens)[7]),
            slippage_pips=0.2 + 0.1 * new_york_hour(opens)[7] + 300 * (quotes.bid_high[7] - quotes.bid_low[7]),
        )[0],
        rel=1e-12,
    )


# Slippage and expected costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["constant", "session", "candles"])
def test_slippage_is_of_the_bar_before_and_the_spread_at_the_open(source: str) -> None:
    costs = replace(RICH, spread_source=source, spread_by_hour_pips=HOURS)
    quotes = lay_out_quotes(bars(WEEK), costs, symbol="EURUSD")
    reach = quotes.bid_high - quotes.bid_low
    spread = quotes.ask_open - quotes.bid_open
    assert quotes.slippage[0] == pytest.approx(0.2e-4 + 0.1 * spread[0], rel=1e-9)
    np.testing.assert_allclose(quotes.slippage[1:], 0.2e-4 + 0.03 * reach[:-1] + 0.1 * spread[1:], rtol=1e-9)
    slips = 0.2e-4 + 0.03 * reach + 0.1 * (quotes.ask_close - quotes.bid_close)  # of the execution that follows
    paid = quotes.ask_close - quotes.bid_close + 2 * slips + 2 * 3.5 / 100_000
    np.testing.assert_allclose(quotes.cost_return, paid / quotes.bid_close + 2 * 0.002 / 100, rtol=1e-9)


@given(cut=st.integers(1, 100), seed=st.integers(0, 50), source=st.sampled_from(["constant", "session", "candles"]))
@settings(max_examples=30)
def test_nothing_in_a_bar_changes_when_later_bars_do(cut: int, seed: int, source: str) -> None:
    costs = replace(RICH, spread_source=source, spread_by_hour_pips=HOURS, account_currency="EUR")
    now, other = bars(WEEK), bars(WEEK, seed=seed + 1)
    whole, told = (
        lay_out_quotes(frame, costs, symbol="EURUSD") for frame in (now, pl.concat([now[:cut], other[cut:]]))
    )
    for field in fields(Quotes):
        ours, theirs = getattr(whole, field.name), getattr(told, field.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours[:cut], theirs[:cut], err_msg=field.name)
    if source != "candles":  # there the spread at the open is a price of the bar itself
        np.testing.assert_array_equal(whole.slippage[: cut + 1], told.slippage[: cut + 1])


@pytest.mark.parametrize("account", ["", "EUR", "GBP"])
@pytest.mark.parametrize("count", [1, 2, 117])
def test_every_array_is_laid_out_for_a_compiled_engine(account: str, count: int) -> None:
    before = opens_between("2018-02-26T00:00", "2018-03-09T20:00")
    candles = bars(WEEK).head(count)
    quotes = lay_out_quotes(
        candles, replace(RICH, account_currency=account), symbol="EURUSD", rates={"GBPUSD": bars(before)}
    )
    arrays = {
        f.name: getattr(quotes, f.name) for f in fields(Quotes) if isinstance(getattr(quotes, f.name), np.ndarray)
    }
    assert len(arrays) == 14
    for name, values in arrays.items():
        assert (values.dtype, values.shape) == (np.float64, (count,)), name
        assert values.flags.c_contiguous, name
        assert np.isfinite(values).all(), name
    assert isinstance(quotes.base_is_account, bool)
    assert quotes.base_is_account == (account == "EUR")


def test_a_commission_in_a_third_currency_is_expected_at_the_rate_of_the_close() -> None:
    costs = Costs(spread_pips=0.0, slippage_pips=0.0, commission_per_lot=5.0, account_currency="GBP")
    before = bars(opens_between("2018-02-26T00:00", "2018-03-09T20:00"), seed=5)
    quotes = lay_out_quotes(bars(WEEK), costs, symbol="EURUSD", rates={"GBPUSD": before})
    lot_in_pounds = 100_000 * quotes.bid_close * quotes.rate_close
    np.testing.assert_allclose(quotes.cost_return, 2 * 5.0 / lot_in_pounds, rtol=1e-12)


def test_no_bars_are_no_quotes() -> None:
    assert lay_out_quotes(bars(WEEK).clear(), RICH, symbol="EURUSD").cost_return.size == 0


def test_unlawful_candles_and_missing_rates_are_refused() -> None:
    with pytest.raises(BadInput, match="candles are not sorted"):
        lay_out_quotes(bars(WEEK).reverse(), RICH, symbol="EURUSD")
    with pytest.raises(BadInput, match="turning USD into CHF needs the candles of USDCHF"):
        lay_out_quotes(bars(WEEK), replace(RICH, account_currency="CHF"), symbol="EURUSD")


# Real candles -------------------------------------------------------------------------------------------------------


@needs_data
def test_real_spreads_are_those_of_the_two_files_and_real_years_have_their_nights() -> None:
    bid, ask = (pl.read_parquet(DATA / folder / "EURUSD_H1.parquet") for folder in (".", "ask"))
    candles = bid.with_columns(ask[name[4:]].alias(name) for name in ASKS)
    quotes = lay_out_quotes(candles, replace(RICH, spread_source="candles"), symbol="EURUSD")
    assert (quotes.missing_ask_bars, quotes.crossed_ask_bars) == (0, 0)
    np.testing.assert_array_equal(quotes.ask_low, ask["low"].to_numpy())
    weeks = (candles["ts_utc"][-1] - candles["ts_utc"][0]) / timedelta(weeks=1)
    assert (quotes.swap_long / -0.6e-4).sum() == pytest.approx(7 * weeks, abs=7)


@needs_data
def test_real_crosses_agree_with_the_pair_they_make() -> None:
    """A pound of profit is worth as many dollars through GBPUSD as through EURGBP itself and EURUSD, but for a pip."""

    def read(symbol: str) -> pl.DataFrame:
        return pl.read_parquet(DATA / f"{symbol}_H1.parquet").unique("ts_utc", keep="first", maintain_order=True)

    cross = read("EURGBP").filter(
        pl.col("ts_utc").is_between(datetime(2016, 1, 1, tzinfo=UTC), datetime(2017, 1, 1, tzinfo=UTC))
    )
    costs = Costs(account_currency="USD")
    direct = lay_out_quotes(cross, costs, symbol="EURGBP", rates={"GBPUSD": read("GBPUSD")})
    around = lay_out_quotes(cross, costs, symbol="EURGBP", rates={"EURUSD": read("EURUSD")})
    off = np.abs(around.rate_close / direct.rate_close - 1)
    assert np.median(off) < 2e-4
    assert direct.stale_rate_bars < 0.02 * cross.height


@pytest.mark.parametrize("source", ["constant", "candles", "session"])
def test_the_spread_that_is_shown_is_the_one_that_is_traded(source: str) -> None:
    candles = bars(opens_between("2018-01-08T00:00", "2018-01-12"))
    costs = Costs(spread_pips=1.7, spread_source=source, spread_by_hour_pips=HOURS)
    traded = {
        "constant": 1.7,
        "candles": float((candles["ask_close"] - candles["close"]).mean() or 0.0) / 0.0001,
        "session": float(np.mean([HOURS[hour] for hour in new_york_hour(candles["ts_utc"].to_numpy())])),
    }
    quotes = lay_out_quotes(candles, costs, symbol="EURUSD")
    assert mean_spread_pips(quotes, "EURUSD") == pytest.approx(traded[source], abs=1e-6)
