"""The port behind which candles are kept, and the tables that ingestion keeps beside them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import polars as pl

from forexgpt_core.candles.cleaning import ASIDE_SCHEMA
from forexgpt_core.domain.clock import Timeframe

CANDLES = "candles"
QUARANTINE = "quarantine"
ASKED = "asked_holes"
_UTC = pl.Datetime("us", "UTC")

QUARANTINE_SCHEMA: dict[str, pl.DataType] = ASIDE_SCHEMA | {"source": pl.String(), "first_seen_utc": _UTC}
"""A row as the source gave it, why it is no candle (`reason`; `kept` where it became the candle and others of its time
contradict it), where it came from and when it was first seen. `ts_utc` may be null."""

ASKED_SCHEMA: dict[str, pl.DataType] = {"start_utc": _UTC, "end_utc": _UTC, "asks": pl.Int64(), "asked_utc": _UTC}
"""A hole the source was asked about in vain: from the open of its first bar to the close of its last, how often it was
asked, and when last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What one merge changed.

    Attributes:
        version: of the table afterwards; unchanged where nothing changed.
        inserted: bars whose time was not there.
        revised: bars that replaced another one of their time; the old ones stay readable at the version before.
    """

    version: int
    inserted: int
    revised: int


class CandleStore(Protocol):
    """Where candles are kept. Every write is atomic, may be repeated, and loses nothing to a second writer."""

    def exists(self, kind: str, symbol: str, timeframe: Timeframe) -> bool:
        """Return whether there is a table of this kind."""
        ...

    def candles(self, symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        """Return every bar, oldest first; raise NotReady where there is no table."""
        ...

    def candles_version(self, symbol: str, timeframe: Timeframe) -> int:
        """Return the version of the candle table; raise NotReady where there is none."""
        ...

    def newest_candle(self, symbol: str, timeframe: Timeframe) -> datetime | None:
        """Return the open of the newest bar, None where there is none."""
        ...

    def merge(self, symbol: str, timeframe: Timeframe, bars: pl.DataFrame) -> Merged:
        """Insert new bars and replace those that differ."""
        ...

    def quarantine(self, symbol: str, timeframe: Timeframe, rows: pl.DataFrame) -> int:
        """Add rows of QUARANTINE_SCHEMA that are not there yet and return how many were."""
        ...

    def asked_holes(self, symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        """Return the holes asked about in vain, in the columns of ASKED_SCHEMA."""
        ...

    def remember_asked(self, symbol: str, timeframe: Timeframe, holes: pl.DataFrame) -> None:
        """Make `holes` the whole memory of what was asked in vain."""
        ...
