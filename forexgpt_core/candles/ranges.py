"""What a person means by the beginning and the end of a range of candles."""

from datetime import UTC, date, datetime, time, timedelta

from forexgpt_core.domain.clock import NEW_YORK
from forexgpt_core.errors import BadInput

_DAY_ENDS = time(17)  # in New York
_FIRST_YEAR, _LAST_YEAR = 1990, 2059


def range_start(text: str) -> datetime:
    """Return the UTC time at which a range begins: a moment, or the opening of a trading day.

    >>> range_start("2018-07-02").isoformat()
    '2018-07-01T21:00:00+00:00'

    Raises:
        BadInput: it is neither a day nor a moment with its time zone.
    """
    day = _day(text)
    return _moment(text) if day is None else _end_of(day - timedelta(days=1))


def range_end(text: str, *, now_utc: datetime) -> datetime:
    """Return the UTC time at which a range ends: a moment or the end of a trading day, and never later than now.

    A day taken for its midnight would cut off the very day that was asked for, and would end a range of one day before
    it begins.

    >>> range_end("2018-07-02", now_utc=datetime(2018, 9, 1, tzinfo=UTC)).isoformat()
    '2018-07-02T21:00:00+00:00'
    >>> range_end("2018-07-02", now_utc=datetime(2018, 7, 2, 9, 30, tzinfo=UTC)).isoformat()
    '2018-07-02T09:30:00+00:00'

    Raises:
        BadInput: it is neither a day nor a moment with its time zone.
    """
    day = _day(text)
    return min(_moment(text) if day is None else _end_of(day), now_utc)


def _end_of(day: date) -> datetime:
    return datetime.combine(day, _DAY_ENDS, NEW_YORK).astimezone(UTC)


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        return None
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise BadInput(f"'{text}' lies outside the years {_FIRST_YEAR} to {_LAST_YEAR}, for which candles can exist")
    return day


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadInput(
            f"'{text}' is no time: expected a day such as 2018-07-02 or a moment such as 2018-07-02T09:30Z"
        ) from None
    if moment.tzinfo is None:
        raise BadInput(f"'{text}' has no time zone: write {text}Z if it is UTC, or the day alone")
    return moment.astimezone(UTC)
