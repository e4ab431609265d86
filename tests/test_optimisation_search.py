"""A search tries the same candidates whoever tried them before, ends for a reason it names, and loses nothing."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_space import BOUNDED, FOUR, ONE, TWO, Counter, Point, Toy, counting

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput, NotReady, StoreError, UnknownName
from forexgpt_core.optimisation.genetic import Population, reference_directions
from forexgpt_core.optimisation.goals import Constraint, Goals, Objective
from forexgpt_core.optimisation.methods import SearchSettings
from forexgpt_core.optimisation.search import (
    EvaluationFailed,
    Progress,
    SearchRun,
    compare_methods,
    run_search,
)
from forexgpt_core.optimisation.trials import Candidate, Memory

SPACE = Toy()
SMALL = SearchSettings(population=12, generations=6, grid_count=40, grid_seeds=5, batch=5, seed=3)
METHODS = [("hybrid", TWO), ("nsga2", BOUNDED), ("nsga3", FOUR), ("ga", ONE), ("grid", TWO), ("random", TWO)]


def run(
    goals: Goals = TWO, chosen: SearchSettings = SMALL, space: Toy = SPACE, store: Memory | None = None, **rest: object
) -> SearchRun[Point]:
    return run_search(space, counting(space), goals, chosen, store or Memory(), **rest)


def hashes(found: SearchRun[Point]) -> list[str]:
    return [trial.candidate.hash12 for trial in found.trials]


def members(found: SearchRun[Point]) -> list[str]:
    return [found.trials[row].candidate.hash12 for row in found.front()]


@pytest.mark.parametrize(("method", "goals"), METHODS)
def test_a_seed_gives_one_search_and_another_seed_another(method: str, goals: Goals) -> None:
    chosen = replace(SMALL, method=method)
    first, again = run(goals, chosen), run(goals, replace(chosen, batch=3))
    assert first.trials == again.trials
    assert replace(first, settings=again.settings) == again
    np.testing.assert_array_equal(first.values, again.values)
    other = run(goals, replace(chosen, seed=4))
    assert (hashes(other) == hashes(first)) == (method == "grid")


@pytest.mark.parametrize("method", ["nsga2", "nsga3", "ga"])
def test_ties_among_the_infeasible_are_drawn_from_the_seed_too(method: str) -> None:
    objectives = ONE.objectives if method == "ga" else TWO.objectives
    hopeless = Goals(objectives=objectives, constraints=(Constraint(name="n", least=100),))
    tied = [hashes(run_search(SPACE, flat, hopeless, replace(SMALL, method=method), Memory())) for _ in range(3)]
    assert tied[0] == tied[1] == tied[2]


def flat(points: Sequence[Point]) -> list[Stats]:
    return [{"f1": 1.0, "f2": 1.0, "n": 1.0} for _ in points]


def test_another_process_finds_the_same() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_optimisation_search as t, json;"
        "print(json.dumps([t.hashes(t.run(g, t.replace(t.SMALL, method=m))) for m, g in t.METHODS]))"
    )
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == [hashes(run(g, replace(SMALL, method=m))) for m, g in METHODS]
    assert there.stdout.count("\n") == 1, "pymoo printed something"


def test_a_search_is_described_without_loading_what_it_runs_on() -> None:
    script = (
        "import sys; from forexgpt_core.optimisation import picks, search, search_space, stability;"
        "search_space.SearchSpace().document(); print([m for m in ('pymoo', 'scipy', 'numba') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded == "[]\n"


@settings(max_examples=25, deadline=None)
@given(case=st.sampled_from(METHODS), cut=st.floats(0, 1), thinned=st.integers(1, 3))
def test_a_replay_over_any_part_of_the_trials_is_the_very_same_run(
    case: tuple[str, Goals], cut: float, thinned: int
) -> None:
    method, goals = case
    chosen, store = replace(SMALL, method=method), Memory()
    whole = run(goals, chosen, store=store)
    kept = list(store.figures.items())[: round(cut * len(store.figures))][::thinned]
    left = json.loads(json.dumps(dict(kept)))  # as a database hands them back
    evaluate = counting(SPACE)
    replayed = run_search(SPACE, evaluate, goals, chosen, Memory(figures=left))
    assert replayed == whole
    np.testing.assert_array_equal(replayed.values, whole.values)
    assert members(replayed) == members(whole)
    assert len(evaluate.asked) == len(whole.trials) - len(kept)


def test_a_killed_search_resumes_after_its_last_batch() -> None:
    whole, store = run(), Memory()
    evaluate = counting(SPACE)

    def dies(points: Sequence[Point]) -> list[Stats]:
        if len(evaluate.asked) > 60:
            raise KeyboardInterrupt
        return evaluate(points)

    with pytest.raises(KeyboardInterrupt):
        run_search(SPACE, dies, TWO, SMALL, store)
    assert len(store.figures) == len(evaluate.asked)
    assert run(store=store) == whole


@pytest.mark.parametrize(("method", "goals"), METHODS)
def test_every_candidate_is_evaluated_once_and_numbered_in_order(method: str, goals: Goals) -> None:
    evaluate = counting(SPACE)
    found = run_search(SPACE, evaluate, goals, replace(SMALL, method=method), Memory())
    assert len(set(evaluate.asked)) == len(evaluate.asked) == len(found.trials)
    assert [trial.number for trial in found.trials] == list(range(len(found.trials)))
    assert found.generation_ends[-1] == len(found.trials)
    assert list(found.generation_ends) == sorted(found.generation_ends)
    assert list(found.hypervolume) == sorted(found.hypervolume)
    assert len(found.hypervolume) == len(found.generation_ends)
    assert len(found.trials) + found.repeats <= found.settings.planned
    np.testing.assert_array_equal(found.values, goals.values([trial.figures for trial in found.trials]))


def test_the_hybrid_begins_with_the_grid_and_breeds_its_best() -> None:
    told: list[Progress] = []
    found = run(chosen=replace(SMALL, patience=0), progress=told.append)
    assert hashes(found)[:40] == [one.hash12 for one in SPACE.grid(40)]
    assert [(one.phase, one.generation) for one in told] == [
        *(("grid", part) for part in range(1, 5)),
        *(("nsga2", generation) for generation in range(1, 7)),
    ]
    assert found.generation_ends[:5] == (12, 24, 36, 40, 40 + 12 - 5), "five of the first generation are known"
    assert found.repeats >= 5
    assert found.stopped == "generation limit"
    best = np.sort(found.values[:40, 0])[0]
    assert told[3].best == {"f1": best, "f2": -found.values[:40, 1].min()}
    assert told[-1].trials == len(found.trials)
    assert told[0].seconds_left is not None


def test_the_hybrid_beats_random_search() -> None:
    chosen = SearchSettings(population=20, generations=20, grid_count=100, grid_seeds=8, patience=0)
    for seed in range(3):
        hybrid = run(chosen=replace(chosen, seed=seed))
        random = run(chosen=replace(chosen, seed=seed, method="random", generations=25))
        shares = compare_methods({"hybrid": hybrid, "random": random})
        assert shares["hybrid"] > shares["random"] * 1.2


def test_nsga3_holds_its_own_on_four_objectives() -> None:
    chosen = SearchSettings(population=36, generations=15, patience=0, method="nsga3")
    runs = {"nsga3": run(FOUR, chosen), "nsga2": run(FOUR, replace(chosen, method="nsga2"))}
    shares = compare_methods(runs | {"random": run(FOUR, replace(chosen, method="random"))})
    assert shares["nsga3"] > shares["random"]
    assert 0.8 < shares["nsga3"] / shares["nsga2"] < 1.25


def test_a_population_serves_as_many_directions_as_it_can() -> None:
    assert reference_directions(4, 50).shape == (35, 4)
    assert reference_directions(4, 56).shape == (56, 4)
    assert reference_directions(5, 5).shape == (5, 5)


def test_the_genetic_search_finds_the_optimum() -> None:
    def bowl(points: Sequence[Point]) -> list[Stats]:
        return [{"f1": float(((SPACE.share(point) - 0.37) ** 2).sum())} for point in points]

    chosen = SearchSettings(method="ga", population=40, generations=80, patience=20)
    found = run_search(SPACE, bowl, ONE, chosen, Memory())
    assert found.stopped in ("no improvement", "generation limit")
    assert found.values.min() < 4 * 0.02**2
    assert len(found.front()) == 1


def test_a_choice_that_the_population_has_left_comes_back() -> None:
    rng = np.random.default_rng(0)
    start = np.column_stack((np.full(200, 0.25), rng.random(200)))  # all have the first of two values
    population = Population(
        "nsga2",
        start,
        objectives=2,
        steps=np.array([0.5, 0.001]),
        same=lambda x: str(x),
        size=200,
        crossover=0.8,
        mutation=0.4,
        seed=1,
    )
    first = population.ask()
    population.tell(np.column_stack((first[:, 1], 1 - first[:, 1])), np.zeros(200))
    bred = population.ask()
    assert 0.1 < (bred[:, 0] >= 0.5).mean() < 0.3, "drawn anew with 0.4, and half of the draws are the other value"
    assert set(bred[bred[:, 0] < 0.5, 0]) > {0.25}


def test_a_single_objective_can_be_searched_by_the_hybrid() -> None:
    found = run(ONE)
    assert found.values.min() == 0.0
    assert 0 < found.hypervolume[-1] <= 1


def test_a_space_that_is_exhausted_finishes() -> None:
    found = run(space=Toy((3, 2)), chosen=replace(SMALL, method="nsga2", patience=0))
    assert len(found.trials) <= 6
    assert found.stopped == "finished"
    single = run(space=Toy((1,)))
    assert (len(single.trials), single.stopped) == (1, "finished")


@dataclass
class Shared:
    """A store for several threads: a claimed candidate is its worker's until it is finished."""

    figures: dict[str, Stats] = field(default_factory=dict)
    claimed: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finished(self, names: Sequence[str]) -> dict[str, Stats]:
        with self.lock:
            return {name: self.figures[name] for name in names if name in self.figures}

    def claim(self, candidates: Mapping[int, Candidate], *, seconds: float) -> list[str]:
        with self.lock:
            free = {one.hash12: number for number, one in candidates.items() if one.hash12 not in self.claimed}
            self.claimed |= free
            return list(free)

    def finish(self, figures: Mapping[str, Stats]) -> None:
        with self.lock:
            assert not set(figures) & set(self.figures), "a trial was repeated"
            self.figures |= figures


