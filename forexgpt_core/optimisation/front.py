"""Objectives of a strategy, and the arithmetic of fronts over them. Every objective array is to be made small."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.performance import Stats, StatValue

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OBJECTIVES = ("return_pct", "max_drawdown_pct", "sharpe", "win_rate_pct")
_SIGN = np.array([-1.0, 1.0, -1.0, -1.0])  # drawdown is made small as it is, the others are wanted large
_EDGE = 1.05  # reference corner of the hypervolume, so that the ends of a front count too


def objectives(stats: Sequence[Stats]) -> Floats:
    """Return (n, 4) objectives to be made small; a Sharpe or win rate that is undefined counts as 0."""
    rows = [[_number(one[name]) for name in OBJECTIVES] for one in stats]
    return np.asarray(np.array(rows, dtype=np.float64).reshape(-1, len(OBJECTIVES)) * _SIGN)


def _number(value: StatValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def non_dominated(values: Floats) -> Ints:
    """Return the rows that no other row beats or equals everywhere and beats somewhere; of equal rows the first.

    Args:
        values: (n, m) to be made small.
    """
    _, first = np.unique(values, axis=0, return_index=True)
    rows = np.sort(first)
    kept = [row for row in rows if not _beaten(values[row], values[rows])]
    return np.array(kept, dtype=np.int64)


def _beaten(row: Floats, others: Floats) -> bool:
    return bool(((others <= row).all(axis=1) & (others < row).any(axis=1)).any())


def thin(values: Floats, most: int) -> Ints:
    """Return at most `most` rows of a front: the least crowded ones, the ends of every objective before all."""
    if values.shape[0] <= most:
        return np.arange(values.shape[0], dtype=np.int64)
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

    distance = np.asarray(calc_crowding_distance(values), dtype=np.float64)
    return np.sort(np.argsort(-distance, kind="stable")[:most]).astype(np.int64)


def to_unit(values: Floats, box: Floats) -> Floats:
    """Return values scaled so that `box` spans [0, 1] in every objective; an objective with no spread becomes 0."""
    least, most = box.min(axis=0), box.max(axis=0)
    spread = np.where(most > least, most - least, 1.0)
    return np.asarray((values - least) / spread)


def hypervolumes(values: Floats, feasible: NDArray[np.bool_], counts: Sequence[int]) -> tuple[float, ...]:
    """Return the share of the box dominated by the feasible rows among the first `count`, for each count.

    The box is that of all feasible rows, widened by a twentieth; so the history never falls, and only the shares of
    one search compare.
    """
    if not feasible.any():
        return tuple(0.0 for _ in counts)
    from pymoo.indicators.hv import HV

    unit = to_unit(values, values[feasible])
    measure = HV(ref_point=np.full(values.shape[1], _EDGE))
    whole = _EDGE ** values.shape[1]
    shares = []
    for count in counts:
        so_far = unit[:count][feasible[:count]]
        shares.append(float(measure(so_far[non_dominated(so_far)])) / whole if so_far.size else 0.0)
    return tuple(shares)
