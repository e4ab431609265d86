"""The compiled event loop over several pairs on one account: the bar events of `backtest.kernels`, moment by moment.

A moment is an open at which any of the pairs has a bar. In this order: swap is booked and decided exits leave, pair by
pair; decided entries fill, the likeliest first; stops and targets work inside the bars; the account is marked at the
closes, and there alone the broker looks at its margin; stops trail; every close decides. A pair without a bar stands
still at its last close, and so does its rate.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest import bar_events, kernels, layout, portfolio_layout
from forexgpt_core.backtest.bar_events import (
    book_swap,
    close_all,
    leave_decided,
    marked_equity,
    meet_levels,
    open_entry,
    profit_of,
    trail_stops,
    value_of,
)
from forexgpt_core.backtest.kernels import Saying, decide_close, judge_days
from forexgpt_core.backtest.layout import BOOK, END, ENTRY, PURSE, RUIN, STOP_OUT, Floats, Records
from forexgpt_core.backtest.portfolio_layout import (
    REFUSED_CORRELATION,
    REFUSED_EXPOSURE,
    REFUSED_POSITIONS,
    Account,
    Limits,
    Pairs,
)
from forexgpt_core.domain import money
from forexgpt_core.features import kernels as features_kernels
from forexgpt_core.features.kernels import compiled, part
from forexgpt_core.strategy import rules


class State(NamedTuple):
    """Where the account stands.

    Attributes:
        purse: (1,) PURSE.
        books: (pairs,) BOOK.
        entries: (pairs, most entries) ENTRY, the open ones of a pair first.
        wanted: (pairs,) ENTRY, decided and not yet filled; its side is FLAT where there is none.
        bars: (pairs,) the newest bar of each pair, one place before its first where it has not begun.
        fresh: (pairs,) that bar opened at this moment.
        noted: (pairs,) closed trades whose moment is written down.
        exposed: (currencies,) scratch space.
    """

    purse: Records
    books: Records
    entries: Records
    wanted: Records
    bars: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    noted: NDArray[np.int64]
    exposed: Floats


@part
def _advance(pairs: Pairs, state: State, moment: int) -> bool:
    """Let the bars of a moment open, and return whether anything is at stake in it."""
    busy = False
    for p in range(state.bars.size):
        coming = state.bars[p] + 1
        state.fresh[p] = coming < pairs.starts[p + 1] and pairs.moments[coming] == moment
        if state.fresh[p]:
            state.bars[p] = coming
        busy = busy or state.books[p].open > 0 or (state.fresh[p] and state.wanted[p].side != rules.FLAT)
    return busy


@part
def _equity(pairs: Pairs, state: State, opened: bool) -> float:
    """Return what is in the account: at the opens of the fresh bars, or at the newest closes."""
    equity = state.purse[0].balance
    for p in range(state.bars.size):
        if state.books[p].open == 0:
            continue
        bar = pairs.bars[state.bars[p]]
        if opened and state.fresh[p]:
            bid, ask, rate = bar.bid_open, bar.ask_open, bar.rate_open
        else:
            bid, ask, rate = bar.bid_close, bar.ask_close, bar.rate_close
        equity = marked_equity(equity, state.books[p], state.entries[p], bid, ask, rate, pairs.terms[p])
    return float(equity)


@part
def _used_margin(state: State) -> float:
    used = 0.0
    for p in range(state.books.size):
        used += state.books[p].used_margin
    return used


@part
def _positions(state: State) -> int:
    count = 0
    for p in range(state.books.size):
        count += state.books[p].open
    return count


@part
def _expose(pairs: Pairs, state: State, opened: bool, out: Floats) -> None:
    """Write down the net position in each currency, in account currency, at the prices that `_equity` marks at."""
    out[:] = 0.0
    for p in range(state.bars.size):
        if state.books[p].open == 0:
            continue
        bar, units, side = pairs.bars[state.bars[p]], 0.0, state.entries[p, 0].side
        for place in range(state.books[p].open):
            units += state.entries[p, place].units
        if opened and state.fresh[p]:
            price, rate = bar.bid_open if side == rules.LONG else bar.ask_open, bar.rate_open
        else:
            price, rate = bar.bid_close if side == rules.LONG else bar.ask_close, bar.rate_close
        worth = side * value_of(units, price, rate, pairs.terms[p].base_is_account)
        out[pairs.currencies[p, 0]] += worth
        out[pairs.currencies[p, 1]] -= worth


@part
def _correlation(pairs: Pairs, state: State, one: int, other: int, bars: int) -> float:
    """Return the correlation of two pairs' returns over the newest common bars that are closed; NaN where unknown."""
    moments, starts = pairs.moments, pairs.starts
    a = state.bars[one] - 1 if state.fresh[one] else state.bars[one]
    b = state.bars[other] - 1 if state.fresh[other] else state.bars[other]
    count, later_x, later_y = -1, 0.0, 0.0
    sx, sy, sxx, syy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
    while a >= starts[one] and b >= starts[other] and count < bars:
        if moments[a] > moments[b]:
            a -= 1
            continue
        if moments[b] > moments[a]:
            b -= 1
            continue
        x, y = math.log(pairs.bars[a].bid_close), math.log(pairs.bars[b].bid_close)
        count += 1
        if count > 0:
            dx, dy = later_x - x, later_y - y
            sx, sy = sx + dx, sy + dy
            sxx, syy, sxy = sxx + dx * dx, syy + dy * dy, sxy + dx * dy
        later_x, later_y = x, y
        a -= 1
        b -= 1
    if count < bars:
        return np.nan
    vx, vy = sxx - sx * sx / bars, syy - sy * sy / bars
    if not (vx > 0 and vy > 0):
        return np.nan
    return (sxy - sx * sy / bars) / math.sqrt(vx * vy)


