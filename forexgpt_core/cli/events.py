"""`forexgpt events import|list|forget`: the economic calendar."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import typer

from forexgpt_core.cli.output import JsonFlag, group, print_json, print_table, show
from forexgpt_core.composition import Platform
from forexgpt_core.domain.calendar_files import CalendarOptions
from forexgpt_core.domain.event_history import Knowledge
from forexgpt_core.domain.events import CURRENCIES, currencies_of
from forexgpt_core.errors import BadInput, NotReady

_SHOWN = ("scheduled_utc", "currency", "impact", "title", "actual_text", "forecast_text", "previous_text")
_DAYS_AHEAD = 7
_NOON = timedelta(hours=12)  # noon of a day lies on that day in UTC too, whatever the zone; its start may not


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    events = group(app, "events", "The economic calendar: known times, figures, and what they were known as.")

    @events.command("import", epilog="Example: forexgpt events import week.csv --timezone America/New_York")
    def import_(
        file: Annotated[Path, typer.Argument(help="CSV or iCalendar (.ics) file.", metavar="FILE")],
        timezone: Annotated[str, typer.Option(help="Zone of times that do not say theirs, e.g. Europe/London.")] = "",
        currency: Annotated[str, typer.Option(help="Of every event, where the file names none.")] = "",
        impact: Annotated[str, typer.Option(help="Of every event, where the file names none.")] = "",
        dates: Annotated[str, typer.Option(help="dmy or mdy, for dates such as 01/02/2018.")] = "",
        known_days_before: Annotated[
            float, typer.Option(help="Days ahead that schedules of the past are taken as known.")
        ] = 7.0,
        released_on_time: Annotated[
            bool,
            typer.Option(
                "--released-on-time", help="Take outcomes as known at their time, also those first learnt here now."
            ),
        ] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Store the events of a file, all or nothing; the same file again changes nothing."""
        options = CalendarOptions(
            timezone=timezone or None,
            currency=currency.upper() or None,
            impact=impact.casefold() or None,
            dates=dates.casefold() or None,
        )
        knowledge = Knowledge(
            now_utc=datetime.now(UTC), known_days_before=known_days_before, released_on_time=released_on_time
        )
        read, found = Platform.prepared().import_events(file, options, knowledge)
        times = [entry.scheduled_utc for entry in read.entries]
        show(
            {
                "file": file.name,
                "events": len(read.entries),
                "added": found.added,
                "revised": found.revised,
                "moved": found.moved,
                "cancelled": found.cancelled,
                "unchanged": found.unchanged,
                "outdated": found.outdated,
                "repeated": found.repeated,
                "first_utc": min(times, default=None),
                "last_utc": max(times, default=None),
                "without_time_of_day": read.untimed,
                "unreadable_figures": read.unreadable_figures,
                "other_currencies_left_out": dict(read.left_out) or None,
            },
            as_json=as_json,
        )

    @events.command("list", epilog="Example: forexgpt events list --symbol EURUSD --from 2018-07-02 --to 2018-07-06")
    def list_(
        symbol: Annotated[str, typer.Option(help="Events of one pair's currencies; of all where not given.")] = "",
        from_: Annotated[str, typer.Option("--from", help="First day, UTC; today where not given.")] = "",
        to: Annotated[str, typer.Option("--to", help="Last day, UTC; a week after the first where not given.")] = "",
        as_of: Annotated[
            str, typer.Option(help="Show what was known then, e.g. 2018-07-06T12:00Z; now by default.")
        ] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """List events as they are known, those that were called off included."""
        first = _day("--from", from_) if from_ else datetime.now(UTC).date()
        last = _day("--to", to) if to else first + timedelta(days=_DAYS_AHEAD)
        if last < first:
            raise BadInput(f"--to {last} lies before --from {first}")
        start = datetime.combine(first, time(0), UTC)
        end = datetime.combine(last, time(0), UTC) + timedelta(days=1) - timedelta(microseconds=1)
        moment = _moment("--as-of", as_of) if as_of else datetime.now(UTC)
        currencies = currencies_of(symbol) if symbol else CURRENCIES
        table = Platform.prepared().events.known(currencies, start, end, at_utc=moment)
        if as_json:
            print_json(table.to_dicts())
            return
        rows = [
            {
                **{name.removesuffix("_text"): row[name] for name in _SHOWN},
                "scheduled_utc": row["scheduled_utc"]
                if row["timed"]
                else f"{row['scheduled_utc'] + _NOON:%Y-%m-%d} all day",
                "status": "called off" if row["cancelled"] else "",
            }
            for row in table.to_dicts()
        ]
        print_table(rows, f"{len(rows)} events from {first} to {last}")

    @events.command(epilog="Example: forexgpt events forget week.csv")
    def forget(
        file: Annotated[str, typer.Argument(help="Name of the file they were imported from.", metavar="NAME")],
        as_json: JsonFlag = False,
    ) -> None:
        """Remove everything one file brought, such as an import under the wrong time zone."""
        removed = Platform.prepared().events.forget(Path(file).name)
        if not removed:
            raise NotReady(f"no stored event came from a file named {Path(file).name}; nothing was removed")
        show({"file": Path(file).name, "revisions_removed": removed}, as_json=as_json)


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{option} must be a day such as 2018-07-06, was '{text}'") from None


def _moment(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadInput(f"{option} must be a time with its zone such as 2018-07-06T12:00Z, was '{text}'")
    return moment
