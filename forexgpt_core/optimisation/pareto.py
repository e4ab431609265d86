"""Strategy settings that no other tried setting beats on return, drawdown, Sharpe and win rate together.

The search (NSGA-II) sees the earlier part of the span only. Then every member of the front is scored on the later
part, after a purge of the longest forecast horizon. Choosing by the later scores would spend them, so `pick` reads
the earlier ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.backtest.engine import run_span
from forexgpt_core.backtest.performance import Floats, Stats, day_returns
from forexgpt_core.backtest.span import Bools, Span, lay_out
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.optimisation.evolution import Bench, Trial, evolve, shortfall
from forexgpt_core.optimisation.front import OBJECTIVES, Ints, hypervolumes, non_dominated, objectives, thin, to_unit
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.strategy.config import StrategyConfig

Pick = Literal["knee", "best_sharpe", "lowest_drawdown"]

_LEAST_EARLIER, _LEAST_LATER = 50, 30  # forecasts


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoSettings:
    """How to search.

    Attributes:
        population: configurations per generation, and the most members a front is reported with.
        generations: the first one, drawn at random, included.
        in_sample_share: share of the forecasts, the earliest, that the search sees.
        min_trades: fewer trades in sample than this make a configuration infeasible.
    """

    population: int = 16
    generations: int = 8
    seed: int = 0
    in_sample_share: float = 0.6
    min_trades: int = 10

    def __post_init__(self) -> None:
        if self.population < 4 or self.generations < 1:
            raise BadInput(
                f"population must be 4 or more and generations 1 or more, were {self.population}, {self.generations}"
            )
        if not 0 < self.in_sample_share < 1:
            raise BadInput(f"in_sample_share must lie in (0, 1), was {self.in_sample_share}")
        if self.min_trades < 1:
            raise BadInput(f"min_trades must be 1 or more, was {self.min_trades}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoMember:
    """A configuration of the front, with its figures on the part searched and on the later part.

    Attributes:
        out_of_sample_returns: (days,) of the later part, see `performance.day_returns`.
    """

    config: StrategyConfig
    in_sample: Stats
    out_of_sample: Stats
    out_of_sample_returns: Floats = field(compare=False, repr=False)

    @property
    def hash12(self) -> str:
        """Return the configuration's hash, which names it in an approval."""
        return self.config.hash12


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoResult:
    """What a search found.

    Attributes:
        members: the front, best in-sample Sharpe first, then by hash.
        trials: how many different configurations were backtested on the earlier part: what any honest reading of the
            best one has to be corrected for.
        repeats: how often the search came back to one of them; not backtested again.
        evaluated: all of them, in the order tried.
        daily_returns: (days, trials) of the part searched, float32, one column for each of `evaluated`; see
            `performance.day_returns`.
        periods_per_year: that Sharpe ratios were annualised with.
        hypervolume: per generation, of the front so far over the box that all feasible trials span, in [0, 1].
        feasible: False where no configuration traded often enough; the members are then those that came closest.
        note: in words, what a reader of the front has to know; empty if nothing.
        in_sample_end_utc, out_of_sample_start_utc: opens of the last bar searched and of the first bar scored later.
    """

    settings: ParetoSettings
    members: tuple[ParetoMember, ...]
    trials: int
    repeats: int
    evaluated: tuple[Trial, ...]
    hypervolume: tuple[float, ...]
    feasible: bool
    note: str
    purge_bars: int
    in_sample_end_utc: datetime
    out_of_sample_start_utc: datetime
    periods_per_year: int
    daily_returns: NDArray[np.float32] = field(compare=False, repr=False)


