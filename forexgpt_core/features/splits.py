"""Chronological parts of a training run, purged by label time and, on request, an embargo apart.

Label times are compared, because neither hours nor rows can be counted instead: a label of 24 hourly bars that begins
on a Friday, or before a hole, ends long after 24 hours; and where usable rows are sparse, 24 of them are more than 24
bars.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Times, bar_close, slot, slot_open
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.windows import Windows

_LEAST_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitShares:
    """Shares of the usable rows, in time order; `test` is what remains. The last sixth of train is `valid`.

    Attributes:
        embargo_bars: FX-week bars of the base timeframe between the last label of a part and the first origin of the
            next, on top of the purge; bars that are absent from the data count, weekends do not.
    """

    train: float = 0.6
    calibration: float = 0.2
    valid_of_train: float = 1 / 6
    embargo_bars: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.train < 1 and 0 < self.calibration < 1 and self.train + self.calibration < 1):
            raise BadInput(
                f"split shares must lie in (0, 1) and leave rows for a test, were {self.train} and {self.calibration}"
            )
        if not 0 < self.valid_of_train < 1:
            raise BadInput(f"valid_of_train must lie in (0, 1), was {self.valid_of_train}")
        _require_embargo(self.embargo_bars)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The parts of a run; every label of one part is known before the first origin of the next is."""

    train: Windows
    valid: Windows
    calibration: Windows
    test: Windows


def purge(earlier: Windows, later: Windows, *, embargo_bars: int = 0) -> Windows:
    """Return the rows of `earlier` whose labels are known by the time the first row of `later` is.

    Args:
        embargo_bars: they must be known so many FX-week bars earlier still; see `SplitShares`.

    Raises:
        BadInput: the embargo is not a whole number of 0 or more.
    """
    _require_embargo(embargo_bars)
    if len(later) == 0:
        return earlier
    deadline = _bars_before(later, int(later.rows[0]), embargo_bars)
    return earlier.take(earlier.arrays.label_end_utc[earlier.rows] <= deadline)


def purge_around(rows: Windows, held_out: Windows, *, embargo_bars: int = 0) -> Windows:
    """Return the rows that share no time with a held-out block, on either side of it.

    A row lasts from when it is known until its label is. Rows before the block end at least `embargo_bars` before it
    begins; rows after it begin at least `embargo_bars` after its last label ended.

    Args:
        held_out: one block of consecutive rows whose labels are known; purge around several blocks one by one.

    Raises:
        BadInput: the embargo is not a whole number of 0 or more, or a label of the block is not known.
    """
    _require_embargo(embargo_bars)
    if len(held_out) == 0:
        return rows
    labels = held_out.arrays.label_end_utc[held_out.rows]
    if np.isnat(labels).any():
        raise BadInput("a held-out block must hold rows whose labels are known; take `usable(..., matured=True)`")
    before = rows.arrays.label_end_utc[rows.rows] <= _bars_before(held_out, int(held_out.rows[0]), embargo_bars)
    after = _later_bars(rows, labels.max(keepdims=True), embargo_bars)
    return rows.take(before | after)


def evidence_parts(windows: Windows, shares: SplitShares) -> Parts:
    """Return train, valid, calibration and test (60/20/20 by default), purged by label time and embargoed.

    Raises:
        NotReady: a part would hold fewer than 50 rows.
    """
    n = len(windows)
    train_end = int(n * shares.train)
    valid_start = train_end - int(train_end * shares.valid_of_train)
    calibration_end = int(n * (shares.train + shares.calibration))
    return purged_parts(windows, (valid_start, train_end, calibration_end, n), shares.embargo_bars)


def deployment_parts(
    windows: Windows, *, calibration: float = 0.25, valid_of_train: float = 1 / 6, embargo_bars: int = 0
) -> Parts:
    """Return train and valid up to now minus a calibration block, and no test rows.

    Args:
        calibration: share of the rows, the newest.
        valid_of_train: share of the rest, its newest.

    Raises:
        NotReady: a part would hold fewer than 50 rows.
    """
    n = len(windows)
    train_end = n - int(n * calibration)
    valid_start = train_end - int(train_end * valid_of_train)
    return purged_parts(windows, (valid_start, train_end, n, n), embargo_bars)


def purged_parts(windows: Windows, ends: tuple[int, int, int, int], embargo_bars: int) -> Parts:
    """Return train, valid, calibration and test that end before these positions, purged by label time and embargoed.

    Args:
        ends: positions in `windows`; equal last two mean that there is no test.

    Raises:
        NotReady: a part would hold fewer than 50 rows.
    """
    starts = (0, *ends[:-1])
    train, valid, calibration, test = (
        Windows(arrays=windows.arrays, rows=windows.rows[a:b]) for a, b in zip(starts, ends)
    )
    parts = Parts(
        train=purge(train, valid, embargo_bars=embargo_bars),
        valid=purge(valid, calibration, embargo_bars=embargo_bars),
        calibration=purge(calibration, test, embargo_bars=embargo_bars),
        test=test,
    )
    wanted = {"train": parts.train, "valid": parts.valid, "calibration": parts.calibration}
    if ends[3] > ends[2]:
        wanted["test"] = parts.test
    for name, part in wanted.items():
        if len(part) < _LEAST_ROWS:
            raise NotReady(
                f"{windows.arrays.symbol} {windows.arrays.timeframe} has {len(windows)} usable rows, which leaves"
                f" {len(part)} for {name}; at least {_LEAST_ROWS} are needed: import a longer history"
                + (f" or shorten the embargo of {embargo_bars} bars" if embargo_bars else "")
            )
    return parts


def _bars_before(windows: Windows, row: int, bars: int) -> Times:
    """Return the close of the bar that stands `bars` FX-week bars before a row's own; shape (1,).

    Where the calendar begins later than that it is the calendar's first bar, before which no label is known.
    """
    timeframe, own = windows.arrays.timeframe, windows.arrays.ts_utc[row : row + 1]
    if not bars:
        return bar_close(own, timeframe)
    number = slot(own, timeframe)
    return bar_close(slot_open(number - min(bars, int(number[0])), timeframe), timeframe)


def _later_bars(rows: Windows, label_end_utc: Times, bars: int) -> NDArray[np.bool_]:
    """Return which rows become known at or after a label's end, and at least `bars` FX-week bars after it."""
    arrays = rows.arrays
    known = bar_close(arrays.ts_utc[rows.rows], arrays.timeframe) >= label_end_utc
    if bars == 0:
        return np.asarray(known)
    last = slot(np.subtract(label_end_utc, np.timedelta64(1, "us")), arrays.timeframe)
    return np.asarray(known & (slot(arrays.ts_utc[rows.rows], arrays.timeframe) - last >= bars))


def _require_embargo(embargo_bars: int) -> None:
    if isinstance(embargo_bars, bool) or not isinstance(embargo_bars, int) or embargo_bars < 0:
        raise BadInput(f"embargo_bars must be a whole number of 0 or more, was {embargo_bars!r}")
