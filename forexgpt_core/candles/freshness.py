"""Is a pair up to date? The age of its newest bar, in bars that the market has traded since."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from forexgpt_core.candles.causes import rests
from forexgpt_core.domain.clock import Timeframe, bar_close, from_utc, in_fx_week, slot, slot_open, to_utc

TOLERANCE: Final = timedelta(hours=2)  # bars are fetched every hour, and a provider may be late by another
FRESH, STALE, ARCHIVE, EMPTY = "fresh", "stale", "archive", "no candles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How up to date the candles of one pair are.

    Attributes:
        state: "fresh"; "stale"; "archive" where the source is a history that ends somewhere, so age means nothing;
            "no candles".
        market_open: whether the FX market trades at the moment asked about.
        newest_close_utc: when the newest stored bar was complete; None without candles.
        bars_behind: bars that have closed since then and are not stored, those of holidays not counted.
        tolerated_bars: so many may be lacking.
    """

    symbol: str
    timeframe: str
    state: str
    market_open: bool
    newest_close_utc: datetime | None
    bars_behind: int
    tolerated_bars: int
    source: str

    @property
    def line(self) -> str:
        """Return the state in one sentence."""
        market = "the market is open" if self.market_open else "the market is closed"
        if self.newest_close_utc is None:
            return f"{self.symbol} {self.timeframe} has no candles; {market}"
        newest = f"newest bar closed {self.newest_close_utc:%Y-%m-%d %H:%M} UTC"
        if self.state == ARCHIVE:
            return f"{self.symbol} {self.timeframe} is an archive ({self.source}): {newest}"
        behind = f"{self.bars_behind} closed bars behind, {self.tolerated_bars} tolerated"
        return f"{self.symbol} {self.timeframe} is {self.state}: {newest}, {behind}; {market}"

    def row(self) -> dict[str, object]:
        """Return the state as a row of a table."""
        return asdict(self)


def freshness(
    symbol: str,
    timeframe: Timeframe,
    newest_open: datetime | None,
    now_utc: datetime,
    *,
    source: str,
    archive: bool,
    tolerance: timedelta = TOLERANCE,
) -> Freshness:
    """Return how up to date a pair is.

    Args:
        newest_open: open of the newest stored bar; None where there is none.
        now_utc: the moment asked about.
        source: what the candles come from, as a person would call it.
        archive: whether that source is a history that ends somewhere (or there is none).
        tolerance: how late the newest bar may be; at least one bar always may.

    Raises:
        BadInput: a time has no time zone.
    """
    now = to_utc(now_utc)
    allowed = max(1, int(tolerance.total_seconds()) // timeframe.seconds)
    behind = 0 if newest_open is None else _closed_since(to_utc(newest_open), now, timeframe)
    state = STALE if behind > allowed else FRESH
    if newest_open is None:
        state = EMPTY
    elif archive:
        state = ARCHIVE
    close = None if newest_open is None else from_utc(bar_close(np.array([to_utc(newest_open)]), timeframe)[0])
    return Freshness(
        symbol=symbol,
        timeframe=timeframe.value,
        state=state,
        market_open=market_open(now_utc),
        newest_close_utc=close,
        bars_behind=behind,
        tolerated_bars=allowed,
        source=source,
    )


def market_open(moment: datetime) -> bool:
    """Return whether the FX market trades: inside its week, and not on 25 December or 1 January or on their eves.

    >>> from datetime import UTC
    >>> market_open(datetime(2018, 7, 6, 20, 59, tzinfo=UTC)), market_open(datetime(2018, 7, 6, 21, tzinfo=UTC))
    (True, False)
    """
    at = np.array([to_utc(moment)])
    return bool(in_fx_week(at)[0] and not rests(at)[0])


def table(states: Iterable[Freshness]) -> pl.DataFrame:
    """Return the states of many pairs, the worst first."""
    order = [STALE, EMPTY, FRESH, ARCHIVE]
    return pl.DataFrame([s.row() for s in sorted(states, key=lambda s: (order.index(s.state), s.symbol))])


def _closed_since(newest: np.datetime64, now: np.datetime64, timeframe: Timeframe) -> int:
    """Return how many bars have opened after the newest one and closed by now while the market was not resting."""
    first, last = slot(np.array([newest, max(newest, now)]), timeframe)
    opens = slot_open(np.arange(first + 1, last + 1), timeframe)
    return int(((bar_close(opens, timeframe) <= now) & ~rests(opens)).sum())