def test_workers_share_a_generation_and_find_the_same() -> None:
    store, shares = Shared(), [Counter(SPACE, []) for _ in range(3)]

    def slow(evaluate: Counter) -> Callable[[Sequence[Point]], list[Stats]]:
        def evaluated(points: Sequence[Point]) -> list[Stats]:
            time.sleep(0.002)  # long enough that the others come to claim
            return evaluate(points)

        return evaluated

    chosen = replace(SMALL, generations=3, batch=2)
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda one: run_search(SPACE, slow(one), TWO, chosen, store), shares))
    assert runs[0] == runs[1] == runs[2] == run(chosen=chosen)
    assert sum(len(one.asked) for one in shares) == len(runs[0].trials)
    assert sum(bool(one.asked) for one in shares) > 1, "one worker did everything"
    assert [store.claimed[name] for name in hashes(runs[0])] == list(range(len(runs[0].trials)))


# ---- why it ends


def test_without_progress_it_ends_after_the_patience() -> None:
    chosen = replace(SMALL, generations=200, patience=4)
    found = run(chosen=chosen)
    assert found.stopped == "no improvement"
    assert found.note == ""
    ends, shares = found.generation_ends, found.hypervolume
    assert len(ends) < 204
    assert shares[-1] < shares[-5] * 1.01
    assert len(run(chosen=replace(chosen, patience=0, generations=60)).generation_ends) == 64
    assert run(ONE, replace(chosen, method="ga")).stopped == "no improvement"


