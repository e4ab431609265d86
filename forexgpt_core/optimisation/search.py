"""A search: proposals tried one after another, remembered, and stopped when they no longer help.

The same space, goals and settings try the same candidates in the same order and give the same result, whoever tried
them before: a trial that is remembered costs nothing and changes nothing. So a search that was killed is replayed over
its trials and ends as if it had never been.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput, ForexGPTError, NotReady
from forexgpt_core.optimisation.front import Ints, common_hypervolumes, hypervolume, hypervolumes, non_dominated, thin
from forexgpt_core.optimisation.goals import Goals, unlawful
from forexgpt_core.optimisation.methods import Outcome, Proposal, SearchSettings, steps
from forexgpt_core.optimisation.named import Named, of_named
from forexgpt_core.optimisation.space import Space
from forexgpt_core.optimisation.trials import C, Candidate, Evaluate, TrialStore, try_all

Floats = NDArray[np.float64]
Stop = Literal["finished", "generation limit", "no improvement", "time limit", "asked to stop"]


class EvaluationFailed(ForexGPTError):
    """Candidates could not be evaluated; what was finished before stays finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Generic[C]):
    """A candidate that was tried: its number in the order tried, its figures, by how much it violates constraints."""

    number: int
    candidate: C
    figures: Stats
    violation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a search is.

    Attributes:
        phase, generation, generations: see `methods.Proposal`.
        trials: different candidates tried so far.
        best: largest or smallest value of each objective among the feasible trials, empty without any.
        hypervolume: share of the box of all feasible trials so far that is dominated; the box grows, so this may fall.
        seconds_left: at the pace so far, if nothing stops the search; None before there is a pace.
    """

    phase: str
    generation: int
    generations: int
    trials: int
    best: Mapping[str, float]
    hypervolume: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun(Generic[C]):
    """What a search tried.

    Attributes:
        trials: each candidate once, in the order tried.
        values: (trials, objectives) to be made small, see `Goals.values`.
        violations: (trials,), 0 where feasible.
        repeats: how often the search came back to a candidate.
        generation_ends: number of trials after each proposal, those of the grid included.
        hypervolume: after each, of the front so far over the box of all feasible trials, in [0, 1]; never falls.
        stopped: why it ended.
        note: in words, what a reader has to know; empty if nothing.
    """

    goals: Goals
    settings: SearchSettings
    trials: tuple[Trial[C], ...]
    values: Floats = field(compare=False, repr=False)
    violations: Floats = field(compare=False, repr=False)
    repeats: int
    generation_ends: tuple[int, ...]
    hypervolume: tuple[float, ...]
    stopped: Stop
    note: str

    @property
    def feasible(self) -> bool:
        """Return whether any trial satisfies all constraints."""
        return bool((self.violations <= 0).any())

    def front(self, most: int | None = None) -> Ints:
        """Return the rows of the trials that no other one beats, in the order tried; at most so many, spread out.

        Where none is feasible, the front is formed among those that violate least. Of equal values the smallest hash
        stands for all.
        """
        nearest = np.flatnonzero(self.violations == max(self.violations.min(), 0.0))
        nearest = np.array(sorted(nearest, key=lambda row: self.trials[row].candidate.hash12), dtype=np.int64)
        front = nearest[non_dominated(self.values[nearest])]
        return np.sort(front if most is None else front[thin(self.values[front], most)])

    def best(self, most: int) -> Ints:
        """Return the rows of the best trials for a single objective, best first, among those that `front` looks at.

        Of equal values the smallest hash stands for all: such candidates trade alike.
        """
        nearest = np.flatnonzero(self.violations == max(self.violations.min(), 0.0))
        found: dict[float, int] = {}
        for row in sorted(nearest, key=lambda row: (self.values[row, 0], self.trials[row].candidate.hash12)):
            found.setdefault(float(self.values[row, 0]), int(row))
        return np.array(list(found.values())[:most], dtype=np.int64)


def run_search(
    space: Space[C],
    evaluate: Evaluate[C],
    goals: Goals,
    settings: SearchSettings,
    store: TrialStore,
    *,
    progress: Callable[[Progress], None] = lambda told: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> SearchRun[C]:
    """Return what a search for `goals` in `space` tried; the same arguments give the same run, over any store.

    Args:
        evaluate: figures of each candidate of a batch, the same for the same candidate.
        store: finished trials of this very search, this worker's and others'; new ones are added.
        progress: told after every proposal.
        should_stop: asked before every batch; what is finished by then is kept.

    Raises:
        BadInput: the method cannot search for these goals, or a remembered figure is not finite.
        UnknownName: the figures lack an objective or a constrained figure.
        EvaluationFailed: `evaluate` raised something unforeseen or returned figures that are not finite.
        NotReady: the search was stopped before its first trial.
    """
    watch = _Watch(settings.time_limit_seconds, should_stop, clock)
    ledger: _Ledger[C] = _Ledger(goals)
    batches = _Batches(store, settings.batch, watch.check)
    guarded = _guard(of_named(evaluate), store)
    proposals = steps(space, goals, settings)
    stopped: Stop = "finished"
    try:
        proposal = next(proposals)
        while True:
            watch.check()
            outcome = _try(proposal, guarded, ledger, batches)
            progress(ledger.progress(proposal, settings, watch))
            if ledger.stagnates(proposal, settings):
                stopped = "no improvement"
                break
            proposal = proposals.send(outcome)
    except StopIteration as end:
        stopped = end.value
    except _Stopped as reason:
        stopped = reason.why
    return ledger.run(settings, stopped)


def compare_methods(runs: Mapping[str, SearchRun[C]]) -> dict[str, float]:
    """Return the share that each search's front dominates of the box that their fronts span together; 0 if infeasible.

    Raises:
        BadInput: there is no search, or they do not share their goals.
    """
    if not runs or any(run.goals != next(iter(runs.values())).goals for run in runs.values()):
        raise BadInput("searches compare where there is one or more and all have the same objectives and constraints")
    fronts = [run.values[run.front()] if run.feasible else run.values[:0] for run in runs.values()]
    if not any(len(front) for front in fronts):
        return dict.fromkeys(runs, 0.0)
    return dict(zip(runs, common_hypervolumes(fronts), strict=True))


class _Stopped(Exception):
    """The search was asked to stop or its time is up."""

    def __init__(self, why: Stop) -> None:
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class _Watch:
    """Says when a search has to stop, and how long it will take."""

    limit_seconds: float | None
    should_stop: Callable[[], bool]
    clock: Callable[[], float]
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def check(self) -> None:
        if self.should_stop():
            raise _Stopped("asked to stop")
        if self.limit_seconds is not None and self.clock() - self.started >= self.limit_seconds:
            raise _Stopped("time limit")

    def seconds_left(self, done: int, planned: int) -> float | None:
        if not done:
            return None
        spent = self.clock() - self.started
        left = spent / done * max(planned - done, 0)
        return left if self.limit_seconds is None else min(left, max(self.limit_seconds - spent, 0.0))


@dataclass(frozen=True, slots=True)
class _Batches:
    """A store that hands out one batch at a time: workers share a generation, and each can be stopped in between."""

    store: TrialStore
    size: int
    check: Callable[[], None]

    def finished(self, hashes: Sequence[str]) -> Mapping[str, Stats]:
        return self.store.finished(hashes)

    def claim(self, candidates: Mapping[int, Candidate], *, seconds: float) -> list[str]:
        self.check()
        numbers = list(candidates)
        for start in range(0, len(numbers), self.size):
            part = {number: candidates[number] for number in numbers[start : start + self.size]}
            if mine := self.store.claim(part, seconds=seconds):
                return mine
        return []

    def finish(self, figures: Mapping[str, Stats]) -> None:
        self.store.finish(figures)


def _try(proposal: Proposal[C], evaluate: Evaluate[Named[C]], ledger: "_Ledger[C]", batches: _Batches) -> Outcome:
    """Try what is new of a proposal, and enter it; what was finished when the search had to stop is entered too."""
    hashes = [one.hash12 for one in proposal.candidates]
    new = ledger.new(proposal.candidates)
    try:
        figures: Mapping[str, Stats] = try_all(new, evaluate, batches)
    except _Stopped:
        ledger.enter(new, batches.finished([one.hash12 for one in new.values()]))
        raise
    ledger.enter(new, figures)
    return ledger.close(hashes, len(new))


def _guard(evaluate: Evaluate[C], store: TrialStore) -> Evaluate[C]:
    """Return `evaluate` with named errors; of a batch with unlawful figures the lawful ones are kept before."""

    def guarded(candidates: Sequence[C]) -> Sequence[Stats]:
        names = [one.hash12 for one in candidates]
        try:
            figures = list(evaluate(candidates))
        except ForexGPTError:
            raise
        except Exception as error:
            raise EvaluationFailed(
                f"evaluating {len(names)} candidates from {names[0]} on failed: {type(error).__name__}: {error};"
                " finished trials are kept"
            ) from error
        if len(figures) != len(names):
            raise EvaluationFailed(f"{len(names)} candidates were to be evaluated, {len(figures)} sets of figures came")
        for name, stats in zip(names, figures, strict=True):
            if (figure := unlawful(stats)) is not None:
                store.finish({n: s for n, s in zip(names, figures, strict=True) if unlawful(s) is None})
                raise EvaluationFailed(
                    f"{figure} of candidate {name} is {stats[figure]}: figures must be finite numbers, or None where"
                    " undefined; finished trials are kept"
                )
        return figures

    return guarded


@dataclass(slots=True)
class _Ledger(Generic[C]):
    """All trials of a search, the front among them, and whether it still moves."""

    goals: Goals
    trials: list[Trial[C]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)  # by hash
    values: list[Floats] = field(default_factory=list)
    repeats: int = 0
    ends: list[int] = field(default_factory=list)
    front: Floats = field(init=False)  # of the feasible trials
    box: Floats = field(init=False)  # (2, objectives) least and most of the feasible trials
    last_front: Floats = field(init=False)  # when there was progress last
    violation: float = math.inf  # the least so far
    last_violation: float = math.inf
    idle: int = 0  # generations since

    def __post_init__(self) -> None:
        count = len(self.goals.objectives)
        self.front = self.last_front = np.empty((0, count))
        self.box = np.vstack((np.full(count, math.inf), np.full(count, -math.inf)))

    def new(self, candidates: Sequence[Named[C]]) -> dict[int, Named[C]]:
        """Return the candidates never tried, each once, by their number."""
        found = {one.hash12: one for one in candidates if one.hash12 not in self.rows}
        return dict(enumerate(found.values(), len(self.trials)))

    def enter(self, tried: Mapping[int, Named[C]], figures: Mapping[str, Stats]) -> None:
        """Add the trials that have figures."""
        done = [(number, one) for number, one in tried.items() if one.hash12 in figures]
        known = [figures[one.hash12] for _, one in done]
        values, violations = self.goals.values(known), self.goals.violations(known)
        for (number, one), stats, row, violation in zip(done, known, values, violations, strict=True):
            self.rows[one.hash12] = len(self.trials)
            self.trials.append(Trial(number=number, candidate=one.candidate, figures=stats, violation=float(violation)))
            self.values.append(row)
        self.violation = min([self.violation, *violations])
        self._advance(values[violations <= 0])

    def close(self, hashes: Sequence[str], new: int) -> Outcome:
        """End a proposal and return what all its candidates are worth."""
        self.repeats += len(hashes) - new
        self.ends.append(len(self.trials))
        rows = [self.rows[name] for name in hashes]
        return Outcome(
            values=np.array([self.values[row] for row in rows]),
            violations=np.array([self.trials[row].violation for row in rows]),
        )

    def stagnates(self, proposal: Proposal[C], settings: SearchSettings) -> bool:
        """Return whether the front has not moved for so many generations of a method that converges."""
        if not proposal.converges or self._moved(settings.tolerance):
            self.last_front, self.last_violation, self.idle = self.front, self.violation, 0
        else:
            self.idle += 1
        return 0 < settings.patience <= self.idle

    def progress(self, proposal: Proposal[C], settings: SearchSettings, watch: _Watch) -> Progress:
        """Return how far the search is."""
        done = len(self.trials) + self.repeats
        best = self.front.min(axis=0) if len(self.front) else None
        return Progress(
            phase=proposal.phase,
            generation=proposal.generation,
            generations=proposal.generations,
            trials=len(self.trials),
            best={} if best is None else self.goals.worded(best),
            hypervolume=hypervolume(self.front, self.box),
            seconds_left=watch.seconds_left(done, settings.planned),
        )

    def run(self, settings: SearchSettings, stopped: Stop) -> SearchRun[C]:
        """Return everything as a result."""
        if not self.trials:
            raise NotReady("the search was stopped before its first trial; nothing was found")
        values = np.array(self.values)
        violations = np.array([trial.violation for trial in self.trials])
        return SearchRun(
            goals=self.goals,
            settings=settings,
            trials=tuple(self.trials),
            values=values,
            violations=violations,
            repeats=self.repeats,
            generation_ends=tuple(self.ends),
            hypervolume=hypervolumes(values, violations <= 0, self.ends),
            stopped=stopped,
            note=_note(self.violation, len(self.ends), stopped),
        )

    def _advance(self, feasible: Floats) -> None:
        if not len(feasible):
            return
        self.box = np.vstack((np.minimum(self.box[0], feasible.min(0)), np.maximum(self.box[1], feasible.max(0))))
        self.front = np.concatenate((self.front, feasible))
        self.front = self.front[non_dominated(self.front)]

    def _moved(self, tolerance: float) -> bool:
        """Return whether the front dominates more than when it moved last, or, without one, is nearer to feasible."""
        if not len(self.last_front):
            return self.violation < self.last_violation
        if self.front.shape[1] == 1:
            return bool(self.front.min() < self.last_front.min())
        both = np.concatenate((self.front, self.last_front))
        return hypervolume(self.front, both) > hypervolume(self.last_front, both) * (1 + tolerance)


def _note(least_violation: float, ends: int, stopped: Stop) -> str:
    remarks = []
    if least_violation > 0:
        remarks.append("no candidate satisfies the constraints: these came closest and prove nothing")
    if stopped == "asked to stop":
        remarks.append(f"stopped after {ends} generations, as asked")
    if stopped == "time limit":
        remarks.append(f"stopped by its time limit after {ends} generations: another run may find more or less")
    return "; ".join(remarks)
