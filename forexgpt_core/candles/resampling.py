"""Higher bars out of lower ones, each only once it has closed."""

from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.bars import ASK_PRICES, PRICES, SCHEMA
from forexgpt_core.domain.clock import Ints, Timeframe, bar_close, expected_opens, to_utc
from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]


def resample(
    bars: pl.DataFrame, source: Timeframe, target: Timeframe, *, known_until_utc: datetime | None = None
) -> pl.DataFrame:
    """Return the `target` bars that are closed, built from lawful `source` bars.

    A bar is returned only if its nominal close is at or before `known_until_utc`, so a row never changes when later
    source bars arrive. Holes in the source leave a bar with fewer parts, and no bar where there is none at all.

    Args:
        bars: lawful bars (see `domain.bars`) inside the FX week; ask prices are carried along.
        known_until_utc: what has been seen so far; by default the close of the last source bar.

    Returns:
        Bars in the columns of `bars`: first open, highest high, lowest low, last close, and the sum of the volumes
        (null where all of them are).

    Raises:
        BadInput: `target` is shorter than `source`, or a bar lies outside the FX week.
    """
    if target.seconds < source.seconds:
        raise BadInput(f"cannot build {target} bars from {source} bars: the target must be the longer of the two")
    columns = [*SCHEMA, *(c for c in ASK_PRICES if c in bars.columns)]
    if bars.is_empty() or target == source:
        return bars.select(columns)
    ts = bars["ts_utc"].to_numpy().astype("datetime64[us]")
    known = bar_close(ts[-1:], source)[0] if known_until_utc is None else to_utc(known_until_utc)
    opens = expected_opens(ts[0], ts[-1], target)
    closes = bar_close(opens, target)
    starts, ends = (np.searchsorted(ts, edges, side="left") for edges in (opens, closes))
    outside = bars.height - int((ends - starts).sum())
    if outside:
        raise BadInput(f"{outside} bars lie outside the FX week: clean the bars before resampling")
    made = (ends > starts) & (closes <= known)
    last = int(ends[made][-1]) if made.any() else 0
    parts = {name: bars[name].head(last).to_numpy() for name in columns[1:]}
    table = {"ts_utc": pl.Series(opens[made], dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")}
    for name, values in parts.items():
        joined = pl.Series(_joined(name.removeprefix("ask_"), values, starts[made]))
        table[name] = joined if name in PRICES else joined.fill_nan(None)
    return pl.DataFrame(table)


def _joined(rule: str, values: Floats, starts: Ints) -> Floats:
    """Return one value per bar out of the parts that begin at `starts`: first open, highest high and so on."""
    if not starts.size:
        return values
    if rule == "open":
        return np.asarray(values[starts])
    if rule == "close":
        return np.asarray(values[np.append(starts[1:], values.size) - 1])
    if rule == "volume":
        given = ~np.isnan(values)
        total = np.add.reduceat(np.where(given, values, 0.0), starts)
        return np.where(np.logical_or.reduceat(given, starts), total, np.nan)
    return np.asarray({"high": np.fmax, "low": np.fmin}[rule].reduceat(values, starts))
