"""From raw bars to lawful ones: what cannot be used is put aside with its reason, never altered and never lost."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.domain.bars import OPTIONAL_SCHEMA, SCHEMA, possible_bar, require_bars
from forexgpt_core.domain.clock import Timeframe, bar_close, places, to_utc
from forexgpt_core.errors import BadInput

REASONS = ("impossible", "outside_week", "off_grid", "unfinished", "exact_repeat", "conflicting_repeat")
ASIDE_SCHEMA: dict[str, pl.DataType] = SCHEMA | OPTIONAL_SCHEMA | {"reason": pl.String(), "kept": pl.Boolean()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cleaned:
    """Lawful bars, and the raw ones that are not among them.

    Attributes:
        bars: lawful, sorted.
        dropped: how many raw bars were dropped under each of REASONS (0 where none was).
        aside: the dropped rows as the source gave them, in the columns of ASIDE_SCHEMA. Where rows of one time
            contradict each other every version is there, also the one that became the candle: `kept` is true for it.
    """

    bars: pl.DataFrame
    dropped: dict[str, int]
    aside: pl.DataFrame

    @property
    def dropped_bars(self) -> int:
        """Return how many raw bars were dropped in all."""
        return sum(self.dropped.values())


def clean(raw: pl.DataFrame, timeframe: Timeframe, *, now_utc: datetime | None = None) -> Cleaned:
    """Return the lawful bars of `raw`, sorted, and every other bar under its reason.

    A bar is counted once, under the first reason that fits, in the order of REASONS: its prices, its volume or its
    time are impossible; it opens outside the FX week; it does not open on the timeframe's grid; it closes later than
    `now_utc`, so it is still forming; it repeats an earlier row exactly; it repeats an earlier row's time with other
    values. The first row of a time is the one that is kept: a
    source that contradicts itself gives no ground to prefer a later version, and the first is the same at every run.
    Cleaning what is clean changes nothing.

    Args:
        now_utc: the clock; None where bars of the future are none.

    Raises:
        BadInput: a column of the candle schema is missing or mistyped.
    """
    rows = raw_columns(raw)
    marked = rows.with_columns(reason=_misplaced(rows, timeframe, now_utc))
    placed = marked.filter(pl.col("reason").is_null()).drop("reason") if marked["reason"].count() else rows
    ts = placed["ts_utc"].to_numpy()
    if not (np.diff(ts) > np.timedelta64(0)).all():
        placed = placed.sort("ts_utc", maintain_order=True)
    bars = placed.filter(pl.col("ts_utc").is_first_distinct())
    unlawful = marked.filter(pl.col("reason").is_not_null()).with_columns(kept=False)
    aside = pl.concat([unlawful, *([_repeats(placed, bars)] if bars.height < placed.height else [])])
    counts = dict(aside.filter(~pl.col("kept"))["reason"].value_counts().iter_rows())
    return Cleaned(
        bars=require_bars(bars),
        dropped={reason: int(counts.get(reason, 0)) for reason in REASONS},
        aside=_completed(aside),
    )


def raw_columns(raw: pl.DataFrame) -> pl.DataFrame:
    """Return the known columns of `raw` in the order of the schema, other columns left out.

    Raises:
        BadInput: a column of the candle schema is missing or mistyped.
    """
    known = SCHEMA | {name: dtype for name, dtype in OPTIONAL_SCHEMA.items() if name in raw.columns}
    for name, dtype in known.items():
        if name not in raw.columns:
            raise BadInput(f"candles lack the column '{name}'; expected {', '.join(SCHEMA)}")
        if raw.schema[name] != dtype:
            raise BadInput(f"candle column '{name}' is {raw.schema[name]}, expected {dtype}")
    return raw.select(list(known))


def _misplaced(rows: pl.DataFrame, timeframe: Timeframe, now_utc: datetime | None) -> pl.Series:
    """Return the reason why each row cannot be a candle by itself, null where it can."""
    possible = rows.select(possible_bar(rows.columns)).to_series().to_numpy()
    ts = rows["ts_utc"].to_numpy().astype("datetime64[us]")[possible]
    where = places(ts)
    inside, on_grid = where.inside, where.off_grid(timeframe) == 0
    place = np.full(rows.height, -1, dtype=np.int8)
    place[~possible] = REASONS.index("impossible")
    forming = np.zeros(ts.size, np.bool_) if now_utc is None else bar_close(ts, timeframe) > to_utc(now_utc)
    reasons = {"outside_week": ~inside, "off_grid": ~on_grid, "unfinished": forming}
    place[possible] = np.select(list(reasons.values()), [REASONS.index(reason) for reason in reasons], -1)
    if (place < 0).all():
        return pl.Series("reason", [None], dtype=pl.String).new_from_index(0, rows.height)
    return pl.Series("reason", np.array([*REASONS, None], dtype=object)[place].tolist(), dtype=pl.String)


def _repeats(placed: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Return the rows whose time was there before, and the kept version of each time that is contradicted."""
    later = placed.filter(~pl.col("ts_utc").is_first_distinct())
    exact = later.join(bars, on=bars.columns, how="semi", nulls_equal=True)
    conflicting = later.join(bars, on=bars.columns, how="anti", nulls_equal=True)
    first = bars.join(conflicting, on="ts_utc", how="semi")
    parts = ((exact, "exact_repeat", False), (conflicting, "conflicting_repeat", False))
    return pl.concat(
        part.with_columns(reason=pl.lit(reason), kept=pl.lit(kept))
        for part, reason, kept in (*parts, (first, "conflicting_repeat", True))
    )


def _completed(aside: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with every ask column, null where the source has none."""
    lacking = [pl.lit(None, dtype=pl.Float64).alias(name) for name in OPTIONAL_SCHEMA if name not in aside.columns]
    return aside.with_columns(lacking).select(list(ASIDE_SCHEMA)).cast(pl.Schema(ASIDE_SCHEMA))
