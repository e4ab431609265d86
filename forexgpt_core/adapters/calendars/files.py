"""A calendar file by what it holds: iCalendar or CSV."""

from pathlib import Path

from forexgpt_core.adapters.calendars.csv_events import read_csv_events
from forexgpt_core.adapters.calendars.ics_events import read_ics_events
from forexgpt_core.domain.calendar_files import CalendarFile, CalendarOptions


def read_calendar(path: Path, options: CalendarOptions | None = None) -> CalendarFile:
    """Return the events of a file; what begins as an iCalendar does, or is called .ics, is one.

    Raises:
        BadFile: see `read_ics_events` and `read_csv_events`.
    """
    chosen = options or CalendarOptions()
    if path.suffix.casefold() in (".ics", ".ical", ".ifb") or _begins_as_icalendar(path):
        return read_ics_events(path, chosen)
    return read_csv_events(path, chosen)


def _begins_as_icalendar(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().upper().startswith(b"BEGIN:VCALENDAR")
