"""Trading sessions of the FX day, by the local clocks of London and New York."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.clock import NEW_YORK, Times, from_utc, places, week_opens

LONDON = ZoneInfo("Europe/London")

_OPENS, _CLOSES = 8, 17  # local hours of both cities
_HOUR = 3600 * 1_000_000  # microseconds
_WEEK_OPENS = 17  # New York


class Session(StrEnum):
    """Who is at work; every moment belongs to exactly one."""

    ASIA = "asia"  # neither London nor New York: Sydney and Tokyo, and the weekend that ends there
    LONDON = "london"
    OVERLAP = "overlap"  # London and New York together
    NEW_YORK = "new_york"


_BY_CODE = np.array([Session.ASIA, Session.LONDON, Session.NEW_YORK, Session.OVERLAP], dtype="U8")


def trading_session(moment_utc: Times) -> NDArray[np.str_]:
    """Return the name of the session that each moment falls in, in the shape of the input.

    London and New York each work from 08:00 to 17:00 local time, the end excluded, so both follow their own clock
    changes. For a forecast ask with the close of its origin bar: that is when it is known and the coming bar begins.

    >>> names = trading_session(np.array(["2018-07-02T06:59", "2018-07-02T07:00", "2018-07-02T12:00"], dtype="M8[us]"))
    >>> [str(name) for name in names]
    ['asia', 'london', 'overlap']

    Raises:
        BadInput: a time is missing or lies outside 1990 to 2060.
    """
    place = places(moment_utc)
    new_york = place.since_open // _HOUR + _WEEK_OPENS  # hours since midnight before the week's opening
    london = new_york + _hours_ahead()[place.week]
    at_work = _at_work(london).astype(np.int64) + 2 * _at_work(new_york)
    return np.asarray(_BY_CODE[np.where(place.inside, at_work, 0)])


def _at_work(hour: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray((hour % 24 >= _OPENS) & (hour % 24 < _CLOSES))


@cache
def _hours_ahead() -> NDArray[np.int64]:
    """Return by how many hours London is ahead of New York in every FX week: 5, or 4 while one alone has changed.

    Both change their clocks on a Sunday before the week opens, so one number holds for the whole week.
    """
    opens = [from_utc(moment) for moment in week_opens()]
    return np.array([(_offset(t, LONDON) - _offset(t, NEW_YORK)) // timedelta(hours=1) for t in opens])


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).replace(tzinfo=UTC) - moment
