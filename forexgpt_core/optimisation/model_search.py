"""Options of a model family, searched for several figures at once: right directions, small errors, calm trading.

The figures are those of the test blocks of inner walk-forward folds (see `inner_folds`), strung together. Trading is
that of one fixed strategy, so that options are compared and not strategies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.evaluation.direction import direction
from forexgpt_core.optimisation.inner_folds import InnerFolds, OptionSet, joined, scaled_losses
from forexgpt_core.optimisation.option_space import OptionSpace
from forexgpt_core.optimisation.optuna_study import StudyKeeper
from forexgpt_core.optimisation.tpe import AskSettings, Found, Goal, Tell, search
from forexgpt_core.optimisation.trials import Evaluate, TrialStore
from forexgpt_core.strategy.config import StrategyConfig

Trade = Callable[[ForecastBatch], Stats]
_LEASE_SECONDS = 1800.0  # fits may take long, and nobody else shall begin them meanwhile
GOALS = (
    Goal(figure="direction", undefined=0.5),  # who makes no call is right as often as a coin
    Goal(figure="crps", larger=False),
    Goal(figure="max_drawdown_pct", larger=False),
)


def model_search_settings(**changes: Any) -> AskSettings:
    """Return settings for the three figures: NSGA-II, 8 generations of 8, at least 10 trades, or as changed.

    Without a least number of trades, options that never trade would lead the front: they have no drawdown.
    """
    usual: dict[str, Any] = {"goals": GOALS, "sampler": "nsga2", "proposals": 64, "batch": 8, "least": {"trades": 10}}
    return AskSettings(**{**usual, **changes})


@dataclass(frozen=True, slots=True)
class OptionSets:
    """The options of a family as what Optuna is asked about."""

    space: OptionSpace

    def distributions(self) -> dict[str, Any]:
        """Return the distribution of every option searched."""
        return self.space.distributions()

    def candidate(self, params: Any) -> OptionSet:
        """Return the option set of these draws."""
        return OptionSet(family=self.space.family, options=self.space.options(params))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BacktestOf:
    """Trades forecasts with one strategy on the bars they stand on.

    Attributes:
        candles: bid bars; those after the last forecast's origin are not read.
        backtest: `backtest.engine.run_backtest`, or another with its arguments and a result that has `stats`.
    """

    candles: pl.DataFrame
    config: StrategyConfig
    costs: Costs
    symbol: str
    cash: float = 100_000.0
    backtest: Callable[..., Any] | None = field(default=None)

    def __call__(self, forecasts: ForecastBatch) -> Stats:
        """Return the figures of trading these forecasts."""
        run = self.backtest or _compiled()
        stats: Stats = run(self.candles, forecasts, self.config, self.costs, symbol=self.symbol, cash=self.cash).stats
        return stats


def _compiled() -> Callable[..., Any]:
    from forexgpt_core.backtest.engine import run_backtest

    return run_backtest


def model_figures(one: OptionSet, folds: InnerFolds, trade: Trade) -> Stats:
    """Return direction (share of right signs, mean over horizons), crps (in reference scales) and those of trading."""
    tested = [folds.forecast(one, fold) for fold in range(len(folds.folds))]
    forecasts = joined([batch for batch, _ in tested])
    returns = np.concatenate([block for _, block in tested])
    right, _ = direction(forecasts, returns)
    traded = trade(forecasts)
    return {
        "direction": float(np.nanmean(right)) if np.isfinite(right).any() else None,
        "crps": float(scaled_losses(forecasts, returns).mean()),
        **{name: traded[name] for name in ("max_drawdown_pct", "return_pct", "sharpe", "trades")},
    }


def search_models(
    space: OptionSpace,
    evaluate: Evaluate[OptionSet],
    settings: AskSettings,
    *,
    study: str,
    trials: TrialStore,
    keeper: StudyKeeper | None = None,
    progress: Tell = lambda told: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Found[OptionSet]:
    """Return the option sets that no other beats on all figures; resumable as `tpe.search` is.

    Args:
        evaluate: see `evaluation_of`.
    """
    return search(
        OptionSets(space),
        evaluate,
        settings,
        study=study,
        trials=trials,
        keeper=keeper,
        progress=progress,
        should_stop=should_stop,
        lease_seconds=_LEASE_SECONDS,
        one_by_one=True,
    )


def evaluation_of(folds: InnerFolds, trade: Trade) -> Evaluate[OptionSet]:
    """Return what gives the figures of option sets on inner folds, traded by `trade` such as a BacktestOf."""

    def evaluate(asked: Sequence[OptionSet]) -> list[Stats]:
        return [model_figures(one, folds, trade) for one in asked]

    return evaluate