@part
def _too_exposed(pairs: Pairs, state: State, limits: Limits, p: int, equity: float) -> bool:
    bar, order, terms = pairs.bars[state.bars[p]], state.wanted[p], pairs.terms[p]
    price = (bar.ask_open if order.side == rules.LONG else bar.bid_open) + order.side * bar.slippage
    worth = order.side * value_of(order.lots * terms.lot_units, price, bar.rate_open, terms.base_is_account)
    _expose(pairs, state, True, state.exposed)
    most = limits.max_exposure * equity
    base, quote = pairs.currencies[p, 0], pairs.currencies[p, 1]
    return bool(abs(state.exposed[base] + worth) > most or abs(state.exposed[quote] - worth) > most)


@part
def _too_alike(pairs: Pairs, state: State, limits: Limits, p: int) -> bool:
    """Return whether an open position of another pair may go the same way; what is not known may."""
    for other in range(state.books.size):
        if other == p or state.books[other].open == 0:
            continue
        alike = _correlation(pairs, state, p, other, limits.correlation_bars)
        if not state.wanted[p].side * state.entries[other, 0].side * alike <= limits.max_correlation:
            return True
    return False


@part
def _refusal(pairs: Pairs, state: State, limits: Limits, p: int, equity: float) -> int:
    """Return the first limit that a decided entry would exceed, -1 where it may be filled."""
    if _positions(state) >= limits.max_positions:
        return REFUSED_POSITIONS
    if limits.max_exposure < np.inf and _too_exposed(pairs, state, limits, p, equity):
        return REFUSED_EXPOSURE
    if limits.max_correlation < np.inf and _too_alike(pairs, state, limits, p):
        return REFUSED_CORRELATION
    return -1


@part
def _next_order(state: State) -> int:
    """Return the pair whose order comes next: the likeliest, then the first of the symbols; -1 where none is left."""
    best = -1
    for p in range(state.bars.size):
        waits = state.fresh[p] and state.wanted[p].side != rules.FLAT
        if waits and (best < 0 or state.wanted[p].probability > state.wanted[best].probability):
            best = p
    return best


@part
def _fill(pairs: Pairs, state: State, limits: Limits, account: Account) -> None:
    p = _next_order(state)
    while p >= 0:
        t, order = state.bars[p], state.wanted[p]
        equity = _equity(pairs, state, True)
        refused = _refusal(pairs, state, limits, p, equity)
        if refused >= 0:
            account.refusals[p, refused] += 1
        else:
            free = equity - _used_margin(state)
            bar, terms = pairs.bars[t], pairs.terms[p]
            open_entry(state.purse[0], state.books[p], state.entries[p], account.tallies[p], bar, terms, t, order, free)
        order.side = rules.FLAT
        p = _next_order(state)


