"""What the compiled event loop reads and writes: arrays and numbers, without a compiler to load."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Records = NDArray[np.void]

STOP, TARGET, LIMIT, OPPOSITE, END, RUIN, STOP_OUT = 1, 2, 3, 4, 5, 6, 7  # why a position was closed; 0: it is open


class Market(NamedTuple):
    """The bars of a span, (n,) each; see `quotes.Quotes`. `ends` are the last bars of the days, (days,)."""

    bid_open: Floats
    bid_high: Floats
    bid_low: Floats
    bid_close: Floats
    ask_open: Floats
    ask_high: Floats
    ask_low: Floats
    ask_close: Floats
    slippage: Floats
    rate_open: Floats
    rate_close: Floats
    swap_long: Floats
    swap_short: Floats
    cost_return: Floats
    no_entry: NDArray[np.bool_]
    ends: NDArray[np.int64]


class Signals(NamedTuple):
    """What the forecasts say at every bar, (signals, n) each, NaN where there is none."""

    up: Floats
    down: Floats
    scale: Floats
    width_ratio: Floats


class Terms(NamedTuple):
    """The account: its cash, and the broker's terms. `yearly` is the square root of the periods in a year."""

    cash: float
    leverage: float
    lot_units: float
    commission_per_lot: float
    commission_percent: float
    min_lots: float
    lot_step: float
    stop_out: float
    base_is_account: bool
    yearly: float


TERMS = np.dtype([(name, "b1" if name == "base_is_account" else "f8") for name in Terms._fields], align=True)
STRATEGY = np.dtype(
    [
        ("signal", "i8"),
        ("threshold", "f8"),
        ("stop", "f8"),
        ("target", "f8"),
        ("trailing", "f8"),
        ("one_scale", "f8"),  # log return; 0: the forecast's scale
        ("sizing", "i8"),
        ("size", "f8"),
        ("lots", "f8"),
        ("limit_bars", "i8"),
        ("max_entries", "i8"),
        ("opposite_exit", "b1"),
        ("scales_per_year", "f8"),  # square root of the horizons in a year
    ],
    align=True,
)
ENTRY = np.dtype(
    [
        ("bar", "i8"),
        ("exit_bar", "i8"),
        ("side", "i8"),
        ("reason", "i8"),
        ("lots", "f8"),
        ("units", "f8"),
        ("entry_price", "f8"),
        ("exit_price", "f8"),
        ("stop", "f8"),
        ("target", "f8"),
        ("first_stop", "f8"),
        ("trail", "f8"),  # log return; 0: the stop stays
        ("probability", "f8"),
        ("margin", "f8"),
        ("notional", "f8"),
        ("commission", "f8"),
        ("swap", "f8"),
        ("profit", "f8"),
    ],
    align=True,
)
PURSE = np.dtype([("balance", "f8")], align=True)  # of an account
BOOK = np.dtype(  # of a pair in it
    [
        ("used_margin", "f8"),
        ("open", "i8"),  # entries
        ("closed", "i8"),
        ("leaving", "i8"),  # of the open ones, at the next open
    ],
    align=True,
)
TALLY = np.dtype(
    [
        ("final_equity", "f8"),
        ("max_drawdown", "f8"),
        ("mean", "f8"),
        ("deviation", "f8"),
        ("downside", "f8"),
        ("trades", "i8"),
        ("wins", "i8"),
        ("won", "f8"),
        ("lost", "f8"),
        ("return_sum", "f8"),  # of the trades' returns on their notional
        ("exposed_bars", "i8"),
        ("bars_held", "i8"),
        ("commission", "f8"),
        ("swap", "f8"),
        ("spread", "f8"),
        ("slippage", "f8"),
        ("turnover", "f8"),  # notional bought and sold
        ("too_small", "i8"),
        ("refused", "i8"),
        ("held_back", "i8"),
        ("ruined", "b1"),
    ],
    align=True,
)
