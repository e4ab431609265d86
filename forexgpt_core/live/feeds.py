"""Where the live loop gets its bars and forecasts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import polars as pl

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.forecasts import ForecastBatch


class BarFeed(Protocol):
    """Closed bars of a pair."""

    def closed_bars(self, symbol: str, timeframe: Timeframe, now_utc: datetime) -> pl.DataFrame:
        """Return the bars that are complete at `now_utc`, oldest first; never one that is still forming."""
        ...

    def conversion_candles(self, timeframe: Timeframe, now_utc: datetime) -> Mapping[str, pl.DataFrame]:
        """Return the closed bars, by symbol, of the pairs that turn the quote currency into the account's.

        Asked for where the account is kept in neither currency of the pair.
        """
        ...


class ForecastSource(Protocol):
    """A loaded bundle that forecasts at the newest bar."""

    def forecast(self, bars: pl.DataFrame) -> ForecastBatch:
        """Return one forecast, of the last bar in `bars`. Any exception means: no forecast now."""
        ...
