"""From what a file says now and what is stored already to the revisions that have to be added.

What is assumed about knowledge, where a file does not say:

- a schedule still ahead became known when it was imported; one that lies in the past when first imported was known
  `known_days_before` days ahead; an unscheduled event is known at its time and not before;
- a revision of what is stored already became known when it was imported;
- an outcome that comes with the first import was known at the scheduled time (at the end of the day where there is no
  time of day); an outcome of an event that was stored without one became known when it was imported, because here it
  was not known before. `released_on_time` assumes the scheduled time there too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from forexgpt_core.domain.events import CalendarEntry, EconomicEvent
from forexgpt_core.errors import BadInput

_TOO_EARLY = timedelta(minutes=5)  # clocks differ; an outcome further ahead of its event is another time zone
_MOVED_WITHIN = timedelta(days=6)  # a weekly release of the same title is another event


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What to assume about when things became known; see the module.

    Attributes:
        now_utc: the moment of the import.
        known_days_before: how many days ahead a schedule of the past is taken as known.
        released_on_time: take every outcome as known at its scheduled time, also one that was learnt later here.
    """

    now_utc: datetime
    known_days_before: float = 7.0
    released_on_time: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.known_days_before <= 365:
            raise BadInput(f"known_days_before must lie in 0 to 365, was {self.known_days_before}")


@dataclass(slots=True, kw_only=True)
class Changes:
    """Revisions to add, and what became of the entries of a file.

    Attributes:
        added: events that were not stored.
        revised: events with a new figure, impact or standing; moved and cancelled ones are not among them.
        moved: events that were stored at another time.
        cancelled: events that will not take place.
        unchanged: entries that say what is stored already.
        outdated: entries older than what is stored, by their SEQUENCE.
        repeated: entries that stand in the file more than once, word for word.
    """

    revisions: list[EconomicEvent] = field(default_factory=list)
    added: int = 0
    revised: int = 0
    moved: int = 0
    cancelled: int = 0
    unchanged: int = 0
    outdated: int = 0
    repeated: int = 0


def changes(
    entries: Sequence[CalendarEntry], stored: Iterable[EconomicEvent], knowledge: Knowledge, *, source: str
) -> Changes:
    """Return what an import has to add; the same file twice adds nothing.

    Args:
        entries: of one file.
        stored: the newest revision of every event that the file could touch.
        source: name of the file.

    Raises:
        BadInput: two entries contradict each other, an outcome lies in the future, or is older than its event.
    """
    found = Changes()
    latest = {event.event_id: event for event in stored}
    by_uid = {event.entry.uid: event for event in latest.values() if event.entry.uid and not event.entry.cancelled}
    wanted = _distinct(entries, found, source)
    left = _left_behind(latest, wanted, knowledge)
    moved_titles = {_title(event.entry) for event in left}
    for entry in wanted.values():
        _refuse_impossible(entry, knowledge, source)
        earlier = by_uid.get(entry.uid) if entry.uid else None
        known = latest.get(entry.event_id)
        newest = max((e.entry.sequence for e in (earlier, known) if e is not None and e.entry.uid), default=0)
        if entry.uid and entry.sequence < newest:
            found.outdated += 1
            continue
        elsewhere = earlier is not None and earlier.event_id != entry.event_id
        if elsewhere and earlier is not None and earlier.event_id not in wanted:
            _withdraw(earlier, knowledge, source, found)
        if known is None:
            news = elsewhere or _title(entry) in moved_titles
            found.revisions.append(_first(entry, knowledge, source, news=news))
            found.added += 1
        else:
            _revise(known, entry, knowledge, source, found)
    for event in left:
        _withdraw(event, knowledge, source, found)
    return found


def _title(entry: CalendarEntry) -> tuple[str, str]:
    return entry.currency, " ".join(entry.title.split()).casefold()


def _distinct(entries: Sequence[CalendarEntry], found: Changes, source: str) -> dict[str, CalendarEntry]:
    """Return entries by id; the same event twice must say the same."""
    wanted: dict[str, CalendarEntry] = {}
    for entry in entries:
        first = wanted.setdefault(entry.event_id, entry)
        if first is entry:
            continue
        if replace(first, place="", uid=None) != replace(entry, place="", uid=None):
            raise BadInput(
                f"{source}: {first.place} and {entry.place} are both '{entry.title}' of {entry.currency} at"
                f" {entry.scheduled_utc:%Y-%m-%d %H:%M} UTC and differ: keep one, or give them different titles"
            )
        found.repeated += 1
    return wanted


