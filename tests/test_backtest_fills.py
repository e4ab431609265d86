"""Prices of executions: pessimistic, and on the right side of the spread."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forexgpt_core.backtest.fills import (
    QuotedBar,
    closing_price,
    commission,
    entry_price,
    exit_price,
    opening_price,
    protective_exit,
    trade_profit,
)
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import Side

COSTS = Costs(spread_pips=2.0, slippage_pips=0.5, commission_per_lot=4.0)


def bar(open_: float, high: float, low: float, close: float | None = None) -> QuotedBar:
    """Return a bar with a spread of two pips and half a pip of slippage, as COSTS say."""
    bids = (open_, high, low, close or open_)
    asks = (price + 2.0 * 0.0001 for price in bids)
    return QuotedBar(*bids, *asks, slippage=0.5 * 0.0001, rate_open=1.0, rate_close=1.0, swap_long=0.0, swap_short=0.0)


def test_a_buyer_pays_the_ask_and_a_seller_gets_the_bid_and_both_slip() -> None:
    assert entry_price(1.2, Side.BUY, COSTS, "EURUSD") == pytest.approx(1.20025, abs=1e-12)
    assert exit_price(1.2, Side.BUY, COSTS, "EURUSD") == pytest.approx(1.19995, abs=1e-12)
    assert entry_price(1.2, Side.SELL, COSTS, "EURUSD") == pytest.approx(1.19995, abs=1e-12)
    assert exit_price(1.2, Side.SELL, COSTS, "EURUSD") == pytest.approx(1.20025, abs=1e-12)
    assert entry_price(110.0, Side.BUY, COSTS, "USDJPY") == pytest.approx(110.025, abs=1e-12)


@pytest.mark.parametrize("side", list(Side))
def test_a_round_trip_at_an_unchanged_price_loses_what_costs_say(side: Side) -> None:
    entry, exit_ = entry_price(1.2, side, COSTS, "EURUSD"), exit_price(1.2, side, COSTS, "EURUSD")
    lost = -trade_profit(side, 0.5, entry, exit_, COSTS, "EURUSD")
    assert lost == pytest.approx(0.5 * 100_000 * 0.0003 + 2 * 0.5 * 4.0, abs=1e-8)  # 3 pips and two commissions
    assert lost / (0.5 * 100_000 * 1.2) == pytest.approx(COSTS.round_trip_return("EURUSD", 1.2), rel=1e-9)
    assert commission(0.5, COSTS) == 2.0


def test_a_bar_that_touches_both_levels_is_a_stop() -> None:
    price, reason = protective_exit(Side.BUY, 1.19, 1.21, bar(1.2, 1.22, 1.18)) or (0, "")
    assert (price, reason) == (pytest.approx(1.19 - 0.00005), "stop")


def test_a_gap_through_the_stop_fills_at_the_open() -> None:
    long = protective_exit(Side.BUY, 1.19, 1.25, bar(1.18, 1.185, 1.17))
    assert long == (pytest.approx(1.18 - 0.00005), "stop")
    short = protective_exit(Side.SELL, 1.21, 1.15, bar(1.22, 1.23, 1.215))
    assert short == (pytest.approx(1.22 + 0.0002 + 0.00005), "stop")


def test_a_gap_through_the_target_fills_at_the_open_like_a_limit_order() -> None:
    assert protective_exit(Side.BUY, 1.1, 1.21, bar(1.22, 1.23, 1.215)) == (
        pytest.approx(1.22 - 0.00005),
        "take_profit",
    )


def test_a_short_position_is_watched_on_the_ask() -> None:
    high_bid_below_stop = bar(1.2, 1.2099, 1.199)
    found = protective_exit(Side.SELL, 1.21, 1.1, high_bid_below_stop)  # ask reached 1.2101
    assert found == (pytest.approx(1.21 + 0.00005), "stop")
    assert protective_exit(Side.SELL, 1.2102, 1.1, high_bid_below_stop) is None
    low_bid_at_target = bar(1.2, 1.201, 1.19)
    assert protective_exit(Side.SELL, 1.3, 1.19, low_bid_at_target) is None  # the ask was 1.1902


def test_no_level_no_exit() -> None:
    assert protective_exit(Side.BUY, None, None, bar(1.2, 9.0, 0.1)) is None


@given(
    side=st.sampled_from(list(Side)),
    opened=st.floats(1.0, 1.4),
    up=st.floats(0, 0.1),
    down=st.floats(0, 0.1),
    stop_gap=st.floats(-0.05, 0.1),
    target_gap=st.floats(-0.05, 0.1),
)
def test_an_exit_is_never_kinder_than_the_market(
    side: Side, opened: float, up: float, down: float, stop_gap: float, target_gap: float
) -> None:
    one = bar(opened, opened + up, opened - down)
    stop, target = opened - side.sign * stop_gap, opened + side.sign * target_gap
    found = protective_exit(side, stop, target, one)
    if found is None:
        return
    price, reason = found
    ends = [exit_price(bid, side, COSTS, "EURUSD") for bid in (one.bid_low, one.bid_high)]
    assert min(ends) - 1e-12 <= price <= max(ends) + 1e-12  # a price the bar traded at
    if reason == "stop":
        assert side.sign * price < side.sign * stop
    free = protective_exit(side, None, target, one)
    if free is not None:
        assert side.sign * price <= side.sign * free[0] + 1e-12 or reason == "take_profit"


def first_release(side: Side, stop: float, target: float, one: QuotedBar) -> list[object]:
    """Return what the first release computed, in its own arithmetic."""
    pip, shift = 0.0001, 0.0 if side is Side.BUY else 2.0 * 0.0001
    slippage, sign = 0.5 * pip, side.sign
    opened = sign * (one.bid_open + shift)
    worst, best = sorted((sign * (one.bid_low + shift), sign * (one.bid_high + shift)))
    if worst <= sign * stop:
        exit_: object = (sign * (min(opened, sign * stop) - slippage), "stop")
    elif best >= sign * target:
        exit_ = (sign * (max(opened, sign * target) - slippage), "take_profit")
    else:
        exit_ = None
    entry = one.bid_open + 2.0 * pip + slippage if side is Side.BUY else one.bid_open - slippage
    return [exit_, entry, sign * (one.bid_close - entry) * 37_000.0 - 2 * (0.37 * 4.0)]


@given(
    side=st.sampled_from(list(Side)),
    opened=st.floats(0.9, 1.6),
    up=st.floats(0, 0.02),
    down=st.floats(0, 0.02),
    stop=st.floats(0.9, 1.6),
    target=st.floats(0.9, 1.6),
)
def test_constant_costs_are_counted_as_ever_to_the_last_bit(
    side: Side, opened: float, up: float, down: float, stop: float, target: float
) -> None:
    one = bar(opened, opened + up, opened - down, opened - down / 2)
    entry = entry_price(one.bid_open, side, COSTS, "EURUSD")
    found = [
        protective_exit(side, stop, target, one),
        entry,
        trade_profit(side, 0.37, entry, one.bid_close, COSTS, "EURUSD"),
    ]
    assert found == first_release(side, stop, target, one)
    assert opening_price(side, one) == entry
    assert closing_price(side, one) == entry_price(one.bid_close, side, COSTS, "EURUSD")


def test_a_bar_with_an_ask_side_is_traded_at_it() -> None:
    quoted = bar(1.2, 1.21, 1.19)._replace(ask_open=1.2004, ask_high=1.2103, ask_low=1.19, ask_close=1.2003)
    assert entry_price(1.2, Side.BUY, COSTS, "EURUSD", ask=1.2004) == opening_price(Side.BUY, quoted)
    assert exit_price(1.2, Side.SELL, COSTS, "EURUSD", ask=1.2004) == opening_price(Side.BUY, quoted) == 1.2004 + 0.5e-4
    assert protective_exit(Side.SELL, 1.2103, None, quoted) == (1.2103 + 0.5 * 0.0001, "stop")
    assert protective_exit(Side.SELL, 1.21031, None, quoted) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_the_brokers_price_and_the_stop_are_met_in_the_order_of_price(sign: int) -> None:
    side, ask = (Side.BUY, 0.0) if sign == 1 else (Side.SELL, 0.0002)
    falls = bar(1.2, *((1.2, 1.18) if sign == 1 else (1.22 - ask, 1.2)))

    def exit_at(stop: float | None, floor: float | None) -> tuple[float, str] | None:
        levels = (None if x is None else 1.2 + sign * x for x in (stop, floor))
        stop_price, stop_out_price = levels
        return protective_exit(side, stop_price, None, falls, stop_out_price=stop_out_price)

    assert exit_at(-0.01, -0.015) == (pytest.approx(1.2 - sign * (0.01 + 0.00005)), "stop")
    assert exit_at(-0.015, -0.01) == (pytest.approx(1.2 - sign * (0.01 + 0.00005)), "stop_out")
    assert exit_at(None, -0.01) == (pytest.approx(1.2 - sign * (0.01 + 0.00005)), "stop_out")
    assert exit_at(-0.01, -0.01) == (pytest.approx(1.2 - sign * (0.01 + 0.00005)), "stop")
    assert exit_at(-0.03, -0.03) is None
    assert exit_at(None, math.inf) == (pytest.approx(1.2 + ask - sign * 0.00005), "stop_out"), "at the open"


def test_slippage_grows_with_the_spread_and_a_percentage_with_the_notional() -> None:
    costs = replace(COSTS, slippage_spread_share=0.25, commission_percent=0.01)
    assert entry_price(1.2, Side.SELL, costs, "EURUSD") == pytest.approx(1.2 - 0.0001)  # .5 + .25 x 2 pips
    assert entry_price(1.2, Side.SELL, costs, "EURUSD", ask=1.2008) == pytest.approx(1.2 - 0.00025)
    wide = replace(costs, slippage_range_share=0.1)
    assert entry_price(1.2, Side.SELL, wide, "EURUSD", range_pips=20.0) == pytest.approx(1.2 - 0.0003)
    assert commission(0.5, costs, 60_000.0) == pytest.approx(2.0 + 6.0)
    assert trade_profit(Side.BUY, 0.5, 1.2, 1.21, costs, "EURUSD") == pytest.approx(500 - 8.0 - 8.05)
