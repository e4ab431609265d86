"""From raw bars to lawful ones: what cannot be used is dropped and counted, never altered."""

from dataclasses import dataclass

import polars as pl

from forexgpt_core.domain.bars import OPTIONAL_SCHEMA, SCHEMA, possible_bar, require_bars
from forexgpt_core.domain.clock import Timeframe, bar_open, in_fx_week
from forexgpt_core.errors import BadInput

REASONS = ("impossible", "outside_week", "off_grid", "exact_repeat", "conflicting_repeat")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cleaned:
    """Lawful bars, and how many of the raw ones were dropped under each of REASONS (0 where none was)."""

    bars: pl.DataFrame
    dropped: dict[str, int]

    @property
    def dropped_bars(self) -> int:
        """Return how many raw bars were dropped in all."""
        return sum(self.dropped.values())


def clean(raw: pl.DataFrame, timeframe: Timeframe) -> Cleaned:
    """Return the lawful bars of `raw`, sorted, and the count of every other bar under its reason.

    A bar is counted once, under the first reason that fits, in the order of REASONS: its prices or its time are
    impossible; it opens outside the FX week; it does not open on the timeframe's grid; it repeats an earlier row
    exactly; it repeats an earlier row's time with other values. The first row of a time is the one that is kept.
    Cleaning what is clean changes nothing.

    Raises:
        BadInput: a column of the candle schema is missing or mistyped.
    """
    rows = raw_columns(raw)
    possible = rows.filter(possible_bar())
    ts = possible["ts_utc"].to_numpy().astype("datetime64[us]")
    inside, on_grid = in_fx_week(ts), bar_open(ts, timeframe) == ts
    placed = possible.filter(pl.Series(inside & on_grid, dtype=pl.Boolean)).sort("ts_utc", maintain_order=True)
    bars = placed.unique("ts_utc", maintain_order=True, keep="first")
    repeats = placed.height - bars.height
    exact = placed.join(bars, on=rows.columns, how="semi", nulls_equal=True).height - bars.height
    dropped = {
        "impossible": rows.height - possible.height,
        "outside_week": int((~inside).sum()),
        "off_grid": int((inside & ~on_grid).sum()),
        "exact_repeat": exact,
        "conflicting_repeat": repeats - exact,
    }
    return Cleaned(bars=require_bars(bars), dropped=dropped)


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
