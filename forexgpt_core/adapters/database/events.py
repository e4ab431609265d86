"""The stored economic calendar."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.event_tables import economic_event_table as table
from forexgpt_core.domain.event_history import Changes, Knowledge, changes
from forexgpt_core.domain.events import (
    EVENT_SCHEMA,
    EVERY,
    CalendarEntry,
    EconomicEvent,
    event_row,
    known_at,
)
from forexgpt_core.domain.figures import Figures

_FIGURES = ("unit", "actual", "forecast", "previous", "actual_text", "forecast_text", "previous_text")
_CHUNK = 500  # rows per statement; SQLite allows some 32,000 parameters in one


class EventRepository:
    """Events as revisions; an import adds rows and changes none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def import_entries(self, entries: Sequence[CalendarEntry], knowledge: Knowledge, *, source: str) -> Changes:
        """Store what a file says beyond what is stored, all of it or nothing; a second import of it adds nothing.

        Raises:
            BadInput: see `domain.event_history.changes`.
        """
        with self._database.write() as connection:
            self._database.serialise(connection, "economic_event")
            found = changes(entries, self._touched(connection, entries), knowledge, source=source)
            recorded = now_utc()
            rows = [{**event_row(event), "recorded_utc": recorded} for event in found.revisions]
            for start in range(0, len(rows), _CHUNK):
                connection.execute(sa.insert(table), rows[start : start + _CHUNK])
        return found

    def revisions(self, currencies: Iterable[str], start_utc: datetime, end_utc: datetime) -> pl.DataFrame:
        """Return every revision of the events of some currencies (and of ALL) scheduled in [start, end].

        Returns:
            Columns of `domain.events.EVENT_SCHEMA`, what features and the guard read.
        """
        wanted = sorted({*currencies, EVERY})
        query = (
            sa.select(*(table.c[name] for name in EVENT_SCHEMA))
            .where(table.c.currency.in_(wanted), table.c.scheduled_utc.between(start_utc, end_utc))
            .order_by(table.c.scheduled_utc, table.c.currency, table.c.title, table.c.revision)
        )
        with self._database.read() as connection:
            rows = [tuple(row) for row in connection.execute(query)]
        return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")

    def known(
        self, currencies: Iterable[str], start_utc: datetime, end_utc: datetime, *, at_utc: datetime
    ) -> pl.DataFrame:
        """Return the events scheduled in [start, end] as they were known at a moment, see `domain.events.known_at`."""
        return known_at(self.revisions(currencies, start_utc, end_utc), at_utc)

    def forget(self, source: str) -> int:
        """Remove every revision that came from a file of this name, and return how many."""
        with self._database.write() as connection:
            self._database.serialise(connection, "economic_event")
            return connection.execute(sa.delete(table).where(table.c.source == source)).rowcount

    def _touched(self, connection: Connection, entries: Sequence[CalendarEntry]) -> list[EconomicEvent]:
        """Return the newest revision of every event in the span of a file or with an identity of it."""
        if not entries:
            return []
        times = [entry.scheduled_utc for entry in entries]
        span = table.c.scheduled_utc.between(min(times), max(times) + timedelta(microseconds=1))
        found = _newest(connection, span)
        uids = sorted({entry.uid for entry in entries if entry.uid})
        for start in range(0, len(uids), _CHUNK):
            found |= _newest(connection, table.c.uid.in_(uids[start : start + _CHUNK]))
        return list(found.values())


def _newest(connection: Connection, where: sa.ColumnElement[bool]) -> dict[str, EconomicEvent]:
    rows = connection.execute(sa.select(table).where(where).order_by(table.c.event_id, table.c.revision))
    return {row.event_id: _event(row) for row in rows}  # the last of each id stays


def _event(row: Any) -> EconomicEvent:
    entry = CalendarEntry(
        scheduled_utc=row.scheduled_utc,
        currency=row.currency,
        impact=row.impact,
        title=row.title,
        timed=row.timed,
        cancelled=row.cancelled,
        figures=Figures(**{name: getattr(row, name) for name in _FIGURES}),
        uid=row.uid,
        sequence=row.sequence,
    )
    return EconomicEvent(
        entry=entry,
        revision=row.revision,
        announced_utc=row.announced_utc,
        released_utc=row.released_utc,
        source=row.source,
    )
