"""The port behind which every provider of candles stands."""

from datetime import datetime, timedelta
from typing import Protocol

import polars as pl

from forexgpt_core.domain.clock import Timeframe


class CandleSource(Protocol):
    """Where candles come from.

    Attributes:
        archive: True for a history that ends somewhere, so its age against the clock means nothing.
        chunk: longest range to ask for in one call, so that a long download is kept piece by piece; None where one call
            gives everything.
    """

    archive: bool
    chunk: timedelta | None

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return raw bars, in the source's own order, with the columns of `domain.bars.SCHEMA` first.

        Nothing is repaired: repeats, holes and impossible bars arrive as the source has them, for `quality.judge` to
        see and `cleaning.clean` to count. Ask prices follow under the names of `OPTIONAL_SCHEMA` where the source has
        them. A range without bars gives a table without rows.

        Args:
            since_utc: earliest OPEN, included; None for the beginning.
            until_utc: latest CLOSE, included, so a bar still forming is never returned; None for the end.

        Raises:
            UnknownName: the source does not serve this symbol or timeframe.
            BadInput: what the source holds cannot be read as candles.
        """
        ...


def left_out(source: CandleSource) -> dict[str, int]:
    """Return, by reason, what a source has given no bar for since it was made; empty where it keeps no count.

    A source may leave out only what its own format says is no bar, and must count it in an attribute `left_out`.
    """
    return dict(getattr(source, "left_out", {}))
