"""Timeframes and the FX week: which bars exist, when they open and when they are known.

The week runs from Sunday 17:00 to Friday 17:00 New York. American clocks change on Sunday at 02:00, outside that
week, so inside it every bar has its nominal length, and all bar edges follow from the UTC time of the week's opening.
H4, D1 and W1 bars thereby start at 17:00 New York in winter and in summer. A bar is stamped with its open.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput, UnknownName

Times = NDArray[np.datetime64]
Ints = NDArray[np.int64]

NEW_YORK = ZoneInfo("America/New_York")
WEEK_SECONDS = 5 * 24 * 3600
_SECOND = 1_000_000  # microseconds
_FIRST_SUNDAY, _WEEKS = date(1989, 12, 31), 3700  # to the year 2060


class Timeframe(StrEnum):
    """Length of a bar."""

    M1 = "M1"
    M5 = "M5"
    M15 = "M15"
    M30 = "M30"
    H1 = "H1"
    H4 = "H4"
    D1 = "D1"
    W1 = "W1"

    @property
    def seconds(self) -> int:
        """Return the bar's length inside the FX week; a W1 bar lasts five days."""
        return _SECONDS[self]

    @property
    def per_week(self) -> int:
        """Return how many bars an FX week holds."""
        return WEEK_SECONDS // self.seconds

    @property
    def per_year(self) -> int:
        """Return how many bars 52 FX weeks hold."""
        return 52 * self.per_week

    @classmethod
    def parse(cls, text: str) -> "Timeframe":
        """Return the timeframe named `text`, in any case.

        Raises:
            UnknownName: there is none of that name.
        """
        try:
            return cls(text.upper())
        except ValueError:
            raise UnknownName(f"unknown timeframe '{text}'; known: {', '.join(cls)}") from None


_SECONDS = {
    Timeframe.M1: 60,
    Timeframe.M5: 300,
    Timeframe.M15: 900,
    Timeframe.M30: 1800,
    Timeframe.H1: 3600,
    Timeframe.H4: 14400,
    Timeframe.D1: 86400,
    Timeframe.W1: WEEK_SECONDS,
}