def test_a_grid_and_random_points_never_end_for_want_of_progress() -> None:
    for method in ("grid", "random"):
        found = run_search(SPACE, flat, TWO, replace(SMALL, method=method, patience=1), Memory())
        assert found.stopped == "finished"


def test_coming_nearer_to_feasible_is_progress() -> None:
    goals = Goals(objectives=TWO.objectives, constraints=(Constraint(name="n", most=-5),))
    patient = run(goals, replace(SMALL, method="nsga2", generations=40, patience=3))
    assert len(patient.generation_ends) > 3
    assert patient.violations.min() < patient.violations[: patient.generation_ends[0]].min()
    assert not patient.feasible
    assert patient.note.startswith("no candidate satisfies the constraints")
    assert set(patient.hypervolume) == {0.0}
    assert (patient.violations[patient.front()] == patient.violations.min()).all()


@given(stop_after=st.integers(1, 25))
@settings(max_examples=10, deadline=None)
def test_asked_to_stop_it_keeps_what_was_found(stop_after: int) -> None:
    whole, store, asked = run(), Memory(), iter(range(10_000))
    try:
        found = run(store=store, should_stop=lambda: next(asked) >= stop_after)
    except NotReady:
        assert not store.figures
    else:
        assert found.stopped == "asked to stop"
        assert found.note.startswith("stopped after")
        assert found.trials == whole.trials[: len(found.trials)]
        assert set(hashes(found)) == set(store.figures), "what the interrupted proposal finished counts too"
    assert run(store=store) == whole


