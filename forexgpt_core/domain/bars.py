"""Columns of a candle table and what every bar must satisfy."""

import polars as pl

from forexgpt_core.errors import BadInput

PRICES = ("open", "high", "low", "close")
ASK_PRICES = ("ask_open", "ask_high", "ask_low", "ask_close")
SCHEMA: dict[str, pl.DataType] = {
    "ts_utc": pl.Datetime("us", "UTC"),
    **{name: pl.Float64() for name in PRICES},
    "volume": pl.Float64(),
}
OPTIONAL_SCHEMA: dict[str, pl.DataType] = {name: pl.Float64() for name in ASK_PRICES}
MEANINGS: dict[str, str] = {
    "ts_utc": "open of the bar in UTC; the bar is known only at its close",
    "open": "first bid price, quote currency per unit of base currency",
    "high": "highest bid price, quote currency per unit of base currency",
    "low": "lowest bid price, quote currency per unit of base currency",
    "close": "last bid price, quote currency per unit of base currency",
    "volume": "ticks in the bar, null where the source does not count them",
    "ask_open": "first ask price, quote currency per unit of base currency",
    "ask_high": "highest ask price, quote currency per unit of base currency",
    "ask_low": "lowest ask price, quote currency per unit of base currency",
    "ask_close": "last ask price, quote currency per unit of base currency",
}
"""What each column holds, with its unit."""


def empty_bars() -> pl.DataFrame:
    """Return a candle table with no rows."""
    return pl.DataFrame(schema=SCHEMA)


def possible_bar() -> pl.Expr:
    """Return the row law: prices finite and above 0, low <= open, close <= high."""
    finite = pl.all_horizontal([pl.col(c).is_not_null() & pl.col(c).is_finite() & (pl.col(c) > 0) for c in PRICES])
    body_low, body_high = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    return pl.col("ts_utc").is_not_null() & finite & (pl.col("low") <= body_low) & (pl.col("high") >= body_high)


def require_bars(bars: pl.DataFrame) -> pl.DataFrame:
    """Return `bars` unchanged when columns, types, order and every row are lawful.

    Raises:
        BadInput: a column is missing or mistyped, times are not strictly increasing, or a bar is impossible.
    """
    for name, dtype in SCHEMA.items():
        if name not in bars.columns:
            raise BadInput(f"candles lack the column '{name}'; expected {', '.join(SCHEMA)}")
        if bars.schema[name] != dtype:
            raise BadInput(f"candle column '{name}' is {bars.schema[name]}, expected {dtype}")
    if bars.height and not bars["ts_utc"].is_sorted():
        raise BadInput("candles are not sorted by ts_utc")
    if bars["ts_utc"].n_unique() != bars.height:
        raise BadInput(f"candles repeat {bars.height - bars['ts_utc'].n_unique()} times; expected one bar per time")
    bad = bars.filter(~possible_bar())
    if bad.height:
        first = bad["ts_utc"][0]
        raise BadInput(f"{bad.height} impossible bars, first at {first}: expected 0 < low <= open, close <= high")
    return bars
