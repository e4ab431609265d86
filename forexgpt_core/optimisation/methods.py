"""The ways to search. Each one proposes candidates and is told what they were worth, and knows nothing else.

A method is a generator: it yields a Proposal, receives an Outcome, and returns why it has no more to propose. What it
proposes depends on the space, the seed and the outcomes alone, never on who computed them or when.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.optimisation.front import best_first
from forexgpt_core.optimisation.goals import Goals, hint
from forexgpt_core.optimisation.named import Named, named
from forexgpt_core.optimisation.space import Space
from forexgpt_core.optimisation.trials import C

Floats = NDArray[np.float64]
Method = Literal["hybrid", "nsga2", "nsga3", "ga", "grid", "random", "tpe"]
SINGLE: tuple[Method, ...] = ("ga", "tpe")  # that search for one objective
Ending = Literal["finished", "generation limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How to search. All but `batch` and `time_limit_seconds` decide what is found.

    Attributes:
        method: "hybrid": a coarse grid, then NSGA-II from its best and from random points. "nsga2", "nsga3" (many
            objectives), "ga" (a single one): genetic search from random points. "grid": the coarse grid alone.
            "random": as many random points as the genetic search would try. "tpe" (a single objective): as many asked
            of Optuna, a generation at a time, see `asked.run_asked`.
        generations: at most, the first one included; a generation has `population` candidates.
        grid_count: candidates of the coarse grid, see `Space.grid`; powers of two cover most evenly.
        grid_seeds: how many of them enter the first generation of "hybrid"; random points fill it up.
        crossover: probability that two parents are crossed.
        mutation: probability that a coordinate mutates.
        patience: genetic search and "tpe" stop after so many generations without progress; 0 never does.
        tolerance: progress is a hypervolume that has grown by more than this share (for a single objective: any gain).
        time_limit_seconds: stop after so long; what is found then depends on the machine.
        batch: candidates evaluated at once; several workers share a generation by batches.
    """

    method: Method = "hybrid"
    seed: int = 0
    population: int = 50
    generations: int = 100
    grid_count: int = 512
    grid_seeds: int = 20
    crossover: float = 0.8
    mutation: float = 0.05
    patience: int = 10
    tolerance: float = 1e-3
    time_limit_seconds: float | None = None
    batch: int = 50

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UnknownName(f"unknown search method '{self.method}'{hint(self.method, get_args(Method))}")
        if self.population < 4 or self.generations < 1:
            raise BadInput(
                f"population must be 4 or more and generations 1 or more, were {self.population}, {self.generations}"
            )
        for name, least in (("seed", 0), ("grid_count", 1), ("grid_seeds", 0), ("patience", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name} must be {least} or more, was {getattr(self, name)}")
        for name in ("crossover", "mutation"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} must lie in [0, 1], was {getattr(self, name)}")
        if not self.tolerance >= 0:
            raise BadInput(f"tolerance must be 0 or more, was {self.tolerance}")
        if self.time_limit_seconds is not None and not self.time_limit_seconds > 0:
            raise BadInput(f"time_limit_seconds must be above 0, was {self.time_limit_seconds}")

    @property
    def planned(self) -> int:
        """Return how many candidates the search proposes if nothing stops it, repeats included."""
        swept = self.grid_count if self.method in ("grid", "hybrid") else 0
        return swept + (0 if self.method == "grid" else self.population * self.generations)

    def document(self) -> dict[str, Any]:
        """Return the settings that decide what is found, as plain JSON types."""
        return {n: value for n, value in asdict(self).items() if n not in ("batch", "time_limit_seconds")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal(Generic[C]):
    """Candidates to try together.

    Attributes:
        phase: "grid", "random" or the genetic algorithm.
        generation, generations: which part of the phase this is, from 1, and how many it has at most.
        converges: the search may end here for want of progress.
    """

    phase: str
    generation: int
    generations: int
    candidates: Sequence[Named[C]]
    converges: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a proposal was worth: values (n, objectives) to be made small, violations (n,), 0 where feasible."""

    values: Floats
    violations: Floats


Steps = Generator[Proposal[C], Outcome, Ending]


def steps(space: Space[C], goals: Goals, settings: SearchSettings) -> Steps[C]:
    """Return the method that the settings name, ready to propose.

    Raises:
        BadInput: the method cannot search for these goals.
    """
    require_fit(settings, goals)
    if settings.method not in _METHODS:
        raise BadInput(f"{settings.method} does not propose by itself; see asked.run_asked")
    made: Steps[C] = _METHODS[settings.method](space, goals, settings)
    return made


def require_fit(settings: SearchSettings, goals: Goals) -> None:
    """Refuse a method that cannot search for these goals.

    Raises:
        BadInput: it cannot.
    """
    count = len(goals.objectives)
    if settings.method in SINGLE and count != 1:
        raise BadInput(
            f"{settings.method} searches for a single objective, not for {count}; use nsga2, nsga3 or hybrid"
        )
    if settings.method == "nsga3" and not 2 <= count <= settings.population:
        raise BadInput(
            f"nsga3 needs two objectives or more and a population no smaller, had {count} and {settings.population}"
        )


def _grid(space: Space[C], goals: Goals, settings: SearchSettings) -> Steps[C]:
    yield from _sweep(space.grid(settings.grid_count), settings)
    return "finished"


def _random(space: Space[C], goals: Goals, settings: SearchSettings) -> Steps[C]:
    rng = _generator(settings)
    for generation in range(1, settings.generations + 1):
        points = rng.random((settings.population, space.dimensions))
        yield Proposal(
            phase="random",
            generation=generation,
            generations=settings.generations,
            candidates=[named(space.decode(x)) for x in points],
        )
    return "finished"


def _hybrid(space: Space[C], goals: Goals, settings: SearchSettings) -> Steps[C]:
    candidates = space.grid(settings.grid_count)
    worth = yield from _sweep(candidates, settings)
    best = best_first(worth.values, worth.violations)[: min(settings.grid_seeds, settings.population)]
    seeds = np.array([space.encode(candidates[row]) for row in best]).reshape(-1, space.dimensions)
    drawn = _generator(settings).random((settings.population - len(seeds), space.dimensions))
    return (yield from _evolve(space, goals, settings, np.vstack((seeds, drawn))))


def _genetic(space: Space[C], goals: Goals, settings: SearchSettings) -> Steps[C]:
    drawn = _generator(settings).random((settings.population, space.dimensions))
    return (yield from _evolve(space, goals, settings, drawn))


_METHODS: dict[Method, Callable[..., Any]] = {
    "hybrid": _hybrid,
    "nsga2": _genetic,
    "nsga3": _genetic,
    "ga": _genetic,
    "grid": _grid,
    "random": _random,
}


def _sweep(candidates: Sequence[C], settings: SearchSettings) -> Generator[Proposal[C], Outcome, Outcome]:
    """Propose candidates, a generation's worth at a time, and return what all of them were worth."""
    starts = range(0, len(candidates), settings.population)
    told: list[Outcome] = []
    for part, start in enumerate(starts, 1):
        chunk = [named(one) for one in candidates[start : start + settings.population]]
        told.append((yield Proposal(phase="grid", generation=part, generations=len(starts), candidates=chunk)))
    return Outcome(
        values=np.concatenate([one.values for one in told]), violations=np.concatenate([one.violations for one in told])
    )


def _evolve(space: Space[C], goals: Goals, settings: SearchSettings, start: Floats) -> Steps[C]:
    from forexgpt_core.optimisation.genetic import Algorithm, Population

    algorithm: Algorithm = "nsga2"
    if settings.method == "nsga3" or settings.method == "ga":
        algorithm = settings.method
    decoded = _Decoded(space)
    population = Population(
        algorithm,
        start,
        objectives=len(goals.objectives),
        steps=space.steps,
        same=lambda x: decoded.at(x).hash12,
        size=settings.population,
        crossover=settings.crossover,
        mutation=settings.mutation,
        seed=settings.seed,
    )
    for generation in range(1, settings.generations + 1):
        points = population.ask()
        if not len(points):
            return "finished"  # every candidate that mating reaches is in the population
        outcome = yield Proposal(
            phase=algorithm,
            generation=generation,
            generations=settings.generations,
            candidates=[decoded.at(x) for x in points],
            converges=True,
        )
        population.tell(outcome.values, outcome.violations)
    return "generation limit"


@dataclass(frozen=True, slots=True)
class _Decoded(Generic[C]):
    """Candidates by their point, each decoded and named once."""

    space: Space[C]
    known: dict[bytes, Named[C]] = field(default_factory=dict)

    def at(self, x: Floats) -> Named[C]:
        key = x.tobytes()
        if key not in self.known:
            self.known[key] = named(self.space.decode(x))
        return self.known[key]


def _generator(settings: SearchSettings) -> np.random.Generator:
    return np.random.default_rng([settings.seed, 1])  # apart from the algorithm's own
