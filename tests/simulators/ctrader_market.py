"""The bars a simulated cTrader serves, and every habit of the real one when it serves them.

Written from the published protocol and recorded behaviour, without the client's codec: it builds bytes on its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from forexgpt_core.adapters.ctrader.messages import schema

PERIODS = {"M1": 1, "M5": 5, "M15": 7, "M30": 8, "H1": 9, "H4": 10, "D1": 12, "W1": 13}
MINUTES = {"M1": 1, "M5": 5, "M15": 15, "M30": 30, "H1": 60, "H4": 240, "D1": 1440, "W1": 7200}
_HAS_MORE = 7  # the field's number in today's protocol
_LATEST = 2_147_483_646_000


class Boundaries(Exception):
    """The range asked for is not lawful."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How bars are served. The defaults are what live servers were seen to do."""

    end_inclusive: bool = True  # a bar opening exactly at toTimestamp is part of the answer
    from_bounds: bool = False  # with a count, fromTimestamp leaves nothing out
    one_short: bool = True  # count=N gives N - 1
    period_set: bool = False  # each bar says its period
    forming_served: bool = True  # the bar still forming comes last, as if it were closed
    has_more: bool | None = True  # None: the truth
    timestamp_set: bool = False  # the deprecated field, which old messages call required
    unknown_fields: bool = True  # fields of a newer protocol
    at_most: int = 14_000  # bars of one answer, whatever was asked for; the oldest are left out without a word


TIDY = Habits(
    end_inclusive=False, from_bounds=True, one_short=False, period_set=True, forming_served=False, has_more=None,
    timestamp_set=True, unknown_fields=False,
)  # fmt: skip


@dataclass(kw_only=True)
class Listed:
    """A symbol of the account."""

    symbol_id: int
    name: str
    digits: int = 5
    pip_position: int = 4
    enabled: bool = True


@dataclass
class Market:
    """Symbols and their bars, by (name, timeframe): a frame of ts_utc, open, high, low, close, volume, sorted."""

    symbols: list[Listed] = field(default_factory=lambda: [Listed(symbol_id=1, name="EURUSD")])
    bars: Mapping[tuple[str, str], pl.DataFrame] = field(default_factory=dict)
    habits: Habits = field(default_factory=Habits)

    def symbol(self, symbol_id: int) -> Listed | None:
        return next((s for s in self.symbols if s.symbol_id == symbol_id), None)

    def trendbars(self, request: Any, now_utc: datetime) -> bytes:
        """Return the serialised answer to a ProtoOAGetTrendbarsReq."""
        begin, end, habits = request.fromTimestamp, request.toTimestamp, self.habits
        if begin > end or begin < 0 or end > _LATEST:
            raise Boundaries
        name = next(key for key, number in PERIODS.items() if number == request.period)
        listed = self.symbol(request.symbolId)
        frame = self.bars.get((listed.name if listed else "", name))
        rows = _points(frame, MINUTES[name], now_utc, habits) if frame is not None else np.empty((0, 6), np.int64)
        opens = rows[:, 0] * 60_000
        upto = rows[opens <= end] if habits.end_inclusive else rows[opens < end]
        inside = upto[upto[:, 0] * 60_000 >= begin]
        counted = request.count - habits.one_short if request.count > 1 else request.count
        served = (inside if habits.from_bounds else upto)[-counted:] if request.count else inside
        served = served[-habits.at_most :]
        return self._answer(request, served, complete=len(served) == len(inside))

    def _answer(self, request: Any, rows: np.ndarray, *, complete: bool) -> bytes:
        protocol = schema()
        answer = protocol.make(
            "ProtoOAGetTrendbarsRes",
            ctidTraderAccountId=request.ctidTraderAccountId,
            period=request.period,
            symbolId=request.symbolId,
            trendbar=[encode_bar(row, request.period if self.habits.period_set else None) for row in rows.tolist()],
        )
        if self.habits.timestamp_set:
            answer.timestamp = request.toTimestamp
        more = (not complete) if self.habits.has_more is None else self.habits.has_more
        tail = bytes([_HAS_MORE << 3, int(more)])
        if self.habits.unknown_fields:
            tail += bytes([0xF8, 0x07, 0x2A])  # field 127, a varint
        return answer.SerializePartialToString() + tail


def encode_bar(row: list[int], period: int | None = None) -> Any:
    """Return a trend bar of minutes, open, high, low, close in points and volume."""
    minutes, opened, high, low, close, volume = row
    bar = schema().make(
        "ProtoOATrendbar",
        volume=volume,
        low=low,
        deltaOpen=opened - low,
        deltaClose=close - low,
        deltaHigh=high - low,
        utcTimestampInMinutes=minutes,
    )
    if period is not None:
        bar.period = period
    return bar


def _points(frame: pl.DataFrame, minutes: int, now_utc: datetime, habits: Habits) -> np.ndarray:
    """Return the bars the server has by now: minutes, open, high, low, close in points and volume, shape (n, 6)."""
    opens = frame["ts_utc"].to_numpy().astype("datetime64[m]").astype(np.int64)
    prices = np.rint(frame.select("open", "high", "low", "close").to_numpy() * 100_000).astype(np.int64)
    volume = frame["volume"].fill_null(7).to_numpy().astype(np.int64)
    rows = np.column_stack([opens, prices, volume])
    now = int(now_utc.timestamp() // 60)
    closed = rows[opens + minutes <= now]
    forming = rows[(opens <= now) & (opens + minutes > now)]
    if not habits.forming_served or not len(forming):
        return closed
    half = forming.copy()
    half[:, 4], half[:, 5] = half[:, 1], half[:, 5] // 2  # so far it closes where it opened, with fewer ticks
    return np.concatenate([closed, half])