@cache
def week_opens() -> Times:
    """Return the UTC time of every weekly opening (Sunday 17:00 New York) from 1989-12-31 to 2060."""
    sundays = (_FIRST_SUNDAY + timedelta(weeks=n) for n in range(_WEEKS))
    local = (datetime.combine(day, time(17), NEW_YORK) for day in sundays)
    return np.array([t.astimezone(UTC).replace(tzinfo=None) for t in local], dtype="datetime64[us]")


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where times lie in the FX calendar, found once for every question about them.

    Attributes:
        week: running number of the week that holds each time.
        since_open: microseconds since that week's opening.
    """

    week: Ints
    since_open: Ints

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Return where times lie in [Sunday 17:00, Friday 17:00) New York."""
        return np.asarray(self.since_open < WEEK_SECONDS * _SECOND)

    def off_grid(self, timeframe: Timeframe) -> Ints:
        """Return how many microseconds after the open of its bar each time lies."""
        return np.asarray(self.since_open % (timeframe.seconds * _SECOND))

    def slot(self, timeframe: Timeframe) -> Ints:
        """Return the running number of each time's bar; see `slot`."""
        inside = np.minimum(self.since_open // (timeframe.seconds * _SECOND), timeframe.per_week - 1)
        return np.asarray(self.week * timeframe.per_week + inside)


def places(ts_utc: Times) -> Places:
    """Return where times lie in the FX calendar, in the shape of the input.

    Raises:
        BadInput: a time is missing or lies outside 1990 to 2060.
    """
    ts = np.asarray(ts_utc, dtype="datetime64[us]").view(np.int64)  # a missing time is the smallest number
    opens = week_opens().view(np.int64)
    if ts.size and (ts.min() < opens[0] or ts.max() >= opens[-1]):
        raise BadInput(f"times must lie between {week_opens()[0]} and {week_opens()[-1]}")
    week = (ts - opens[0]) // (7 * 24 * 3600 * _SECOND)  # right but for the hour by which summer time moves an opening
    week -= ts < opens[week]
    week += ts >= opens[week + 1]
    return Places(week=week, since_open=ts - opens[week])


def in_fx_week(ts_utc: Times) -> NDArray[np.bool_]:
    """Return where times lie in [Sunday 17:00, Friday 17:00) New York; shape of the input."""
    return places(ts_utc).inside


def hour_of_week(ts_utc: Times) -> Ints:
    """Return whole hours since the weekly opening: 0 to 119 inside the FX week, up to 168 on the weekend."""
    return np.asarray(places(ts_utc).since_open // (3600 * _SECOND))


def bar_open(ts_utc: Times, timeframe: Timeframe) -> Times:
    """Return the open of the bar that holds each time.

    >>> str(bar_open(np.array(["2018-07-02T20:59:59"], dtype="datetime64[us]"), Timeframe.D1)[0])
    '2018-07-01T21:00:00.000000'
    """
    ts = np.asarray(ts_utc, dtype="datetime64[us]")
    return np.asarray(ts - places(ts).off_grid(timeframe).view("timedelta64[us]"))


def bar_close(open_utc: Times, timeframe: Timeframe) -> Times:
    """Return when bars opened at `open_utc` are complete and may be used."""
    return np.asarray(np.add(np.asarray(open_utc, dtype="datetime64[us]"), np.timedelta64(timeframe.seconds, "s")))


def closes_at(moment: datetime, timeframe: Timeframe) -> bool:
    """Return whether a bar of the FX week closes at exactly this moment.

    >>> friday = datetime(2018, 7, 6, 17, tzinfo=NEW_YORK)
    >>> closes_at(friday, Timeframe.W1), closes_at(friday + timedelta(hours=1), Timeframe.H1)
    (True, False)
    """
    last = np.array([to_utc(moment - timedelta(microseconds=1))])
    return bool(in_fx_week(last)[0] and bar_close(bar_open(last, timeframe), timeframe)[0] == to_utc(moment))


def slot(ts_utc: Times, timeframe: Timeframe) -> Ints:
    """Return the running number of each time's bar, counting FX-week bars only; consecutive bars differ by 1.

    A time outside the week gets the number of the week's last bar.
    """
    return places(ts_utc).slot(timeframe)


def slot_open(slots: Ints, timeframe: Timeframe) -> Times:
    """Return the open of the bars with these running numbers, the inverse of `slot`."""
    week, inside = np.divmod(np.asarray(slots, dtype=np.int64), timeframe.per_week)
    return np.asarray(week_opens()[week] + (inside * timeframe.seconds).astype("timedelta64[s]"))


def next_opens(ts_utc: Times, timeframe: Timeframe, count: int) -> Times:
    """Return the opens of the `count` bars that follow each bar, weekends skipped; shape (n, count)."""
    return slot_open(slot(ts_utc, timeframe)[:, None] + np.arange(1, count + 1), timeframe)


def expected_opens(start_utc: Times | np.datetime64, end_utc: Times | np.datetime64, timeframe: Timeframe) -> Times:
    """Return the opens of every bar of the FX week from the bar of `start_utc` to that of `end_utc`, both included."""
    first, last = slot(np.array([start_utc, end_utc], dtype="datetime64[us]"), timeframe)
    return slot_open(np.arange(first, last + 1), timeframe)


def to_utc(moment: datetime) -> np.datetime64:
    """Return an aware datetime as naive UTC datetime64[us].

    Raises:
        BadInput: the datetime has no time zone.
    """
    if moment.tzinfo is None:
        raise BadInput(f"{moment} has no time zone; every time here is UTC and says so")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def from_utc(moment: np.datetime64) -> datetime:
    """Return a UTC datetime64 as an aware datetime."""
    naive: datetime = moment.astype("datetime64[us]").astype(datetime)
    return naive.replace(tzinfo=UTC)