@part
def _trades_of(pairs: Pairs, account: Account, p: int) -> Records:
    return account.trades[pairs.starts[p] : pairs.starts[p + 1]]


@part
def _arrive(pairs: Pairs, state: State, account: Account) -> None:
    """Book swap and let decided exits leave, at the opens; a pair that was in the market counts this bar as exposed."""
    for p in range(state.bars.size):
        if not (state.fresh[p] and state.books[p].open > 0):
            continue
        t, book, entries, tally, terms = (
            state.bars[p], state.books[p], state.entries[p], account.tallies[p], pairs.terms[p],
        )  # fmt: skip
        bar = pairs.bars[t]
        tally.exposed_bars += 1
        if bar.swap_long != 0 or bar.swap_short != 0:
            book_swap(state.purse[0], book, entries, bar, terms)
        if book.leaving > 0:
            leave_decided(state.purse[0], book, entries, _trades_of(pairs, account, p), tally, bar, terms, t)


@part
def _work_inside(pairs: Pairs, state: State, account: Account) -> None:
    """Let stops and targets work, and close what is open at a pair's last close."""
    for p in range(state.bars.size):
        if not (state.fresh[p] and state.books[p].open > 0):
            continue
        t, book, entries, tally, terms = (
            state.bars[p], state.books[p], state.entries[p], account.tallies[p], pairs.terms[p],
        )  # fmt: skip
        bar, trades = pairs.bars[t], _trades_of(pairs, account, p)
        if entries[0].bar == t:
            tally.exposed_bars += 1
        meet_levels(state.purse[0], book, entries, trades, tally, bar, terms, t)
        if t == pairs.starts[p + 1] - 1:
            close_all(state.purse[0], book, entries, trades, tally, bar, terms, t, END)


@part
def _end_of_all(state: State, limits: Limits, equity: float) -> int:
    """Return why everything is to be closed at a moment's close, 0 where it is not."""
    if equity <= 0:
        return RUIN
    if limits.stop_out > 0 and _positions(state) > 0 and equity <= limits.stop_out * _used_margin(state):
        return STOP_OUT
    return 0


@part
def _close_all(pairs: Pairs, state: State, account: Account, reason: int) -> None:
    for p in range(state.bars.size):
        if state.books[p].open > 0:
            t, trades = state.bars[p], _trades_of(pairs, account, p)
            bar, terms, entries = pairs.bars[t], pairs.terms[p], state.entries[p]
            close_all(state.purse[0], state.books[p], entries, trades, account.tallies[p], bar, terms, t, reason)


@part
def live_bar(pairs: Pairs, state: State, limits: Limits, account: Account) -> float:
    """Let a moment happen to the account and return the equity at its close; 0 where it is ruined."""
    exposed = _positions(state) > 0
    _arrive(pairs, state, account)
    _fill(pairs, state, limits, account)
    total = account.total[0]
    if exposed or _positions(state) > 0:
        total.exposed_bars += 1
    _work_inside(pairs, state, account)
    equity = _equity(pairs, state, False)
    reason = _end_of_all(state, limits, equity)
    if reason != 0:
        _close_all(pairs, state, account, reason)
        equity = _equity(pairs, state, False)
    if equity <= 0:
        total.ruined = True
        return 0.0
    for p in range(state.bars.size):
        if state.fresh[p]:
            trail_stops(state.books[p], state.entries[p], pairs.bars[state.bars[p]].bid_close)
    return equity


@part
def _note_exits(pairs: Pairs, state: State, account: Account, moment: int) -> None:
    for p in range(state.bars.size):
        while state.noted[p] < state.books[p].closed:
            account.exits[pairs.starts[p] + state.noted[p]] = moment
            state.noted[p] += 1


