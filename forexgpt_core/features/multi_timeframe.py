"""Higher bars beside base bars, seen only once they have closed."""

from collections.abc import Sequence

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


def first_rows(higher_close_utc: Times, base_close_utc: Times) -> Ints:
    """Return, for each higher bar, the first base row that sees it: the first to close when it has closed, or later.

    Args:
        higher_close_utc: (m,) increasing.
        base_close_utc: (n,) increasing.
    """
    return np.asarray(np.searchsorted(base_close_utc, higher_close_utc, side="left"), dtype=np.int64)


def seen_rows(first: Ints, rows: int) -> Ints:
    """Return how many of `rows` base rows see no higher bar, and how many see each; (m + 1,) summing to `rows`.

    Args:
        first: (m,) from `first_rows`.
    """
    return np.diff(np.concatenate([[0], np.minimum(first, rows), [rows]]))


def spread_over(columns: Sequence[Floats], seen: Ints) -> Floats:
    """Return, for each base row, each column's value of the newest higher bar it sees, NaN before the first; (k, n).

    All columns share one block of memory: large pages hold it, and most of the time goes into getting memory.

    Args:
        columns: k of (m,).
        seen: (m + 1,) from `seen_rows`.
    """
    bar = np.repeat(np.arange(seen.size), seen)  # of each row, counting from 1; 0 is none
    block = np.empty((len(columns), bar.size))
    for row, values in zip(block, columns):
        np.take(np.concatenate([[np.nan], values]), bar, out=row, mode="clip")  # the mode that writes without a copy
    return block
