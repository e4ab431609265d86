"""pymoo's genetic algorithms, set up so that a seed says everything. Imported on use: pymoo is large.

Every random draw comes from the algorithm's own generator. pymoo's tournament of NSGA-III draws from a fresh one where
two infeasible individuals tie; it is replaced here.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.config import Config
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.problems.static import StaticProblem
from pymoo.util.ref_dirs import get_reference_directions

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]
Algorithm = Literal["nsga2", "nsga3", "ga"]

_FEW_VALUES = 0.1  # a coordinate with steps this wide or wider is redrawn, not nudged
_MATINGS = 10  # in vain, until a generation is smaller than asked for
_CROSSOVER_ETA, _MUTATION_ETA = 15, 20  # of Deb et al. (2002)

Config.warnings["not_compiled"] = False  # it would print


class Population:
    """A population that proposes points of the unit cube and learns what they were worth.

    Candidates that the population holds are not proposed again. Feasible points go before infeasible ones, and those
    by how much they violate (Deb's rule).

    Args:
        start: (n, dimensions) the first generation.
        steps: (dimensions,) of the space.
        same: name of the candidate at a point; points with one name are one candidate.
        crossover: probability that two parents are crossed.
        mutation: probability that a coordinate mutates.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        start: Floats,
        *,
        objectives: int,
        steps: Floats,
        same: Callable[[Floats], str],
        size: int,
        crossover: float,
        mutation: float,
        seed: int,
    ) -> None:
        self._problem = Problem(n_var=start.shape[1], n_obj=objectives, n_ieq_constr=1, xl=0.0, xu=1.0)
        self._algorithm = _CLASSES[algorithm](
            pop_size=size,
            sampling=start,
            crossover=SBX(prob=crossover, eta=_CROSSOVER_ETA),
            mutation=_Mutation(mutation, coarse=steps >= _FEW_VALUES),
            eliminate_duplicates=_SameCandidate(same),
            **(_guided(objectives, size) if algorithm == "nsga3" else {}),
        )
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=seed, verbose=False)
        self._algorithm.mating.n_max_iterations = _MATINGS
        self._asked: Any = None

    def ask(self) -> Floats:
        """Return (n, dimensions) points to try; none where mating finds no candidate that the population lacks."""
        self._asked = self._algorithm.ask()
        if self._asked is None:
            return np.empty((0, self._problem.n_var))
        return np.asarray(self._asked.get("X"), dtype=np.float64)

    def tell(self, values: Floats, violations: Floats) -> None:
        """Take over what the points asked for are worth: (n, objectives) to be made small, and (n,)."""
        known = StaticProblem(self._problem, F=values, G=violations[:, None])
        Evaluator().eval(known, self._asked)
        self._algorithm.tell(infills=self._asked)


def reference_directions(objectives: int, size: int) -> Floats:
    """Return evenly spread directions of NSGA-III: as many as a population of that size can serve.

    Source: Das and Dennis (1998), SIAM J. Optimization 8(3).
    """
    cuts = 1
    while math.comb(cuts + objectives, objectives - 1) <= size:
        cuts += 1
    return np.asarray(get_reference_directions("das-dennis", objectives, n_partitions=cuts), dtype=np.float64)


def _guided(objectives: int, size: int) -> dict[str, Any]:
    if objectives < 2:
        raise BadInput("NSGA-III needs two objectives or more; use ga for a single one")
    if objectives > size:
        raise BadInput(f"NSGA-III needs a population of {objectives} or more for {objectives} objectives, was {size}")
    return {
        "ref_dirs": reference_directions(objectives, size),
        "selection": TournamentSelection(func_comp=_less_violating),
    }


def _less_violating(pop: Any, pairs: NDArray[np.int64], *, random_state: np.random.Generator, **_: Any) -> Any:
    """Return the winner of each pair: who violates less, either one where they tie."""
    beyond = pop.get("CV")[:, 0][pairs]
    either = random_state.integers(0, 2, size=len(pairs))
    chosen = np.where(beyond[:, 0] == beyond[:, 1], either, np.argmin(beyond, axis=1))
    return pairs[np.arange(len(pairs)), chosen][:, None]


class _Mutation(PM):  # type: ignore[misc]  # pymoo has no types
    """Polynomial mutation; a coordinate of few values is drawn anew, which a small step would hardly ever change."""

    def __init__(self, prob_var: float, *, coarse: NDArray[np.bool_]) -> None:
        super().__init__(prob=1.0, prob_var=prob_var, eta=_MUTATION_ETA)
        self._share, self._coarse = prob_var, coarse

    def _do(self, problem: Any, X: Floats, *, random_state: np.random.Generator, **rest: Any) -> Floats:  # noqa: N803
        nudged = super()._do(problem, X, random_state=random_state, **rest)
        redrawn = self._coarse & (random_state.random(X.shape) < self._share)
        return np.where(redrawn, random_state.random(X.shape), np.where(self._coarse, X, nudged))


class _SameCandidate(DuplicateElimination):  # type: ignore[misc]  # pymoo has no types
    """Two points are duplicates where they are one candidate."""

    def __init__(self, same: Callable[[Floats], str]) -> None:
        super().__init__()
        self._same = same

    def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
        seen = set() if other is None else {self._same(x) for x in other.get("X")}
        for place, x in enumerate(pop.get("X")):
            name = self._same(x)
            is_duplicate[place] = name in seen
            if other is None:
                seen.add(name)
        return is_duplicate


_CLASSES: dict[Algorithm, Any] = {"nsga2": NSGA2, "nsga3": NSGA3, "ga": GA}
