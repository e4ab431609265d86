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

from forexgpt_core.backtest import bar_events, layout
from forexgpt_core.backtest.bar_events import live_bar, profit_of, trail_stops, value_of
from forexgpt_core.backtest.fills import QuotedBar
from forexgpt_core.backtest.layout import (
    BOOK,
    ENTRY,
    LIMIT,
    OPPOSITE,
    PURSE,
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
_wanted_lots = part(rules.wanted_lots)
_affordable_lots = part(rules.affordable_lots)
_rounded_lots = part(money.rounded_lots)


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
def decide_close(
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
    one_lot = value_of(terms.lot_units, said.close, said.rate, terms.base_is_account)
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
def judge_days(tally: Any, daily: Floats) -> None:
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
                trail_stops(book, entries, bid_close[t])
            else:
                bar = QuotedBar(
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
                equity = live_bar(purse, book, entries, trades, tally, bar, terms, t, wanted, t == last)
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
            decide_close(book, entries, tally, said, terms, one, t, equity, equity - book.used_margin, wanted)
    for rest in range(day, daily.size):
        daily[rest] = equity / before - 1 if before > 0 else 0.0
        before = equity
    if recorded and tally.ruined:
        equity_curve[t:] = 0.0
    tally.final_equity, tally.max_drawdown = equity, deepest
    judge_days(tally, daily)


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
    """Return the equity at the close of a bar in which `live_bar` would change nothing else; -1 where it might.

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
        lowest += profit_of(side, units, paid, worst, rate_open, base_is_account)
        equity += profit_of(side, units, paid, close, rate_close, base_is_account)
    return -1.0 if lowest <= stop_out * book.used_margin else float(equity)


@part
def _asks(book: Any, entries: Records, up: float, down: float, one: Any, t: int) -> bool:
    """Return whether `decide_close` could do anything at a close; a law that is not a number reaches no threshold."""
    long, short = up >= one.threshold, down >= one.threshold
    if book.open == 0 or book.open < one.max_entries:
        return bool(long or short or (book.open > 0 and t - entries[0].bar + 1 >= one.limit_bars))
    opposite = short if entries[0].side == rules.LONG else long
    return bool(opposite or t - entries[0].bar + 1 >= one.limit_bars)


def _build(revision: str) -> Callable[..., None]:
    """Compile the loop over strategies.

    Args:
        revision: names the sources of what is compiled here. Machine code is kept on disk under the bytes of this
            file's functions and what they enclose; so every other file that is compiled into them has to be among
            that, or changed rules would meet old code.
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
    text = "".join(inspect.getsource(module) for module in (bar_events, layout, rules, money, features_kernels))
    return hashlib.sha256(text.encode()).hexdigest()


run_all = _build(_sources())
