"""From the times of a file to UTC, or a refusal: a time whose zone is a guess is worse than no time."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import available_timezones

import polars as pl

from forexgpt_core.adapters.source_files.refusal import BadFile

_UTC = pl.Datetime("us", "UTC")
_SHIFTED = re.compile(r"(.+?)([+-]\d{1,2})")
_OFFSET = r"(?i)\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})$"
_EPOCH = r"^\d{10}(\d{3})?$"
_DATES = ("%Y-%m-%d", "%Y.%m.%d", "%Y/%m/%d", "%Y%m%d")
_CLOCKS = (" %H:%M:%S", " %H:%M", " %H:%M:%S%.f", " %H%M%S", "")
_SHAPES = "YYYY-MM-DD HH:MM[:SS], with - . / or nothing in the date, or seconds since 1970"
_EARLIEST, _LATEST = 1990, 2059


@dataclass(frozen=True, slots=True)
class _Clock:
    """A clock: an IANA zone, and by how many hours it is ahead of that."""

    name: str
    zone: str
    ahead_hours: int = 0


def to_utc(times: pl.Series, *, column: str, timezone: str | None, path: Path) -> pl.Series:
    """Return `times` in UTC.

    Times are taken as UTC when they carry an offset, when the column's name ends in `_utc`, or when they count seconds
    (or milliseconds) since 1970. Otherwise `timezone` says whose clock they were read from.

    Args:
        times: text, dates and times with or without a zone, or whole seconds or milliseconds since 1970.
        column: its name in the file.
        timezone: an IANA name such as Europe/Helsinki, or one with whole hours added or taken away: the clocks of many
            brokers are America/New_York+7 (midnight when New York closes), and UTC-5 is 5 hours behind all year. Or
            None.

    Raises:
        BadFile: a time is missing, unreadable, outside 1990 to 2059, without a zone, or an hour of `timezone` that
            happened twice or never.
    """
    zone = _zone(timezone, path)
    if times.dtype == pl.String:
        utc = _from_text(times.str.strip_chars(), column=column, zone=zone, path=path)
    elif isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None:
        _refuse_zone(zone, column, path)
        utc = times.cast(_UTC)
    elif isinstance(times.dtype, pl.Datetime | pl.Date):
        utc = _placed(times.cast(pl.Datetime("us")), times, column=column, zone=zone, path=path)
    elif times.dtype.is_integer():
        _refuse_zone(zone, column, path)
        utc = _from_epoch(times)
    else:
        raise BadFile(path, f"holds {times.dtype}, expected times such as 2018-07-02T13:00Z", column=column)
    return _checked(utc, times, column=column, path=path)


def _zone(timezone: str | None, path: Path) -> _Clock | None:
    if timezone is None or timezone in available_timezones():
        return _Clock(timezone, timezone) if timezone else None
    shifted = _SHIFTED.fullmatch(timezone)
    if shifted and shifted[1] in available_timezones() and abs(int(shifted[2])) <= 14:
        return _Clock(timezone, shifted[1], int(shifted[2]))
    expected = "an IANA name such as UTC or America/New_York, or one with hours added such as America/New_York+7"
    raise BadFile(path, f"unknown time zone '{timezone}'; expected {expected}")


def _refuse_zone(zone: _Clock | None, column: str, path: Path) -> None:
    """Refuse a zone that contradicts times which say their own; UTC contradicts nothing that ends up in UTC."""
    if zone is not None and zone.name not in ("UTC", "Etc/UTC"):
        raise BadFile(path, f"the times say their own zone: leave out --timezone {zone.name}", column=column)


def _from_text(texts: pl.Series, *, column: str, zone: _Clock | None, path: Path) -> pl.Series:
    if texts.len() and texts.str.contains(_EPOCH).fill_null(False).all():
        _refuse_zone(zone, column, path)
        return _from_epoch(texts.cast(pl.Int64))
    offsets = texts.str.extract(_OFFSET, 1)
    bare = texts.str.replace(_OFFSET, "") if offsets.null_count() < texts.len() else texts
    naive = _parsed(bare.str.replace("T", " ", literal=True))
    _refuse_first(naive.is_null(), texts, f"expected a time such as {_SHAPES}", column=column, path=path)
    if offsets.null_count() == texts.len():
        return _placed(naive, texts, column=column, zone=zone, path=path)
    lacking = "other rows say their offset from UTC and this one does not"
    _refuse_first(offsets.is_null(), texts, lacking, column=column, path=path)
    _refuse_zone(zone, column, path)
    shift = _shift(offsets.head(1)) if offsets.n_unique() == 1 else _shift(offsets)  # one value serves all rows
    return (naive - shift).dt.replace_time_zone("UTC")


def _shift(offsets: pl.Series) -> pl.Series:
    """Return offsets such as +02:00 as durations; Z, UTC and GMT are none."""
    digits = offsets.str.replace(":", "", literal=True)
    hours, minutes = (digits.str.slice(start, 2).cast(pl.Int64, strict=False) for start in (1, 3))
    sign = digits.str.starts_with("-").cast(pl.Int64) * -2 + 1
    return ((hours * 60 + minutes).fill_null(0) * sign * 60_000_000).cast(pl.Duration("us"))


def _parsed(texts: pl.Series) -> pl.Series:
    """Return the times in the first format that fits every row, else in the first that fits the first row."""
    best = pl.Series(texts.name, [None], dtype=pl.Datetime("us")).new_from_index(0, texts.len())
    for form in (date + clock for date in _DATES for clock in _CLOCKS):
        if texts.head(1).str.to_datetime(form, strict=False, time_unit="us").null_count() == 0:
            times = texts.str.to_datetime(form, strict=False, time_unit="us")
            if times.null_count() == 0:
                return times
            best = times if best.null_count() == best.len() else best
    return best


def _from_epoch(counts: pl.Series) -> pl.Series:
    """Return times from whole seconds, milliseconds, microseconds or nanoseconds since 1970, told by their size."""
    largest = counts.abs().max()
    digits = len(str(largest)) if largest is not None else 10
    microseconds = counts.cast(pl.Int64)
    if digits <= 10:
        microseconds = microseconds * 1_000_000
    elif digits <= 13:
        microseconds = microseconds * 1000
    elif digits > 16:
        microseconds = microseconds // 1000
    return microseconds.cast(_UTC)


def _placed(naive: pl.Series, shown: pl.Series, *, column: str, zone: _Clock | None, path: Path) -> pl.Series:
    """Return clock times of a zone in UTC; without a zone only a column that calls itself UTC is believed."""
    if column.strip().lower().endswith("_utc"):
        _refuse_zone(zone, column, path)
        zone = _Clock("UTC", "UTC")
    if zone is None:
        raise BadFile(path, f"times have no time zone; pass --timezone NAME, e.g. UTC{_seen(naive)}", column=column)
    local = naive.dt.offset_by(f"{-zone.ahead_hours}h") if zone.ahead_hours else naive
    known = local.dt.replace_time_zone(zone.zone, ambiguous="earliest", non_existent="null")
    never = f"there was no such hour in {zone.name} (clocks went forward): is it the right time zone?"
    _refuse_first(known.is_null() & naive.is_not_null(), shown, never, column=column, path=path)
    sure = local.dt.replace_time_zone(zone.zone, ambiguous="null", non_existent="null")
    twice = f"this hour happened twice in {zone.name} (clocks went back): is it the right time zone?"
    _refuse_first(sure.is_null() & naive.is_not_null(), shown, twice, column=column, path=path)
    return sure.dt.convert_time_zone("UTC")


def _seen(naive: pl.Series) -> str:
    """Return on which hour of the file's own clock its weeks begin: it tells a person whose clock that may be."""
    times = naive.drop_nulls().unique().sort()
    opens = times.filter(times.diff() > timedelta(hours=24)).dt.truncate("1h")
    if opens.len() < 2:
        return ""
    label, weeks = opens.dt.strftime("%A %H:%M").value_counts(sort=True).row(0)
    return f" (by the file's clock {weeks} of {opens.len()} weeks begin on {label}; the market opens at 17:00 New York)"


def _checked(utc: pl.Series, shown: pl.Series, *, column: str, path: Path) -> pl.Series:
    _refuse_first(utc.is_null(), shown, "the time is missing", column=column, path=path)
    earliest, latest = (datetime(year, 1, 1, tzinfo=UTC) for year in (_EARLIEST, _LATEST + 1))
    outside = ~utc.is_between(earliest, latest, closed="left")
    _refuse_first(outside, shown, f"expected a time between {_EARLIEST} and {_LATEST}", column=column, path=path)
    return utc.cast(_UTC)


def _refuse_first(bad: pl.Series, shown: pl.Series, problem: str, *, column: str, path: Path) -> None:
    """Refuse the first row marked in `bad`, if there is one."""
    if not bad.any():
        return
    row = int(bad.arg_true()[0])
    value = shown[row]
    raise BadFile(path, problem, row + 1, column, "" if value is None else str(value))
