"""The compiled event loop: one strategy over one span of bars, or thousands of them over the same arrays.

At each bar, in this order: swap is booked at the open; positions whose exit was decided leave at the open; a decided
entry fills at the open; the broker's stop-out, stops and targets work inside the bar; the account is marked at the
close; stops trail; the close decides. `strategy.rules` decides and sizes and `domain.money` counts: the very
functions that paper and live trading call, compiled.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.layout import (
    BOOK,
    END,
    ENTRY,
    LIMIT,
    OPPOSITE,
    PURSE,
    RUIN,
    STOP,
    STOP_OUT,
    TARGET,
    Floats,
    Market,
    Records,
    Signals,
    Terms,
)
from forexgpt_core.domain import money
from forexgpt_core.features import kernels as features_kernels
from forexgpt_core.features.kernels import compiled, part
from forexgpt_core.strategy import rules

_ALMOST = 1 - 1e-12
_judge = part(rules.judge)
_level = part(rules.level)
_trailed = part(rules.trailed)
_wanted_lots = part(rules.wanted_lots)
_affordable_lots = part(rules.affordable_lots)
_rounded_lots = part(money.rounded_lots)
_value = part(money.notional_in_account)
_in_account = part(money.swap_in_account)
_profit = part(money.profit_in_account)
_commission = part(money.commission_of)
_liquidation_price = part(money.liquidation_price)


class Bar(NamedTuple):
    """One bar of a market. What is handed on is these numbers: a market is thirty times as many bytes."""

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


@part
def _bar(market: Market, t: int) -> Bar:
    return Bar(
        market.bid_open[t],
        market.bid_high[t],
        market.bid_low[t],
        market.bid_close[t],
        market.ask_open[t],
        market.ask_high[t],
        market.ask_low[t],
        market.ask_close[t],
        market.slippage[t],
        market.rate_open[t],
        market.rate_close[t],
        market.swap_long[t],
        market.swap_short[t],
    )


@part
def _open(
    purse: Any, book: Any, entries: Records, tally: Any, bar: Bar, terms: Terms, t: int, wanted: Any, free_equity: float
) -> None:
    """Fill a decided entry at the open, or count it as refused where the free equity does not carry its margin."""
    side, lots = wanted.side, wanted.lots
    price = (bar.ask_open if side == rules.LONG else bar.bid_open) + side * bar.slippage
    units = lots * terms.lot_units
    notional = _value(units, price, bar.rate_open, terms.base_is_account)
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
    gross = _profit(entry.side, entry.units, entry.entry_price, price, rate, terms.base_is_account)
    notional = _value(entry.units, price, rate, terms.base_is_account)
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
def _marked(balance: float, book: Any, entries: Records, bid: float, ask: float, rate: float, terms: Terms) -> float:
    """Return the balance plus what closing everything at these prices would bring before slippage and commission."""
    equity = balance
    for place in range(book.open):
        entry = entries[place]
        mark = bid if entry.side == rules.LONG else ask
        equity += _profit(entry.side, entry.units, entry.entry_price, mark, rate, terms.base_is_account)
    return float(equity)


@part
def _book_swap(purse: Any, book: Any, entries: Records, bar: Bar, terms: Terms) -> None:
    """Credit or charge the night; like every rate, the price that converts it is a bid, whichever the side."""
    for place in range(book.open):
        entry = entries[place]
        per_unit = bar.swap_long if entry.side == rules.LONG else bar.swap_short
        paid = _in_account(entry.units, per_unit, bar.bid_open, bar.rate_open, terms.base_is_account)
        entry.swap += paid
        purse.balance += paid


@part
def _leave(
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
def _inside(
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
    lowest = _marked(purse.balance, book, entries, bar.bid_low, bar.ask_high, bar.rate_open, terms)
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
def _finish(
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
def _trail(book: Any, entries: Records, close: float) -> None:
    for place in range(book.open):
        entry = entries[place]
        if entry.trail > 0:
            entry.stop = _trailed(entry.stop, entry.side, close, entry.trail)


class Saying(NamedTuple):
    """What the close of a bar says."""

    up: float
    down: float
    scale: float
    width_ratio: float
    close: float
    cost_return: float
    rate: float
    no_entry: bool


@part
def _saying(market: Market, up: Floats, down: Floats, scale: Floats, width_ratio: Floats, t: int) -> Saying:
    return Saying(
        up[t],
        down[t],
        scale[t],
        width_ratio[t],
        market.bid_close[t],
        market.cost_return[t],
        market.rate_close[t],
        market.no_entry[t],
    )


@part
def _decide(
    book: Any,
    entries: Records,
    tally: Any,
    said: Saying,
    terms: Terms,
    one: Any,
    t: int,
    equity: float,
    free_equity: float,
    wanted: Any,
) -> None:
    """Write down what the close of a bar asks for: which entries leave, and what is entered."""
    one_scale = one.one_scale if one.one_scale > 0 else said.scale
    stop, target = one.stop * one_scale, one.target * one_scale
    for place in range(book.open):
        entry = entries[place]
        code = _judged(said, entry.side, t - entry.bar + 1, one, stop, target)
        if code == rules.LEAVE_AT_LIMIT or code == rules.LEAVE_OPPOSITE:
            entry.reason = LIMIT if code == rules.LEAVE_AT_LIMIT else OPPOSITE
            book.leaving += 1
    if book.leaving > 0 or book.open >= one.max_entries:
        return
    code = _judged(said, rules.FLAT, 0, one, stop, target)
    if code != rules.ENTER_LONG and code != rules.ENTER_SHORT:
        return
    side = rules.LONG if code == rules.ENTER_LONG else rules.SHORT
    if book.open > 0 and entries[0].side != side:
        return
    if said.no_entry:
        tally.held_back += 1
        return
    lots = _lots(said, side, stop, target, terms, one, equity, free_equity)
    if lots == 0:
        tally.too_small += 1
        return
    wanted.side, wanted.lots, wanted.probability = side, lots, max(said.up, said.down)
    wanted.stop, wanted.target = _level(said.close, -side * stop), _level(said.close, side * target)
    wanted.trail = one.trailing * one_scale


@part
def _judged(said: Saying, held: int, bars_held: int, one: Any, stop: float, target: float) -> int:
    return _judge(
        said.up,
        said.down,
        said.close,
        said.scale,
        said.cost_return,
        held,
        bars_held,
        one.threshold,
        stop,
        target,
        one.limit_bars,
        one.opposite_exit,
    )


@part
def _lots(
    said: Saying, side: int, stop: float, target: float, terms: Terms, one: Any, equity: float, free_equity: float
) -> float:
    one_lot = _value(terms.lot_units, said.close, said.rate, terms.base_is_account)
    wanted = _wanted_lots(
        one.sizing,
        one.size,
        one.lots,
        equity,
        one_lot,
        terms.leverage,
        side,
        max(said.up, said.down),
        stop,
        target,
        said.scale * one.scales_per_year,
        said.width_ratio,
    )
    affordable = _affordable_lots(free_equity, one_lot, terms.leverage, said.cost_return)
    return float(_rounded_lots(wanted, affordable, terms.min_lots, terms.lot_step))


@part
def _judge_days(tally: Any, daily: Floats) -> None:
    """Write down the moments of the day's returns, as `performance.curve_stats` reads them."""
    total, below = 0.0, 0.0
    for value in daily:
        total += value
        below += min(value, 0.0) ** 2
    mean = total / daily.size
    squares = 0.0
    for value in daily:
        squares += (value - mean) ** 2
    tally.mean = mean
    tally.deviation = math.sqrt(squares / (daily.size - 1)) if daily.size > 1 else 0.0
    tally.downside = math.sqrt(below / daily.size)


