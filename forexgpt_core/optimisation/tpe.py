"""Searches that Optuna leads: TPE by default, NSGA-II for several objectives, over strategies or anything else.

Every figure goes through `trials.try_all`, so a candidate is evaluated once however often it is proposed, whoever
works on the study, and each one that was tried is counted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, get_args

import numpy as np

from forexgpt_core.backtest.performance import Floats, Stats
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.optimisation.front import hypervolume, non_dominated
from forexgpt_core.optimisation.optuna_study import Asked, Direction, ResumableStudy, Sampler, StudyKeeper, quiet_optuna
from forexgpt_core.optimisation.search import Progress, Stop
from forexgpt_core.optimisation.trials import LEASE_SECONDS, Candidate, Evaluate, TrialStore, try_all
from forexgpt_core.strategy.config import StrategyConfig

C = TypeVar("C", bound=Candidate)
Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure to make large, or small.

    Attributes:
        undefined: what counts where the figure is None. None: such a candidate misses a constraint, by 1.
    """

    figure: str
    larger: bool = True
    undefined: float | None = None

    @property
    def direction(self) -> Direction:
        """Return the word Optuna has for it."""
        return "maximize" if self.larger else "minimize"

    def value(self, stats: Stats) -> float | None:
        """Return the figure.

        Raises:
            BadInput: the evaluation does not give it, or not as a number.
        """
        if self.figure not in stats:
            raise BadInput(f"no figure '{self.figure}' to search by; known: {', '.join(stats)}")
        found = stats[self.figure]
        if found is None:
            return self.undefined
        if isinstance(found, str) or not np.isfinite(found):
            raise BadInput(f"'{self.figure}' must be a finite number to search by, was {found!r}")
        return float(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSettings:
    """How to search.

    Attributes:
        goals: one, or several for a front.
        sampler: "tpe", "nsga2" or "random".
        proposals: candidates asked of Optuna, those that come back included.
        batch: candidates asked, evaluated and told together; the population of NSGA-II.
        least: figures that must reach a value, such as {"trades": 30}.
        most: figures that must not exceed one, such as {"max_drawdown_pct": 20}.
        patience: batches without a better value of the first goal after which the search is over; 0 never ends it.
        seconds: no batch begins after so long; None for no limit.
    """

    goals: tuple[Goal, ...] = (Goal(figure="sharpe"),)
    sampler: Sampler = "tpe"
    proposals: int = 320
    batch: int = 16
    seed: int = 0
    least: Mapping[str, float] = field(default_factory=lambda: {"trades": 10})
    most: Mapping[str, float] = field(default_factory=dict)
    patience: int = 0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.goals or len({goal.figure for goal in self.goals}) != len(self.goals):
            raise BadInput("a search needs at least one goal, each figure once")
        if self.sampler not in get_args(Sampler):
            raise BadInput(f"unknown sampler '{self.sampler}'; known: {', '.join(get_args(Sampler))}")
        if self.proposals < 1 or self.batch < 1 or self.seed < 0 or self.patience < 0:
            raise BadInput(
                f"proposals and batch must be 1 or more, seed and patience 0 or more,"
                f" were {self.proposals}, {self.batch}, {self.seed} and {self.patience}"
            )
        if self.sampler == "nsga2" and self.batch < 4:
            raise BadInput(f"batch is the population of nsga2 and must be 4 or more, was {self.batch}")
        if self.seconds is not None and not self.seconds > 0:
            raise BadInput(f"seconds must be above 0, was {self.seconds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried(Generic[C]):
    """One candidate, under the number of its first proposal.

    Attributes:
        lacking: by how much it misses each constraint; 0 or less where it does not.
    """

    number: int
    candidate: C
    stats: Stats
    lacking: Mapping[str, float]

    @property
    def shortfall(self) -> float:
        """Return by how much it misses its constraints together; 0 where it is feasible."""
        return sum(max(amount, 0.0) for amount in self.lacking.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[C]):
    """What a search found.

    Attributes:
        best: of one goal the best candidate; of several those that no other beats, in the order tried. Where none is
            feasible, of those that came closest.
        tried: all different candidates: what any honest reading of the best has to be corrected for.
        proposals: how many Optuna made; the rest had been tried.
        history: per batch, the best value of the first goal among feasible candidates so far; None before the first.
        stopped: why it ended.
        note: in words, what a reader has to know; empty if nothing.
    """

    best: tuple[Tried[C], ...]
    tried: tuple[Tried[C], ...]
    proposals: int
    history: tuple[float | None, ...]
    feasible: bool
    stopped: Stop
    note: str

    @property
    def finished(self) -> bool:
        """Return False where time or the caller ended it."""
        return self.stopped in ("finished", "no improvement")

    @property
    def repeats(self) -> int:
        """Return how many proposals had been tried before."""
        return self.proposals - len(self.tried)


class Cube(Protocol):
    """A space whose candidates are points of the unit cube, such as a SearchSpace."""

    @property
    def dimensions(self) -> int:
        """Return how many coordinates a point has."""
        ...

    def decode(self, x: Floats) -> StrategyConfig:
        """Return the strategy at a point; (dimensions,) in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class StrategySpace:
    """Strategies, asked as the coordinates of their cube."""

    cube: Cube

    def distributions(self) -> dict[str, Any]:
        """Return one number in [0, 1] for every coordinate."""
        unit = quiet_optuna().distributions.FloatDistribution(0.0, 1.0)
        return {f"x{place:02d}": unit for place in range(self.cube.dimensions)}

    def candidate(self, params: Mapping[str, Any]) -> StrategyConfig:
        """Return the strategy at these coordinates."""
        return self.cube.decode(np.array([params[name] for name in sorted(params)], dtype=np.float64))


def search_strategies(
    space: Cube,
    evaluate: Evaluate[StrategyConfig],
    settings: AskSettings,
    *,
    study: str,
    trials: TrialStore,
    keeper: StudyKeeper | None = None,
    progress: Tell = lambda told: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Found[StrategyConfig]:
    """Search the strategies of a space; see `search`."""
    return search(
        StrategySpace(space),
        evaluate,
        settings,
        study=study,
        trials=trials,
        keeper=keeper,
        progress=progress,
        should_stop=should_stop,
    )


def search(
    asked: Asked[C],
    evaluate: Evaluate[C],
    settings: AskSettings,
    *,
    study: str,
    trials: TrialStore,
    keeper: StudyKeeper | None = None,
    progress: Tell = lambda told: None,
    should_stop: Callable[[], bool] = lambda: False,
    lease_seconds: float = LEASE_SECONDS,
    one_by_one: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Found[C]:
    """Return the best candidates that Optuna's sampler finds.

    Killed and started again under the same name, with the same stores, it ends with what one run gives; a finished
    study returns at once. More proposals continue a study.

    Args:
        study: name of the study: a hash of whatever decides its figures (data, costs, space, settings, seed).
        trials: of that study; figures found there are not evaluated again.
        keeper: keeps Optuna's trials; None forgets them with the process.
        progress: told after every batch.
        should_stop: asked before every batch; what was found by then is returned.
        lease_seconds: for which candidates are reserved for this worker while it evaluates them.
        one_by_one: evaluate and store each candidate alone, where one takes long; else a batch at once.

    Raises:
        BadInput: a goal or constraint names a figure that the evaluation does not give.
        NotReady: it was stopped before its first batch.
        StoreError: a store failed, or it holds a study of that name that was made otherwise.
    """
    directions = [goal.direction for goal in settings.goals]
    session = ResumableStudy(
        study,
        directions,
        seed=settings.seed,
        batch=settings.batch,
        most=settings.proposals,
        sampler=settings.sampler,
        keeper=keeper,
    )
    began, loaded = clock(), len(session.finished)
    figures_of = partial(_figures, evaluate, trials, lease_seconds, one_by_one)
    kept = {trial.number: asked.candidate(trial.params) for trial in session.finished}
    tried: dict[str, Tried[C]] = {}
    _try(kept, tried, figures_of, settings)
    distributions = asked.distributions()
    stopped: Stop = "finished"
    while not session.done:
        if (why := _stopped(settings, tried, len(session.finished), clock() - began, should_stop)) is not None:
            stopped = why
            break
        batch = session.ask(distributions)
        candidates = {trial.number: asked.candidate(trial.params) for trial in batch}
        _try(candidates, tried, figures_of, settings)
        for trial in batch:
            one = tried[candidates[trial.number].hash12]
            trial.set_user_attr("candidate", one.candidate.hash12)
            session.tell(trial, [goal.value(one.stats) or 0.0 for goal in settings.goals], one.lacking)
        session.keep()
        count = len(session.finished)
        left = (clock() - began) / (count - loaded) * (settings.proposals - count)
        progress(_progress(settings, list(tried.values()), count, left))
    if not tried:
        raise NotReady(f"the search was {_worded(stopped, settings)} before its first batch; nothing was found")
    return _found(settings, tried, proposals=len(session.finished), stopped=stopped)


def _figures(
    evaluate: Evaluate[C], trials: TrialStore, lease_seconds: float, one_by_one: bool, candidates: Mapping[int, C]
) -> dict[str, Stats]:
    parts = [{number: one} for number, one in candidates.items()] if one_by_one else [candidates]
    found: dict[str, Stats] = {}
    for part in parts:
        found |= try_all(part, evaluate, trials, lease_seconds=lease_seconds)
    return found


def _try(
    candidates: Mapping[int, C],
    tried: dict[str, Tried[C]],
    figures_of: Callable[[Mapping[int, C]], dict[str, Stats]],
    settings: AskSettings,
) -> None:
    """Evaluate those candidates that were not tried before, each under its first number."""
    first: dict[str, int] = {}
    for number, one in candidates.items():
        if one.hash12 not in tried:
            first.setdefault(one.hash12, number)
    numbered = {number: candidates[number] for number in first.values()}
    figures = figures_of(numbered)
    for number, one in numbered.items():
        stats = figures[one.hash12]
        tried[one.hash12] = Tried(number=number, candidate=one, stats=stats, lacking=_lacking(settings, stats))


def _lacking(settings: AskSettings, stats: Stats) -> dict[str, float]:
    lacking = {f"least {name}": bound - _bounded(stats, name) for name, bound in settings.least.items()}
    lacking |= {f"most {name}": _bounded(stats, name) - bound for name, bound in settings.most.items()}
    return lacking | {
        f"defined {goal.figure}": float(goal.value(stats) is None) for goal in settings.goals if goal.undefined is None
    }


def _bounded(stats: Stats, name: str) -> float:
    value = Goal(figure=name, undefined=0.0).value(stats)
    assert value is not None  # by its own default
    return value


def _stopped(
    settings: AskSettings, tried: Mapping[str, Tried[C]], count: int, seconds: float, should_stop: Callable[[], bool]
) -> Stop | None:
    if _stagnates(settings, tried, count):
        return "no improvement"
    if should_stop():
        return "asked to stop"
    return "time limit" if settings.seconds is not None and seconds >= settings.seconds else None


def _worded(stopped: Stop, settings: AskSettings) -> str:
    words: dict[Stop, str] = {
        "asked to stop": "stopped",
        "time limit": f"out of its {settings.seconds:g} s" if settings.seconds else "",
        "no improvement": f"no better for {settings.patience} batches",
    }
    return words.get(stopped, "")


def _stagnates(settings: AskSettings, tried: Mapping[str, Tried[C]], count: int) -> bool:
    """Return whether the last batches found nothing better; asked anew, so a search that starts again says the same."""
    if not settings.patience:
        return False
    history = _history(settings, sorted(tried.values(), key=lambda one: one.number), count)
    return len(history) > settings.patience and history[-1] == history[-1 - settings.patience]


def _progress(settings: AskSettings, tried: Sequence[Tried[C]], count: int, left: float) -> Progress:
    values = _values(settings, [one for one in tried if one.shortfall == 0])
    least = values.min(axis=0) if len(values) else ()
    return Progress(
        phase=settings.sampler,
        generation=-(-count // settings.batch),
        generations=-(-settings.proposals // settings.batch),
        trials=len(tried),
        best={goal.figure: float(-one if goal.larger else one) for goal, one in zip(settings.goals, least)},
        hypervolume=hypervolume(values[non_dominated(values)], values) if len(values) else 0.0,
        seconds_left=left if settings.seconds is None else min(left, settings.seconds),
    )


def _found(settings: AskSettings, by_hash: Mapping[str, Tried[C]], *, proposals: int, stopped: Stop) -> Found[C]:
    tried = sorted(by_hash.values(), key=lambda one: one.number)
    least = min(one.shortfall for one in tried)
    nearest = [one for one in tried if one.shortfall == least]
    front = non_dominated(_values(settings, nearest))
    feasible = least == 0
    remarks = [] if feasible else [f"no candidate meets {_asked_for(settings)}: these came closest and prove nothing"]
    if reason := _worded(stopped, settings):
        remarks.append(f"{reason} after {proposals} of {settings.proposals} proposals")
    return Found(
        best=tuple(nearest[row] for row in sorted(front)),
        tried=tuple(tried),
        proposals=proposals,
        history=_history(settings, tried, proposals),
        feasible=feasible,
        stopped=stopped,
        note="; ".join(remarks),
    )


def _values(settings: AskSettings, tried: Sequence[Tried[C]]) -> Floats:
    """Return (n, goals) to be made small."""
    rows = [[(goal.value(one.stats) or 0.0) * (-1 if goal.larger else 1) for goal in settings.goals] for one in tried]
    return np.array(rows, dtype=np.float64).reshape(len(tried), len(settings.goals))


def _history(settings: AskSettings, tried: Sequence[Tried[C]], proposals: int) -> tuple[float | None, ...]:
    """Return the best value of the first goal after each batch; one pass over the candidates in the order tried."""
    goal, best, history, place = settings.goals[0], None, [], 0
    for end in range(settings.batch, proposals + settings.batch, settings.batch):
        while place < len(tried) and tried[place].number < end:
            value = goal.value(tried[place].stats) if tried[place].shortfall == 0 else None
            if value is not None and (best is None or (value > best) == goal.larger):
                best = value
            place += 1
        history.append(best)
    return tuple(history)


def _asked_for(settings: AskSettings) -> str:
    wanted = [f"{name} of {bound:g} or more" for name, bound in settings.least.items()]
    wanted += [f"{name} of {bound:g} or less" for name, bound in settings.most.items()]
    wanted += [f"a defined {goal.figure}" for goal in settings.goals if goal.undefined is None]
    return ", ".join(wanted)
