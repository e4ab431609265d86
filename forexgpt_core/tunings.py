"""Searches of a family's options on the training part of a pair: resumed where they stopped, applied by nobody.

Figures of every fit are files of the home, Optuna's trials are rows of the database, and strategies are not counted
among them: what is tried here reads no row that a family, a strategy or a verdict is judged on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from forexgpt_core.adapters.figure_store import StudyFigures
from forexgpt_core.backtest.performance import Stats
from forexgpt_core.composition import DataPin, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.features.windows import usable
from forexgpt_core.optimisation.hyperparameters import TuningResult, TuningSettings, tune
from forexgpt_core.optimisation.inner_folds import InnerFolds, OptionSet, inner_settings, training_part
from forexgpt_core.optimisation.model_search import BacktestOf, evaluation_of, model_search_settings, search_models
from forexgpt_core.optimisation.option_space import OptionSpace, option_space
from forexgpt_core.optimisation.search import Progress
from forexgpt_core.optimisation.tpe import Found
from forexgpt_core.optimisation.trials import try_all
from forexgpt_core.strategy.config import StrategyConfig

TUNING_VERSION = 1  # of what a search computes; a change makes every study another one
_FIGURES = ("direction", "crps", "max_drawdown_pct", "return_pct", "sharpe", "trades")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRequest:
    """What to search.

    Attributes:
        family: whose options.
        trials: option sets proposed; more of them go on with a study.
        seed: of the proposals; that of the pair where it is None. Every fit has the pair's.
        time_limit_seconds: no fit begins after so long.
        figures: for direction, error and drawdown at once; else for the error alone.
    """

    family: str
    trials: int = 30
    seed: int | None = None
    time_limit_seconds: float | None = None
    figures: bool = False

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise BadInput(f"trials must be 1 or more, was {self.trials}")
        if self.seed is not None and self.seed < 0:
            raise BadInput(f"seed must be 0 or more, was {self.seed}")
        if self.time_limit_seconds is not None and not self.time_limit_seconds > 0:
            raise BadInput(f"time_limit_seconds must be above 0, was {self.time_limit_seconds}")
        option_space(self.family)  # which knows the families that have options to search


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """A study of a pair's options, ready to be searched.

    Attributes:
        name: a hash of all that decides its figures.
        stored: the figures of earlier fits of it.
    """

    pair: SymbolSettings
    pin: DataPin
    asked: TuningRequest
    space: OptionSpace
    folds: InnerFolds
    name: str
    stored: StudyFigures

    @property
    def seed(self) -> int:
        """Return the seed of the proposals."""
        return self.pair.seed if self.asked.seed is None else self.asked.seed


def prepared(platform: Platform, pair: SymbolSettings, asked: TuningRequest) -> Tuning:
    """Return the study that a request means on the pair's newest data.

    Raises:
        NotReady: there are no features, or too few rows for the inner folds.
    """
    pin, timeframe = platform.pin(pair), Timeframe.parse(pair.timeframe)
    windows = usable(platform.arrays(pair.symbol, timeframe, pin, pair.horizons_bars), matured=True)
    space = option_space(asked.family, fixed=pair.family_options.get(asked.family, {}))
    seed = pair.seed if asked.seed is None else asked.seed
    name = _name(pair, pin, space, seed, figures=asked.figures)
    folds = InnerFolds(
        windows=training_part(windows, pair.walk_forward),
        settings=inner_settings(pair.walk_forward),
        seed=pair.seed,
        folder=platform.working_folder("tuning", f"fits_{name[:12]}"),
        calibration=pair.calibration.method,
    )
    return Tuning(
        pair=pair, pin=pin, asked=asked, space=space, folds=folds, name=name, stored=platform.tuning.study(name)
    )


def search_error(
    platform: Platform, tuning: Tuning, *, progress: Callable[[float, str], None] = lambda share, line: None
) -> TuningResult:
    """Return the options with the least error that TPE finds; see `hyperparameters.tune`."""
    settings = TuningSettings(proposals=tuning.asked.trials, seed=tuning.seed, seconds=tuning.asked.time_limit_seconds)
    return tune(
        tuning.space,
        tuning.folds,
        settings,
        study=tuning.name,
        trials=tuning.stored,
        keeper=platform.optuna,
        progress=progress,
    )


def search_figures(
    platform: Platform, tuning: Tuning, *, progress: Callable[[Progress], None] = lambda told: None
) -> tuple[Found[OptionSet], Stats]:
    """Return the options that no other beats on direction, error and drawdown, and the figures of those in use."""
    settings = model_search_settings(
        proposals=tuning.asked.trials, seed=tuning.seed, seconds=tuning.asked.time_limit_seconds
    )
    evaluate = evaluation_of(tuning.folds, _trade(platform, tuning))
    usual = OptionSet(family=tuning.space.family, options=tuning.space.fixed)
    in_use = try_all({-1: usual}, evaluate, tuning.stored)[usual.hash12]
    found = search_models(
        tuning.space,
        evaluate,
        settings,
        study=tuning.name,
        trials=tuning.stored,
        keeper=platform.optuna,
        progress=progress,
    )
    return found, in_use


def error_document(tuning: Tuning, result: TuningResult) -> dict[str, Any]:
    """Return what a search for the least error found, as JSON types."""
    return {**_about(tuning), **result.document()}


def figures_document(tuning: Tuning, found: Found[OptionSet], in_use: Stats) -> dict[str, Any]:
    """Return what a search for several figures found, as JSON types.

    Its `family_options` are those in use: which of the front is best is for a person to say, and no test says that any
    beats them.
    """
    return {
        **_about(tuning),
        "family_options": {tuning.space.family: dict(tuning.space.fixed)},
        "usual": {"options": dict(tuning.space.fixed), **_shown(in_use)},
        "front": [{"options": dict(one.candidate.options), **_shown(one.stats)} for one in found.best],
        "feasible": found.feasible,
        "proposals": found.proposals,
        "tried": len(found.tried),
        "finished": found.finished,
        "note": found.note,
    }


def with_options(pair: SymbolSettings, options: Mapping[str, Mapping[str, object]]) -> SymbolSettings:
    """Return the settings of a pair with options of some families in place of those it has."""
    return replace(pair, family_options={**pair.family_options, **options})


def _about(tuning: Tuning) -> dict[str, Any]:
    part = tuning.folds.windows.origin_utc
    return {
        "symbol": tuning.pair.symbol,
        "timeframe": tuning.pair.timeframe,
        "family": tuning.space.family,
        "data_version": str(tuning.pin),
        "training_part": [str(part[0]), str(part[-1])],
        "folds": len(tuning.folds.folds),
        "study": tuning.name[:12],
        "seed": tuning.seed,
    }


def _shown(stats: Stats) -> dict[str, Any]:
    return {name: stats[name] for name in _FIGURES}


def _name(pair: SymbolSettings, pin: DataPin, space: OptionSpace, seed: int, *, figures: bool) -> str:
    decides = {
        "symbol": pair.symbol,
        "timeframe": pair.timeframe,
        "data": str(pin),
        "horizons_bars": list(pair.horizons_bars),
        "walk_forward": asdict(pair.walk_forward),
        "calibration": pair.calibration.method,
        "space": space.document(),
        "seeds": [pair.seed, seed],
        "figures": [asdict(pair.costs), pair.spread_from_candles, pair.cash, asdict(pair.guard)] if figures else None,
        "version": TUNING_VERSION,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def _trade(platform: Platform, tuning: Tuning) -> Callable[[ForecastBatch], Stats]:
    """Return what trades forecasts of the training part with the default strategy, on bars of that part alone."""
    from forexgpt_core.backtest.engine import run_backtest

    pair = tuning.pair
    part = tuning.folds.windows.arrays.label_end_utc[tuning.folds.windows.rows].max()
    bars = platform.lake.candles(pair.symbol, Timeframe.parse(pair.timeframe), version=tuning.pin.candles)
    bars = bars.filter(pl.lit(bars["ts_utc"].to_numpy() <= np.datetime64(part)))
    usual = StrategyConfig().horizon_bars
    backtest = partial(run_backtest, no_entry=platform.no_entry(pair, bars), rates=platform.conversion_candles(pair))

    def trade(forecasts: ForecastBatch) -> Stats:
        return BacktestOf(
            candles=bars,
            config=StrategyConfig(horizon_bars=usual if usual in pair.horizons_bars else pair.horizons_bars[-1]),
            costs=platform.with_measured_spread(pair, bars, forecasts).costs,
            symbol=pair.symbol,
            cash=pair.cash,
            backtest=backtest,
        )(forecasts)

    return trade