@part
def _live(
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
            _book_swap(purse, book, entries, bar, terms)
        if book.leaving > 0:
            _leave(purse, book, entries, trades, tally, bar, terms, t)
    if wanted.side != rules.FLAT:
        equity = _marked(purse.balance, book, entries, bar.bid_open, bar.ask_open, bar.rate_open, terms)
        _open(purse, book, entries, tally, bar, terms, t, wanted, equity - book.used_margin)
        wanted.side = rules.FLAT
    if exposed or book.open > 0:
        tally.exposed_bars += 1
    if book.open > 0:
        _inside(purse, book, entries, trades, tally, bar, terms, t)
    if is_last:
        _finish(purse, book, entries, trades, tally, bar, terms, t, END)
    equity = _marked(purse.balance, book, entries, bar.bid_close, bar.ask_close, bar.rate_close, terms)
    if equity <= 0:
        _finish(purse, book, entries, trades, tally, bar, terms, t, RUIN)
        tally.ruined = True
        return 0.0
    _trail(book, entries, bar.bid_close)
    return equity


@part
def _run(
    market: Market,
    signals: Signals,
    terms: Terms,
    one: Any,
    purse: Any,
    book: Any,
    entries: Records,
    wanted: Any,
    daily: Floats,
    equity_curve: Floats,
    trades: Records,
    tally: Any,
) -> None:
    # the market is handed to nobody from here on: copying what it holds costs more than most bars do
    bid_low, bid_high, bid_close = market.bid_low, market.bid_high, market.bid_close
    ask_low, ask_high, ask_close = market.ask_low, market.ask_high, market.ask_close
    rate_open, rate_close, swap_long, swap_short = (
        market.rate_open,
        market.rate_close,
        market.swap_long,
        market.swap_short,
    )
    last = market.bid_open.size - 1
    up, down = signals.up[one.signal], signals.down[one.signal]
    scale, width_ratio = signals.scale[one.signal], signals.width_ratio[one.signal]
    purse.balance, book.used_margin, book.open, book.closed, book.leaving = terms.cash, 0.0, 0, 0, 0
    wanted.side = rules.FLAT
    equity, peak, day, before = terms.cash, terms.cash, 0, terms.cash
    deepest, next_end = 0.0, market.ends[0]
    recorded = equity_curve.size > 0
    t = -1
    while t < last:
        t += 1
        if book.open == 0 and wanted.side == rules.FLAT:
            asks = _next_signal(up, down, one.threshold, t, last)  # nothing happens until then
            if recorded:
                equity_curve[t:asks] = equity
            t = asks
            while next_end < t:
                daily[day] = equity / before - 1 if before > 0 else 0.0
                before = equity
                day += 1
                next_end = market.ends[day]
        else:
            marked, long = -1.0, entries[0].side == rules.LONG
            if wanted.side == rules.FLAT and book.leaving == 0 and swap_long[t] == 0 and swap_short[t] == 0:
                marked = _untouched(
                    purse.balance,
                    book,
                    entries,
                    bid_low[t] if long else ask_high[t],
                    bid_high[t] if long else ask_low[t],
                    bid_close[t] if long else ask_close[t],
                    rate_open[t],
                    rate_close[t],
                    terms.stop_out,
                    terms.base_is_account,
                )
            if marked > 0 and t < last:  # as most bars: nothing but the mark moves
                equity = marked
                tally.exposed_bars += 1
                _trail(book, entries, bid_close[t])
            else:
                bar = Bar(
                    market.bid_open[t],
                    bid_high[t],
                    bid_low[t],
                    bid_close[t],
                    market.ask_open[t],
                    ask_high[t],
                    ask_low[t],
                    ask_close[t],
                    market.slippage[t],
                    rate_open[t],
                    rate_close[t],
                    swap_long[t],
                    swap_short[t],
                )
                equity = _live(purse, book, entries, trades, tally, bar, terms, t, wanted, t == last)
            if equity > peak:
                peak = equity
            elif peak - equity > _ALMOST * deepest * peak:  # a product is quicker than the quotient it stands for
                deepest = max(deepest, 1 - equity / peak)
        if recorded:
            equity_curve[t] = equity
        if t == next_end:
            daily[day] = equity / before - 1 if before > 0 else 0.0
            before = equity
            day += 1
            next_end = market.ends[min(day, market.ends.size - 1)]
        if tally.ruined:
            break
        if t < last and _asks(book, entries, up[t], down[t], one, t):
            said = Saying(
                up[t],
                down[t],
                scale[t],
                width_ratio[t],
                bid_close[t],
                market.cost_return[t],
                rate_close[t],
                market.no_entry[t],
            )
            _decide(book, entries, tally, said, terms, one, t, equity, equity - book.used_margin, wanted)
    for rest in range(day, daily.size):
        daily[rest] = equity / before - 1 if before > 0 else 0.0
        before = equity
    if recorded and tally.ruined:
        equity_curve[t:] = 0.0
    tally.final_equity, tally.max_drawdown = equity, deepest
    _judge_days(tally, daily)


@part
def _next_signal(up: Floats, down: Floats, threshold: float, t: int, last: int) -> int:
    """Return the first bar from t on whose close may ask for an entry, the last one where none does."""
    while t < last and not (up[t] >= threshold or down[t] >= threshold):
        t += 1
    return t


@part
def _untouched(
    balance: float,
    book: Any,
    entries: Records,
    worst: float,
    best: float,
    close: float,
    rate_open: float,
    rate_close: float,
    stop_out: float,
    base_is_account: bool,
) -> float:
    """Return the equity at the close of a bar in which `_live` would change nothing else; -1 where it might.

    No stop, target or stop-out is reached; whoever calls knows that nothing leaves and no night is booked.

    Args:
        worst, best, close: of the bar, on the side of the market that closes the entries.
    """
    lowest, equity = balance, balance
    for place in range(book.open):
        entry = entries[place]
        side, units, paid = entry.side, entry.units, entry.entry_price
        if side * worst <= side * entry.stop or side * best >= side * entry.target:
            return -1.0
        lowest += _profit(side, units, paid, worst, rate_open, base_is_account)
        equity += _profit(side, units, paid, close, rate_close, base_is_account)
    return -1.0 if lowest <= stop_out * book.used_margin else float(equity)


@part
def _asks(book: Any, entries: Records, up: float, down: float, one: Any, t: int) -> bool:
    """Return whether `_decide` could do anything at a close; a law that is not a number reaches no threshold."""
    long, short = up >= one.threshold, down >= one.threshold
    if book.open == 0 or book.open < one.max_entries:
        return bool(long or short or (book.open > 0 and t - entries[0].bar + 1 >= one.limit_bars))
    opposite = short if entries[0].side == rules.LONG else long
    return bool(opposite or t - entries[0].bar + 1 >= one.limit_bars)


def _build(revision: str) -> Callable[..., None]:
    """Compile the loop over strategies.

    Args:
        revision: names the sources of the rules. Machine code is kept on disk under the bytes of this file's functions
            and what they enclose; so the rules' own file has to be among that, or changed rules would meet old code.
    """

    @compiled
    def run_all(
        market: Market,
        signals: Signals,
        terms: Terms,
        strategies: Records,
        edges: NDArray[np.int64],
        equity_curve: Floats,
        trades: Records,
        tallies: Records,
        moments: Floats,
    ) -> None:
        assert len(revision) > 0
        purse, book, wanted = np.zeros(1, PURSE), np.zeros(1, BOOK), np.zeros(1, ENTRY)
        daily = np.empty(market.ends.size)
        for i in range(strategies.size):
            entries = np.zeros(strategies[i].max_entries, ENTRY)
            _run(
                market,
                signals,
                terms,
                strategies[i],
                purse[0],
                book[0],
                entries,
                wanted[0],
                daily,
                equity_curve,
                trades,
                tallies[i],
            )
            for block in range(edges.size - 1):
                for day in range(edges[block], edges[block + 1]):
                    moments[i, block, 0] += daily[day]
                    moments[i, block, 1] += daily[day] ** 2

    return run_all


def _sources() -> str:
    text = "".join(inspect.getsource(module) for module in (rules, money, features_kernels))
    return hashlib.sha256(text.encode()).hexdigest()


run_all = _build(_sources())
