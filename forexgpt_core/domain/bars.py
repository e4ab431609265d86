"""Columns of a candle table and what every bar must satisfy."""

from collections.abc import Collection

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


def possible_bar(columns: Collection[str] = ()) -> pl.Expr:
    """Return the row law of a table that has these columns.

    Prices are finite and above 0, low <= open, close <= high; the volume is null or a finite number from 0 on; and the
    same as of the bid holds of what is known of the ask.
    """
    counted = pl.col("volume").is_null() | (pl.col("volume").is_finite() & (pl.col("volume") >= 0))
    body_low, body_high = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    bid = pl.all_horizontal([_finite(c) for c in PRICES]) & (pl.col("low") <= body_low) & (pl.col("high") >= body_high)
    return pl.col("ts_utc").is_not_null() & bid & counted & possible_ask(columns)


def possible_ask(columns: Collection[str]) -> pl.Expr:
    """Return where the ask prices among these columns can be: each of them null or as lawful as a bid.

    A bar built out of shorter ones lacks the ask of its open where the first of them does.
    """
    if not set(ASK_PRICES) & set(columns):
        return pl.lit(True)
    known = {name: pl.col(name) if name in columns else pl.lit(None, dtype=pl.Float64) for name in ASK_PRICES}
    first, high, low, last = known.values()
    finite = [pl.col(name).is_null() | _finite(name) for name in known if name in columns]
    below, above = low <= pl.min_horizontal(first, last), high >= pl.max_horizontal(first, last)
    ordered = below.fill_null(True) & above.fill_null(True) & (low <= high).fill_null(True)
    return pl.all_horizontal(finite) & ordered


def _finite(name: str) -> pl.Expr:
    return pl.col(name).is_not_null() & pl.col(name).is_finite() & (pl.col(name) > 0)


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
    bad = bars.filter(~possible_bar(bars.columns))
    if bad.height:
        first = bad["ts_utc"][0]
        raise BadInput(f"{bad.height} impossible bars, first at {first}: expected 0 < low <= open, close <= high")
    return bars
