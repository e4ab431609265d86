"""What the compiled loop over several pairs reads and writes, beside `backtest.layout`; no compiler to load."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.layout import Floats, Market, Records, Signals

Integers = NDArray[np.int64]

REFUSED_POSITIONS, REFUSED_EXPOSURE, REFUSED_CORRELATION = 0, 1, 2  # which limit; margin is counted in the tally
LIMITS = 3

PER_BAR = (*(name for name in Market._fields if name not in ("no_entry", "ends")), *Signals._fields)
BAR = np.dtype([*((name, "f8") for name in PER_BAR), ("no_entry", "b1")], align=True)  # its market and its forecast


class Pairs(NamedTuple):
    """Several pairs in the order of their symbols, their bars one pair after another.

    Attributes:
        bars: BAR. One array of records is one thing to hand on; twenty arrays take twice as long to compile.
        starts: (pairs + 1,) places where the pairs' bars begin, and their number.
        moments: (bars,) at which of the common moments each bar opens, increasing within a pair.
        ends: the last moments of the days.
        currencies: (pairs, 2) numbers of base and quote currency.
        terms, strategies: (pairs,) TERMS and STRATEGY. The account's own stop-out is one of the limits.
    """

    bars: Records
    starts: Integers
    moments: Integers
    ends: Integers
    currencies: Integers
    terms: Records
    strategies: Records


class Limits(NamedTuple):
    """The account; what limits nothing is infinite, or beyond any number of positions."""

    cash: float
    stop_out: float
    max_positions: int
    max_exposure: float
    max_correlation: float
    correlation_bars: int


class Account(NamedTuple):
    """What happened, written by the loop.

    Attributes:
        equity: (moments,) at each moment's close.
        exposure: (moments, currencies) net position at each moment's close, in account currency.
        earned: (days, pairs) what each pair had brought in by each day's end, open positions included.
        trades: (bars,) ENTRY, those of a pair from its place in `Pairs.starts` on; bars are places in `Pairs.bars`.
        exits: (bars,) at which moment each of the trades was closed.
        tallies: (pairs,) TALLY.
        total: (1,) TALLY, of the account.
        refusals: (pairs, LIMITS) entries that a limit refused.
    """

    equity: Floats
    exposure: Floats
    earned: Floats
    trades: Records
    exits: Integers
    tallies: Records
    total: Records
    refusals: Integers
