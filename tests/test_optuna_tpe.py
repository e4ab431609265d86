"""Searches led by Optuna: better than chance, the same again, stopped and continued as if never stopped."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput, NotReady, StoreError
from forexgpt_core.optimisation.optuna_study import Direction, quiet_optuna
from forexgpt_core.optimisation.search import Progress
from forexgpt_core.optimisation.tpe import AskSettings, Found, Goal, search_strategies
from forexgpt_core.optimisation.trials import Memory
from forexgpt_core.strategy.config import StrategyConfig


@dataclass(frozen=True)
class Hill:
    """Strategies of five settings on a grid; `width` is the share of their usual ranges."""

    width: float = 1.0
    dimensions: int = 5

    def decode(self, x: np.ndarray) -> StrategyConfig:
        at = self.width * x
        return StrategyConfig(
            horizon_bars=6 if at[0] < 0.5 else 24,
            entry_probability=round(0.4 + 0.25 * at[1], 3),
            stop_scales=round(0.5 + 3.5 * at[2], 2),
            take_profit_scales=round(0.5 + 5.5 * at[3], 2),
            holding_limit_bars=1 + round(47 * at[4]),
        )


SPACE = Hill()
SHORT = AskSettings(proposals=48, batch=8, seed=5)


def figures(config: StrategyConfig) -> Stats:
    """A smooth hill with its top inside the space; tight stops trade often, wide ones seldom."""
    sharpe = 2.0 - 4 * (config.entry_probability - 0.5) ** 2 - (config.stop_scales - 2.5) ** 2
    sharpe -= 0.1 * (config.take_profit_scales - 2) ** 2 + (config.horizon_bars == 6)
    return {
        "sharpe": sharpe if config.stop_scales > 0.7 else None,
        "max_drawdown_pct": 4 * config.stop_scales,
        "trades": round(60 - 12 * config.stop_scales),
    }


@dataclass
class Counted:
    """Evaluates, and remembers what it was asked."""

    asked: list[str] = field(default_factory=list)

    def __call__(self, configs: Sequence[StrategyConfig]) -> list[Stats]:
        self.asked += [config.hash12 for config in configs]
        return [figures(config) for config in configs]


@dataclass
class Kept:
    """A keeper in memory; it can lose what was written last, as a killed process does."""

    trials: dict[str, list[Any]] = field(default_factory=dict)

    def read(self, name: str, directions: Sequence[Direction]) -> list[Any]:
        return list(self.trials.setdefault(name, []))

    def append(self, name: str, directions: Sequence[Direction], trials: Sequence[Any], *, first: int) -> None:
        kept = self.trials.setdefault(name, [])
        kept += trials[len(kept) - first :]


def run(settings: AskSettings = SHORT, **given: Any) -> Found[StrategyConfig]:
    told = {"study": "hill", "trials": Memory()} | given
    evaluate = told.pop("evaluate", Counted())
    return search_strategies(SPACE, evaluate, settings, **told)


def test_tpe_finds_more_than_chance_does() -> None:
    """The top is at 2; both draw the same first proposals, so what differs is what TPE learned."""
    missed = {}
    for sampler in ("tpe", "random"):
        found = [run(AskSettings(proposals=96, seed=seed, sampler=sampler)) for seed in range(5)]
        missed[sampler] = np.median([2.0 - one.best[0].stats["sharpe"] for one in found])
    assert missed["tpe"] < missed["random"] / 2


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_same_seed_gives_the_same_search_and_another_seed_another(sampler: str) -> None:
    first, again = (run(replace(SHORT, sampler=sampler)) for _ in range(2))
    assert first == again
    assert run(replace(SHORT, sampler=sampler, seed=6)).tried != first.tried


@settings(max_examples=8, deadline=None)
@given(lost=st.integers(0, 48), sampler=st.sampled_from(["tpe", "nsga2"]), several=st.booleans())
def test_wherever_it_was_killed_it_ends_as_if_it_had_not_been(lost: int, sampler: str, several: bool) -> None:
    goals = (Goal(figure="sharpe"), Goal(figure="max_drawdown_pct", larger=False))[: 1 + several]
    settings = replace(SHORT, sampler=sampler, goals=goals)
    keeper, trials = Kept(), Memory()
    whole = run(settings, keeper=keeper, trials=trials)
    values = [trial.values for trial in keeper.trials["hill"]]
    keeper.trials["hill"] = keeper.trials["hill"][: 48 - lost]
    evaluate = Counted()
    assert run(settings, keeper=keeper, trials=trials, evaluate=evaluate) == whole
    assert [trial.values for trial in keeper.trials["hill"]] == values
    assert evaluate.asked == [], "every figure was in the store"


def test_a_finished_study_returns_at_once_and_more_proposals_continue_it() -> None:
    keeper, trials, evaluate = Kept(), Memory(), Counted()
    told = {"keeper": keeper, "trials": trials, "evaluate": evaluate}
    short = run(replace(SHORT, proposals=20), **told)  # ends inside a batch
    assert run(replace(SHORT, proposals=20), **told) == short
    assert run(SHORT, **told) == run(SHORT)
    assert len(evaluate.asked) == len(set(evaluate.asked)), "nothing was evaluated twice"


def test_what_comes_back_is_not_evaluated_again() -> None:
    evaluate = Counted()
    found = search_strategies(Hill(width=0.004), evaluate, SHORT, study="narrow", trials=Memory())
    assert len(evaluate.asked) == len(set(evaluate.asked)) == len(found.tried) < 30
    assert found.proposals == 48 == found.repeats + len(found.tried)


def test_constraints_come_before_goals_and_the_closest_is_told_apart() -> None:
    bound = replace(SHORT, least={"trades": 40}, most={"max_drawdown_pct": 6})
    found = run(bound)
    assert found.feasible
    assert all(one.shortfall == 0 for one in found.best)
    assert found.best[0].stats["trades"] >= 40
    assert found.best[0].stats["max_drawdown_pct"] <= 6
    hopeless = run(replace(SHORT, least={"trades": 1000}))
    assert not hopeless.feasible
    assert "no candidate meets trades of 1000 or more" in hopeless.note
    assert hopeless.best[0].stats["trades"] == max(one.stats["trades"] for one in hopeless.tried)
    assert hopeless.history == (None,) * 6


def test_an_undefined_figure_is_never_the_best() -> None:
    found = run(replace(SHORT, goals=(Goal(figure="sharpe", larger=False),), least={}))
    assert any(one.stats["sharpe"] is None for one in found.tried)
    assert found.best[0].stats["sharpe"] == min(
        one.stats["sharpe"] for one in found.tried if one.stats["sharpe"] is not None
    )


def test_several_goals_give_a_front() -> None:
    goals = (Goal(figure="sharpe"), Goal(figure="max_drawdown_pct", larger=False))
    found = run(replace(SHORT, goals=goals, sampler="nsga2"))
    points = [(one.stats["sharpe"], -one.stats["max_drawdown_pct"]) for one in found.best]
    assert len(points) > 1
    feasible = [(one.stats["sharpe"], -one.stats["max_drawdown_pct"]) for one in found.tried if one.shortfall == 0]
    for point in points:
        assert not any(other != point and all(o >= p for o, p in zip(other, point)) for other in feasible)


def test_a_stopped_search_keeps_what_it_found_and_goes_on_later() -> None:
    keeper, trials, told = Kept(), Memory(), list[Progress]()
    stop = lambda: len(told) == 3  # noqa: E731
    found = run(keeper=keeper, trials=trials, should_stop=stop, progress=told.append)
    assert not found.finished
    assert found.note == "stopped after 24 of 48 proposals"
    assert [(one.phase, one.generation, one.generations) for one in told] == [("tpe", n, 6) for n in (1, 2, 3)]
    assert [one.trials for one in told] == sorted(one.trials for one in told)
    assert [one.best.get("sharpe") for one in told] == list(found.history)
    assert len(found.history) == 3
    assert run(keeper=keeper, trials=trials) == run()
    with pytest.raises(NotReady, match="stopped before its first batch"):
        run(should_stop=lambda: True)


def test_time_ends_a_search_between_batches() -> None:
    from forexgpt_core.optimisation.tpe import StrategySpace, search

    hands = iter(range(100))
    limited = replace(SHORT, seconds=5.0)
    found = search(
        StrategySpace(SPACE), Counted(), limited, study="hill", trials=Memory(), clock=lambda: float(next(hands))
    )
    assert not found.finished
    assert found.note.startswith("out of its 5 s after ")


def test_history_never_falls_and_ends_at_the_best() -> None:
    found = run()
    known = [value for value in found.history if value is not None]
    assert known == sorted(known)
    assert known[-1] == found.best[0].stats["sharpe"]


def test_a_study_made_otherwise_is_refused() -> None:
    keeper, trials = Kept(), Memory()
    run(replace(SHORT, proposals=20), keeper=keeper, trials=trials)
    with pytest.raises(StoreError, match="another space, seed or release of Optuna made it; begin a new study"):
        run(replace(SHORT, seed=99), keeper=keeper, trials=trials)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proposals": 0}, "proposals and batch must be 1 or more"),
        ({"sampler": "grid"}, "unknown sampler 'grid'; known: tpe, nsga2, random"),
        ({"sampler": "nsga2", "batch": 2}, "batch is the population of nsga2 and must be 4 or more"),
        ({"seconds": 0.0}, "seconds must be above 0"),
        ({"goals": ()}, "at least one goal"),
    ],
)
def test_unlawful_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(SHORT, **change)


def test_an_unknown_figure_is_named() -> None:
    with pytest.raises(BadInput, match="no figure 'alpha' to search by; known: sharpe, max_drawdown_pct, trades"):
        run(replace(SHORT, goals=(Goal(figure="alpha"),)))
    with pytest.raises(BadInput, match="'trades' must be a finite number to search by, was nan"):
        run(evaluate=lambda configs: [{"sharpe": 1.0, "trades": float("nan")} for _ in configs])


def test_optuna_is_imported_on_use_and_is_quiet() -> None:
    script = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "sys.path.insert(0, 'tests')\n"
        "import forexgpt_core.optimisation.tpe, forexgpt_core.optimisation.model_search\n"
        "import forexgpt_core.optimisation.hyperparameters, forexgpt_core.adapters.optuna_storage\n"
        "assert 'optuna' not in sys.modules\n"
        "import test_optuna_tpe as t\n"
        "from dataclasses import replace\n"
        "t.run(replace(t.SHORT, proposals=24)); t.run(replace(t.SHORT, proposals=24, sampler='nsga2'))\n"
        "assert 'optuna' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_its_warnings_reach_our_logs(caplog: pytest.LogCaptureFixture) -> None:
    quiet_optuna()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("optuna.study").warning("careful")
        logging.getLogger("optuna.study").info("chatter")
    assert [record.message for record in caplog.records] == ["careful"]