@part
def _decide_all(pairs: Pairs, state: State, account: Account, equity: float) -> None:
    """Let the closes of a moment decide; every one of them sees the same equity and the same margin in use."""
    free = equity - _used_margin(state)
    for p in range(state.bars.size):
        t, one = state.bars[p], pairs.strategies[p]
        if not state.fresh[p] or t == pairs.starts[p + 1] - 1:
            continue
        bar = pairs.bars[t]
        if state.books[p].open > 0 or bar.up >= one.threshold or bar.down >= one.threshold:
            saying = Saying(
                bar.up,
                bar.down,
                bar.scale,
                bar.width_ratio,
                bar.bid_close,
                bar.cost_return,
                bar.rate_close,
                bar.no_entry,
            )
            book, entries, tally, terms = state.books[p], state.entries[p], account.tallies[p], pairs.terms[p]
            decide_close(book, entries, tally, saying, terms, one, t, equity, free, state.wanted[p])


@part
def _note_day(pairs: Pairs, state: State, account: Account, day: int) -> None:
    """Write down what each pair has brought in so far."""
    for p in range(state.bars.size):
        tally, terms = account.tallies[p], pairs.terms[p]
        earned = tally.won - tally.lost
        for place in range(state.books[p].open):
            entry, bar = state.entries[p, place], pairs.bars[state.bars[p]]
            mark = bar.bid_close if entry.side == rules.LONG else bar.ask_close
            gross = profit_of(entry.side, entry.units, entry.entry_price, mark, bar.rate_close, terms.base_is_account)
            earned += gross - entry.commission + entry.swap
        account.earned[day, p] = earned


@part
def _sum_up(account: Account, equity: float, daily: Floats) -> None:
    total = account.total[0]
    for p in range(account.tallies.size):
        tally = account.tallies[p]
        total.trades += tally.trades
        total.wins += tally.wins
        total.won += tally.won
        total.lost += tally.lost
        total.return_sum += tally.return_sum
        total.bars_held += tally.bars_held
        total.commission += tally.commission
        total.swap += tally.swap
        total.spread += tally.spread
        total.slippage += tally.slippage
        total.turnover += tally.turnover
        total.too_small += tally.too_small
        total.refused += tally.refused
        total.held_back += tally.held_back
    total.final_equity = equity
    judge_days(total, daily)


def _build(revision: str) -> Callable[[Pairs, Limits, Account], None]:
    """Compile the loop; `revision` is enclosed so that machine code is not kept beyond the sources, see `kernels`."""

    @compiled
    def run_pairs(pairs: Pairs, limits: Limits, account: Account) -> None:
        assert len(revision) > 0
        count, most = pairs.starts.size - 1, 1
        for p in range(count):
            most = max(most, pairs.strategies[p].max_entries)
        state = State(
            np.zeros(1, PURSE),
            np.zeros(count, BOOK),
            np.zeros((count, most), ENTRY),
            np.zeros(count, ENTRY),
            pairs.starts[:count] - 1,
            np.zeros(count, np.bool_),
            np.zeros(count, np.int64),
            np.zeros(account.exposure.shape[1]),
        )
        purse, total = state.purse[0], account.total[0]
        purse.balance = limits.cash
        daily = np.empty(pairs.ends.size)
        equity, peak, day, before = limits.cash, limits.cash, 0, limits.cash
        moment = 0
        for moment in range(account.equity.size):
            if _advance(pairs, state, moment):
                equity = live_bar(pairs, state, limits, account)
                _note_exits(pairs, state, account, moment)
                if equity > peak:
                    peak = equity
                elif 1 - equity / peak > total.max_drawdown:
                    total.max_drawdown = 1 - equity / peak
            account.equity[moment] = equity
            _expose(pairs, state, False, account.exposure[moment])
            if moment == pairs.ends[day]:
                daily[day] = equity / before - 1 if before > 0 else 0.0
                before = equity
                _note_day(pairs, state, account, day)
                day += 1
            if total.ruined:
                break
            _decide_all(pairs, state, account, equity)
        if total.ruined:
            account.equity[moment:] = 0.0
            account.exposure[moment:] = 0.0
        for rest in range(day, daily.size):
            daily[rest] = equity / before - 1 if before > 0 else 0.0
            before = equity
            _note_day(pairs, state, account, rest)
        _sum_up(account, equity, daily)

    return run_pairs


def _sources() -> str:
    modules = (kernels, bar_events, layout, portfolio_layout, rules, money, features_kernels)
    text = "".join(inspect.getsource(module) for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()


run_pairs = _build(_sources())
