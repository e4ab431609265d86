"""Rates of the account: the shortest way, never from the future, counted where they are stale."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe, bar_close, expected_opens
from forexgpt_core.domain.conversion import AccountRates, Leg, account_rates, conversion_path
from forexgpt_core.domain.instruments import CURRENCIES, INSTRUMENTS
from forexgpt_core.errors import BadInput

START = datetime(2018, 3, 5, 12, tzinfo=UTC)


def bars(count: int, timeframe: Timeframe = Timeframe.H1, *, start: datetime = START, seed: int = 0) -> pl.DataFrame:
    """Return lawful bars of the FX week from `start` on, their closes a walk around 1.25."""
    opens = expected_opens(
        np.datetime64(start.replace(tzinfo=None), "us"),
        np.datetime64((start + timedelta(days=9, seconds=1.5 * count * timeframe.seconds)).replace(tzinfo=None), "us"),
        timeframe,
    )[:count]
    close = 1.25 * np.exp(np.random.default_rng(seed).normal(0, 0.002, count).cumsum())
    opened = np.concatenate([[1.25], close[:-1]])
    return pl.DataFrame(
        {"ts_utc": opens, "open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close)}
    ).with_columns(
        pl.col("ts_utc").dt.replace_time_zone("UTC"),
        close=pl.Series(close),
        volume=pl.lit(None, dtype=pl.Float64),
    )


def before(timeframe: Timeframe = Timeframe.H1, count: int = 400, seed: int = 1) -> pl.DataFrame:
    return bars(count, timeframe, start=START - timedelta(days=20), seed=seed)


def of(symbol: str, account: str, candles: pl.DataFrame, **rates: pl.DataFrame) -> AccountRates:
    return account_rates(candles, symbol=symbol, account=account, rates=rates)


def slow_rate(rates: pl.DataFrame, timeframe: Timeframe, moment: np.datetime64) -> float:
    """Return the close of the last bar that has ended, one by one."""
    known = None
    for opened, close in zip(rates["ts_utc"].to_numpy().astype("M8[us]"), rates["close"], strict=True):
        if bar_close(np.array([opened]), timeframe)[0] <= moment:
            known = close
    assert known is not None
    return float(known)


# The way ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "available", "path"),
    [
        ("USD", "USD", "", ""),
        ("GBP", "USD", "GBPUSD", "GBPUSD"),
        ("USD", "EUR", "EURUSD", "1/EURUSD"),
        ("JPY", "EUR", "EURJPY USDJPY EURUSD", "1/EURJPY"),
        ("JPY", "EUR", "USDJPY EURUSD GBPJPY EURGBP", "1/USDJPY 1/EURUSD"),
        ("JPY", "EUR", "GBPJPY EURGBP", "1/GBPJPY 1/EURGBP"),
        ("CHF", "JPY", "EURCHF EURJPY GBPCHF GBPJPY", "1/EURCHF EURJPY"),
        ("CHF", "JPY", "USDCHF USDJPY EURCHF EURJPY", "1/USDCHF USDJPY"),
        ("AUD", "NZD", "AUDNZD", "AUDNZD"),
    ],
)
def test_the_shortest_way_through_the_most_traded_currency_is_taken(
    source: str, target: str, available: str, path: str
) -> None:
    found = conversion_path(source, target, available.split())
    assert " ".join(f"1/{leg.symbol}" if leg.inverted else leg.symbol for leg in found) == path


@given(
    source=st.sampled_from(CURRENCIES),
    target=st.sampled_from(CURRENCIES),
    available=st.permutations(sorted(INSTRUMENTS)).map(lambda names: names[:12]),
)
def test_a_way_leads_from_the_one_currency_to_the_other_whatever_the_order(
    source: str, target: str, available: list[str]
) -> None:
    try:
        path = conversion_path(source, target, available)
    except BadInput as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert not {source + target, target + source} & set(available)
        assert any(name in told for name in (source + target, target + source))
        return
    assert path == conversion_path(source, target, sorted(available))
    here = source
    for leg in path:
        base, quote = leg.symbol[:3], leg.symbol[3:]
        assert leg.symbol in available
        assert here == (quote if leg.inverted else base)
        here = base if leg.inverted else quote
    assert here == target


def test_a_missing_pair_is_named() -> None:
    candles = bars(30)
    with pytest.raises(BadInput, match=r"turning GBP into JPY needs the candles of GBPJPY; fetch them \(or those of"):
        of("EURGBP", "JPY", candles)
    with pytest.raises(BadInput, match="turning GBP into USD needs the candles of GBPUSD"):
        of("EURGBP", "USD", candles, USDJPY=before())


# The rates ----------------------------------------------------------------------------------------------------------


def test_an_account_in_quote_currency_has_a_rate_of_exactly_one() -> None:
    found = of("EURUSD", "USD", bars(30))
    assert (found.open == 1).all() and (found.close == 1).all()  # noqa: PT018
    assert not found.base_is_account
    assert found.path == ()


def test_an_account_in_base_currency_converts_at_the_pairs_own_price() -> None:
    candles = bars(30)
    found = of("EURUSD", "EUR", candles)
    assert found.base_is_account
    np.testing.assert_array_equal(found.open, 1 / candles["open"].to_numpy())
    np.testing.assert_array_equal(found.close, 1 / candles["close"].to_numpy())


@pytest.mark.parametrize("rate_frame", [Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1, Timeframe.W1])
@pytest.mark.parametrize("frame", [Timeframe.M15, Timeframe.H1, Timeframe.D1, Timeframe.W1])
def test_a_rate_is_the_close_of_the_last_bar_that_has_ended(frame: Timeframe, rate_frame: Timeframe) -> None:
    candles = bars(12, frame, start=datetime(2018, 3, 9, 20, tzinfo=UTC))  # over a weekend and a clock change
    rates = bars(max(5, 86_400 * 100 // rate_frame.seconds), rate_frame, start=datetime(2018, 2, 4, 22, tzinfo=UTC))
    found = of("EURGBP", "USD", candles, GBPUSD=rates)
    opens = candles["ts_utc"].to_numpy().astype("M8[us]")
    asked = range(0, 12, 4)
    assert [found.open[n] for n in asked] == [slow_rate(rates, rate_frame, opens[n]) for n in asked]
    ends = bar_close(opens, frame)
    assert [found.close[n] for n in asked] == [slow_rate(rates, rate_frame, ends[n]) for n in asked]


@given(cut=st.integers(0, 29), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_no_rate_changes_when_the_future_does(cut: int, seed: int) -> None:
    candles = bars(30)
    rates, other = before(count=420), before(count=420, seed=2)
    moment = candles["ts_utc"][cut]
    changed = pl.concat([rates.filter(pl.col("ts_utc") < moment), other.filter(pl.col("ts_utc") >= moment)])
    usual, told = (of("EURGBP", "USD", candles, GBPUSD=frame) for frame in (rates, changed))
    np.testing.assert_array_equal(usual.open[: cut + 1], told.open[: cut + 1])
    np.testing.assert_array_equal(usual.close[:cut], told.close[:cut])
    assert usual.close[-1] != told.close[-1] or cut == 29


def test_the_pair_itself_may_be_part_of_the_way_at_its_own_prices() -> None:
    candles, euro = bars(20), before(count=500)
    found = of("USDJPY", "EUR", candles, EURUSD=euro)
    assert found.path == (Leg("USDJPY", inverted=True), Leg("EURUSD", inverted=True))
    dollar = of("GBPUSD", "EUR", candles, EURUSD=euro)
    assert dollar.path == (Leg("EURUSD", inverted=True),)
    np.testing.assert_allclose(found.open, 1 / candles["open"].to_numpy() * dollar.open, rtol=1e-15)
    np.testing.assert_allclose(found.close, 1 / candles["close"].to_numpy() * dollar.close, rtol=1e-15)
    other = before(count=500, seed=9)
    crossed = of("GBPJPY", "EUR", candles, USDJPY=other, EURUSD=euro)
    yen_in_dollars = of("EURJPY", "USD", candles, USDJPY=other).open
    np.testing.assert_allclose(crossed.open, yen_in_dollars * dollar.open, rtol=1e-15)


def test_stale_rates_are_counted_and_a_weekend_makes_none() -> None:
    candles = bars(200)  # 5 to 14 March: over a weekend and a clock change
    rates = before(count=800)
    assert of("EURGBP", "USD", candles, GBPUSD=rates).stale_bars == 0
    gone = candles["ts_utc"][50]
    holed = rates.filter((pl.col("ts_utc") < gone) | (pl.col("ts_utc") >= gone + timedelta(hours=3)))
    found = of("EURGBP", "USD", candles, GBPUSD=holed)
    assert found.stale_bars == 4  # the closes of three bars, and the open of the one after them
    assert found.close[52] == found.close[49]
    assert of("EURGBP", "USD", candles, GBPUSD=rates.filter(pl.col("ts_utc") < gone)).stale_bars == 150
    two_steps = of("GBPJPY", "EUR", candles, USDJPY=holed, EURUSD=rates)
    assert two_steps.stale_bars == 4, "a hole in either pair counts"
    daily = bars(60, Timeframe.D1, start=datetime(2018, 1, 8, tzinfo=UTC))
    assert of("EURGBP", "USD", candles, GBPUSD=daily).stale_bars == 0


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (
            bars(30),
            "first rate of GBPUSD is known at 2018-03-05T13.*after 1 moments.*fetch GBPUSD from before 2018-03-05T12",
        ),
        (before().reverse(), "GBPUSD, whose price converts into the account's currency: candles are not sorted"),
        (before().head(1), "GBPUSD converts into the account's currency and has 1 candles; fetch more"),
        (before().clear(), "GBPUSD converts into the account's currency and has 0 candles"),
    ],
)
def test_rates_that_do_not_serve_are_refused(rates: pl.DataFrame, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        of("EURGBP", "USD", bars(30), GBPUSD=rates)


def test_pairs_that_are_not_on_the_way_are_not_read() -> None:
    assert of("EURGBP", "USD", bars(30), GBPUSD=before(), EURUSD=before().reverse()).path == (
        Leg("GBPUSD", inverted=False),
    )
