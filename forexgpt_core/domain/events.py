"""Economic events: what a calendar says, and when each part of it became known.

An event is kept as revisions that are never changed. Each says when it became known (`announced_utc`); the outcome
counts from `released_utc` on. So at any moment the calendar can be read as it was, and a later import changes no
earlier reading.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from forexgpt_core.domain.clock import to_utc
from forexgpt_core.domain.figures import Figures
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput

EVERY = "ALL"  # concerns every currency, as a G20 meeting does
CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY", EVERY)
IMPACTS = ("low", "medium", "high", "holiday")
RANKED = ("low", "medium", "high")  # a holiday is no release

_TIME = pl.Datetime("us", "UTC")
EVENT_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "revision": pl.Int64(),
    "scheduled_utc": _TIME,
    "timed": pl.Boolean(),
    "currency": pl.String(),
    "impact": pl.String(),
    "title": pl.String(),
    "cancelled": pl.Boolean(),
    "unit": pl.String(),
    "actual": pl.Float64(),
    "forecast": pl.Float64(),
    "previous": pl.Float64(),
    "actual_text": pl.String(),
    "forecast_text": pl.String(),
    "previous_text": pl.String(),
    "announced_utc": _TIME,
    "released_utc": _TIME,
    "uid": pl.String(),
    "sequence": pl.Int64(),
    "source": pl.String(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarEntry:
    """One event as a file states it.

    Attributes:
        scheduled_utc: when it takes place; the start of its day where the file gives no time of day.
        timed: whether the file gives a time of day. Without one neither features nor the guard use the event.
        unscheduled: nobody knew of it before it happened (an emergency meeting).
        announced_utc, released_utc: when schedule and outcome became known, where the file says so.
        uid, sequence: identity and count of changes that an ICS file gives.
        place: where in the file it stands, for error texts.
    """

    scheduled_utc: datetime
    currency: str
    impact: str
    title: str
    timed: bool = True
    cancelled: bool = False
    unscheduled: bool = False
    figures: Figures = field(default_factory=Figures)
    announced_utc: datetime | None = None
    released_utc: datetime | None = None
    uid: str | None = None
    sequence: int = 0
    place: str = ""

    def __post_init__(self) -> None:
        if self.currency not in CURRENCIES:
            raise BadInput(f"unknown currency '{self.currency}'; known: {', '.join(CURRENCIES)}")
        if self.impact not in IMPACTS:
            raise BadInput(f"unknown impact '{self.impact}'; known: {', '.join(IMPACTS)}")
        if not self.title.strip():
            raise BadInput("an event needs a title")
        for name in ("scheduled_utc", "announced_utc", "released_utc"):
            moment = getattr(self, name)
            if moment is not None:
                to_utc(moment)  # refuses a time without a zone

    @property
    def event_id(self) -> str:
        """Return the id that follows from currency, title and scheduled time, and from nothing else."""
        title = " ".join(self.title.split()).casefold()
        text = f"{self.currency}|{title}|{to_utc(self.scheduled_utc)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomicEvent:
    """One revision of an event, as it is stored.

    Attributes:
        revision: 1 for the first; a change of impact, figures or standing makes a further one.
        announced_utc: when this revision became known. A row of features reads it from then on.
        released_utc: when the outcome became known; None while there is none.
        source: name of the file it came from.
    """

    entry: CalendarEntry
    revision: int
    announced_utc: datetime
    released_utc: datetime | None
    source: str

    @property
    def event_id(self) -> str:
        """Return the id of the event this is a revision of."""
        return self.entry.event_id


def currencies_of(symbol: str) -> tuple[str, str]:
    """Return base and quote of a pair; gold has no calendar of its own, so its quote decides alone."""
    pair = instrument(symbol)
    return pair.base, pair.quote


def at_least(impact: str) -> tuple[str, ...]:
    """Return the impacts that are `impact` or more.

    >>> at_least("medium")
    ('medium', 'high')

    Raises:
        BadInput: there is no such impact among low, medium and high.
    """
    if impact not in RANKED:
        raise BadInput(f"impact must be one of {', '.join(RANKED)}, was '{impact}'")
    return RANKED[RANKED.index(impact) :]


def event_table(events: Iterable[EconomicEvent]) -> pl.DataFrame:
    """Return events as a table of EVENT_SCHEMA, by scheduled time, currency, title and revision."""
    rows = [event_row(event) for event in events]
    return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row").sort("scheduled_utc", "currency", "title", "revision")


def event_row(event: EconomicEvent) -> dict[str, object]:
    """Return one revision as a row of EVENT_SCHEMA."""
    entry, figures = event.entry, event.entry.figures
    return {
        "event_id": event.event_id,
        "revision": event.revision,
        "scheduled_utc": entry.scheduled_utc,
        "timed": entry.timed,
        "currency": entry.currency,
        "impact": entry.impact,
        "title": entry.title,
        "cancelled": entry.cancelled,
        "unit": figures.unit,
        "actual": figures.actual,
        "forecast": figures.forecast,
        "previous": figures.previous,
        "actual_text": figures.actual_text,
        "forecast_text": figures.forecast_text,
        "previous_text": figures.previous_text,
        "announced_utc": event.announced_utc,
        "released_utc": event.released_utc,
        "uid": entry.uid,
        "sequence": entry.sequence,
        "source": event.source,
    }


def known_at(events: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Return each event as it was known at a moment: its newest revision by then, without an outcome still to come."""
    at = pl.lit(to_utc(moment).astype(datetime)).dt.replace_time_zone("UTC")
    known = events.filter(pl.col("announced_utc") <= at).sort("event_id", "revision")
    latest = known.unique("event_id", keep="last", maintain_order=True)
    out = pl.col("released_utc").fill_null(at + pl.duration(microseconds=1)) <= at
    hidden = ("actual", "actual_text", "released_utc")
    return latest.with_columns(pl.when(out).then(pl.col(name)) for name in hidden).sort(
        "scheduled_utc", "currency", "title"
    )
