"""What the quality suite speaks of: per raw row, and per month, computed in polars and numpy."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.candles.gaps import closed_bars_since, is_holiday
from forexgpt_core.domain.bars import ASK_PRICES, PRICES, possible_ask, possible_bar
from forexgpt_core.domain.clock import Ints, Places, Timeframe, Times, bar_close, from_utc, places, slot_open, to_utc

_HOUR = 3_600_000_000  # microseconds
_NEAR = "30d"  # from a stored bar further away a price may have gone anywhere


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measures:
    """A raw table with what there is to say about it.

    Attributes:
        rows: the raw rows in their own order, NaN prices as null, with `possible`, `repeated`, `backwards`,
            `ohlc_margin`, `outside_week`, `seconds_off_grid`, `move`, `turned`, `stored_move` (from the nearest stored
            bar), `ask_impossible`, `narrowest_spread`, `widest_spread` and `in_future`; null where a row does not let
            itself be measured.
        months: `month, rows, expected, missing, stale_bars`, one row per month.
        stale_bars: closed bars lacking at the end, None without a clock.
        steps: from one bar to the next; `holes` of them skip bars.
        figures: the same for the record.
    """

    rows: pl.DataFrame
    months: pl.DataFrame
    stale_bars: int | None
    steps: int
    holes: int
    figures: dict[str, float | int | str]


def measure(
    raw: pl.DataFrame,
    timeframe: Timeframe,
    now_utc: datetime | None,
    *,
    closed_by_utc: datetime | None = None,
    stored: pl.DataFrame | None = None,
) -> Measures:
    """Return the measures of a raw table that has the columns of the candle schema.

    Args:
        now_utc: the clock against which staleness is measured, None to leave it out.
        closed_by_utc: when bars that close later are of the future; None where none are.
        stored: lawful bars that the raw ones are to be merged into, sorted; `ts_utc` and `close` are read.

    Raises:
        BadInput: a time lies outside 1990 to 2060.
    """
    given = raw["ts_utc"].is_not_null()
    times = raw["ts_utc"].drop_nulls().to_numpy().astype("datetime64[us]")
    found = places(times)
    placed = _placed(found, timeframe).with_columns(in_future=_in_future(times, timeframe, closed_by_utc))
    rows = _rows(raw, _on_all_rows(placed, given), stored)
    present = _present(found, timeframe)
    stale = None if now_utc is None or not times.size else closed_bars_since(times.max(), to_utc(now_utc), timeframe)
    months = _months(times, present, timeframe).with_columns(stale_bars=pl.lit(stale, dtype=pl.Int64))
    return Measures(
        rows=rows,
        months=months,
        stale_bars=stale,
        steps=max(0, present.size - 1),
        holes=int((np.diff(present) > 1).sum()),
        figures=_figures(rows, times, present, months, stale),
    )


def _rows(raw: pl.DataFrame, placed: pl.DataFrame, stored: pl.DataFrame | None) -> pl.DataFrame:
    rows = raw.with_columns(pl.col(PRICES).fill_nan(None)).with_columns(possible=possible_bar(raw.columns))
    given = pl.all_horizontal(pl.col(PRICES).is_not_null())
    above = pl.col("high") - pl.max_horizontal("open", "close")
    below = pl.min_horizontal("open", "close") - pl.col("low")
    return rows.with_columns(
        _repeated(raw["ts_utc"]),
        *placed.get_columns(),
        *_moves(rows).get_columns(),
        _stored_moves(rows, stored),
        backwards=pl.col("ts_utc") < pl.col("ts_utc").forward_fill().shift(),
        ohlc_margin=pl.when(given).then(pl.min_horizontal(above, below)),
        ask_impossible=~possible_ask(raw.columns),
        **_spreads(raw.columns),
    )


def _spreads(columns: list[str]) -> dict[str, pl.Expr]:
    """Return the narrowest and the widest of each row's spreads as log(ask / bid), null where no ask is known.

    Where the ask of a part of a bar is not known its highest ask may well lie below the highest bid, so highs are left
    out.
    """
    pairs = [(ask, bid) for ask, bid in zip(ASK_PRICES, PRICES, strict=True) if ask in columns and bid != "high"]
    spreads = [(pl.col(ask) / pl.col(bid)).log() for ask, bid in pairs]
    if not spreads:
        return dict.fromkeys(("narrowest_spread", "widest_spread"), pl.lit(None, dtype=pl.Float64))
    return {"narrowest_spread": pl.min_horizontal(spreads), "widest_spread": pl.max_horizontal(spreads)}


def _in_future(times: Times, timeframe: Timeframe, closed_by_utc: datetime | None) -> pl.Series:
    if closed_by_utc is None:
        return pl.repeat(False, times.size, eager=True)
    return pl.Series(bar_close(times, timeframe) > to_utc(closed_by_utc), dtype=pl.Boolean)


def _stored_moves(rows: pl.DataFrame, stored: pl.DataFrame | None) -> pl.Series:
    """Return the move of each possible bar's close from that of the nearest stored bar, be it the same one."""
    if stored is None or stored.is_empty() or rows.is_empty():
        return pl.Series("stored_move", [None], dtype=pl.Float64).new_from_index(0, rows.height)
    bars = rows.with_row_index("row").filter("possible").select("row", "ts_utc", "close").sort("ts_utc")
    other = stored.select("ts_utc", stored_close="close")
    near = bars.join_asof(other, on="ts_utc", strategy="nearest", tolerance=_NEAR)
    moves = near.select("row", stored_move=(pl.col("close") / pl.col("stored_close")).log().abs())
    return rows.select(row=pl.int_range(pl.len(), dtype=pl.UInt32)).join(moves, on="row", how="left")["stored_move"]


