"""NSGA-II over strategy configurations, each backtested once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.engine import run_span
from forexgpt_core.backtest.performance import Stats, day_returns
from forexgpt_core.backtest.span import Span
from forexgpt_core.optimisation.front import OBJECTIVES, Floats, objectives
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.strategy.config import StrategyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration and its figures on the part that is searched."""

    config: StrategyConfig
    in_sample: Stats


@dataclass(slots=True, kw_only=True)
class Bench:
    """Backtests of one span, each configuration once.

    Attributes:
        trials: what was backtested, by configuration hash, in the order tried.
        returns: of each trial per FX day (see `performance.day_returns`), float32 to keep many.
        repeats: how often a configuration came back.
        generation_ends: number of trials after each whole generation.
    """

    span: Span
    cash: float
    trials: dict[str, Trial] = field(default_factory=dict)
    returns: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    repeats: int = 0
    generation_ends: list[int] = field(default_factory=list)

    def try_out(self, config: StrategyConfig) -> Trial:
        """Return the figures of a configuration, from memory where it was tried before."""
        known = self.trials.get(config.hash12)
        if known is not None:
            self.repeats += 1
            return known
        run = run_span(self.span, config, cash=self.cash)
        daily = day_returns(run.equity["equity"].to_numpy(), self.cash, self.span.ends)
        self.returns[config.hash12] = daily.astype(np.float32)
        trial = self.trials[config.hash12] = Trial(config=config, in_sample=run.stats)
        return trial

    @property
    def tried(self) -> tuple[Trial, ...]:
        """Return all trials in the order tried."""
        return tuple(self.trials.values())


def shortfall(trial: Trial, min_trades: int) -> float:
    """Return by how many trades a trial misses the least number; 0 or less is feasible."""
    trades = trial.in_sample["trades"]
    assert isinstance(trades, int)  # every backtest counts its trades
    return float(min_trades - trades)


def evolve(
    bench: Bench,
    space: SearchSpace,
    *,
    population: int,
    generations: int,
    seed: int,
    min_trades: int,
    progress: Callable[[float, str], None],
    should_stop: Callable[[], bool],
) -> bool:
    """Fill the bench, generation by generation, and return whether the search ran to its end.

    pymoo's NSGA-II with its usual operators (simulated binary crossover, polynomial mutation, binary tournament);
    feasible configurations go before infeasible ones, and those by how many trades they lack.
    """
    algorithm, problem = _nsga2(space, population, generations, seed)
    started = perf_counter()
    for generation in range(1, generations + 1):
        offspring = algorithm.ask()
        trials = []
        for x in offspring.get("X"):
            if should_stop():
                return False
            trials.append(bench.try_out(space.config(np.asarray(x, dtype=np.float64))))
        values = objectives([trial.in_sample for trial in trials])
        lacking = np.array([[shortfall(trial, min_trades)] for trial in trials])
        _tell(algorithm, problem, offspring, values, lacking)
        bench.generation_ends.append(len(bench.trials))
        left = (perf_counter() - started) / generation * (generations - generation)
        progress(generation / generations, _message(bench, generation, generations, left))
    return True


def _nsga2(space: SearchSpace, population: int, generations: int, seed: int) -> tuple[Any, Any]:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.config import Config
    from pymoo.core.problem import Problem

    Config.warnings["not_compiled"] = False  # it would print; a front of this size needs no compiled sorting
    problem = Problem(n_var=space.dimensions, n_obj=len(OBJECTIVES), n_ieq_constr=1, xl=0.0, xu=1.0)
    algorithm = NSGA2(pop_size=population)
    algorithm.setup(problem, termination=("n_gen", generations + 1), seed=seed, verbose=False)
    return algorithm, problem


def _tell(algorithm: Any, problem: Any, offspring: Any, values: Floats, lacking: Floats) -> None:
    from pymoo.core.evaluator import Evaluator
    from pymoo.problems.static import StaticProblem

    Evaluator().eval(StaticProblem(problem, F=values, G=lacking), offspring)
    algorithm.tell(infills=offspring)


def _message(bench: Bench, generation: int, generations: int, left_seconds: float) -> str:
    sharpes = [t.in_sample["sharpe"] for t in bench.tried]
    best = max((s for s in sharpes if isinstance(s, float)), default=None)
    shown = "none" if best is None else f"{best:.2f}"
    return (
        f"generation {generation}/{generations}: {len(bench.trials)} configurations,"
        f" best in-sample Sharpe {shown}, about {left_seconds:.0f} s left"
    )
