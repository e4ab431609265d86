"""What the spread of a pair is, where a table has bid and ask."""

import polars as pl

from forexgpt_core.domain.bars import ASK_PRICES


def spread_figures(bars: pl.DataFrame, pip: float) -> dict[str, float | int]:
    """Return figures of the closing spread in pips; empty where no bar has an ask price.

    Args:
        bars: candles, `ask_close` optional and null where it is not known.
        pip: price change of one pip.
    """
    if not set(ASK_PRICES) <= set(bars.columns):
        return {}
    spread = ((bars["ask_close"] - bars["close"]) / pip).drop_nulls()
    if spread.is_empty():
        return {}
    median, high = spread.quantile(0.5, "linear"), spread.quantile(0.99, "linear")
    return {
        "spread_mean_pips": float(spread.mean() or 0.0),  # type: ignore[arg-type]
        "spread_median_pips": float(median or 0.0),
        "spread_99_pips": float(high or 0.0),
        "spread_bars": spread.len(),
        "negative_spreads": int((spread < 0).sum()),
    }
