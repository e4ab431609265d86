"""A candle table as a feed: at every moment it shows the bars complete by then."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from forexgpt_core.domain.clock import Timeframe


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFeed:
    """Closed bars out of tables that may hold later ones too, so a replay sees what it would have seen then.

    Attributes:
        bars: of the pair.
        others: says the candles of the pairs that convert, by symbol; asked where they are needed.
    """

    bars: pl.DataFrame
    others: Callable[[], Mapping[str, pl.DataFrame]] = dict

    def closed_bars(self, symbol: str, timeframe: Timeframe, now_utc: datetime) -> pl.DataFrame:
        """Return the bars that are complete at `now_utc`, oldest first."""
        return _closed(self.bars, timeframe, now_utc)

    def conversion_candles(self, timeframe: Timeframe, now_utc: datetime) -> Mapping[str, pl.DataFrame]:
        """Return the bars of other pairs that are complete at `now_utc`, by symbol."""
        return {symbol: _closed(bars, timeframe, now_utc) for symbol, bars in self.others().items()}


def _closed(bars: pl.DataFrame, timeframe: Timeframe, now_utc: datetime) -> pl.DataFrame:
    newest_open = now_utc - timedelta(seconds=timeframe.seconds)
    return bars.head(int(bars["ts_utc"].search_sorted(newest_open, side="right")))
