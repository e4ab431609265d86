"""Prices and costs of executions, shared by the backtest and the paper broker.

Candles hold BID prices; the ask is one constant spread above. Whoever buys pays the ask, whoever sells gets the bid,
and every execution slips against the trader. A long position is watched and closed on the bid, a short one on the ask.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One closed bid candle, stamped with its open."""

    ts_utc: datetime
    open: float
    high: float
    low: float
    close: float


def spread_price(costs: Costs, symbol: str) -> float:
    """Return ask minus bid in quote currency."""
    return costs.spread_pips * instrument(symbol).pip


def slippage_price(costs: Costs, symbol: str) -> float:
    """Return the adverse price change of one execution in quote currency."""
    return costs.slippage_pips * instrument(symbol).pip


def entry_price(bid: float, side: Side, costs: Costs, symbol: str) -> float:
    """Return what opening a position of `side` costs while the bid is `bid`."""
    slippage = slippage_price(costs, symbol)
    return bid + spread_price(costs, symbol) + slippage if side is Side.BUY else bid - slippage


def exit_price(bid: float, side_of_position: Side, costs: Costs, symbol: str) -> float:
    """Return what closing a position of that side brings while the bid is `bid`."""
    return entry_price(bid, side_of_position.opposite, costs, symbol)


def protective_exit(
    side: Side, stop_price: float | None, take_profit_price: float | None, bar: Bar, costs: Costs, symbol: str
) -> tuple[float, Literal["stop", "take_profit"]] | None:
    """Return where a position open at the start of `bar` is closed inside it, or None where it survives.

    Pessimistic: when one bar touches both levels, the stop came first. A bar that opens beyond a level fills at its
    open, worse than the stop, or better than the target as a limit order would. Slippage is paid on top.

    Args:
        side: of the position.
        stop_price, take_profit_price: bid levels for a long position, ask levels for a short one.
    """
    shift = 0.0 if side is Side.BUY else spread_price(costs, symbol)
    sign, slippage = side.sign, slippage_price(costs, symbol)
    opened = sign * (bar.open + shift)  # from here on a higher number is better for the position
    worst, best = sorted((sign * (bar.low + shift), sign * (bar.high + shift)))
    if stop_price is not None and worst <= sign * stop_price:
        return sign * (min(opened, sign * stop_price) - slippage), "stop"
    if take_profit_price is not None and best >= sign * take_profit_price:
        return sign * (max(opened, sign * take_profit_price) - slippage), "take_profit"
    return None


def commission(lots: float, costs: Costs) -> float:
    """Return the commission of one side in quote currency."""
    return lots * costs.commission_per_lot


def trade_profit(side: Side, lots: float, entry: float, exit_: float, costs: Costs, symbol: str) -> float:
    """Return the profit of a finished trade in quote currency, both commissions paid."""
    units = lots * float(instrument(symbol).lot_units)
    return side.sign * (exit_ - entry) * units - 2 * commission(lots, costs)
