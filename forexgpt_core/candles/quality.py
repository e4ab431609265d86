"""Is this table of raw bars good enough to be merged? A verdict with reasons, from a Great Expectations suite."""

from dataclasses import dataclass, fields
from datetime import datetime

import polars as pl

from forexgpt_core.candles.expectations import SuiteBroken
from forexgpt_core.candles.gaps import find_gaps
from forexgpt_core.candles.measures import measure
from forexgpt_core.candles.suite import EXPECTATIONS, Failure, Terms, judge_columns, judge_rows
from forexgpt_core.candles.week_open import week_open
from forexgpt_core.domain.bars import OPTIONAL_SCHEMA, SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput

__all__ = ["EXPECTATIONS", "Failure", "QualityLimits", "SuiteBroken", "Verdict", "find_gaps", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityLimits:
    """What is tolerated, mostly as shares of the rows judged.

    Attributes:
        null_share, impossible_share, repeat_share, disorder_share, off_grid_share: of rows.
        outside_week_share: of rows; stub bars at the weekly close are common and the cleaning drops them.
        crossed_share: of rows whose ask lies below the bid, which happens for moments.
        future_share: of rows that close later than the clock shows; one bar may still be forming.
        turned_share: of rows that close nearer to the open before than they open to the close before, as nearly all do
            where open and close are exchanged (real feeds: 0 to 8 %).
        gap_share: of the bars expected on ordinary trading days.
        lone_share: of steps from one bar to the next that skip bars, which all do where the timeframe is wrong.
        least_rows: rows there must be; 0 where having nothing new is no fault.
        least_bars: bars missing, skipping, in the future or outside the week that are tolerated however short the table
            is.
        spike_log_return: a move (close to close, or low to high within a bar) that is suspicious in bars of up to one
            hour; this limit and the next grow with the square root of the bar's length beyond that.
        spike_share: of rows with a suspicious move; real crashes exist, so a long history may hold a few.
        absurd_log_return: a move that no row may have, nor any close from that of the nearest stored bar.
        max_stale_bars: closed bars that may be lacking at the end, judged only against a clock; None for any number.
    """

    null_share: float = 0.001
    impossible_share: float = 0.001
    repeat_share: float = 0.001
    disorder_share: float = 0.001
    off_grid_share: float = 0.001
    outside_week_share: float = 0.005
    crossed_share: float = 0.01
    future_share: float = 0.001
    turned_share: float = 0.7
    gap_share: float = 0.05
    lone_share: float = 0.9
    least_rows: int = 1
    least_bars: int = 3
    spike_log_return: float = 0.05
    spike_share: float = 0.0001
    absurd_log_return: float = 0.4
    max_stale_bars: int | None = 24

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self) if f.name.endswith("_share")):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"quality limit {name} must lie in [0, 1], was {getattr(self, name)}")
        if not 0 < self.spike_log_return <= self.absurd_log_return:
            raise BadInput(
                "quality limits must satisfy 0 < spike_log_return <= absurd_log_return, were"
                f" {self.spike_log_return} and {self.absurd_log_return}"
            )
        if min(self.least_rows, self.least_bars) < 0 or (self.max_stale_bars is not None and self.max_stale_bars < 0):
            raise BadInput("quality limits least_rows, least_bars and max_stale_bars must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the suite said.

    Attributes:
        rows: raw rows judged.
        failures: in the order of EXPECTATIONS; empty when passed.
        figures: key figures by name, for the record.
        warnings: what a person should look at although it stops nothing, one sentence each.
    """

    passed: bool
    rows: int
    failures: tuple[Failure, ...]
    figures: dict[str, float | int | str]
    warnings: tuple[str, ...] = ()


def judge(
    raw: pl.DataFrame,
    timeframe: Timeframe,
    *,
    limits: QualityLimits | None = None,
    now_utc: datetime | None = None,
    closed_by_utc: datetime | None = None,
    stored: pl.DataFrame | None = None,
) -> Verdict:
    """Return whether raw bars may be cleaned and merged, and why not.

    Args:
        raw: bars as the source gave them. A table without rows passes only where `limits.least_rows` is 0.
        limits: what is tolerated, by default `QualityLimits()`.
        now_utc: the clock to judge staleness against; None for an archive, which is never stale.
        closed_by_utc: the clock by which bars must have closed; None where no bar can be of the future.
        stored: the bars that these will be merged into, sorted; their closes must not be worlds apart.

    Raises:
        BadInput: a column has the wrong type, or a time lies outside 1990 to 2060.
        SuiteBroken: the suite could not run.
    """
    failures = judge_columns(raw)
    if failures:
        return Verdict(passed=False, rows=raw.height, failures=failures, figures={"rows": raw.height})
    for name, dtype in (SCHEMA | OPTIONAL_SCHEMA).items():
        if name in raw.columns and raw.schema[name] != dtype:
            raise BadInput(f"candle column '{name}' is {raw.schema[name]}, expected {dtype}")
    measures = measure(raw, timeframe, now_utc, closed_by_utc=closed_by_utc, stored=stored)
    failures = judge_rows(measures, _terms(limits or QualityLimits(), timeframe))
    opening = week_open(measures.rows, timeframe)
    warnings = tuple(filter(None, [opening.warning()]))
    said = {"week_open": opening.figure, **({"warning": "; ".join(warnings)} if warnings else {})}
    return Verdict(
        passed=not failures,
        rows=raw.height,
        failures=failures,
        figures={**measures.figures, **said},
        warnings=warnings,
    )


def _terms(limits: QualityLimits, timeframe: Timeframe) -> Terms:
    growth = max(1.0, timeframe.seconds / 3600) ** 0.5
    return Terms(
        shares={f.name.removesuffix("_share"): getattr(limits, f.name) for f in fields(limits) if "_share" in f.name},
        least_rows=limits.least_rows,
        least_bars=limits.least_bars,
        spike=limits.spike_log_return * growth,
        absurd=limits.absurd_log_return * growth,
        max_stale_bars=limits.max_stale_bars,
    )
