"""Combinatorial purged splits: every choice of k of N groups is held out once, and the choices make many paths.

Overlap is judged by label time. Counting rows, as libraries do, leaks across a hole or a weekend and throws good rows
away where usable rows are sparse.

Source: Lopez de Prado (2018), Advances in Financial Machine Learning, chapters 7 and 12.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.splits import purge, purge_around
from forexgpt_core.features.windows import Windows

Ints = NDArray[np.int64]

_LEAST_ROWS = 50
_MOST_SPLITS = 1000  # each is a refit


class UnsortedRows(BadInput):
    """Rows repeat, go back in time or are no row numbers, so groups of neighbours would not be neighbours."""


class OverlappingParts(BadInput):
    """A row that is fitted on shares time with a held-out row, so its label tells something about the test."""

    def __init__(self, part: str, rows: int, split: int) -> None:
        super().__init__(part, rows, split)
        self.part, self.rows, self.split = part, rows, split

    def __str__(self) -> str:
        return (
            f"{self.rows} {self.part} rows of split {self.split} share time with held-out rows; purge them with"
            " `features.splits.purge_around`"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinatorialSettings:
    """How to cut. Equal settings cut equal rows into equal splits.

    Attributes:
        groups: N runs of consecutive rows of equal length; the last one takes the rows that remain.
        test_groups: k groups are held out at a time, each choice once.
        embargo_bars: FX-week bars between a label and the next part, on both sides of a held-out group.
        calibration: share of a split's training rows, the newest, that calibrate.
        valid_of_train: share of the training rows before those, the newest, that tune.
        method: of the split conformal calibrator.
    """

    groups: int = 6
    test_groups: int = 2
    embargo_bars: int = 0
    calibration: float = 0.2
    valid_of_train: float = 1 / 6
    method: str = "normalised"

    def __post_init__(self) -> None:
        for name in ("groups", "test_groups", "embargo_bars"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise BadInput(f"{name} must be a whole number of 0 or more, was {value!r}")
        if not 1 <= self.test_groups < self.groups:
            raise BadInput(
                f"test_groups must be at least 1 and leave a group to train on, was {self.test_groups} of {self.groups}"
            )
        if self.splits > _MOST_SPLITS:
            raise BadInput(
                f"{self.test_groups} of {self.groups} groups make {self.splits} splits, each a refit; at most"
                f" {_MOST_SPLITS} are accepted: take fewer groups"
            )
        for name in ("calibration", "valid_of_train"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"{name} must be a share in (0, 1), was {getattr(self, name)}")

    @property
    def splits(self) -> int:
        """Return C(N, k)."""
        return math.comb(self.groups, self.test_groups)

    @property
    def paths(self) -> int:
        """Return k / N * C(N, k), the number of times each group is held out."""
        return math.comb(self.groups - 1, self.test_groups - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CombinatorialSplit:
    """One choice of held-out groups, and what may be fitted beside it. Checked at birth, by time.

    Attributes:
        number: from 0, in the order of `held_out`.
        held_out: numbers of the groups held out, increasing.
        training: every row outside them that shares no time with them; train, valid and calibration are cut from it.
        train, valid, calibration: in this order in time, with no label open where the next one begins.
        tests: the rows of each group held out.
    """

    number: int
    held_out: tuple[int, ...]
    training: Windows
    train: Windows
    valid: Windows
    calibration: Windows
    tests: tuple[Windows, ...]

    def __post_init__(self) -> None:
        if len(self.tests) != len(self.held_out) or not self.tests:
            raise BadInput(f"split {self.number} holds out {len(self.held_out)} groups, was given {len(self.tests)}")
        _require_rows(self.test)
        for part in ("training", "train", "valid", "calibration"):
            fitted: Windows = getattr(self, part)
            _require_rows(fitted)
            if shared := _sharing_time(fitted, self.test):
                raise OverlappingParts(part, shared, self.number)

    @property
    def test(self) -> Windows:
        """Return the held-out rows of all groups in time order."""
        return Windows(arrays=self.tests[0].arrays, rows=np.concatenate([one.rows for one in self.tests]))


def group_bounds(rows: int, groups: int) -> Ints:
    """Return where each group begins and the last one ends; shape (groups + 1,).

    >>> group_bounds(20, 3).tolist()
    [0, 6, 12, 20]
    """
    bounds = np.arange(groups + 1, dtype=np.int64) * (rows // groups)
    bounds[-1] = rows
    return bounds


def held_out_groups(settings: CombinatorialSettings) -> tuple[tuple[int, ...], ...]:
    """Return the groups that each split holds out, in lexicographic order."""
    return tuple(combinations(range(settings.groups), settings.test_groups))


def path_splits(settings: CombinatorialSettings) -> Ints:
    """Return which split forecasts each group on each backtest path; shape (paths, groups).

    Path p takes group g from the p-th split that holds g out, so each pair of split and held-out group is used once.

    >>> path_splits(CombinatorialSettings(groups=4, test_groups=2)).tolist()
    [[0, 0, 1, 2], [1, 3, 3, 4], [2, 4, 5, 5]]
    """
    held_out = held_out_groups(settings)
    by_group = [[number for number, one in enumerate(held_out) if g in one] for g in range(settings.groups)]
    return np.array(by_group, dtype=np.int64).T


def combinatorial_splits(windows: Windows, settings: CombinatorialSettings) -> tuple[CombinatorialSplit, ...]:
    """Return all C(N, k) splits of some rows.

    The rows outside the held-out groups are purged around each of these by label time, and embargoed on both sides.
    Of what stays, in time order, the newest share calibrates, the newest of the rest tunes, and the remainder trains,
    each purged of labels that are still open where the next begins, as in a walk forward. A part may so lie on both
    sides of a held-out group.

    Args:
        windows: rows in time order whose labels are known.

    Raises:
        UnsortedRows: the rows are not increasing whole numbers.
        BadInput: a label is not known.
        NotReady: a group, or what the purge left of a part, holds fewer than 50 rows.
    """
    _require_rows(windows)
    bounds = group_bounds(len(windows), settings.groups)
    least = int(np.diff(bounds).min())
    if least < _LEAST_ROWS:
        raise NotReady(
            f"{_title(windows)} has {len(windows)} usable rows, which leaves {least} for each of {settings.groups}"
            f" groups; at least {_LEAST_ROWS} are needed: import a longer history or take fewer groups"
        )
    groups = [windows.take(np.arange(a, b)) for a, b in pairwise(bounds)]
    return tuple(_split(windows, groups, n, one, settings) for n, one in enumerate(held_out_groups(settings)))


def _split(
    windows: Windows,
    groups: Sequence[Windows],
    number: int,
    held_out: tuple[int, ...],
    settings: CombinatorialSettings,
) -> CombinatorialSplit:
    tests = tuple(groups[g] for g in held_out)
    kept = [group.rows for g, group in enumerate(groups) if g not in held_out]
    training = Windows(arrays=windows.arrays, rows=np.concatenate(kept))
    for test in tests:
        training = purge_around(training, test, embargo_bars=settings.embargo_bars)
    calibration_start = len(training) - int(len(training) * settings.calibration)
    valid_start = calibration_start - int(calibration_start * settings.valid_of_train)
    train, valid, calibration = (
        training.take(np.arange(a, b))
        for a, b in ((0, valid_start), (valid_start, calibration_start), (calibration_start, len(training)))
    )
    split = CombinatorialSplit(
        number=number,
        held_out=held_out,
        training=training,
        train=purge(train, valid, embargo_bars=settings.embargo_bars),
        valid=purge(valid, calibration, embargo_bars=settings.embargo_bars),
        calibration=calibration,
        tests=tests,
    )
    for part in ("train", "valid", "calibration"):
        if len(getattr(split, part)) < _LEAST_ROWS:
            raise NotReady(
                f"split {number} of {_title(windows)} leaves {len(getattr(split, part))} rows for {part} beside the"
                f" held-out groups {held_out}; at least {_LEAST_ROWS} are needed: import a longer history, hold out"
                " fewer groups, or shorten horizons or embargo"
            )
    return split


def _require_rows(windows: Windows) -> None:
    rows = windows.rows
    if not np.issubdtype(rows.dtype, np.integer):
        raise UnsortedRows(f"rows must be whole row numbers, were {rows.dtype}")
    steps = np.diff(rows)
    if (steps <= 0).any():
        place = int(np.flatnonzero(steps <= 0)[0]) + 1
        raise UnsortedRows(f"rows must increase; row {rows[place]} follows {rows[place - 1]} at position {place}")
    unknown = int(np.isnat(windows.arrays.label_end_utc[rows]).sum())
    if unknown:
        raise BadInput(f"{unknown} of {rows.size} labels are not known yet; take `usable(..., matured=True)`")


def _sharing_time(fitted: Windows, test: Windows) -> int:
    """Return how many rows last, from known to label end, at a time when a test row does; touching ends share none.

    Both ends increase with the row, so of the test rows that begin before a row ends, the last one ends last.
    """
    if not len(fitted) or not len(test):
        return 0
    arrays = fitted.arrays
    known, ends = arrays.known_utc, arrays.label_end_utc
    begun = np.searchsorted(known[test.rows], ends[fitted.rows], side="left")
    last_end = ends[test.rows][np.maximum(begun - 1, 0)]
    return int(((begun > 0) & (last_end > known[fitted.rows])).sum())


def _title(windows: Windows) -> str:
    return f"{windows.arrays.symbol} {windows.arrays.timeframe}"