def _repeated(times: pl.Series) -> pl.Series:
    """Return where a time stands in another row too."""
    if times.n_unique() == times.len() and not times.has_nulls():
        return pl.repeat(False, times.len(), eager=True).alias("repeated")
    return (times.is_duplicated() & times.is_not_null()).alias("repeated")


def _placed(found: Places, timeframe: Timeframe) -> pl.DataFrame:
    """Return whether rows open outside the FX week and, inside it, their distance from the grid."""
    off_grid = np.where(found.inside, found.off_grid(timeframe) / 1e6, 0.0)
    return pl.DataFrame({"outside_week": ~found.inside, "seconds_off_grid": off_grid})


def _on_all_rows(measured: pl.DataFrame, given: pl.Series) -> pl.DataFrame:
    """Return measures of the rows marked in `given` on all rows, null on the others."""
    if measured.height == given.len():
        return measured
    position = (given.cast(pl.Int64).cum_sum() - 1).set(~given, None)
    return measured.select(pl.all().gather(position))


def _moves(rows: pl.DataFrame) -> pl.DataFrame:
    """Return, among possible bars in time order, the larger of each bar's range and its close-to-close move as `move`.

    A bar opens about where the one before closed; where its close is nearer to the open before, it is `turned`.
    """
    possible = rows["possible"]
    bars = rows.filter(possible).select("ts_utc", *PRICES)
    ordered = bars["ts_utc"].is_sorted()
    if not ordered:
        bars = bars.with_row_index("row").sort("ts_utc", maintain_order=True)
    step = pl.col("close") / pl.col("close").shift()
    ratio = pl.max_horizontal(step, 1 / step, pl.col("high") / pl.col("low"))
    turned = (pl.col("close") - pl.col("open").shift()).abs() < (pl.col("open") - pl.col("close").shift()).abs()
    moves = bars.with_columns(move=ratio.log(), turned=turned)
    if not ordered:
        moves = moves.sort("row")
    return _on_all_rows(moves.select("move", "turned"), possible)


def _present(found: Places, timeframe: Timeframe) -> Ints:
    """Return the running numbers of the bars that are there, sorted, each once."""
    slots = found.slot(timeframe)[found.inside]
    if (np.diff(slots) > 0).all():
        return slots
    slots = np.sort(slots)
    return np.asarray(slots[np.diff(slots, prepend=-1) > 0])


def _months(times: Times, present: Ints, timeframe: Timeframe) -> pl.DataFrame:
    """Return the rows of each month, and the bars of its ordinary days: how many were expected and are missing.

    Counted by the hour (or the bar, where that is longer), because no month and no holiday ends inside one.
    """
    rows, hours = _counts(times.view(np.int64) // _HOUR)
    block = max(1, 3600 // timeframe.seconds)
    there, blocks = _counts(present // block)
    size = np.full(there.size, block, dtype=np.int64)
    if present.size:
        size[0] -= present[0] % block
        size[-1] -= block - 1 - present[-1] % block
    opens = slot_open(blocks * block, timeframe)
    ordinary = np.where(is_holiday(opens), 0, 1)
    none = np.zeros_like(there)
    counted = pl.concat(
        [
            _counted((hours * _HOUR).view("datetime64[us]"), rows, np.zeros_like(rows), np.zeros_like(rows)),
            _counted(opens, none, ordinary * size, ordinary * (size - there)),
        ]
    )
    months = counted.group_by(month=pl.col("open").dt.strftime("%Y-%m")).agg(pl.exclude("open").sum())
    return months.filter((pl.col("rows") > 0) | (pl.col("expected") > 0)).sort("month")


def _counted(opens: Times, rows: Ints, expected: Ints, missing: Ints) -> pl.DataFrame:
    columns = {"open": opens, "rows": rows, "expected": expected, "missing": missing}
    return pl.DataFrame(columns, schema={"open": pl.Datetime("us"), **dict.fromkeys(list(columns)[1:], pl.Int64())})


def _counts(numbers: Ints) -> tuple[Ints, Ints]:
    """Return how often every number from the smallest to the largest occurs, and these numbers."""
    if numbers.size == 0:
        return numbers, numbers
    counts = np.bincount(numbers - numbers.min())
    return counts, numbers.min() + np.arange(counts.size)


def _figures(
    rows: pl.DataFrame, times: Times, present: Ints, months: pl.DataFrame, stale_bars: int | None
) -> dict[str, float | int | str]:
    expected, missing = int(months["expected"].sum()), int(months["missing"].sum())
    gaps = np.diff(present) - 1
    first, last = (f"{from_utc(times.min())}", f"{from_utc(times.max())}") if times.size else ("none", "none")
    return {
        "rows": rows.height,
        "first_utc": first,
        "last_utc": last,
        "impossible_bars": int((~rows["possible"]).sum()),
        "repeated_times": times.size - rows["ts_utc"].drop_nulls().n_unique(),
        "outside_week_bars": int(rows["outside_week"].sum()),
        "off_grid_bars": int((rows["seconds_off_grid"] != 0).sum()),
        "gaps": int((gaps > 0).sum()),
        "missing_bars": missing,
        "gap_share": missing / expected if expected else 0.0,
        "longest_gap_bars": int(gaps.max(initial=0)),
        "largest_move": float(rows.select(pl.col("move").max().fill_null(0.0)).item()),
        "stale_bars": "not judged" if stale_bars is None else stale_bars,
    }
