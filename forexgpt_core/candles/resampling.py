"""Higher bars out of lower ones, each only once it has closed."""

from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.domain.bars import ASK_PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe, bar_close, bar_open, in_fx_week, to_utc
from forexgpt_core.errors import BadInput


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
    if bars.is_empty():
        return bars.select(columns)
    ts = bars["ts_utc"].to_numpy().astype("datetime64[us]")
    if not in_fx_week(ts).all():
        raise BadInput(f"{int((~in_fx_week(ts)).sum())} bars lie outside the FX week: clean the bars before resampling")
    known = bar_close(ts[-1:], source)[0] if known_until_utc is None else to_utc(known_until_utc)
    opens = bar_open(ts, target)
    closed = int(np.searchsorted(bar_close(opens, target), known, side="right"))  # opens never decrease
    stamped = bars.head(closed).with_columns(
        pl.Series("ts_utc", opens[:closed], dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")
    )
    return stamped.group_by("ts_utc", maintain_order=True).agg(_aggregates(columns)).select(columns)


def _aggregates(columns: list[str]) -> list[pl.Expr]:
    volume = pl.when(pl.col("volume").is_not_null().any()).then(pl.col("volume").sum()).alias("volume")
    return [volume, *(_RULES[name.removeprefix("ask_")](name) for name in columns if name not in ("ts_utc", "volume"))]


_RULES = {
    "open": lambda name: pl.col(name).first(),
    "high": lambda name: pl.col(name).max(),
    "low": lambda name: pl.col(name).min(),
    "close": lambda name: pl.col(name).last(),
}
