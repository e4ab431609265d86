"""How much of a candidate's worth its neighbours keep: a lucky spike in the space keeps little."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.optimisation.goals import Goals, Objective, number
from forexgpt_core.optimisation.space import Space
from forexgpt_core.optimisation.trials import C, Evaluate, TrialStore, try_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """The objectives of a candidate among its neighbours; None where an objective has no share to keep.

    Attributes:
        neighbours: how many there are.
        feasible: share of them that satisfy the constraints; 1 without neighbours.
        kept: mean share of each objective that they keep: 1 loses nothing, 0.5 has half the return or twice the
            drawdown, below 0 has lost its return altogether; more than all counts as 1. None where the candidate's own
            figure is not above 0.
        worst_kept: the smallest of these shares.
        worst: the worst figure itself among candidate and neighbours, in its own unit.
    """

    neighbours: int
    feasible: float
    kept: Mapping[str, float | None]
    worst_kept: Mapping[str, float | None]
    worst: Mapping[str, float | None]

    def document(self) -> dict[str, Any]:
        """Return the figures as plain JSON types."""
        return asdict(self)


def neighbours(space: Space[C], candidate: C, *, least_share: float = 0.05) -> list[C]:
    """Return the candidates one step away in one coordinate, each once: two a coordinate, fewer at the space's edge.

    Args:
        least_share: a step is the space's own, or this share of a coordinate's range where that is more: the next
            thousandth of a probability says little. 0 takes the space's own.
    """
    middle = space.encode(candidate)
    found: dict[str, C] = {}
    for coordinate, step in enumerate(np.maximum(space.steps, least_share)):
        for way in (-step, step):
            x = middle.copy()
            x[coordinate] += way
            if 0 <= x[coordinate] <= 1:
                one = space.decode(x)
                found[one.hash12] = one
    found.pop(candidate.hash12, None)
    return list(found.values())


def stability(
    space: Space[C],
    candidate: C,
    evaluate: Evaluate[C],
    goals: Goals,
    store: TrialStore,
    *,
    first_number: int,
    least_share: float = 0.05,
) -> Stability:
    """Return how stable a candidate is among its neighbours, evaluating those that the store does not know.

    The neighbours are trials like any other: whoever counts trials has to count them.

    Args:
        first_number: of the first neighbour in the store; past those of the search.
        least_share: see `neighbours`.
    """
    near = neighbours(space, candidate, least_share=least_share)
    own, *others = [candidate, *near]
    known = try_all(dict(enumerate([own, *others], first_number)), evaluate, store)
    figures = [known[one.hash12] for one in others]
    return compare_neighbours(known[own.hash12], figures, goals)


def compare_neighbours(own: Stats, others: Sequence[Stats], goals: Goals) -> Stability:
    """Return the stability of figures among those of the neighbours."""
    shares = {one.name: _shares(one, own, others) for one in goals.objectives}
    feasible = goals.violations(others) <= 0
    return Stability(
        neighbours=len(others),
        feasible=float(feasible.mean()) if len(others) else 1.0,
        kept={name: float(np.mean(kept)) if kept else None for name, kept in shares.items()},
        worst_kept={name: min(kept) if kept else None for name, kept in shares.items()},
        worst={one.name: _worst(one, [own, *others]) for one in goals.objectives},
    )


def _shares(objective: Objective, own: Stats, others: Sequence[Stats]) -> list[float]:
    """Return the share that each neighbour keeps; none where there is nothing to keep."""
    base = _counted(objective, own)
    values = [_counted(objective, stats) for stats in others]
    if base is None or not base > 0:
        return []
    if objective.direction == "max":
        return [0.0 if value is None else min(value / base, 1.0) for value in values]
    return [0.0 if value is None else base / max(value, base) for value in values]


def _worst(objective: Objective, figures: Sequence[Stats]) -> float | None:
    """Return the worst figure, None where any of them is undefined and counts as nothing."""
    values = [_counted(objective, stats) for stats in figures]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return min(known) if objective.direction == "max" else max(known)


def _counted(objective: Objective, stats: Stats) -> float | None:
    value = number(stats, objective.name)
    return objective.undefined if value is None else value
