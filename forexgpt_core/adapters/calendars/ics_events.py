"""Economic events from an iCalendar file (RFC 5545); the `icalendar` library reads it, meaning is judged here."""

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from forexgpt_core.adapters.calendars.text import text_of
from forexgpt_core.adapters.calendars.words import CURRENCY_HELP, ELSEWHERE, IMPACT_HELP, currency_of, impact_of
from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.adapters.source_files.times import to_utc
from forexgpt_core.domain.calendar_files import CalendarFile, CalendarOptions
from forexgpt_core.domain.events import CURRENCIES, CalendarEntry
from forexgpt_core.domain.figures import Figures, read_figures

_CODES = "|".join((*CURRENCIES, *sorted(ELSEWHERE)))
_NAMED = (
    re.compile(rf"^\W*\b({_CODES})\b\s*[:|\-–—]?\s*(?=\S)"),  # "USD: Non-Farm", "[USD] Non-Farm"
    re.compile(rf"[\[(]\s*({_CODES})\s*[\])]"),  # "Non-Farm (USD)"
)
_BRACKETS = re.compile(r"[\[(]([^\])]*)[\])]")
_LABEL = re.compile(r"^\s*(impact|importance|currency|actual|forecast|previous)\s*[:=]\s*(.*?)\s*$", re.I | re.M)
_CALENDAR_ENDS = re.compile(r"^END:VCALENDAR\s*$", re.I | re.M)
_EVENT_BEGINS = re.compile(r"^BEGIN:VEVENT\s*$", re.I | re.M)
_REPEATS = ("RRULE", "RDATE", "RECURRENCE-ID", "EXDATE")
_READ = (
    *_REPEATS,
    *("UID", "SEQUENCE", "DTSTART", "CREATED", "LAST-MODIFIED", "STATUS", "SUMMARY", "CATEGORIES", "PRIORITY"),
    *("DESCRIPTION", "X-CURRENCY", "X-IMPACT"),
)


def read_ics_events(path: Path, options: CalendarOptions) -> CalendarFile:
    """Return the events of an iCalendar file, all of them or none.

    Currency: CATEGORIES, X-CURRENCY, a "Currency:" line of DESCRIPTION, or the SUMMARY ("USD: ...", "... (USD)").
    Impact: X-IMPACT, an "Impact:" line of DESCRIPTION, CATEGORIES, brackets in the SUMMARY ("[High]"), or PRIORITY
    (1 to 4 high, 5 medium, 6 to 9 low). Figures: "Actual:", "Forecast:" and "Previous:" lines of DESCRIPTION. An event
    whose DTSTART is a date is untimed. UID and SEQUENCE tell of moves, STATUS:CANCELLED and METHOD:CANCEL of what will
    not take place. CREATED (after a change LAST-MODIFIED) says when the schedule became known, unless it lies after
    the event. DTEND and DURATION are not used.

    Raises:
        BadFile: not a calendar, an event that repeats, or one whose time, zone, currency or impact is not given.
    """
    components, cancelled = _components(path)
    entries, left_out = [], Counter[str]()
    for number, component in enumerate(components, 1):
        reader = _Reader(component, number, path, options)
        currency = reader.currency
        if currency in ELSEWHERE:
            left_out[currency] += 1
            continue
        entries.append(reader.entry(currency, cancelled=cancelled))
    _refuse_contradiction(entries, components, options, path)
    return CalendarFile(entries=tuple(entries), left_out=dict(left_out))


def _components(path: Path) -> tuple[list[Any], bool]:
    from icalendar import Calendar

    text = text_of(path)
    try:
        calendars = Calendar.from_ical(text, multiple=True)
        found = [event for calendar in calendars for event in calendar.walk("VEVENT")]
    except Exception as error:  # the library raises many kinds for what is no calendar
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadFile(path, f"not readable as iCalendar (RFC 5545): {reason[:120]}") from None
    if any(calendar.name != "VCALENDAR" for calendar in calendars):
        raise BadFile(path, "not readable as iCalendar (RFC 5545): it does not begin with BEGIN:VCALENDAR")
    if len(calendars) != len(_CALENDAR_ENDS.findall(text)) or len(found) != len(_EVENT_BEGINS.findall(text)):
        raise BadFile(path, "the calendar is cut off: it does not end with END:VCALENDAR after whole events")
    if not found:
        raise BadFile(path, "the calendar holds no VEVENT; expected at least one event")
    return found, any(str(calendar.get("METHOD", "")).upper() == "CANCEL" for calendar in calendars)


