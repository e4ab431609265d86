"""What a bar does to an account, compiled for the loop over one pair and for that over many."""

from typing import Any

import numpy as np

from forexgpt_core.backtest.fills import QuotedBar as Bar
from forexgpt_core.backtest.layout import END, RUIN, STOP, STOP_OUT, TARGET, Records, Terms
from forexgpt_core.domain import money
from forexgpt_core.features.kernels import part
from forexgpt_core.strategy import rules

_trailed = part(rules.trailed)
value_of = part(money.notional_in_account)
_in_account = part(money.swap_in_account)
profit_of = part(money.profit_in_account)
_commission = part(money.commission_of)
_liquidation_price = part(money.liquidation_price)


@part
def open_entry(
    purse: Any, book: Any, entries: Records, tally: Any, bar: Bar, terms: Terms, t: int, wanted: Any, free_equity: float
) -> None:
    """Fill a decided entry at the open, or count it as refused where the free equity does not carry its margin."""
    side, lots = wanted.side, wanted.lots
    price = (bar.ask_open if side == rules.LONG else bar.bid_open) + side * bar.slippage
    units = lots * terms.lot_units
    notional = value_of(units, price, bar.rate_open, terms.base_is_account)
    fee = _fee(lots, units, price, bar.rate_open, terms)
    margin = notional / terms.leverage
    if margin + fee > free_equity:
        tally.refused += 1
        return
    entry = entries[book.open]
    entry.bar, entry.side, entry.reason, entry.lots, entry.units = t, side, 0, lots, units
    entry.entry_price, entry.margin, entry.notional, entry.commission, entry.swap = price, margin, notional, fee, 0.0
    entry.stop, entry.first_stop, entry.target, entry.trail = wanted.stop, wanted.stop, wanted.target, wanted.trail
    entry.probability = wanted.probability
    purse.balance -= fee
    book.used_margin += margin
    book.open += 1
    tally.turnover += notional
    _count_cost(tally, bar, terms, units, side == rules.LONG, price)


@part
def _fee(lots: float, units: float, price: float, rate: float, terms: Terms) -> float:
    per_lot, percent = terms.commission_per_lot, terms.commission_percent
    return float(_commission(lots, units, price, rate, per_lot, percent, terms.base_is_account))


@part
def _count_cost(tally: Any, bar: Bar, terms: Terms, units: float, at_ask: bool, price: float) -> None:
    tally.slippage += _in_account(units, bar.slippage, price, bar.rate_open, terms.base_is_account)
    if at_ask:
        spread = bar.ask_open - bar.bid_open
        tally.spread += _in_account(units, spread, price, bar.rate_open, terms.base_is_account)


@part
def _close(
    purse: Any,
    book: Any,
    entries: Records,
    trades: Records,
    tally: Any,
    bar: Bar,
    terms: Terms,
    place: int,
    t: int,
    price: float,
    rate: float,
    reason: int,
) -> None:
    """Close one open entry and move the later ones up; the trade is written down where there is room for it."""
    entry = entries[place]
    gross = profit_of(entry.side, entry.units, entry.entry_price, price, rate, terms.base_is_account)
    notional = value_of(entry.units, price, rate, terms.base_is_account)
    fee = _fee(entry.lots, entry.units, price, rate, terms)
    purse.balance += gross - fee
    book.used_margin -= entry.margin
    entry.commission += fee
    entry.profit = gross - entry.commission + entry.swap
    entry.exit_bar, entry.exit_price = t, price
    if entry.reason == 0:
        entry.reason = reason
    else:
        book.leaving -= 1
    _tell(tally, entry, notional)
    _count_cost(tally, bar, terms, entry.units, entry.side == rules.SHORT, price)
    if book.closed < trades.size:
        trades[book.closed] = entry
    book.closed += 1
    book.open -= 1
    for later in range(place, book.open):
        entries[later] = entries[later + 1]
    if book.open == 0:
        book.used_margin = 0.0  # without what rounding leaves


@part
def _tell(tally: Any, entry: Any, notional: float) -> None:
    tally.trades += 1
    if entry.profit > 0:
        tally.wins += 1
        tally.won += entry.profit
    else:
        tally.lost -= entry.profit
    tally.return_sum += entry.profit / entry.notional
    tally.bars_held += entry.exit_bar - entry.bar + 1
    tally.commission += entry.commission
    tally.swap += entry.swap
    tally.turnover += notional


@part
def marked_equity(
    balance: float, book: Any, entries: Records, bid: float, ask: float, rate: float, terms: Terms
) -> float:
    """Return the balance plus what closing everything at these prices would bring before slippage and commission."""
    equity = balance
    for place in range(book.open):
        entry = entries[place]
        mark = bid if entry.side == rules.LONG else ask
        equity += profit_of(entry.side, entry.units, entry.entry_price, mark, rate, terms.base_is_account)
    return float(equity)


@part
def book_swap(purse: Any, book: Any, entries: Records, bar: Bar, terms: Terms) -> None:
    """Credit or charge the night; like every rate, the price that converts it is a bid, whichever the side."""
    for place in range(book.open):
        entry = entries[place]
        per_unit = bar.swap_long if entry.side == rules.LONG else bar.swap_short
        paid = _in_account(entry.units, per_unit, bar.bid_open, bar.rate_open, terms.base_is_account)
        entry.swap += paid
        purse.balance += paid


