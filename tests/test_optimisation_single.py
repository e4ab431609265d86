"""A search for one objective: its best few, TPE's patience, and what a search of options keeps."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_optimisation_pareto import COSTS, SETTINGS, SPACE, market
from test_optuna_tpe import Kept

from forexgpt_assets.progress import search_line, share_on_terminal, shares_of
from forexgpt_core.adapters.figure_store import FigureStore
from forexgpt_core.errors import BadInput, StoreError, UnknownName
from forexgpt_core.optimisation.asked import run_asked
from forexgpt_core.optimisation.goals import OBJECTIVES, Goals, strategy_goals
from forexgpt_core.optimisation.methods import SearchSettings
from forexgpt_core.optimisation.pareto import ParetoSettings, search
from forexgpt_core.optimisation.search import Progress, SearchRun, Trial
from forexgpt_core.optimisation.trials import Memory
from forexgpt_core.strategy.config import StrategyConfig

ALONE = Goals(objectives=(OBJECTIVES["sharpe"],))
HOURS = [StrategyConfig(holding_limit_bars=bars) for bars in range(1, 31)]


def run_of(values: list[int], violations: list[float]) -> SearchRun[StrategyConfig]:
    trials = [
        Trial(number=n, candidate=HOURS[n], figures={"sharpe": float(-value)}, violation=violation)
        for n, (value, violation) in enumerate(zip(values, violations, strict=True))
    ]
    return SearchRun(
        goals=ALONE,
        settings=SearchSettings(),
        trials=tuple(trials),
        values=np.array(values, dtype=np.float64)[:, None],
        violations=np.array(violations),
        repeats=0,
        generation_ends=(),
        hypervolume=(),
        stopped="finished",
        note="",
    )


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.0, 0.5, 1.0])), min_size=1, max_size=30),
    st.integers(1, 8),
)
def test_the_best_few_are_feasible_distinct_and_beaten_by_nobody_left_out(
    tried: list[tuple[int, float]], most: int
) -> None:
    values, violations = [value for value, _ in tried], [violation for _, violation in tried]
    rows = run_of(values, violations).best(most)
    least = min(violations)
    nearest = sorted({value for value, violation in tried if violation == least})
    assert [values[row] for row in rows] == nearest[:most]
    assert all(violations[row] == least for row in rows)


def test_tpe_finds_the_same_trials_as_it_would_in_one_run_whatever_is_remembered() -> None:
    bars, laws = market(3)
    wanted = replace(SETTINGS, method="tpe", generations=4)

    def found(**told: Any) -> Any:
        return search(bars, laws, COSTS, symbol="EURUSD", space=SPACE, settings=wanted, **told)[0]

    keeper, store, told = Kept(), Memory(), list[Progress]()
    calls = iter([False, False, True])
    first = found(keeper=keeper, store=store, should_stop=lambda: next(calls))
    assert first.stopped == "asked to stop"
    again = found(keeper=keeper, store=store, progress=told.append)
    assert again == found()
    assert [one.generation for one in told] == [3, 4]
    assert told[-1].phase == "tpe"
    assert len(again.hypervolume) == 4


def test_tpe_stops_when_it_finds_nothing_better_and_says_so() -> None:
    goals, flat = strategy_goals(min_trades=1, objectives=("sharpe",)), {"sharpe": 1.0, "trades": 5}
    patient = SearchSettings(method="tpe", population=4, generations=50, patience=3)
    keeper, store = Kept(), Memory()

    def found() -> SearchRun[StrategyConfig]:
        return run_asked(
            SPACE, lambda configs: [dict(flat) for _ in configs], goals, patient, store, study="flat", keeper=keeper
        )

    run = found()
    assert run.stopped == "no improvement"
    assert run.note == "no better for 3 batches after 16 of 200 proposals"
    again = found()
    assert (again.trials, again.stopped, again.note) == (run.trials, run.stopped, run.note)


def test_objectives_are_those_named_or_those_usual_with_the_method() -> None:
    assert ParetoSettings(method="ga").goals.names == ("sharpe",)
    assert ParetoSettings(method="ga").single == "sharpe"
    assert ParetoSettings().goals.names == ("return_pct", "max_drawdown_pct", "sharpe", "win_rate_pct")
    assert ParetoSettings().single is None
    assert ParetoSettings(objectives=("sortino", "max_drawdown_pct")).goals.names == ("sortino", "max_drawdown_pct")
    with pytest.raises(BadInput, match="each once"):
        ParetoSettings(objectives=("sharpe", "sharpe"))
    with pytest.raises(UnknownName, match="unknown objective 'sharp'; did you mean sharpe"):
        ParetoSettings(objectives=("sharp",))
    with pytest.raises(BadInput, match="tpe searches for a single objective, not for 2"):
        ParetoSettings(method="tpe", objectives=("sharpe", "return_pct"))


@settings(max_examples=20)
@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_figures_come_back_from_the_disk_bit_for_bit_and_the_first_stay(stats: dict[str, Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        one, other = HOURS[:2]
        store = FigureStore(Path(folder)).study("ab" * 32)
        assert store.claim({0: one, 1: other}, seconds=1) == [one.hash12, other.hash12]
        store.finish({one.hash12: stats})
        store.finish({one.hash12: {"another": 1}})
        fresh = FigureStore(Path(folder)).study("ab" * 32)
        assert fresh.finished([one.hash12, other.hash12]) == {one.hash12: stats}
        assert fresh.claim({0: one, 1: other}, seconds=1) == [other.hash12]
        assert len(fresh) == 1
        assert len(FigureStore(Path(folder)).study("cd" * 32)) == 0


def test_figures_that_cannot_be_kept_or_read_are_named(tmp_path: Path) -> None:
    store = FigureStore(tmp_path).study("ab" * 32)
    with pytest.raises(BadInput, match="is not a hash"):
        store.finished(["../secrets"])
    broken = tmp_path / ("ab" * 32) / f"{HOURS[0].hash12}.json"
    broken.parent.mkdir()
    broken.write_text('{"crps": 0.')
    with pytest.raises(StoreError, match="cannot be read: remove it and run again"):
        store.finished([HOURS[0].hash12])
    (tmp_path / ("cd" * 32)).write_text("a file, no folder")
    with pytest.raises(StoreError, match="cannot be stored"):
        FigureStore(tmp_path).study("cd" * 32).finish({HOURS[0].hash12: {}})
    assert not list(tmp_path.rglob(".*"))


class Terminal(io.StringIO):
    """A stderr that says it is a terminal, or not."""

    def __init__(self, is_one: bool) -> None:
        super().__init__()
        self.is_one = is_one

    def isatty(self) -> bool:
        return self.is_one


@pytest.mark.parametrize("is_one", [True, False])
def test_a_bar_is_shown_on_a_terminal_and_nowhere_else(is_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    logged, terminal = list[str](), Terminal(is_one)
    context: Any = SimpleNamespace(log=SimpleNamespace(info=logged.append))
    told = Progress(
        phase="ga", generation=3, generations=8, trials=150, best={"sharpe": 1.25}, hypervolume=0.5, seconds_left=12.0
    )
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "stderr", terminal)
    with share_on_terminal("EURUSD ga"):
        shares_of(context)(3 / 8, search_line(told))
    line = "ga 3/8: 150 configurations, best sharpe 1.25, about 12 s left"
    assert logged == [line]
    assert (line in terminal.getvalue()) is is_one
    assert is_one or not terminal.getvalue()