class _Reader:
    """One VEVENT, and what its parts mean."""

    def __init__(self, component: Any, number: int, path: Path, options: CalendarOptions) -> None:
        self.component, self.path, self.options = component, path, options
        self.summary = " ".join(str(component.get("SUMMARY", "")).split())
        self.place = f"event {number}"
        self.labels = {k.casefold(): v for k, v in _LABEL.findall(str(component.get("DESCRIPTION", "")))}
        for name, problem in component.errors:
            if name is not None and str(name).upper() not in _READ:
                continue  # of a property that means nothing here
            raise self.bad(f"a line cannot be read: {' '.join(str(problem).split())[:120]}", str(name or "unnamed"))
        for name in _REPEATS:
            if name in component:
                raise self.bad(f"it repeats ({name}), which is not read: export each occurrence as an event", name)
        if not self.summary:
            raise self.bad("it has no SUMMARY; expected its title", "SUMMARY")

    def bad(self, problem: str, column: str, value: str | None = None) -> BadFile:
        """Return the refusal of this event."""
        return BadFile(self.path, f"{self.place} '{self.summary[:60]}': {problem}", None, column, value)

    def entry(self, currency: str, *, cancelled: bool) -> CalendarEntry:
        """Return the event."""
        scheduled, timed = self.start()
        announced = self.announced(scheduled)
        return CalendarEntry(
            scheduled_utc=scheduled,
            timed=timed,
            currency=currency,
            impact=self.impact,
            title=self.title(currency),
            cancelled=cancelled or str(self.component.get("STATUS", "")).upper() == "CANCELLED",
            unscheduled="unscheduled" in " ".join((self.summary, *self.categories)).casefold(),
            figures=self.figures,
            announced_utc=announced,
            uid=str(self.component.get("UID", "")).strip() or None,
            sequence=self.sequence,
            place=self.place,
        )

    @property
    def categories(self) -> list[str]:
        """Return the categories, however they are spread over lines."""
        found = self.component.get("CATEGORIES")
        lines = found if isinstance(found, list) else [] if found is None else [found]
        return [str(word).strip() for line in lines for word in getattr(line, "cats", [line])]

    @property
    def currency(self) -> str:
        """Return the currency."""
        named = [*self.categories, str(self.component.get("X-CURRENCY", "")), self.labels.get("currency", "")]
        codes = [word.upper() for word in named if word.upper() in CURRENCIES or word.upper() in ELSEWHERE]
        codes += [found[1] for pattern in _NAMED if (found := pattern.search(self.summary))]
        countries = [code for word in named if (code := currency_of(word)) is not None]
        for candidates in (dict.fromkeys(codes), dict.fromkeys(countries)):
            if len(candidates) > 1:
                raise self.bad(f"names more than one currency ({', '.join(candidates)}); expected one", "CATEGORIES")
            if candidates:
                return next(iter(candidates))
        if self.options.currency is not None:
            return self.options.currency
        raise self.bad(
            f"names no currency; {CURRENCY_HELP} in CATEGORIES or before the SUMMARY, or pass --currency USD", "SUMMARY"
        )

    @property
    def impact(self) -> str:
        """Return the impact."""
        said = [str(self.component.get("X-IMPACT", "")), self.labels.get("impact", self.labels.get("importance", ""))]
        for word in (*said, *self.categories, *_BRACKETS.findall(self.summary)):
            if word and (found := impact_of(word)):
                return found
        priority = str(self.component.get("PRIORITY", "0")).strip()
        if priority in tuple("123456789"):
            return "high" if priority < "5" else "medium" if priority == "5" else "low"
        if self.options.impact is not None:
            return self.options.impact
        raise self.bad(f"names no impact; {IMPACT_HELP} in CATEGORIES, or pass --impact high", "CATEGORIES")

    def title(self, currency: str) -> str:
        """Return the summary without the currency and the impact it may name."""
        text = re.sub(rf"^\W*\b{currency}\b\W*\s*", "", self.summary)
        for inner in _BRACKETS.findall(text):
            if inner.strip() == currency or impact_of(inner):
                text = re.sub(rf"\s*[\[(]{re.escape(inner)}[\])]", "", text)
        return " ".join(text.split()) or self.summary

    @property
    def figures(self) -> Figures:
        """Return actual, forecast and previous."""
        return read_figures(*(self.labels.get(name) for name in ("actual", "forecast", "previous")))

    @property
    def sequence(self) -> int:
        """Return how often the event was changed."""
        text = str(self.component.get("SEQUENCE", "0")).strip()
        if not text.isdecimal():
            raise self.bad("expected a whole number", "SEQUENCE", text)
        return int(text)

    def start(self) -> tuple[datetime, bool]:
        """Return when the event starts, and whether a time of day is given."""
        value = self.moment("DTSTART")
        if value is None:
            raise self.bad("it has no DTSTART; expected its time", "DTSTART")
        if isinstance(value, datetime):
            return self.in_utc(value, "DTSTART"), True
        noon = datetime(value.year, value.month, value.day, 12)
        placed = self.zoned(noon, self.options.timezone or "UTC", "DTSTART", str(value))
        return placed - timedelta(hours=12), False

    def announced(self, scheduled: datetime) -> datetime | None:
        """Return when the schedule became known by what the file says, None where it says nothing that helps."""
        told = [self.moment("CREATED")] + [self.moment("LAST-MODIFIED")] * (self.sequence > 0)
        known = [value.astimezone(UTC) for value in told if isinstance(value, datetime) and value.tzinfo is not None]
        if not known or len(known) < len(told):
            return None
        return max(known) if max(known) <= scheduled else None

    def moment(self, name: str) -> datetime | date | None:
        """Return a property that is a date or a time, None where it is absent."""
        found = self.component.get(name)
        try:
            value = None if found is None else found.dt
        except Exception:  # a broken property fails where it is read, with an error of the library's own
            raise self.bad("expected a date and time such as 20180706T123000Z", name, str(found)) from None
        if value is None or isinstance(value, date):
            return value
        raise self.bad("expected one date and time", name, str(value))

    def in_utc(self, value: datetime, name: str) -> datetime:
        """Return a time in UTC, by its own zone or by the one given for times without."""
        told = str(self.component[name].params.get("TZID", "")) if name in self.component else ""
        if value.tzinfo is None and told:
            raise self.bad(f"the time zone '{told}' is neither a known name nor defined in the file", name, str(value))
        if value.tzinfo is None:
            if self.options.timezone is None:
                raise self.bad("the time has no time zone; pass --timezone NAME, e.g. UTC", name, str(value))
            return self.zoned(value, self.options.timezone, name, str(value))
        other = value.replace(fold=1 - value.fold)
        if other.utcoffset() != value.utcoffset():
            back = value.astimezone(UTC).astimezone(value.tzinfo)
            when = "happened twice" if back.replace(tzinfo=None) == value.replace(tzinfo=None) else "never happened"
            raise self.bad(f"this hour {when} in {told or value.tzinfo} (clocks changed)", name, str(value))
        return value.astimezone(UTC)

    def zoned(self, naive: datetime, zone: str, name: str, shown: str) -> datetime:
        """Return a clock time of a zone in UTC; the refusals are those of candles."""
        try:
            placed = to_utc(pl.Series(name, [naive]), column=name, timezone=zone, path=self.path)[0]
        except BadFile as error:
            raise self.bad(error.problem, name, shown) from None
        assert isinstance(placed, datetime)
        return placed.astimezone(UTC)


def _refuse_contradiction(
    entries: list[CalendarEntry], components: list[Any], options: CalendarOptions, path: Path
) -> None:
    """Refuse a zone where every time of the file says its own; UTC contradicts nothing that ends up in UTC."""
    if options.timezone in (None, "UTC", "Etc/UTC") or not entries:
        return
    starts = [component["DTSTART"].dt for component in components]
    if all(isinstance(start, datetime) and start.tzinfo is not None for start in starts):
        raise BadFile(path, f"the times say their own zone: leave out --timezone {options.timezone}", column="DTSTART")
