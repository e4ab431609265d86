"""Dates and times of day as calendars write them, brought to one form; the zone is judged as for candles."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from forexgpt_core.adapters.calendars.words import UNTIMED
from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.adapters.source_files.times import to_utc

_YMD = re.compile(r"^(\d{4})([-./]?)(\d{1,2})\2(\d{1,2})$")
_THREE = re.compile(r"^(\d{1,2})[-./](\d{1,2})[-./](\d{4})$")
_MONTH_FIRST = re.compile(r"^(?:[a-z]{3,9}\.?,?\s+)?([a-z]{3,9})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})$")
_DAY_FIRST = re.compile(r"^(?:[a-z]{3,9}\.?,?\s+)?(\d{1,2})(?:st|nd|rd|th)?\s+([a-z]{3,9})\.?,?\s+(\d{4})$")
_CLOCK = re.compile(
    r"^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.0+)?)?\s*(am|pm)?\s*(z|utc|gmt|[+-]\d{2}:?\d{2})?$", re.IGNORECASE
)
_EPOCH = re.compile(r"^\d{10}(\d{3})?$")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NOON, _HALF_DAY = "12:00:00", timedelta(hours=12)  # noon exists once in every zone, midnight does not
_DATE_HELP = "expected a date with its year, such as 2018-07-06 or Jul 6, 2018"
_TIME_HELP = "expected a time such as 8:30am or 13:30, All Day or Tentative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When an event takes place; the start of its day in the file's zone where no time is given."""

    utc: datetime
    timed: bool


def moments(
    days: Sequence[str],
    clocks: Sequence[str],
    *,
    columns: tuple[str, str],
    timezone: str | None,
    dates: str | None,
    path: Path,
) -> list[Moment]:
    """Return the moments of a file's rows.

    Args:
        days, clocks: date and time of day of each row, as text; the date may hold the time too, and then clocks are "".
        columns: names of the two in the file; the second is empty where the date column holds both.
        dates: "dmy" or "mdy", or None where the file has to show it.

    Raises:
        BadFile: a date or time cannot be read, could be two days, or its zone is a guess.
    """
    both = not columns[1]
    if both and days and all(_EPOCH.match(day.strip()) for day in days):
        utc = to_utc(
            pl.Series(columns[0], [day.strip() for day in days]), column=columns[0], timezone=timezone, path=path
        )
        return [Moment(utc=moment, timed=True) for moment in utc]
    pairs = [_split(day) for day in days] if both else list(zip(days, clocks, strict=True))
    order = _order([day for day, _ in pairs], columns[0], dates, path)
    read = [_clock(clock, row, columns, path) for row, (_, clock) in enumerate(pairs)]
    some_zone = any(found is not None and found[1] for found in read)
    texts = []
    for row, ((day, _), found) in enumerate(zip(pairs, read, strict=True)):
        shown, offset = found or (_NOON, "Z" if some_zone else "")
        texts.append(f"{_day(day, order, row, columns[0], path).isoformat()} {shown}{offset}")
    name = " ".join(column for column in columns if column)
    utc = to_utc(pl.Series(name, texts, dtype=pl.String), column=name, timezone=timezone, path=path)
    return [
        Moment(utc=moment if found is not None else moment - _HALF_DAY, timed=found is not None)
        for moment, found in zip(utc, read, strict=True)
    ]


def moment_in(text: str, *, column: str, row: int, timezone: str | None, path: Path) -> datetime | None:
    """Return one date with a time of day, None where nothing stands there."""
    if not text.strip():
        return None
    day, clock = _split(text)
    found = _clock(clock, row, (column, ""), path)
    if found is None:
        raise BadFile(path, "expected a date and a time of day", row + 1, column, text)
    shown = f"{_day(day, 'ymd', row, column, path).isoformat()} {found[0]}{found[1]}"
    try:
        result = to_utc(pl.Series(column, [shown]), column=column, timezone=timezone, path=path)[0]
    except BadFile as error:
        raise BadFile(path, error.problem, row + 1, column, text) from None
    assert isinstance(result, datetime)
    return result.astimezone(UTC)


def _split(text: str) -> tuple[str, str]:
    """Return date and time of day of one text; the time begins at the last space or T before a colon."""
    stripped = text.strip()
    found = re.search(r"[T ]\s*(?=\d{1,2}:)", stripped)
    return (stripped, "") if found is None else (stripped[: found.start()], stripped[found.end() :])


def _clock(text: str, row: int, columns: tuple[str, str], path: Path) -> tuple[str, str] | None:
    """Return time of day and offset as text, or None where the file says there is none."""
    plain = " ".join(text.split())
    if plain.casefold() in UNTIMED:
        return None
    found = _CLOCK.match(plain)
    column = columns[1] or columns[0]
    if found is None:
        raise BadFile(path, _TIME_HELP, row + 1, column, text)
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    half = (found[4] or "").casefold()
    if half and not 1 <= hour <= 12:
        raise BadFile(path, _TIME_HELP, row + 1, column, text)
    hour = hour % 12 + 12 * (half == "pm") if half else hour
    try:
        return time(hour, minute, second).isoformat(), (found[5] or "").upper()
    except ValueError:
        raise BadFile(path, _TIME_HELP, row + 1, column, text) from None


def _order(days: Sequence[str], column: str, dates: str | None, path: Path) -> str:
    """Return "dmy" or "mdy" for dates of the form 01/02/2018, from the option or from a row that can be only one."""
    first: int | None = None
    firsts, seconds = 0, 0
    for row, day in enumerate(days):
        if found := _THREE.match(day.strip()):
            first = row if first is None else first
            firsts, seconds = max(firsts, int(found[1])), max(seconds, int(found[2]))
    if first is None or dates is not None:
        return dates or "ymd"
    if firsts > 12 >= seconds:
        return "dmy"
    if seconds > 12 >= firsts:
        return "mdy"
    problem = "could be day or month first; pass --dates dmy or --dates mdy"
    if firsts > 12:
        problem = "some dates have the day first and others the month"
    raise BadFile(path, problem, first + 1, column, days[first])


def _day(text: str, order: str, row: int, column: str, path: Path) -> date:
    plain = " ".join(text.split())
    if not plain:
        raise BadFile(path, f"the date is missing; {_DATE_HELP}", row + 1, column, text)
    parts = _parts(plain, order)
    try:
        if parts is not None:
            return date(*parts)
    except ValueError:
        pass
    raise BadFile(path, _DATE_HELP, row + 1, column, text)


def _parts(text: str, order: str) -> tuple[int, int, int] | None:
    if found := _YMD.match(text):
        return int(found[1]), int(found[3]), int(found[4])
    if found := _THREE.match(text):
        one, two = int(found[1]), int(found[2])
        return int(found[3]), *((two, one) if order == "dmy" else (one, two))
    words = text.casefold()
    if (found := _MONTH_FIRST.match(words)) and found[1][:3] in _MONTHS:
        return int(found[3]), _MONTHS.index(found[1][:3]) + 1, int(found[2])
    if (found := _DAY_FIRST.match(words)) and found[2][:3] in _MONTHS:
        return int(found[3]), _MONTHS.index(found[2][:3]) + 1, int(found[1])
    return None
