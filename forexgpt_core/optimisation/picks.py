"""One member of a front, by name or by what matters to its reader. Every pick reads in-sample figures alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.optimisation.front import to_unit
from forexgpt_core.optimisation.goals import DRAWDOWN, RETURN, SHARPE, Goals, hint, number

Floats = NDArray[np.float64]
PickName = Literal["knee", "ideal", "best_sharpe", "lowest_drawdown"]
PICKS: tuple[PickName, ...] = get_args(PickName)
Scalarising = Literal["sum", "achievement"]

_AUGMENTED = 1e-3  # share of the sum that breaks ties of the achievement function


def pick_named(name: str, front: Sequence[Stats], goals: Goals) -> int:
    """Return the place of a member: "knee", "ideal", "best_sharpe" or "lowest_drawdown"; of members that tie the first.

    Args:
        front: in-sample figures of every member.

    Raises:
        UnknownName: there is no such pick, or the figures lack what it reads.
        BadInput: the front is empty.
    """
    if name == "knee":
        return knee(_values(front, goals))
    if name == "ideal":
        return ideal(_values(front, goals))
    if name == "best_sharpe":
        return _least([-_or_worst(number(stats, SHARPE.name), -math.inf) for stats in front])
    if name == "lowest_drawdown":
        return _least([_or_worst(number(stats, DRAWDOWN.name), math.inf) for stats in front])
    raise UnknownName(f"unknown pick '{name}'{hint(name, get_args(PickName))}")


def knee(values: Floats) -> int:
    """Return the row that bulges most: farthest from the plane through the front's extremes, towards the better side.

    Objectives are scaled to [0, 1] over the front; an objective's extreme is its best row, of several the one that
    is best in the others together. Where the extremes span no plane (one row is best in two objectives, or there are
    fewer rows than objectives) the plane with equal intercepts stands in. A front that bulges nowhere has no knee;
    it gives its ideal pick.

    Args:
        values: (n, m) of a front, to be made small.

    Raises:
        BadInput: there is no row.

    Source: Das (1999), Structural Optimization 18(2), the point of the maximum bulge of normal-boundary intersection.
    """
    unit = to_unit(_some(values), values)
    normal = _plane(unit[_extremes(unit)])
    bulge = (1 - unit @ normal) / np.linalg.norm(normal)
    return int(np.argmax(bulge)) if bulge.max() > 1e-9 else ideal(values)


def ideal(values: Floats) -> int:
    """Return the row nearest to the best of every objective at once, each scaled to [0, 1] over the front.

    Args:
        values: (n, m) to be made small.

    Raises:
        BadInput: there is no row.
    """
    return int(np.argmin(np.linalg.norm(to_unit(_some(values), values), axis=1)))


def lowest_drawdown_above(return_pct: float, front: Sequence[Stats]) -> int:
    """Return the place of the member with the lowest drawdown among those whose return is this or more.

    Raises:
        BadInput: no member returns as much; the text says how much the best one does.
    """
    returns = [_or_worst(number(stats, RETURN.name), -math.inf) for stats in front]
    if not returns or not max(returns) >= return_pct:
        best = f"the most is {max(returns):.2f} %" if returns else "the front is empty"
        raise BadInput(f"no member returned {return_pct} % in sample: {best}")
    drawdowns = [_or_worst(number(stats, DRAWDOWN.name), math.inf) for stats in front]
    return _least([down if earned >= return_pct else math.inf for down, earned in zip(drawdowns, returns)])


def weighted(
    weights: Mapping[str, float], front: Sequence[Stats], goals: Goals, *, scalarising: Scalarising = "achievement"
) -> int:
    """Return the place of the member that is best by a reader's weights of the objectives, unnamed ones weighing 0.

    Objectives are scaled to [0, 1] over the front. "achievement" makes the largest weighted loss small, and so finds
    members in the hollows of a front too; "sum" makes the sum of the weighted losses small, and cannot.

    Raises:
        UnknownName: a weight names no objective.
        BadInput: a weight is negative or not finite, none is above 0, the front is empty, or there is no such function.

    Source: Wierzbicki (1980), The use of reference objectives in multiobjective optimization.
    """
    for name, weight in weights.items():
        if name not in goals.names:
            raise UnknownName(f"unknown objective '{name}'{hint(name, goals.names)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise BadInput(f"the weight of {name} must be 0 or more, was {weight}")
    if not any(weights.values()):
        raise BadInput(f"at least one weight must be above 0, of {', '.join(goals.names)}")
    if scalarising not in get_args(Scalarising):
        raise BadInput(f"scalarising must be sum or achievement, was '{scalarising}'")
    values = _values(front, goals)
    losses = to_unit(_some(values), values) * [weights.get(name, 0.0) for name in goals.names]
    total = losses.sum(axis=1)
    return int(np.argmin(total if scalarising == "sum" else losses.max(axis=1) + _AUGMENTED * total))


def _values(front: Sequence[Stats], goals: Goals) -> Floats:
    return _some(goals.values(front))


def _some(values: Floats) -> Floats:
    if not len(values):
        raise BadInput("the front is empty: there is nothing to pick")
    return values


def _extremes(unit: Floats) -> list[int]:
    total = unit.sum(axis=1)
    return [int(np.lexsort((total, unit[:, objective]))[0]) for objective in range(unit.shape[1])]


def _plane(extremes: Floats) -> Floats:
    """Return the normal n of the plane n x = 1 through the extremes, all of it above 0, or the equal one."""
    equal = np.ones(extremes.shape[1])
    try:
        normal = np.linalg.solve(extremes, equal)
    except np.linalg.LinAlgError:
        return equal
    sound = np.isfinite(normal).all() and (normal > 1e-9).all() and np.allclose(extremes @ normal, 1)
    return np.asarray(normal) if sound else equal


def _or_worst(value: float | None, worst: float) -> float:
    return worst if value is None else value


def _least(numbers: Sequence[float]) -> int:
    return int(np.argmin(_some(np.array(numbers))))
