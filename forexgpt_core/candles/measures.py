"""What the quality suite speaks of: per raw row, and per month, computed in polars."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.candles.gaps import closed_bars_since, coverage, find_gaps
from forexgpt_core.domain.bars import PRICES, possible_bar
from forexgpt_core.domain.clock import Timeframe, bar_open, from_utc, in_fx_week, to_utc


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measures:
    """A raw table with what there is to say about it.

    Attributes:
        rows: the raw rows in their own order, NaN prices as null, with `repeated`, `backwards`, `ohlc_margin`,
            `outside_week`, `seconds_off_grid` and `move`; null where a row does not let itself be measured.
        months: `month, rows, expected, missing, stale_bars`, one row per month.
        stale_bars: closed bars lacking at the end, None without a clock.
        figures: the same for the record.
    """

    rows: pl.DataFrame
    months: pl.DataFrame
    stale_bars: int | None
    figures: dict[str, float | int | str]


def measure(raw: pl.DataFrame, timeframe: Timeframe, now_utc: datetime | None) -> Measures:
    """Return the measures of a raw table that has the columns of the candle schema.

    Raises:
        BadInput: a time lies outside 1990 to 2060.
    """
    rows = _rows(raw, timeframe)
    timed = raw["ts_utc"].drop_nulls()
    newest = timed.to_numpy().astype("datetime64[us]").max() if timed.len() else None
    stale = None if now_utc is None or newest is None else closed_bars_since(newest, to_utc(now_utc), timeframe)
    months = _months(rows, timeframe, stale)
    return Measures(rows=rows, months=months, stale_bars=stale, figures=_figures(rows, months, timeframe, stale))


def _rows(raw: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    rows = raw.with_columns(pl.col(PRICES).fill_nan(None)).with_row_index("row")
    given = pl.all_horizontal(pl.col(PRICES).is_not_null())
    above = pl.col("high") - pl.max_horizontal("open", "close")
    below = pl.min_horizontal("open", "close") - pl.col("low")
    return (
        rows.with_columns(
            repeated=pl.col("ts_utc").is_not_null() & pl.col("ts_utc").is_duplicated(),
            backwards=pl.col("ts_utc") < pl.col("ts_utc").shift(),
            ohlc_margin=pl.when(given).then(pl.min_horizontal(above, below)),
        )
        .join(_places(rows, timeframe), on="row", how="left", maintain_order="left")
        .join(_moves(rows), on="row", how="left", maintain_order="left")
        .drop("row")
    )


def _places(rows: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return whether rows open outside the FX week and, inside it, their distance from the grid."""
    timed = rows.filter(pl.col("ts_utc").is_not_null())
    ts = timed["ts_utc"].to_numpy().astype("datetime64[us]")
    inside = in_fx_week(ts)
    off_grid = np.where(inside, (ts - bar_open(ts, timeframe)) / np.timedelta64(1, "s"), 0.0)
    return timed.select("row", outside_week=pl.lit(pl.Series(~inside)), seconds_off_grid=pl.lit(pl.Series(off_grid)))


def _moves(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the larger of each bar's range and its close-to-close move, among possible bars in time order."""
    ordered = rows.filter(possible_bar()).sort("ts_utc", maintain_order=True)
    between = (pl.col("close") / pl.col("close").shift()).log().abs()
    within = (pl.col("high") / pl.col("low")).log()
    return ordered.select("row", move=pl.max_horizontal(between, within))


def _months(rows: pl.DataFrame, timeframe: Timeframe, stale_bars: int | None) -> pl.DataFrame:
    covered = coverage(rows, timeframe)
    parts = {
        "rows": rows["ts_utc"].drop_nulls().dt.replace_time_zone(None),
        "expected": pl.Series(covered.expected_utc, dtype=pl.Datetime("us")),
        "missing": pl.Series(covered.missing_utc, dtype=pl.Datetime("us")),
    }
    long = pl.concat(
        pl.DataFrame({"month": times.dt.strftime("%Y-%m")}).with_columns(what=pl.lit(name))
        for name, times in parts.items()
    )
    counts = [(pl.col("what") == name).sum().cast(pl.Int64).alias(name) for name in parts]
    return long.group_by("month").agg(counts).sort("month").with_columns(stale_bars=pl.lit(stale_bars, dtype=pl.Int64))


def _figures(
    rows: pl.DataFrame, months: pl.DataFrame, timeframe: Timeframe, stale_bars: int | None
) -> dict[str, float | int | str]:
    times = rows["ts_utc"].drop_nulls()
    gaps = find_gaps(rows, timeframe)
    expected, missing = int(months["expected"].sum()), int(months["missing"].sum())
    ends = times.to_numpy().astype("datetime64[us]")
    first, last = (f"{from_utc(ends.min())}", f"{from_utc(ends.max())}") if ends.size else ("none", "none")
    return {
        "rows": rows.height,
        "first_utc": first,
        "last_utc": last,
        "impossible_bars": rows.filter(~possible_bar()).height,
        "repeated_times": times.len() - times.n_unique(),
        "outside_week_bars": int(rows["outside_week"].sum()),
        "off_grid_bars": int((rows["seconds_off_grid"] != 0).sum()),
        "gaps": gaps.height,
        "missing_bars": missing,
        "gap_share": missing / expected if expected else 0.0,
        "longest_gap_bars": int(gaps.select(pl.col("missing_bars").max().fill_null(0)).item()),
        "largest_move": float(rows.select(pl.col("move").max().fill_null(0.0)).item()),
        "stale_bars": "not judged" if stale_bars is None else stale_bars,
    }
