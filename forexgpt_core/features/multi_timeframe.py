"""Higher bars beside base bars, seen only once they have closed."""

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Ints, Timeframe, Times, bar_close

Floats = NDArray[np.float64]


def newest_closed(base_open_utc: Times, base: Timeframe, higher_open_utc: Times, higher: Timeframe) -> Ints:
    """Return, for each base bar, the position of the newest higher bar closed by the base bar's close; -1 for none.

    Args:
        base_open_utc: (n,) opens, increasing.
        higher_open_utc: (m,) opens, increasing.
    """
    closes = bar_close(higher_open_utc, higher)
    return np.asarray(np.searchsorted(closes, bar_close(base_open_utc, base), side="right") - 1, dtype=np.int64)


def seen_from(values: Floats, positions: Ints) -> Floats:
    """Return the higher bars' values at `positions`, NaN where there is none (-1)."""
    padded = np.append(values, np.nan)  # position -1 is the last entry
    return np.asarray(padded[positions])