def search(
    candles: pl.DataFrame,
    forecasts: ForecastBatch,
    costs: Costs,
    *,
    symbol: str,
    space: SearchSpace,
    settings: ParetoSettings,
    cash: float = 100_000.0,
    no_entry: Bools | None = None,
    progress: Callable[[float, str], None] = lambda share, message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ParetoResult:
    """Return the front of the strategies in `space`; the same arguments give the same result.

    Args:
        candles, forecasts, costs, symbol, cash, no_entry: see `backtest.engine.run_backtest`.
        progress: called after every generation with (share done, message).
        should_stop: asked before every backtest of the search; what was found by then is kept and scored.

    Raises:
        BadInput: the space allows a horizon that the forecasts lack, or `run_backtest` would refuse the input.
        NotReady: there are too few forecasts for two parts, or the search was stopped before its first backtest.
    """
    absent = sorted(set(space.horizons_bars) - set(forecasts.horizons_bars))
    if absent:
        raise BadInput(f"the search allows horizons {absent}, but the forecasts have {forecasts.horizons_bars} only")
    earlier, later = split(candles, forecasts, settings.in_sample_share)
    bench = Bench(span=lay_out(candles, forecasts.take(earlier), costs, symbol=symbol, no_entry=no_entry), cash=cash)
    finished = evolve(
        bench,
        space,
        population=settings.population,
        generations=settings.generations,
        seed=settings.seed,
        min_trades=settings.min_trades,
        progress=progress,
        should_stop=should_stop,
    )
    if not bench.trials:
        raise NotReady("the search was stopped before its first backtest; nothing was found")
    chosen, feasible = choose(bench.tried, settings)
    later_span = lay_out(candles, forecasts.take(later), costs, symbol=symbol, no_entry=no_entry)
    return ParetoResult(
        settings=settings,
        members=tuple(_scored(trial, later_span, cash) for trial in chosen),
        trials=len(bench.trials),
        repeats=bench.repeats,
        evaluated=bench.tried,
        hypervolume=_history(bench, settings),
        feasible=feasible,
        note=_note(feasible=feasible, finished=finished, bench=bench, settings=settings),
        purge_bars=forecasts.horizons_bars[-1],
        in_sample_end_utc=from_utc(bench.span.ts_utc[-1]),
        out_of_sample_start_utc=from_utc(later_span.ts_utc[0]),
        periods_per_year=bench.span.periods_per_year,
        daily_returns=np.column_stack([bench.returns[trial.config.hash12] for trial in bench.tried]),
    )


def choose(trials: Sequence[Trial], settings: ParetoSettings) -> tuple[list[Trial], bool]:
    """Return the front among trials, best Sharpe first, and whether it is feasible.

    Where no trial has enough trades, the front is formed among those that lack the fewest. Of trials with the same
    objectives the smallest hash stands for all; a front larger than the population keeps its least crowded members.
    """
    lacking = np.array([max(shortfall(trial, settings.min_trades), 0.0) for trial in trials])
    nearest = sorted((t for t, lack in zip(trials, lacking) if lack == lacking.min()), key=lambda t: t.config.hash12)
    values = objectives([trial.in_sample for trial in nearest])
    front = non_dominated(values)
    rows = front[thin(values[front], settings.population)]
    ranked = sorted(rows, key=lambda row: (values[row, OBJECTIVES.index("sharpe")], nearest[row].config.hash12))
    return [nearest[row] for row in ranked], bool(lacking.min() == 0)


def _scored(trial: Trial, later: Span, cash: float) -> ParetoMember:
    run = run_span(later, trial.config, cash=cash)
    return ParetoMember(
        config=trial.config,
        in_sample=trial.in_sample,
        out_of_sample=run.stats,
        out_of_sample_returns=day_returns(run.equity["equity"].to_numpy(), cash, later.ends),
    )


def _history(bench: Bench, settings: ParetoSettings) -> tuple[float, ...]:
    feasible = np.array([shortfall(trial, settings.min_trades) <= 0 for trial in bench.tried])
    values = objectives([trial.in_sample for trial in bench.tried])
    return hypervolumes(values, feasible, bench.generation_ends)


def _note(*, feasible: bool, finished: bool, bench: Bench, settings: ParetoSettings) -> str:
    remarks = []
    if not feasible:
        most = max(settings.min_trades - shortfall(trial, settings.min_trades) for trial in bench.tried)
        remarks.append(
            f"no configuration made {settings.min_trades} trades in sample (the most was {most:.0f}):"
            " these came closest and prove nothing"
        )
    if not finished:
        remarks.append(f"stopped after {len(bench.generation_ends)} of {settings.generations} generations")
    return "; ".join(remarks)


def pick(result: ParetoResult, how: Pick = "knee") -> ParetoMember:
    """Return one member by its in-sample figures.

    "knee" is the member nearest to the best of every objective at once, each scaled to [0, 1] over the front.

    Raises:
        BadInput: there is no such way to pick.
    """
    if how not in get_args(Pick):
        raise BadInput(f"unknown pick '{how}'; known: {', '.join(get_args(Pick))}")
    values = objectives([member.in_sample for member in result.members])
    if how == "best_sharpe":
        ranking = values[:, OBJECTIVES.index("sharpe")]
    elif how == "lowest_drawdown":
        ranking = values[:, OBJECTIVES.index("max_drawdown_pct")]
    else:
        ranking = np.linalg.norm(to_unit(values, values), axis=1)
    return result.members[int(np.argmin(ranking))]


def members_table(result: ParetoResult) -> pl.DataFrame:
    """Return one row per member: its hash, its settings, and the objectives and trades of both parts."""
    shown = (*OBJECTIVES, "profit_factor", "trades")
    return pl.DataFrame(
        [
            {
                "config": member.hash12,
                **{f.name: getattr(member.config, f.name) for f in fields(StrategyConfig)},
                **{f"in_{name}": member.in_sample[name] for name in shown},
                **{f"out_{name}": member.out_of_sample[name] for name in shown},
            }
            for member in result.members
        ],
        infer_schema_length=None,
    )


def split(candles: pl.DataFrame, forecasts: ForecastBatch, in_sample_share: float) -> tuple[Ints, Ints]:
    """Return which forecasts are searched and which are scored later.

    Between the last earlier origin and the first later one lie at least as many bars as the longest horizon, so no
    outcome of an earlier forecast reaches into the later part.

    Raises:
        NotReady: the earlier part would have fewer than 50 forecasts or the later one fewer than 30.
    """
    ts = candles["ts_utc"].to_numpy().astype("datetime64[us]")
    bar = np.searchsorted(ts, forecasts.origin_utc.astype("datetime64[us]"))
    count = int(len(forecasts) * in_sample_share)
    if count:
        later = np.flatnonzero(bar > bar[count - 1] + forecasts.horizons_bars[-1])
    if not count or count < _LEAST_EARLIER or later.size < _LEAST_LATER:
        raise NotReady(
            f"{len(forecasts)} forecasts of {forecasts.symbol} leave {count} to search and"
            f" {later.size if count else 0} to score after the purge; at least {_LEAST_EARLIER} and {_LEAST_LATER} are"
            " needed: evaluate over a longer span or allow shorter horizons"
        )
    return np.arange(count, dtype=np.int64), later.astype(np.int64)
