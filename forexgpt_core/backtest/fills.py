"""Prices and costs of executions, shared by the backtest and the paper broker.

Candles hold BID prices; the ask is one constant spread above, that of the hour, or the candle's own, as costs say.
Whoever buys pays the ask, whoever sells gets the bid, and every execution slips against the trader. A long position is
watched and closed on the bid, a short one on the ask. Money is in quote currency here; see `domain.money`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from forexgpt_core.backtest.quotes import new_york_hour
from forexgpt_core.domain.clock import to_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import Side

_UNPAID = ("commission_percent", "slippage_range_share", "swap_long_pips", "swap_short_pips")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One closed bid candle, stamped with its open; its ask side may be known."""

    ts_utc: datetime
    open: float
    high: float
    low: float
    close: float
    ask_open: float | None = None
    ask_high: float | None = None
    ask_low: float | None = None
    ask_close: float | None = None


def spread_price(costs: Costs, symbol: str) -> float:
    """Return ask minus bid in quote currency."""
    return costs.spread_pips * instrument(symbol).pip


def slippage_price(costs: Costs, symbol: str, spread_pips: float | None = None) -> float:
    """Return the adverse price change of one execution in quote currency, but for its share of the bar before.

    Args:
        spread_pips: at the execution, where it is not `costs.spread_pips`.
    """
    spread = costs.spread_pips if spread_pips is None else spread_pips
    return (costs.slippage_pips + costs.slippage_spread_share * spread) * instrument(symbol).pip


def ask_side(bar: Bar, costs: Costs, symbol: str) -> tuple[float, float, float, float]:
    """Return the ask at the bar's open, high, low and close: never below the bid."""
    bids, asks = (bar.open, bar.high, bar.low, bar.close), (bar.ask_open, bar.ask_high, bar.ask_low, bar.ask_close)
    known = [ask for ask in asks if ask is not None]
    if costs.spread_source == "candles" and len(known) == len(bids):
        opened, high, low, closed = (max(ask, bid) for ask, bid in zip(known, bids, strict=True))
        return opened, high, low, closed
    pips = costs.spread_pips
    if costs.spread_source == "session":
        pips = costs.spread_by_hour_pips[int(new_york_hour(np.array([to_utc(bar.ts_utc)]))[0])]
    spread = pips * instrument(symbol).pip
    return bids[0] + spread, bids[1] + spread, bids[2] + spread, bids[3] + spread


def entry_price(bid: float, side: Side, costs: Costs, symbol: str, *, ask: float | None = None) -> float:
    """Return what opening a position of `side` costs while the bid is `bid`.

    Args:
        ask: where it is not the constant spread above; see `ask_side`.
    """
    spread_pips = None if ask is None else (ask - bid) / instrument(symbol).pip
    slippage = slippage_price(costs, symbol, spread_pips)
    asked = bid + spread_price(costs, symbol) if ask is None else ask
    return asked + slippage if side is Side.BUY else bid - slippage


def exit_price(bid: float, side_of_position: Side, costs: Costs, symbol: str, *, ask: float | None = None) -> float:
    """Return what closing a position of that side brings while the bid is `bid`."""
    return entry_price(bid, side_of_position.opposite, costs, symbol, ask=ask)


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
    ask_open, ask_high, ask_low, _ = ask_side(bar, costs, symbol)
    opens, high, low = (bar.open, bar.high, bar.low) if side is Side.BUY else (ask_open, ask_high, ask_low)
    sign, slippage = side.sign, slippage_price(costs, symbol, (ask_open - bar.open) / instrument(symbol).pip)
    opened = sign * opens  # from here on a higher number is better for the position
    worst, best = sorted((sign * low, sign * high))
    if stop_price is not None and worst <= sign * stop_price:
        return sign * (min(opened, sign * stop_price) - slippage), "stop"
    if take_profit_price is not None and best >= sign * take_profit_price:
        return sign * (max(opened, sign * take_profit_price) - slippage), "take_profit"
    return None


def commission(lots: float, costs: Costs, notional: float = 0.0) -> float:
    """Return the commission of one side in account currency, that of the notional."""
    return lots * costs.commission_per_lot + costs.commission_percent / 100 * notional


def trade_profit(side: Side, lots: float, entry: float, exit_: float, costs: Costs, symbol: str) -> float:
    """Return the profit of a finished trade in quote currency, both commissions paid, in an account kept in it."""
    units = lots * float(instrument(symbol).lot_units)
    paid = commission(lots, costs, units * entry) + commission(lots, costs, units * exit_)
    return side.sign * (exit_ - entry) * units - paid


def unpaid_on_paper(costs: Costs, symbol: str) -> tuple[str, ...]:
    """Return the settings of these costs that a backtest pays and the paper broker does not, by name."""
    usual = Costs()
    unpaid = [
        *(["account_currency"] if costs.account_of(symbol) != instrument(symbol).quote else []),
        *(["spread_source"] if costs.spread_source != usual.spread_source else []),
        *(name for name in _UNPAID if getattr(costs, name) != 0),
    ]
    return tuple(unpaid)