def test_stopped_before_its_first_trial_it_has_no_result() -> None:
    with pytest.raises(NotReady, match="stopped before its first trial"):
        run(should_stop=lambda: True)


def test_the_time_limit_ends_it_and_is_told() -> None:
    seconds = iter(range(10_000))
    found = run(chosen=replace(SMALL, time_limit_seconds=20), clock=lambda: float(next(seconds)))
    assert found.stopped == "time limit"
    assert "another run may find more or less" in found.note
    assert found.trials == run().trials[: len(found.trials)]


# ---- goals


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_the_front_is_of_the_feasible_or_of_those_nearest_to_it(cells: list[tuple[int, int]]) -> None:
    space = Toy((13, 13))
    known = {
        p.hash12: {"a": float(p.cells[0] % 4), "b": float(p.cells[1] % 4), "t": p.cells[0]} for p in space.grid(169)
    }
    goals = Goals(
        objectives=(Objective(name="a", direction="max"), Objective(name="b", direction="min")),
        constraints=(Constraint(name="t", least=cells[0][0], most=cells[0][0] + 1),),
    )
    found = run_search(
        space, lambda ps: [known[p.hash12] for p in ps], goals, replace(SMALL, method="random"), Memory()
    )
    least = found.violations.min()
    front = found.front()
    assert (found.violations[front] == least).all()
    for row in np.flatnonzero(found.violations == least):
        assert (found.values[front] <= found.values[row]).all(axis=1).any()
    for row in front:
        beats = (found.values <= found.values[row]).all(axis=1) & (found.values < found.values[row]).any(axis=1)
        assert not (beats & (found.violations == least)).any()
    assert len(found.front(2)) <= 2
    assert set(found.front(2)) <= set(front)


