"""Options searched for right directions, small errors and calm trading at once, over forecasts nobody was fitted on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from test_hyperparameters import FAST, poisoned
from test_optuna_tpe import Kept
from test_walk_forward import market

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.features.windows import Windows
from forexgpt_core.optimisation.inner_folds import InnerFolds, OptionSet, inner_settings, joined, training_part
from forexgpt_core.optimisation.model_search import (
    BacktestOf,
    evaluation_of,
    model_figures,
    model_search_settings,
    search_models,
)
from forexgpt_core.optimisation.option_space import option_space
from forexgpt_core.optimisation.tpe import Found
from forexgpt_core.optimisation.trials import Memory
from forexgpt_core.strategy.config import StrategyConfig

SPACE = option_space("boosting", changes=FAST)
SHORT = model_search_settings(proposals=24, batch=8, seed=2)
BOOSTED = OptionSet(family="boosting", options={"rounds": 8, "caution": 0.0})
TRADED = StrategyConfig(horizon_bars=4, entry_probability=0.5, cost_multiple=0.0, holding_limit_bars=4)


def made_up(asked: Sequence[OptionSet]) -> list[Stats]:
    """Deeper trees are right more often and err more; rare leaves make trading calm until it stops."""
    return [
        {
            "direction": None if one.everything["rounds"] == 4 else 0.45 + 0.05 * float(one.everything["max_depth"]),
            "crps": 0.5 + 0.1 * float(one.everything["max_depth"]) + float(one.everything["learning_rate"]),
            "max_drawdown_pct": 20 - 60 * float(one.everything["leaf_share"]),
            "trades": round(40 - 120 * float(one.everything["leaf_share"])),
        }
        for one in asked
    ]


def small(stats: Stats) -> list[float]:
    """The three figures, each to be made small."""
    right = 0.5 if stats["direction"] is None else stats["direction"]
    return [-right, stats["crps"], stats["max_drawdown_pct"]]


def run(evaluate: Any = made_up, **told: Any) -> Found[OptionSet]:
    return search_models(SPACE, evaluate, SHORT, **({"study": "models", "trials": Memory()} | told))


def test_the_front_holds_what_no_other_beats_and_trades_enough() -> None:
    found = run()
    assert found.feasible
    assert found.proposals == 24
    feasible = np.array([small(one.stats) for one in found.tried if one.shortfall == 0])
    for one in found.best:
        assert one.stats["trades"] >= 10
        own = small(one.stats)
        assert not ((feasible <= own).all(axis=1) & (feasible < own).any(axis=1)).any()
    assert any(one.stats["direction"] is None for one in found.tried), "a coin, not the best and not left out"
    assert {one.candidate.family for one in found.best} == {"boosting"}


def test_killed_between_generations_it_ends_the_same_and_each_set_is_fitted_once() -> None:
    asked: list[str] = []

    def counted(sets: Sequence[OptionSet]) -> list[Stats]:
        assert len(sets) == 1, "each is stored as soon as it is known"
        asked.extend(one.hash12 for one in sets)
        return made_up(sets)

    keeper, trials = Kept(), Memory()
    stopped = run(counted, keeper=keeper, trials=trials, should_stop=iter([False, False, True]).__next__)
    assert not stopped.finished
    assert run(counted, keeper=keeper, trials=trials) == run()
    assert len(asked) == len(set(asked))


@pytest.fixture(scope="module")
def windows() -> Windows:
    return market(2600, seed=1, horizons=(1, 4))


def folds_of(windows: Windows, folder: Path) -> InnerFolds:
    outer = WalkForwardSettings()
    return InnerFolds(
        windows=training_part(windows, outer), settings=inner_settings(outer, folds=2), seed=7, folder=folder
    )


def bars_of(windows: Windows) -> pl.DataFrame:
    arrays = windows.arrays
    open_ = np.concatenate([arrays.close[:1], arrays.close[:-1]])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(arrays.ts_utc).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, arrays.close) * 1.0001,
            "low": np.minimum(open_, arrays.close) * 0.9999,
            "close": arrays.close,
            "volume": 1.0,
        }
    )


def test_forecasts_of_the_folds_are_traded_as_one_with_the_engine_given(windows: Windows, tmp_path: Path) -> None:
    folds, seen = folds_of(windows, tmp_path), []

    def engine(candles: Any, forecasts: ForecastBatch, config: Any, costs: Any, **told: Any) -> Any:
        seen.append((forecasts, config, told))
        return SimpleNamespace(stats={"max_drawdown_pct": 1.0, "return_pct": 2.0, "sharpe": 0.5, "trades": 30})

    trade = BacktestOf(candles=bars_of(windows), config=TRADED, costs=Costs(), symbol="EURUSD", backtest=engine)
    stats = model_figures(BOOSTED, folds, trade)
    [(forecasts, config, told)] = seen
    assert config == TRADED
    assert told == {"symbol": "EURUSD", "cash": 100_000.0}
    tested = folds.windows.rows[-len(forecasts) :]
    assert forecasts.origin_utc.tolist() == windows.arrays.ts_utc[tested].tolist(), "the newer half, each row once"
    assert stats["max_drawdown_pct"] == 1.0
    assert 0.3 < stats["crps"] < 1.0
    assert stats["direction"] is None or 0 <= stats["direction"] <= 1


def test_a_search_on_real_fits_reads_nothing_after_the_training_part(windows: Windows, tmp_path: Path) -> None:
    def searched(one: Windows) -> Found[OptionSet]:
        trade = BacktestOf(candles=bars_of(one), config=TRADED, costs=Costs(), symbol="EURUSD")
        short = replace(SHORT, sampler="random", proposals=2, batch=2, least={"trades": 1})
        return search_models(SPACE, evaluation_of(folds_of(one, tmp_path), trade), short, study="real", trials=Memory())

    end = int(training_part(windows, WalkForwardSettings()).rows.max()) + 1
    clean = searched(windows)
    assert clean.best
    assert any(one.stats["trades"] > 0 for one in clean.tried)
    assert searched(poisoned(windows, end, seed=0)) == clean
    assert searched(poisoned(windows, end - 100, seed=0)) != clean, "the canary can sing"


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(BadInput, match="there are no forecasts to join"):
        joined([])
