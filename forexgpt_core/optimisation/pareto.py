"""Strategy settings that no other tried setting beats on return, drawdown, Sharpe and win rate together.

Searched for a single objective there is no front: the best few by it stand in its place, scored and judged likewise.

The search sees the earlier part of the span only. Then every member of the front is scored on the later part, after a
purge of the longest forecast horizon and an embargo, as a whole and span by span. Choosing by the later scores would
spend them, so picks read the earlier ones.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.backtest.engine import block_edges, run_span, sweep
from forexgpt_core.backtest.performance import Floats, Stats, day_returns
from forexgpt_core.backtest.span import Bools, Span, lay_out
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.cscv import largest_blocks
from forexgpt_core.optimisation.asked import run_asked
from forexgpt_core.optimisation.goals import SHARPE, Goals, strategy_goals
from forexgpt_core.optimisation.methods import SINGLE, Method, SearchSettings, require_fit
from forexgpt_core.optimisation.optuna_study import StudyKeeper
from forexgpt_core.optimisation.parts import split
from forexgpt_core.optimisation.picks import PICKS, pick_named
from forexgpt_core.optimisation.search import Progress, SearchRun, run_search
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.optimisation.stability import compare_neighbours, neighbours, stability
from forexgpt_core.optimisation.trials import Memory, TrialStore, shown
from forexgpt_core.strategy.config import StrategyConfig

SEARCH_VERSION = 3  # of what a search computes; a change makes every study another one
SPAN_FIGURES = ("return_pct", "max_drawdown_pct", "sharpe", "win_rate_pct", "profit_factor", "trades")
_MOMENTS = "_moments"  # figure of a trial: its block moments, so that nobody backtests it again to judge the search
_BEST = 10  # members of a search for a single objective
_MANY_TRIALS, _FEW_BLOCKS = 2_000, 12  # of more trials, 12 blocks (924 halves) say in a second what 16 do in ten


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoSettings:
    """How to search, and how its finds are judged.

    Attributes:
        method: see `methods.SearchSettings`, as well as the settings of the same name below.
        objectives: names of `goals.OBJECTIVES`; none for those usual with the method: return, drawdown, Sharpe and win
            rate, or Sharpe alone where it searches for one.
        population: configurations per generation, and the most members a front is reported with.
        generations: at most, the first one included.
        grid: configurations of the coarse grid that "hybrid" begins with.
        patience: generations without progress after which the search ends; 0 never does.
        preset, space: the search space: a preset's name and settings that differ from it, see `SearchSpace`. Horizons
            are the pair's own where they are not given.
        in_sample_share: share of the forecasts, the earliest, that the search sees.
        embargo_bars: left out between the part searched and the later one, besides the purge.
        later_spans: consecutive spans of the later part that members are scored on one by one.
        min_trades: fewer trades in sample than this make a configuration infeasible.
        max_drawdown_pct: a deeper fall in sample makes a configuration infeasible; None allows any.
        time_limit_seconds: of the search; what is found then depends on the machine.
    """

    method: Method = "hybrid"
    population: int = 50
    generations: int = 100
    grid: int = 512
    patience: int = 10
    seed: int = 0
    preset: str = "volatility"
    space: Mapping[str, object] = field(default_factory=dict)
    in_sample_share: float = 0.6
    embargo_bars: int = 0
    later_spans: int = 3
    min_trades: int = 10
    max_drawdown_pct: float | None = None
    time_limit_seconds: float | None = None
    objectives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "objectives", tuple(self.objectives))  # a stored document has a list
        if not 0 < self.in_sample_share < 1:
            raise BadInput(f"in_sample_share must lie in (0, 1), was {self.in_sample_share}")
        if self.embargo_bars < 0 or self.later_spans < 1:
            raise BadInput(
                f"embargo_bars must be 0 or more and later_spans 1 or more, were {self.embargo_bars},"
                f" {self.later_spans}"
            )
        _ = self.search_space((1,))  # checks its own, as do the others
        require_fit(self.search, self.goals)

    @property
    def search(self) -> SearchSettings:
        """Return how candidates are proposed."""
        return SearchSettings(
            method=self.method,
            seed=self.seed,
            population=self.population,
            generations=self.generations,
            grid_count=self.grid,
            patience=self.patience,
            time_limit_seconds=self.time_limit_seconds,
        )

    @property
    def goals(self) -> Goals:
        """Return what is searched for."""
        usual = (SHARPE.name,) if self.method in SINGLE else ()
        return strategy_goals(
            min_trades=self.min_trades,
            max_drawdown_pct=self.max_drawdown_pct,
            objectives=self.objectives or usual,
        )

    @property
    def single(self) -> str | None:
        """Return the objective where it is the only one."""
        names = self.goals.names
        return names[0] if len(names) == 1 else None

    def search_space(self, horizons_bars: Sequence[int]) -> SearchSpace:
        """Return the search space of a pair that is forecast over those horizons."""
        return SearchSpace.preset(self.preset, **{"horizons_bars": list(horizons_bars), **self.space})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration and its figures on the part that is searched."""

    config: StrategyConfig
    in_sample: Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoMember:
    """A configuration of the front, with its figures on the part searched and on the later part.

    Attributes:
        later_spans: SPAN_FIGURES of each span of the later part.
    """

    config: StrategyConfig
    in_sample: Stats
    out_of_sample: Stats
    later_spans: tuple[Stats, ...]

    @property
    def hash12(self) -> str:
        """Return the configuration's hash, which names it in an approval."""
        return self.config.hash12


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoResult:
    """What a search found.

    Attributes:
        members: the front, best in-sample Sharpe first, then by hash; of a single objective the best few, best first.
        evaluated: every configuration that was backtested on the earlier part, in the order tried (a stored result has
            its front first). Those tried to see how stable the picks are come last. Any honest reading of the best one
            has to be corrected for them all.
        neighbours: how many of them were tried for that.
        repeats: how often the search came back to a configuration; not backtested again.
        picks: hash of a member by how it was picked.
        stability: of each pick's member, by its hash; None where its neighbours were not tried.
        hypervolume: per generation, those of the grid included, of the front so far over the box that all feasible
            trials span, in [0, 1].
        feasible: False where no configuration satisfies the constraints; the members are then those that came closest.
        stopped: why the search ended, see `search.Stop`.
        note: in words, what a reader of the front has to know; empty if nothing.
        searched_utc: opens of the first and last bar searched.
        later_utc: opens of the first and last bar of each span of the later part.
        periods_per_year: that Sharpe ratios were annualised with.
    """

    settings: ParetoSettings
    members: tuple[ParetoMember, ...]
    evaluated: tuple[Trial, ...]
    neighbours: int
    repeats: int
    picks: Mapping[str, str]
    stability: Mapping[str, Mapping[str, Any]]
    hypervolume: tuple[float, ...]
    feasible: bool
    stopped: str
    note: str
    purge_bars: int
    searched_utc: tuple[datetime, datetime]
    later_utc: tuple[tuple[datetime, datetime], ...]
    periods_per_year: int

    @property
    def trials(self) -> int:
        """Return how many different configurations were backtested on the earlier part."""
        return len(self.evaluated)

    def member(self, hash12: str) -> ParetoMember:
        """Return the member of that hash."""
        return next(one for one in self.members if one.hash12 == hash12)

    def document(self) -> dict[str, Any]:
        """Return everything but the trials and their figures as JSON types; `restore` is its inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("members", "evaluated")}
        return {
            **plain,
            "settings": asdict(self.settings),
            "searched_utc": [moment.isoformat() for moment in self.searched_utc],
            "later_utc": [[moment.isoformat() for moment in span] for span in self.later_utc],
            "spans": {one.hash12: list(one.later_spans) for one in self.members},
            "trials": self.trials,
        }

    @classmethod
    def restore(
        cls,
        document: Mapping[str, Any],
        trials: Sequence[Trial],
        front: Sequence[tuple[StrategyConfig, Stats, Stats]],
    ) -> "ParetoResult":
        """Return the result of a document, its trials, and its front: configuration, figures in and out of sample."""
        names = {f.name for f in fields(cls)} - {"members", "evaluated"}
        first, last = map(datetime.fromisoformat, document["searched_utc"])
        return cls(
            **{name: value for name, value in document.items() if name in names}
            | {
                "settings": ParetoSettings(**document["settings"]),
                "searched_utc": (first, last),
                "later_utc": tuple(
                    (datetime.fromisoformat(one), datetime.fromisoformat(two)) for one, two in document["later_utc"]
                ),
                "hypervolume": tuple(document["hypervolume"]),
                "evaluated": tuple(trials),
                "members": tuple(
                    ParetoMember(
                        config=config,
                        in_sample=inside,
                        out_of_sample=later,
                        later_spans=tuple(document["spans"][config.hash12]),
                    )
                    for config, inside, later in front
                ),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchEvidence:
    """What a verdict on a search needs besides its figures.

    Attributes:
        moments: (trials, blocks, 2) of the returns per FX day of each trial, see `engine.Sweep`; no block where the
            part searched is too short.
        block_days: (blocks,) days in each block.
        later_returns: (days,) of each member on the later part by its hash, see `performance.day_returns`.
    """

    moments: Floats
    block_days: NDArray[np.int64]
    later_returns: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """Backtests on the part that is searched."""

    span: Span
    cash: float
    blocks: int

    def evaluate(self, configs: Sequence[StrategyConfig]) -> Sequence[Stats]:
        """Return the figures of each configuration, its block moments packed among them."""
        swept = sweep(self.span, configs, cash=self.cash, blocks=self.blocks)
        packed = (b64encode(one.astype("<f8").tobytes()).decode() for one in swept.moments)
        return [{**stats, _MOMENTS: text} for stats, text in zip(swept.stats, packed, strict=True)]

    def moments_of(self, figures: Sequence[Stats]) -> Floats:
        """Return (trials, blocks, 2) the block moments among figures, to the last bit."""
        packed = b"".join(b64decode(str(one[_MOMENTS])) for one in figures)
        return np.frombuffer(packed, dtype="<f8").astype(np.float64).reshape(len(figures), self.blocks, 2)


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
    rates: Mapping[str, pl.DataFrame] | None = None,
    store: TrialStore | None = None,
    study: str = "strategies",
    keeper: StudyKeeper | None = None,
    progress: Callable[[Progress], None] = lambda told: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[ParetoResult, SearchEvidence]:
    """Return the front of the strategies in `space`, and the evidence to judge it by.

    The same arguments give the same result, whatever the store remembers of this search already.

    Args:
        candles, forecasts, costs, symbol, cash, no_entry, rates: see `backtest.engine.run_backtest`.
        store: memory of the trials; by default one that is forgotten afterwards.
        study, keeper: of a search that Optuna leads, see `asked.run_asked`; no other reads them.
        progress: called after every generation.
        should_stop: asked before every batch of the search; what was found by then is kept and scored.

    Raises:
        BadInput: the space allows a horizon that the forecasts lack, or `run_backtest` would refuse the input.
        NotReady: there are too few forecasts for the parts, or the search was stopped before its first backtest.
    """
    absent = sorted(set(space.horizons_bars) - set(forecasts.horizons_bars))
    if absent:
        raise BadInput(f"the search allows horizons {absent}, but the forecasts have {forecasts.horizons_bars} only")
    parts = split(
        candles,
        forecasts,
        settings.in_sample_share,
        embargo_bars=settings.embargo_bars,
        later_spans=settings.later_spans,
    )

    def span_of(rows: NDArray[np.int64]) -> Span:
        return lay_out(candles, forecasts.take(rows), costs, symbol=symbol, no_entry=no_entry, rates=rates)

    store = Memory() if store is None else store
    searched = span_of(parts.searched)
    bench = _Bench(span=searched, cash=cash, blocks=_blocks(searched.ends.size, settings))
    lead = partial(run_asked, study=study, keeper=keeper) if settings.method == "tpe" else run_search
    run = lead(
        space, bench.evaluate, settings.goals, settings.search, store, progress=progress, should_stop=should_stop
    )
    trials = [Trial(config=trial.candidate, in_sample=shown(trial.figures)) for trial in run.trials]
    front = [trials[row] for row in run.best(_BEST)] if settings.single else _ranked(run, trials)
    later, returns = _scored(front, [span_of(parts.later), *map(span_of, parts.spans)], cash)
    picks = {how: front[place].config for how, place in _picked(front, settings).items()}
    near, steadiness = _steadiness(picks.values(), space, bench, settings.goals, store, run)
    result = ParetoResult(
        settings=settings,
        members=later,
        evaluated=(*trials, *(Trial(config=config, in_sample=shown(figures)) for config, figures in near)),
        neighbours=len(near),
        repeats=run.repeats,
        picks={how: config.hash12 for how, config in picks.items()},
        stability=steadiness,
        hypervolume=run.hypervolume,
        feasible=run.feasible,
        stopped=run.stopped,
        note=_note(run, settings),
        purge_bars=forecasts.horizons_bars[-1],
        searched_utc=_ends(searched),
        later_utc=tuple(_moments(forecasts, rows) for rows in parts.spans),
        periods_per_year=searched.periods_per_year,
    )
    evidence = SearchEvidence(
        moments=bench.moments_of([*(trial.figures for trial in run.trials), *(figures for _, figures in near)]),
        block_days=np.asarray(np.diff(block_edges(searched.ends.size, bench.blocks))),
        later_returns=returns,
    )
    return result, evidence


def _blocks(days: int, settings: ParetoSettings) -> int:
    many = settings.search.planned > _MANY_TRIALS
    return largest_blocks(days, most=_FEW_BLOCKS) if many else largest_blocks(days)


def _ranked(run: SearchRun[StrategyConfig], trials: Sequence[Trial]) -> list[Trial]:
    front = [trials[row] for row in run.front(run.settings.population)]
    return sorted(front, key=lambda one: (-float(one.in_sample["sharpe"] or 0.0), one.config.hash12))


def _picked(front: Sequence[Trial], settings: ParetoSettings) -> dict[str, int]:
    """Return the place of a member by how it is picked; a single objective has neither a knee nor an ideal."""
    if settings.single:
        return {"best": 0}
    figures = [one.in_sample for one in front]
    return {how: pick_named(how, figures, settings.goals) for how in PICKS}


def _scored(
    front: Sequence[Trial], later: Sequence[Span], cash: float
) -> tuple[tuple[ParetoMember, ...], dict[str, Floats]]:
    """Return the members with their figures on the later part and its spans, and their returns on the whole of it."""
    whole, *spans = later
    configs = [trial.config for trial in front]
    by_span = [sweep(span, configs, cash=cash).stats for span in spans]
    members, returns = [], {}
    for place, trial in enumerate(front):
        run = run_span(whole, trial.config, cash=cash)
        returns[trial.config.hash12] = day_returns(run.equity["equity"].to_numpy(), cash, whole.ends)
        told = tuple({name: stats[place][name] for name in SPAN_FIGURES} for stats in by_span)
        members.append(
            ParetoMember(config=trial.config, in_sample=trial.in_sample, out_of_sample=run.stats, later_spans=told)
        )
    return tuple(members), returns


def _steadiness(
    picked: Iterable[StrategyConfig],
    space: SearchSpace,
    bench: _Bench,
    goals: Goals,
    store: TrialStore,
    run: SearchRun[StrategyConfig],
) -> tuple[list[tuple[StrategyConfig, Stats]], dict[str, dict[str, Any]]]:
    """Return the neighbours of the picks that were not tried before, and how stable each pick is among its own.

    Of a search that was asked to stop none are tried: it may go on, and would have tried more than one never stopped.
    """
    figures = {one.candidate.hash12: one.figures for one in run.trials}
    tried, near = set(figures), list[tuple[StrategyConfig, Stats]]()
    picks = {one.hash12: one for one in picked}
    if run.stopped == "asked to stop":
        return near, {name: compare_neighbours(figures[name], [], goals).document() for name in picks}
    found: dict[str, dict[str, Any]] = {}
    for config in picks.values():
        known = stability(space, config, bench.evaluate, goals, store, first_number=len(tried))
        found[config.hash12] = known.document()
        new = {name: one for one in neighbours(space, config) if (name := one.hash12) not in tried}
        known_near = store.finished(list(new))
        near += [(one, known_near[name]) for name, one in new.items()]
        tried |= new.keys()
    return near, found


def _note(run: SearchRun[StrategyConfig], settings: ParetoSettings) -> str:
    remarks = [run.note] if run.note else []
    if settings.single:
        remarks.append(f"the best few by {settings.single} alone, not a front")
    if not run.feasible:
        remarks.append(_shortfall([trial.figures for trial in run.trials], settings))
    return "; ".join(remark for remark in remarks if remark)


def _shortfall(figures: Sequence[Stats], settings: ParetoSettings) -> str:
    """Return by which constraint every trial failed, empty where it was an objective that is undefined."""
    wanted, limit = settings.min_trades, settings.max_drawdown_pct
    trades = [int(one["trades"] or 0) for one in figures]
    if max(trades) < wanted:
        return f"{wanted} trades in sample were wanted, the most was {max(trades)}"
    least = min(float(one["max_drawdown_pct"] or 0.0) for one, made in zip(figures, trades) if made >= wanted)
    if limit is None or least <= limit:
        return ""
    return f"a drawdown of {limit:g} % at most was wanted, the least with {wanted} trades or more was {least:.2f} %"


def _ends(span: Span) -> tuple[datetime, datetime]:
    return from_utc(span.ts_utc[0]), from_utc(span.ts_utc[-1])


def _moments(forecasts: ForecastBatch, rows: NDArray[np.int64]) -> tuple[datetime, datetime]:
    return from_utc(forecasts.origin_utc[rows[0]]), from_utc(forecasts.origin_utc[rows[-1]])