def test_undefined_figures_count_as_said_or_make_a_candidate_infeasible() -> None:
    counted = Objective(name="sharpe", direction="max", undefined=0.5)
    goals = Goals(objectives=(counted, Objective(name="error", direction="min")))
    figures: list[Stats] = [{"sharpe": None, "error": 2.0}, {"sharpe": 1.0, "error": None}]
    np.testing.assert_array_equal(goals.values(figures), [[-0.5, 2.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(goals.violations(figures), [0.0, 1.0])
    assert goals.worded(np.array([-0.5, 2.0])) == {"sharpe": 0.5, "error": 2.0}


@pytest.mark.parametrize("goals", [TWO, BOUNDED, FOUR])
def test_goals_are_written_and_read_back(goals: Goals) -> None:
    assert Goals.parse(json.loads(json.dumps(goals.document()))) == goals
    for bad in ({}, {"objectives": [{"nam": "x"}], "constraints": []}, {"objectives": 3, "constraints": []}):
        with pytest.raises(BadInput, match="goals need lists of objectives and constraints"):
            Goals.parse(bad)


def test_a_violation_is_a_share_of_the_limit() -> None:
    trades, drawdown = Constraint(name="trades", least=20), Constraint(name="max_drawdown_pct", most=25)
    assert [trades.violation(n) for n in (30, 20, 15, 0, None)] == [0, 0, 0.25, 1, 1]
    assert [drawdown.violation(n) for n in (10, 25, 50)] == [0, 0, 1]
    assert Constraint(name="x", least=-0.5, most=0.5).violation(2.0) == 1.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective(name="sharpe", direction="up"), "direction of sharpe must be max or min"),
        (lambda: Objective(name="sharpe", direction="max", undefined=float("nan")), "finite"),
        (lambda: Constraint(name="trades"), "trades needs a finite least"),
        (lambda: Constraint(name="trades", least=3, most=2), "least <= most"),
        (lambda: Constraint(name="trades", least=float("inf")), "finite"),
        (lambda: Goals(objectives=()), "one objective or more"),
        (lambda: Goals(objectives=(*ONE.objectives, *ONE.objectives)), "each once"),
    ],
)
def test_bad_goals_are_refused(make: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()


# ---- bad input


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_not_finite_is_named_and_the_others_are_kept(bad: float) -> None:
    evaluate, store = counting(SPACE), Memory()

    def spoiled(points: Sequence[Point]) -> list[Stats]:
        figures = evaluate(points)
        if len(evaluate.asked) > 40:
            figures[1]["n"] = bad
        return figures

    with pytest.raises(EvaluationFailed, match=rf"n of candidate {'[0-9a-f]' * 12} is {bad}") as error:
        run_search(SPACE, spoiled, TWO, SMALL, store)
    assert "\n" not in str(error.value)
    assert len(store.figures) == len(evaluate.asked) - 1
    assert run(store=store) == run()


def test_an_evaluation_that_fails_is_named() -> None:
    store = Memory()

    def fails(points: Sequence[Point]) -> list[Stats]:
        if store.figures:
            raise ZeroDivisionError("no bars")
        return flat(points)

    with pytest.raises(EvaluationFailed, match=r"evaluating 5 candidates from .* ZeroDivisionError: no bars"):
        run_search(SPACE, fails, TWO, SMALL, store)
    assert len(store.figures) == SMALL.batch
    with pytest.raises(EvaluationFailed, match="5 candidates were to be evaluated, 4 sets"):
        run_search(SPACE, lambda points: flat(points[1:]), TWO, SMALL, Memory())


def test_an_error_that_has_a_name_keeps_it() -> None:
    def gone(points: Sequence[Point]) -> list[Stats]:
        raise StoreError("the database went away")

    with pytest.raises(StoreError, match="went away"):
        run_search(SPACE, gone, TWO, SMALL, Memory())


SHARP = Goals(objectives=(Objective(name="sharp", direction="max"),))


def test_goals_that_the_figures_lack_are_named() -> None:
    with pytest.raises(UnknownName, match="the figures have no 'sharp'; did you mean sharpe"):
        SHARP.values([{"sharpe": 1.0}])
    with pytest.raises(UnknownName, match="the figures have no 'sharp'; known: f1, f2"):
        run(SHARP)
    constrained = Goals(objectives=TWO.objectives, constraints=(Constraint(name="trades", least=1),))
    with pytest.raises(UnknownName, match="the figures have no 'trades'; known: f1, f2"):
        run(constrained)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "hybird"}, UnknownName, "did you mean hybrid"),
        ({"population": 3}, BadInput, "population"),
        ({"generations": 0}, BadInput, "generations"),
        ({"grid_count": 0}, BadInput, "grid_count"),
        ({"batch": 0}, BadInput, "batch"),
        ({"crossover": 1.5}, BadInput, "crossover"),
        ({"mutation": float("nan")}, BadInput, "mutation"),
        ({"patience": -1}, BadInput, "patience"),
        ({"tolerance": float("nan")}, BadInput, "tolerance"),
        ({"time_limit_seconds": 0}, BadInput, "time_limit_seconds"),
        ({"seed": -1}, BadInput, "seed"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace(SMALL, **change)


def test_a_method_that_does_not_fit_the_goals_is_refused() -> None:
    with pytest.raises(BadInput, match="ga searches for a single objective, not for 2"):
        run(TWO, replace(SMALL, method="ga"))
    with pytest.raises(BadInput, match="nsga3 needs two objectives"):
        run(ONE, replace(SMALL, method="nsga3"))


def test_only_searches_with_the_same_goals_compare() -> None:
    with pytest.raises(BadInput, match="same objectives"):
        compare_methods({"a": run(TWO), "b": run(ONE)})
    with pytest.raises(BadInput, match="one or more"):
        compare_methods({})
    twice = compare_methods({"a": run(), "b": run()})
    assert twice["a"] == twice["b"] > 0
