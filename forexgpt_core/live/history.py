"""A candle table as a feed: at every moment it shows the bars complete by then."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from forexgpt_core.domain.clock import Timeframe


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFeed:
    """Closed bars out of a table that may hold later ones too, so a replay sees what it would have seen then."""

    bars: pl.DataFrame

    def closed_bars(self, symbol: str, timeframe: Timeframe, now_utc: datetime) -> pl.DataFrame:
        """Return the bars that are complete at `now_utc`, oldest first."""
        newest_open = now_utc - timedelta(seconds=timeframe.seconds)
        return self.bars.head(int(self.bars["ts_utc"].search_sorted(newest_open, side="right")))
