"""Quotes of the newest bars: the very numbers that a backtest over the same bars has."""

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from forexgpt_core.backtest.quotes import Quotes, lay_out_quotes
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import instrument

LEAD_BARS = 64  # what a bar costs depends on the one before, and how long a bar lasts is the usual step of many


def needs_rates(symbol: str, costs: Costs) -> bool:
    """Return whether money of the pair is counted in a third currency, so that candles of other pairs convert it."""
    pair = instrument(symbol)
    return costs.account_of(symbol) not in (pair.base, pair.quote)


def quotes_from(
    bars: pl.DataFrame, first: int, costs: Costs, *, symbol: str, rates: Mapping[str, pl.DataFrame]
) -> tuple[Quotes, int]:
    """Return quotes that end with the newest bar, and which of theirs is bar `first`.

    Args:
        bars: closed candles, oldest first.
        rates: candles of the pairs that convert into the account's currency, by symbol.

    Raises:
        BadInput: the bars are unlawful, or a pair that converts is missing or begins too late; the text names it.
    """
    start = max(first - LEAD_BARS, 0)
    part = bars.slice(start)
    recent = {name: _known_from(frame, part["ts_utc"][0]) for name, frame in rates.items()}
    return lay_out_quotes(part, costs, symbol=symbol, rates=recent), first - start


def _known_from(candles: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Return the candles without those that say nothing from that moment on."""
    return candles.slice(max(int(candles["ts_utc"].search_sorted(moment)) - LEAD_BARS, 0))
