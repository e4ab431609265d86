"""Prices and costs of executions.

Candles hold BID prices; the ask is one constant spread above, that of the hour, or the candle's own, as costs say.
Whoever buys pays the ask, whoever sells gets the bid, and every execution slips against the trader. A long position is
watched and closed on the bid, a short one on the ask. What a bar costs is laid out by `backtest.quotes`, and money is
counted by `domain.money`.
"""

import math
from typing import Literal, NamedTuple

from forexgpt_core.backtest.quotes import Quotes
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import Side

ClosedBy = Literal["stop", "stop_out", "take_profit"]


class QuotedBar(NamedTuple):
    """One bar of `quotes.Quotes`, as plain numbers."""

    bid_open: float
    bid_high: float
    bid_low: float
    bid_close: float
    ask_open: float
    ask_high: float
    ask_low: float
    ask_close: float
    slippage: float
    rate_open: float
    rate_close: float
    swap_long: float
    swap_short: float


def quoted_bar(quotes: Quotes, bar: int) -> QuotedBar:
    """Return the quotes of one bar."""
    return QuotedBar(*(float(getattr(quotes, name)[bar]) for name in QuotedBar._fields))


def spread_price(costs: Costs, symbol: str) -> float:
    """Return ask minus bid in quote currency."""
    return costs.spread_pips * instrument(symbol).pip


def slippage_price(costs: Costs, symbol: str, spread_pips: float | None = None, range_pips: float = 0.0) -> float:
    """Return the adverse price change of one execution in quote currency.

    Args:
        spread_pips: at the execution, where it is not `costs.spread_pips`.
        range_pips: from low to high of the bar before the execution.
    """
    spread = costs.spread_pips if spread_pips is None else spread_pips
    shares = costs.slippage_range_share * range_pips + costs.slippage_spread_share * spread
    return (costs.slippage_pips + shares) * instrument(symbol).pip


def entry_price(
    bid: float, side: Side, costs: Costs, symbol: str, *, ask: float | None = None, range_pips: float = 0.0
) -> float:
    """Return what opening a position of `side` costs while the bid is `bid`.

    Args:
        ask: where it is not the constant spread above.
        range_pips: see `slippage_price`.
    """
    spread_pips = None if ask is None else (ask - bid) / instrument(symbol).pip
    slippage = slippage_price(costs, symbol, spread_pips, range_pips)
    asked = bid + spread_price(costs, symbol) if ask is None else ask
    return asked + slippage if side is Side.BUY else bid - slippage


def exit_price(
    bid: float, side_of_position: Side, costs: Costs, symbol: str, *, ask: float | None = None, range_pips: float = 0.0
) -> float:
    """Return what closing a position of that side brings while the bid is `bid`."""
    return entry_price(bid, side_of_position.opposite, costs, symbol, ask=ask, range_pips=range_pips)


def opening_price(side: Side, bar: QuotedBar) -> float:
    """Return what an order to buy or to sell fills at when it meets the open of a bar."""
    return (bar.ask_open if side is Side.BUY else bar.bid_open) + side.sign * bar.slippage


def closing_price(side: Side, bar: QuotedBar) -> float:
    """Return what an order to buy or to sell fills at when it meets the close of a bar."""
    return (bar.ask_close if side is Side.BUY else bar.bid_close) + side.sign * bar.slippage


def protective_exit(
    side: Side,
    stop_price: float | None,
    take_profit_price: float | None,
    bar: QuotedBar,
    *,
    stop_out_price: float | None = None,
) -> tuple[float, ClosedBy] | None:
    """Return where a position open at the start of `bar` is closed inside it, or None where it survives.

    Pessimistic: when one bar touches both sides, the worse came first; the stop and the broker's own price are met in
    the order of price. A bar that opens beyond a level fills at its open, worse than the stop, or better than the
    target as a limit order would. Slippage is paid on top.

    Args:
        side: of the position.
        stop_price, take_profit_price: bid levels for a long position, ask levels for a short one.
        stop_out_price: where the broker closes the position, see `money.liquidation_price`; likewise.
    """
    sign = side.sign  # times it, a higher number is better for the position
    if side is Side.BUY:
        opened, worst, best = bar.bid_open, bar.bid_low, bar.bid_high
    else:
        opened, worst, best = -bar.ask_open, -bar.ask_high, -bar.ask_low
    stop, floor = (-math.inf if level is None else sign * level for level in (stop_price, stop_out_price))
    if worst <= max(stop, floor):
        return sign * (min(opened, max(stop, floor)) - bar.slippage), "stop" if stop >= floor else "stop_out"
    if take_profit_price is not None and best >= sign * take_profit_price:
        return sign * (max(opened, sign * take_profit_price) - bar.slippage), "take_profit"
    return None


def commission(lots: float, costs: Costs, notional: float = 0.0) -> float:
    """Return the commission of one side in account currency, that of the notional."""
    return lots * costs.commission_per_lot + costs.commission_percent / 100 * notional


def trade_profit(side: Side, lots: float, entry: float, exit_: float, costs: Costs, symbol: str) -> float:
    """Return the profit of a finished trade in quote currency, both commissions paid, in an account kept in it."""
    units = lots * float(instrument(symbol).lot_units)
    paid = commission(lots, costs, units * entry) + commission(lots, costs, units * exit_)
    return side.sign * (exit_ - entry) * units - paid
