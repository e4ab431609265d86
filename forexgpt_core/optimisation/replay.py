"""The members of a front traded again, in full."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from forexgpt_core.backtest.engine import run_span
from forexgpt_core.backtest.performance import Stats
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.backtest.span import Bools, lay_out
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import ForexGPTError
from forexgpt_core.optimisation.pareto import ParetoResult
from forexgpt_core.optimisation.parts import split


class ReplayDiffers(ForexGPTError):
    """A configuration no longer gives the figures that a study has recorded for it."""

    def __init__(self, hash12: str, part: str, figure: str, recorded: object, found: object) -> None:
        super().__init__(hash12, part, figure, recorded, found)
        self.hash12, self.part, self.figure, self.recorded, self.found = hash12, part, figure, recorded, found

    def __str__(self) -> str:
        return (
            f"configuration {self.hash12} gave {self.figure} {self.recorded} {self.part} when it was searched and"
            f" gives {self.found} now: bars, forecasts, costs or code are others; search again"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """A member on the part searched and on the later part."""

    searched: BacktestResult
    later: BacktestResult


def replay(
    result: ParetoResult,
    candles: pl.DataFrame,
    forecasts: ForecastBatch,
    costs: Costs,
    *,
    symbol: str,
    cash: float,
    no_entry: Bools | None = None,
    rates: Mapping[str, pl.DataFrame] | None = None,
) -> dict[str, Replay]:
    """Return every member's backtests by its hash, whose figures are those recorded to the last bit.

    Args:
        result: of a search on the other arguments; see `pareto.search`.

    Raises:
        ReplayDiffers: a figure is another one.
    """
    settings = result.settings
    parts = split(
        candles,
        forecasts,
        settings.in_sample_share,
        embargo_bars=settings.embargo_bars,
        later_spans=settings.later_spans,
    )
    searched, later = (
        lay_out(candles, forecasts.take(rows), costs, symbol=symbol, no_entry=no_entry, rates=rates)
        for rows in (parts.searched, parts.later)
    )
    replays = {}
    for member in result.members:
        both = Replay(
            searched=run_span(searched, member.config, cash=cash), later=run_span(later, member.config, cash=cash)
        )
        _require_same(member.hash12, "in sample", member.in_sample, both.searched.stats)
        _require_same(member.hash12, "out of sample", member.out_of_sample, both.later.stats)
        replays[member.hash12] = both
    return replays


def _require_same(hash12: str, part: str, recorded: Stats, found: Stats) -> None:
    for name, value in recorded.items():
        if name not in found or found[name] != value:
            raise ReplayDiffers(hash12, part, name, value, found.get(name))