@part
def leave_decided(
    purse: Any, book: Any, entries: Records, trades: Records, tally: Any, bar: Bar, terms: Terms, t: int
) -> None:
    """Close at the open the entries that were decided to leave."""
    place = 0
    while place < book.open:
        entry = entries[place]
        if entry.reason == 0:
            place += 1
            continue
        price = (bar.bid_open if entry.side == rules.LONG else bar.ask_open) - entry.side * bar.slippage
        _close(purse, book, entries, trades, tally, bar, terms, place, t, price, bar.rate_open, entry.reason)


@part
def meet_levels(
    purse: Any, book: Any, entries: Records, trades: Records, tally: Any, bar: Bar, terms: Terms, t: int
) -> None:
    """Let stops, the broker's stop-out and targets work inside a bar, the worst first.

    All entries are of one side. On its way to its worst price the market meets the nearest stop first; each closing
    frees margin, so the broker's own price is asked for anew.
    """
    side, slippage, rate = entries[0].side, bar.slippage, bar.rate_open
    if side == rules.LONG:
        opened, worst, best = bar.bid_open, bar.bid_low, bar.bid_high
    else:
        opened, worst, best = -bar.ask_open, -bar.ask_high, -bar.ask_low
    while book.open > 0:  # from here on a higher number is better for the position
        place = _nearest_stop(book, entries)
        stop = side * entries[place].stop
        floor = _floor(purse, book, entries, bar, terms)
        if worst > max(stop, floor):
            break
        price = side * (min(opened, max(stop, floor)) - slippage)
        if stop >= floor:
            _close(purse, book, entries, trades, tally, bar, terms, place, t, price, rate, STOP)
        else:
            while book.open > 0:
                _close(purse, book, entries, trades, tally, bar, terms, 0, t, price, rate, STOP_OUT)
    place = 0
    while place < book.open:
        target = side * entries[place].target
        if best >= target:
            price = side * (max(opened, target) - slippage)
            _close(purse, book, entries, trades, tally, bar, terms, place, t, price, rate, TARGET)
        else:
            place += 1


@part
def _nearest_stop(book: Any, entries: Records) -> int:
    nearest = 0
    for place in range(1, book.open):
        if entries[place].side * entries[place].stop > entries[nearest].side * entries[nearest].stop:
            nearest = place
    return nearest


@part
def _floor(purse: Any, book: Any, entries: Records, bar: Bar, terms: Terms) -> float:
    """Return side times the price at which the broker closes everything, -inf where the bar does not reach it."""
    lowest = marked_equity(purse.balance, book, entries, bar.bid_low, bar.ask_high, bar.rate_open, terms)
    if terms.stop_out == 0 or lowest > terms.stop_out * book.used_margin:
        return -np.inf
    units, paid = 0.0, 0.0
    for place in range(book.open):
        units += entries[place].units
        paid += entries[place].units * entries[place].entry_price
    side = entries[0].side
    price = _liquidation_price(
        purse.balance,
        side,
        units,
        paid / units,
        book.used_margin,
        terms.stop_out,
        bar.rate_open,
        terms.base_is_account,
    )
    return float(side * price)


@part
def close_all(
    purse: Any, book: Any, entries: Records, trades: Records, tally: Any, bar: Bar, terms: Terms, t: int, reason: int
) -> None:
    """Close everything at the close of a bar."""
    while book.open > 0:
        entry = entries[0]
        if entry.reason != 0:
            entry.reason = 0
            book.leaving -= 1
        price = (bar.bid_close if entry.side == rules.LONG else bar.ask_close) - entry.side * bar.slippage
        _close(purse, book, entries, trades, tally, bar, terms, 0, t, price, bar.rate_close, reason)


@part
def trail_stops(book: Any, entries: Records, close: float) -> None:
    """Let the stops that trail follow a close."""
    for place in range(book.open):
        entry = entries[place]
        if entry.trail > 0:
            entry.stop = _trailed(entry.stop, entry.side, close, entry.trail)


@part
def live_bar(
    purse: Any,
    book: Any,
    entries: Records,
    trades: Records,
    tally: Any,
    bar: Bar,
    terms: Terms,
    t: int,
    wanted: Any,
    is_last: bool,
) -> float:
    """Let a bar happen to the account and return the equity at its close."""
    exposed = book.open > 0
    if exposed:
        if bar.swap_long != 0 or bar.swap_short != 0:
            book_swap(purse, book, entries, bar, terms)
        if book.leaving > 0:
            leave_decided(purse, book, entries, trades, tally, bar, terms, t)
    if wanted.side != rules.FLAT:
        equity = marked_equity(purse.balance, book, entries, bar.bid_open, bar.ask_open, bar.rate_open, terms)
        open_entry(purse, book, entries, tally, bar, terms, t, wanted, equity - book.used_margin)
        wanted.side = rules.FLAT
    if exposed or book.open > 0:
        tally.exposed_bars += 1
    if book.open > 0:
        meet_levels(purse, book, entries, trades, tally, bar, terms, t)
    if is_last:
        close_all(purse, book, entries, trades, tally, bar, terms, t, END)
    equity = marked_equity(purse.balance, book, entries, bar.bid_close, bar.ask_close, bar.rate_close, terms)
    if equity <= 0:
        close_all(purse, book, entries, trades, tally, bar, terms, t, RUIN)
        tally.ruined = True
        return 0.0
    trail_stops(book, entries, bar.bid_close)
    return equity
