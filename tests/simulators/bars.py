"""Bars to serve: a random walk on the minutes of the FX week, on whole points."""

from datetime import datetime

import numpy as np
import polars as pl

from forexgpt_core.domain.bars import ASK_PRICES, PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens, to_utc


def walk_bars(
    timeframe: Timeframe, first: datetime, last: datetime, *, missing: float = 0.0, points: int = 100_000, seed: int = 5
) -> pl.DataFrame:
    """Return bars with bid and ask that open from `first` to `last`, a share of them missing."""
    rng = np.random.default_rng(seed)
    opens = expected_opens(to_utc(first), to_utc(last), timeframe)
    opens = opens[(opens >= to_utc(first)) & (opens <= to_utc(last)) & (rng.random(opens.size) >= missing)]
    n = opens.size
    base = 117_000 if points == 100_000 else 111_000
    close = base + np.cumsum(rng.integers(-6, 7, n))
    open_ = close + rng.integers(-5, 6, n)
    high = np.maximum(open_, close) + rng.integers(0, 5, n)
    low = np.minimum(open_, close) - rng.integers(0, 5, n)
    spread = rng.integers(1, 15, n)
    bid = dict(zip(PRICES, (open_, high, low, close), strict=True))
    columns = {
        "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
        **{name: values / points for name, values in bid.items()},
        "volume": rng.integers(1, 400, n).astype(np.float64) / 4,
        **{ask: (bid[name] + spread) / points for name, ask in zip(PRICES, ASK_PRICES, strict=True)},
    }
    return pl.DataFrame(columns, schema_overrides=SCHEMA)