def _refuse_impossible(entry: CalendarEntry, knowledge: Knowledge, source: str) -> None:
    what = f"{source}: {entry.place}: '{entry.title}' of {entry.currency}"
    if entry.figures.actual_text is not None and entry.scheduled_utc > knowledge.now_utc + _TOO_EARLY:
        raise BadInput(
            f"{what} has the outcome '{entry.figures.actual_text}' but takes place at"
            f" {entry.scheduled_utc:%Y-%m-%d %H:%M} UTC, in the future: is it the right time zone?"
        )
    if entry.released_utc is not None and entry.released_utc < entry.scheduled_utc:
        raise BadInput(f"{what} was released before it took place; expected released_utc at or after its time")


def _first(entry: CalendarEntry, knowledge: Knowledge, source: str, *, news: bool) -> EconomicEvent:
    """Return the first revision; `news` says that the event was known here before, at another time."""
    past = entry.scheduled_utc <= knowledge.now_utc
    if entry.announced_utc is not None:
        announced = entry.announced_utc
    elif news or not past:
        announced = knowledge.now_utc
    elif entry.unscheduled:
        announced = entry.scheduled_utc
    else:
        announced = entry.scheduled_utc - timedelta(days=knowledge.known_days_before)
    released = None if entry.figures.actual_text is None else max(_on_time(entry), announced)
    return EconomicEvent(entry=entry, revision=1, announced_utc=announced, released_utc=released, source=source)


def _on_time(entry: CalendarEntry) -> datetime:
    if entry.released_utc is not None:
        return entry.released_utc
    return entry.scheduled_utc if entry.timed else entry.scheduled_utc + timedelta(days=1)


def _revise(known: EconomicEvent, entry: CalendarEntry, knowledge: Knowledge, source: str, found: Changes) -> None:
    before = known.entry
    figures = before.figures.completed(entry.figures)
    merged = replace(
        before,
        impact=entry.impact,
        cancelled=entry.cancelled,
        figures=figures,
        uid=entry.uid or before.uid,
        sequence=max(before.sequence, entry.sequence),
    )
    if merged == before:
        found.unchanged += 1
        return
    announced, released = max(knowledge.now_utc, known.announced_utc), known.released_utc
    if released is None and figures.actual_text is not None:
        if knowledge.released_on_time:
            announced = max(known.announced_utc, _on_time(entry))
        released = announced
    if merged.cancelled and not before.cancelled:
        found.cancelled += 1
    else:
        found.revised += 1
    found.revisions.append(
        EconomicEvent(
            entry=merged, revision=known.revision + 1, announced_utc=announced, released_utc=released, source=source
        )
    )


def _withdraw(event: EconomicEvent, knowledge: Knowledge, source: str, found: Changes) -> None:
    """Let an event that takes place at another time stand no longer at its old one."""
    found.revisions.append(
        EconomicEvent(
            entry=replace(event.entry, cancelled=True),
            revision=event.revision + 1,
            announced_utc=max(knowledge.now_utc, event.announced_utc),
            released_utc=event.released_utc,
            source=source,
        )
    )
    found.moved += 1


def _left_behind(
    latest: Mapping[str, EconomicEvent], wanted: Mapping[str, CalendarEntry], knowledge: Knowledge
) -> list[EconomicEvent]:
    """Return stored events still ahead, inside the file's span, whose title it gives at another time only.

    A file without identities (CSV) can tell of a move in no other way. An event whose title the file does not know
    stays: files of different calendars may be imported side by side.
    """
    spans = [entry.scheduled_utc for entry in wanted.values()]
    times: dict[tuple[str, str], list[datetime]] = {}
    for entry in wanted.values():
        if entry.uid is None and entry.event_id not in latest:
            times.setdefault(_title(entry), []).append(entry.scheduled_utc)
    left = []
    for event in latest.values():
        entry, others = event.entry, times.get(_title(event.entry), [])
        ahead = entry.scheduled_utc > knowledge.now_utc - (timedelta(0) if entry.timed else timedelta(days=1))
        if entry.cancelled or entry.uid or event.event_id in wanted or not ahead or not others:
            continue
        covered = min(spans) <= entry.scheduled_utc <= max(spans)
        if covered and any(abs(other - entry.scheduled_utc) <= _MOVED_WITHIN for other in others):
            left.append(event)
    return left
