"""Economic events from a CSV file: ForexFactory's, MetaTrader's, and any other with a header that names the columns."""

import csv
import difflib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from forexgpt_core.adapters.calendars.moments import moment_in, moments
from forexgpt_core.adapters.calendars.text import text_of
from forexgpt_core.adapters.calendars.words import (
    CURRENCY_HELP,
    ELSEWHERE,
    IMPACT_HELP,
    currency_of,
    impact_of,
)
from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.domain.calendar_files import CalendarFile, CalendarOptions
from forexgpt_core.domain.events import CURRENCIES, CalendarEntry
from forexgpt_core.domain.figures import read_figures

_ALIASES: dict[str, tuple[str, ...]] = {
    "both": ("scheduled_utc", "datetime", "date_time", "timestamp", "time_utc", "datetime_utc", "ts_utc", "date_utc"),
    "date": ("date", "day"),
    "time": ("time", "hour", "time_of_day"),
    "currency": ("currency", "ccy", "cur", "curr", "currency_code"),
    "country": ("country", "zone", "region", "country_code"),
    "impact": ("impact", "importance", "priority", "volatility", "imp"),
    "title": ("title", "event", "name", "event_name", "description"),
    "actual": ("actual", "actual_value", "act"),
    "forecast": ("forecast", "consensus", "expected", "forecast_value"),
    "previous": ("previous", "prior", "prev", "previous_value", "prev_value"),
    "announced_utc": ("announced_utc",),
    "released_utc": ("released_utc",),
    "status": ("status",),
}
_STATUS = {"": False, "scheduled": False, "confirmed": False, "cancelled": True, "canceled": True}


def read_csv_events(path: Path, options: CalendarOptions) -> CalendarFile:
    """Return the events of a CSV file, all of them or none.

    Separated by comma, semicolon or tab, with a header; names are read in any case, with or without the angle brackets
    of MetaTrader: a date and a time (one column or two), `currency` (or `country`), `impact`, `event` or `title`, and
    optionally `actual`, `forecast`, `previous`, `status`, `announced_utc`, `released_utc`. Others are left alone.
    "Unscheduled" in a title says that nobody knew of the event before it happened.

    Raises:
        BadFile: the file or a column is missing, or a value is not what it should be; the first such row is named.
    """
    names, rows = _rows(path, text_of(path))
    columns = _columns(names, options, path)
    day, clock = columns.get("both", columns.get("date", "")), columns.get("time", "")
    if not day:
        day, clock = clock, ""
    if "both" in columns:
        clock = ""
    whens = moments(
        [row[day] for row in rows],
        [row[clock] if clock else "" for row in rows],
        columns=(day, clock),
        timezone=options.timezone,
        dates=options.dates,
        path=path,
    )
    entries, left_out = [], Counter[str]()
    for number, (row, when) in enumerate(zip(rows, whens, strict=True)):
        currency = _currency(row, columns, options, number, path)
        if currency in ELSEWHERE:
            left_out[currency] += 1
            continue
        figures = read_figures(*(row[columns[n]] if n in columns else None for n in ("actual", "forecast", "previous")))
        title = " ".join(row[columns["title"]].split())
        if not title:
            raise BadFile(path, "the title is missing", number + 1, columns["title"], "")
        entries.append(
            CalendarEntry(
                scheduled_utc=when.utc,
                timed=when.timed,
                currency=currency,
                impact=_impact(row, columns, options, number, path),
                title=title,
                cancelled=_cancelled(row, columns, number, path),
                unscheduled="unscheduled" in title.casefold(),
                figures=figures,
                announced_utc=_said("announced_utc", row, columns, number, path),
                released_utc=_said("released_utc", row, columns, number, path),
                place=f"row {number + 1}",
            )
        )
    return CalendarFile(entries=tuple(entries), left_out=dict(left_out))


def _rows(path: Path, text: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the header and the rows by name; a blank line is no row."""
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        table = [
            row for row in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise BadFile(path, f"not readable as CSV: {error}") from None
    names = [name.strip() for name in table[0]]
    for name in names:
        if name and names.count(name) > 1:
            raise BadFile(path, f"the column '{name}' stands there {names.count(name)} times; expected it once")
    if len(table) == 1:
        raise BadFile(path, "there is a header and no event below it")
    for number, row in enumerate(table[1:], 1):
        if len(row) != len(names):
            raise BadFile(
                path,
                f"has {len(row)} fields, expected the {len(names)} of the header",
                number,
                None,
                separator.join(row),
            )
    return names, [dict(zip(names, row, strict=True)) for row in table[1:]]


def _columns(names: Sequence[str], options: CalendarOptions, path: Path) -> dict[str, str]:
    """Return which column of the file holds what.

    Raises:
        BadFile: a column is missing, or two claim to hold the same.
    """
    plain = {name: name.strip("<> ").casefold().replace(" ", "_").lstrip("_") for name in names}
    found = {what: [n for n, key in plain.items() if key in aliases] for what, aliases in _ALIASES.items()}
    if len(found["title"]) > 1:  # a long `description` beside the name of the event
        found["title"] = [n for n in found["title"] if plain[n] != "description"]
    for what, candidates in found.items():
        if len(candidates) > 1:
            raise BadFile(path, f"the columns {', '.join(candidates)} all claim to hold '{what}'; expected one")
    columns = {what: candidates[0] for what, candidates in found.items() if candidates}
    needed = {
        "a time (date and time, or datetime or scheduled_utc)": {"both", "date", "time"},
        "'currency'": {"currency", "country"} if options.currency is None else set(columns) or {"currency"},
        "'impact'": {"impact"} if options.impact is None else set(columns) or {"impact"},
        "'event' or 'title'": {"title"},
    }
    for what, any_of in needed.items():
        if not any_of & set(columns):
            raise BadFile(path, f"there is no column for {what}; found {', '.join(names)}")
    return columns


def _currency(
    row: Mapping[str, str], columns: Mapping[str, str], options: CalendarOptions, number: int, path: Path
) -> str:
    column = columns.get("currency", columns.get("country"))
    if column is None or (not row[column].strip() and options.currency is not None):
        assert options.currency is not None  # _columns refused the file otherwise
        return options.currency
    found = currency_of(row[column])
    if found is None:
        near = difflib.get_close_matches(row[column].strip().upper(), CURRENCIES, n=1)
        problem = f"{CURRENCY_HELP}{f'; did you mean {near[0]}?' if near else ''}"
        raise BadFile(path, problem, number + 1, column, row[column])
    return found


def _impact(
    row: Mapping[str, str], columns: Mapping[str, str], options: CalendarOptions, number: int, path: Path
) -> str:
    column = columns.get("impact")
    if column is None or (not row[column].strip() and options.impact is not None):
        assert options.impact is not None  # _columns refused the file otherwise
        return options.impact
    found = impact_of(row[column])
    if found is None:
        raise BadFile(path, IMPACT_HELP, number + 1, column, row[column])
    return found


def _said(name: str, row: Mapping[str, str], columns: Mapping[str, str], number: int, path: Path) -> datetime | None:
    """Return when the file says that something became known, None where it says nothing."""
    column = columns.get(name)
    return None if column is None else moment_in(row[column], column=column, row=number, timezone=None, path=path)


def _cancelled(row: Mapping[str, str], columns: Mapping[str, str], number: int, path: Path) -> bool:
    if "status" not in columns:
        return False
    text = row[columns["status"]]
    found = _STATUS.get(text.strip().casefold())
    if found is None:
        raise BadFile(path, "expected scheduled or cancelled", number + 1, columns["status"], text)
    return found
