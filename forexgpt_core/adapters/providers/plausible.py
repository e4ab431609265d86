"""Prices that cannot be those of the pair: in points, of another pair, or something else altogether."""

from pathlib import Path

import polars as pl

from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.domain.instruments import INSTRUMENTS, Instrument, normalise_symbol


def require_plausible(bars: pl.DataFrame, symbol: str, path: Path) -> None:
    """Refuse bars whose usual close no venue could have quoted for the pair.

    One bar among many is left for the quality suite, which knows its neighbours.

    Raises:
        BadFile: the median close lies far outside the pair's history.
    """
    pair = INSTRUMENTS.get(normalise_symbol(symbol))
    usual = bars["close"].median()
    if pair is None or not isinstance(usual, float) or not usual > 0 or _possible(usual, pair):
        return
    row = int((~bars["close"].is_between(pair.lowest, pair.highest)).arg_true()[0])
    point = next((d for d in (pair.digits, pair.digits - 1) if _possible(usual / 10**d, pair)), None)
    whole = bool((bars["close"].drop_nulls() % 1 == 0).all())
    if whole and point:
        reason = f"it looks like points of {10.0**-point:.{point}f}: divide the prices by {10**point:,} first"
    else:
        reason = "is it another pair?"
    expected = f"not a price of {pair.symbol}, expected {pair.lowest:g} to {pair.highest:g}"
    raise BadFile(path, f"{expected}; {reason}", row + 1, "close", f"{bars['close'][row]:.10g}")


def _possible(price: float, pair: Instrument) -> bool:
    return pair.lowest <= price <= pair.highest
