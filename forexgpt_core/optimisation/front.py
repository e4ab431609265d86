"""The arithmetic of fronts. Every array of objectives is to be made small."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_EDGE = 1.05  # reference corner of the hypervolume, so that the ends of a front count too


def non_dominated(values: Floats) -> Ints:
    """Return the rows that no other row beats or equals everywhere and beats somewhere; of equal rows the first.

    Args:
        values: (n, m) to be made small.
    """
    from pymoo.util.nds.non_dominated_sorting import find_non_dominated

    _, first = np.unique(values, axis=0, return_index=True)
    rows = np.sort(first)
    return np.asarray(rows[find_non_dominated(values[rows])], dtype=np.int64)


def thin(values: Floats, most: int) -> Ints:
    """Return at most `most` rows of a front: the least crowded ones, the ends of every objective before all."""
    if values.shape[0] <= most:
        return np.arange(values.shape[0], dtype=np.int64)
    return np.sort(np.argsort(-_crowding(values), kind="stable")[:most]).astype(np.int64)


def best_first(values: Floats, violations: Floats) -> Ints:
    """Return all rows in the order that NSGA-II lets survive.

    Feasible ones by their non-dominated rank, the least crowded of a rank first; then the others by how much they
    violate. Of rows that tie the earlier one goes first.

    Args:
        values: (n, m) to be made small.
        violations: (n,) 0 where feasible.

    Source: Deb et al. (2002), IEEE Transactions on Evolutionary Computation 6(2).
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    feasible, other = np.flatnonzero(violations <= 0), np.flatnonzero(violations > 0)
    fronts = NonDominatedSorting().do(values[feasible]) if feasible.size else []
    ranked = [feasible[front[np.argsort(-_crowding(values[feasible[front]]), kind="stable")]] for front in fronts]
    return np.concatenate([*ranked, other[np.argsort(violations[other], kind="stable")]]).astype(np.int64)


def _crowding(values: Floats) -> Floats:
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

    return np.asarray(calc_crowding_distance(values), dtype=np.float64)


def to_unit(values: Floats, box: Floats) -> Floats:
    """Return values scaled so that `box` spans [0, 1] in every objective; an objective with no spread becomes 0."""
    least, most = box.min(axis=0), box.max(axis=0)
    spread = np.where(most > least, most - least, 1.0)
    return np.asarray((values - least) / spread)


def hypervolume(values: Floats, box: Floats) -> float:
    """Return the share of a box that rows dominate, in [0, 1]; 0 without rows.

    Args:
        values: (n, m) to be made small, inside the box.
        box: rows that span it; it is widened by a twentieth towards the worse side.
    """
    if not values.size:
        return 0.0
    from pymoo.indicators.hv import HV

    measure = HV(ref_point=np.full(values.shape[1], _EDGE))
    return float(measure(to_unit(values, box)) / _EDGE ** values.shape[1])


def hypervolumes(values: Floats, feasible: Bools, counts: Sequence[int]) -> tuple[float, ...]:
    """Return the share of the box dominated by the feasible rows among the first `count`, for each count.

    The box is that of all feasible rows, widened by a twentieth; so the history never falls, and only the shares of
    one search compare.

    Args:
        counts: in increasing order.
    """
    if not feasible.any():
        return tuple(0.0 for _ in counts)
    box = values[feasible]
    front, seen, shares = values[:0], 0, []
    for count in counts:  # what a front beat once stays beaten, so only the front and the new rows matter
        front = np.concatenate((front, values[seen:count][feasible[seen:count]]))
        front = front[non_dominated(front)] if front.size else front
        seen = count
        shares.append(hypervolume(front, box))
    return tuple(shares)


def common_hypervolumes(fronts: Sequence[Floats]) -> tuple[float, ...]:
    """Return the share that each front dominates of the box that all of them span together; so these compare."""
    box = np.concatenate(fronts)
    return tuple(hypervolume(front, box) for front in fronts)
