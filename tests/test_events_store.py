"""The stored calendar: imports add and never change, and at every moment it reads as it was known then."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.events import EventRepository
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.cli.main import main
from forexgpt_core.domain.event_history import Changes, Knowledge
from forexgpt_core.domain.events import EVENT_SCHEMA, CalendarEntry
from forexgpt_core.domain.figures import read_figures
from forexgpt_core.errors import BadInput, StoreError

NOON = datetime(2018, 7, 6, 12, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START, END = NOON - 30 * DAY, NOON + 30 * DAY


def entry(title: str = "Payrolls", at: datetime = NOON, **changes: object) -> CalendarEntry:
    figures = read_figures(*(changes.pop(name, None) for name in ("actual", "forecast", "previous")))
    facts = {"currency": "USD", "impact": "high", "figures": figures, "place": "row 1"} | changes
    return CalendarEntry(scheduled_utc=at, title=title, **facts)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def events(database: Database) -> EventRepository:
    return EventRepository(database)


@pytest.fixture
def small(sqlite_url: str) -> Iterator[EventRepository]:
    upgrade(sqlite_url)
    database = open_database(sqlite_url)
    yield EventRepository(database)
    database.close()


def put(events: EventRepository, now: datetime, *entries: CalendarEntry, **assumed: object) -> Changes:
    return events.import_entries(entries, Knowledge(now_utc=now, **assumed), source="test.csv")


def known(events: EventRepository, at: datetime) -> list[tuple[object, ...]]:
    table = events.known(["USD"], START, END, at_utc=at)
    return [(r["title"], r["scheduled_utc"], r["cancelled"], r["actual"]) for r in table.to_dicts()]


def test_rows_come_back_as_they_were(events: EventRepository) -> None:
    full = entry(actual="213K", forecast="195K", previous="0-0-9", uid="u1", sequence=3)
    bare = entry("Speech", NOON + HOUR, currency="ALL", impact="low", timed=False)
    assert put(events, NOON + DAY, full, bare).added == 2
    table = events.revisions(["EUR", "USD"], START, END)
    assert table.schema == pl.Schema(EVENT_SCHEMA)
    first, second = table.to_dicts()
    assert (first["actual"], first["forecast"], first["previous"], first["previous_text"]) == (
        213e3,
        195e3,
        None,
        "0-0-9",
    )
    assert (first["event_id"], first["revision"], first["source"]) == (full.event_id, 1, "test.csv")
    assert (first["uid"], first["sequence"], second["timed"], second["currency"]) == ("u1", 3, False, "ALL")
    assert (first["scheduled_utc"], first["released_utc"], second["released_utc"]) == (NOON, NOON, None)
    assert first["announced_utc"] == NOON - 7 * DAY
    assert events.revisions(["JPY"], START, END)["currency"].to_list() == ["ALL"]
    assert events.revisions(["USD"], NOON + DAY, END).height == 0


def test_the_same_file_again_adds_nothing(events: EventRepository) -> None:
    week = [entry(actual="1%"), entry("CPI", NOON + HOUR), entry("CPI", NOON + HOUR)]
    first = put(events, NOON + DAY, *week)
    assert (first.added, first.repeated) == (2, 1)
    before = events.revisions(["USD"], START, END)
    again = put(events, NOON + 2 * DAY, *week)
    assert (again.added, again.revised, again.unchanged, again.revisions) == (0, 0, 2, [])
    assert events.revisions(["USD"], START, END).equals(before)


def test_an_outcome_learnt_later_is_known_from_then_on(events: EventRepository) -> None:
    put(events, NOON - 2 * DAY, entry(forecast="195K"))
    assert known(events, NOON - 3 * DAY) == []
    assert known(events, NOON - DAY) == [("Payrolls", NOON, False, None)]
    found = put(events, NOON + 3 * DAY, entry(actual="213K", previous="244K"))
    assert (found.added, found.revised) == (0, 1)
    assert known(events, NOON + 2 * DAY)[0][3] is None, "it was not known here yet"
    assert known(events, NOON + 3 * DAY)[0][3] == 213e3
    newest = events.revisions(["USD"], START, END).to_dicts()[-1]
    assert (newest["revision"], newest["forecast"], newest["previous"]) == (2, 195e3, 244e3), "nothing was erased"
    older = put(events, NOON + 4 * DAY, entry(forecast="195K"))
    assert older.unchanged == 1, "a file exported before the release takes no outcome away"


def test_an_outcome_can_be_taken_as_known_on_time(events: EventRepository) -> None:
    put(events, NOON - 2 * DAY, entry())
    put(events, NOON + 3 * DAY, entry(actual="213K"), released_on_time=True)
    assert known(events, NOON - HOUR)[0][3] is None
    assert known(events, NOON)[0][3] == 213e3


def test_a_correction_keeps_what_was_first_published(events: EventRepository) -> None:
    put(events, NOON + HOUR, entry(actual="213K"))
    put(events, NOON + 30 * DAY, entry(actual="248K"))
    assert known(events, NOON + DAY)[0][3] == 213e3
    assert known(events, NOON + 30 * DAY)[0][3] == 248e3
    assert events.revisions(["USD"], START, END)["released_utc"].to_list() == [NOON, NOON]


@pytest.mark.parametrize(
    ("made", "now", "announced"),
    [
        (entry(), NOON - HOUR, NOON - HOUR),  # still ahead: known when imported
        (entry(), NOON + DAY, NOON - 7 * DAY),  # history
        (entry(unscheduled=True), NOON + DAY, NOON),  # nobody knew
        (entry(announced_utc=NOON - 90 * DAY), NOON + DAY, NOON - 90 * DAY),  # the file says so
    ],
)
def test_when_a_schedule_became_known(
    small: EventRepository, made: CalendarEntry, now: datetime, announced: datetime
) -> None:
    put(small, now, made)
    assert small.revisions(["USD"], START, END)["announced_utc"].to_list() == [announced]


def test_the_days_before_are_a_setting(small: EventRepository) -> None:
    put(small, NOON + DAY, entry(), known_days_before=2.5)
    assert small.revisions(["USD"], START, END)["announced_utc"].to_list() == [NOON - 2.5 * DAY]
    with pytest.raises(BadInput, match="known_days_before must lie in 0 to 365"):
        Knowledge(now_utc=NOON, known_days_before=-1)


def test_an_outcome_without_a_time_of_day_is_known_at_the_end_of_its_day(small: EventRepository) -> None:
    put(small, NOON + 9 * DAY, entry(timed=False, actual="1%"))
    assert small.revisions(["USD"], START, END)["released_utc"].to_list() == [NOON + DAY]


def test_a_cancelled_event_stands_until_that_was_known(events: EventRepository) -> None:
    put(events, NOON - 5 * DAY, entry())
    assert put(events, NOON - 2 * DAY, entry(cancelled=True)).cancelled == 1
    assert known(events, NOON - 3 * DAY) == [("Payrolls", NOON, False, None)]
    assert known(events, NOON - DAY) == [("Payrolls", NOON, True, None)]
    assert put(events, NOON - DAY, entry()).revised == 1
    assert known(events, NOON - HOUR) == [("Payrolls", NOON, False, None)]


def test_an_identity_tells_of_a_move(events: EventRepository) -> None:
    put(events, NOON - 5 * DAY, entry(uid="u"))
    moved = put(events, NOON - 2 * DAY, entry(at=NOON + 3 * HOUR, uid="u", sequence=1))
    assert (moved.moved, moved.added) == (1, 1)
    assert known(events, NOON - 3 * DAY) == [("Payrolls", NOON, False, None)]
    assert [row[1:3] for row in known(events, NOON - DAY)] == [(NOON, True), (NOON + 3 * HOUR, False)]
    stale = put(events, NOON - DAY, entry(uid="u"))
    assert (stale.outdated, stale.revisions) == (1, [])
    again = put(events, NOON - DAY, entry(at=NOON + 3 * HOUR, uid="u", sequence=1))
    assert again.revisions == []


def test_a_later_week_file_tells_of_a_move_by_its_title(events: EventRepository) -> None:
    week = [
        entry("Early", NOON - 3 * DAY),
        entry("Speech", NOON - DAY),
        entry("Speech", NOON),
        entry("Late", NOON + DAY),
    ]
    put(events, NOON - 5 * DAY, *week)
    other = replace(week[2], scheduled_utc=NOON + 2 * HOUR)
    found = put(events, NOON - 2 * DAY, week[0], week[1], other, week[3])
    assert (found.moved, found.added, found.unchanged) == (1, 1, 3)
    standing = {row[1] for row in known(events, NOON - 2 * DAY) if not row[2]}
    assert standing == {NOON - 3 * DAY, NOON - DAY, NOON + 2 * HOUR, NOON + DAY}
    assert put(events, NOON - DAY, week[0], week[1], other, week[3]).revisions == []


def test_next_week_moves_nothing_of_this_week(small: EventRepository) -> None:
    put(small, NOON - 5 * DAY, entry("Claims", NOON - DAY), entry("Claims", NOON + 6 * DAY))
    found = put(small, NOON - 2 * DAY, entry("Other", NOON + 5 * DAY), entry("Claims", NOON + 13 * DAY))
    assert (found.moved, found.added) == (0, 2)
    past = put(small, NOON + 2 * DAY, entry("Claims", NOON - DAY + HOUR), entry("Other", NOON - 2 * DAY))
    assert past.moved == 0, "what is past stays as it was known"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [entry(at=NOON + DAY, actual="1%")],
            r"test.csv: row 1: 'Payrolls' of USD has the outcome '1%' but takes place",
        ),
        ([entry(released_utc=NOON - HOUR, actual="1")], "was released before it took place"),
        ([entry(actual="1%"), entry(actual="2%", place="row 2")], "row 1 and row 2 are both 'Payrolls' of USD"),
    ],
)
def test_impossible_events_are_refused_and_nothing_is_stored(
    small: EventRepository, entries: list[CalendarEntry], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        put(small, NOON, entry("Good", NOON - DAY), *entries)
    assert small.revisions(["USD"], START, END).is_empty()


def test_an_import_that_fails_halfway_stores_nothing(database: Database) -> None:
    events = EventRepository(database)
    many = [entry(f"event {n}", NOON + n * HOUR) for n in range(700)]
    with database.write() as connection:  # a row that the last part of the import will collide with
        row = {
            "event_id": many[-1].event_id,
            "revision": 1,
            "title": "x",
            "source": "x",
            "currency": "JPY",
            "impact": "low",
        }
        times = {"scheduled_utc": "2001-01-01 00:00:00", "announced_utc": "2001-01-01 00:00:00"}
        row |= times | {"recorded_utc": "2001-01-01 00:00:00"}
        names = ", ".join([*row, "timed", "cancelled", "unit", "sequence"])
        values = ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO economic_event ({names}) VALUES ({values}, true, false, '', 0)"), row)
    with pytest.raises(StoreError):
        put(events, NOON, *many)
    assert events.revisions(["USD"], START, NOON + 60 * DAY).is_empty()


def test_imports_at_once_store_each_event_once(database: Database) -> None:
    events = EventRepository(database)
    week = [entry(f"event {n}", NOON + n * HOUR) for n in range(40)]
    results: list[int] = []
    crowd = [threading.Thread(target=lambda: results.append(put(events, NOON, *week).added)) for _ in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert sorted(results) == [0, 0, 0, 40]
    assert events.revisions(["USD"], START, END).height == 40


# ---- the command line


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(list(arguments))
        except SystemExit as stop:
            code = int(stop.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_the_calendar_on_the_command_line(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "week.csv"
    file.write_text(
        "Date,Time,Currency,Impact,Event,Actual,Forecast,Previous\n"
        "2018-07-06,8:30am,USD,High,Payrolls,213K,195K,244K\n"
        "2018-07-05,All Day,JPY,Holiday,Marine Day,,,\n"
        "2018-07-04,9:00am,CNY,Low,PMI,50.1,,\n"
    )
    code, _, told = run("events", "import", str(file))
    assert (code, told.count("\n")) == (1, 1)
    assert "pass --timezone NAME" in told
    imported = ["events", "import", str(file), "--timezone", "America/New_York", "--json"]
    code, out, _ = run(*imported)
    first = json.loads(out)
    assert (code, first["added"], first["without_time_of_day"]) == (0, 2, 1)
    assert first["other_currencies_left_out"] == {"CNY": 1}
    assert json.loads(run(*imported)[1])["unchanged"] == 2
    span = ["events", "list", "--from", "2018-07-01", "--to", "2018-07-31"]
    listed = json.loads(run(*span, "--symbol", "EURUSD", "--json")[1])
    assert [(row["title"], row["actual"]) for row in listed] == [("Payrolls", 213e3)]
    before = json.loads(run(*span, "--symbol", "EURUSD", "--as-of", "2018-07-06T12:00Z", "--json")[1])
    assert [(row["title"], row["actual"], row["actual_text"]) for row in before] == [("Payrolls", None, None)]
    assert "2018-07-05 all day" in run(*span)[1]
    assert (
        run("events", "list", "--from", "July")[2] == "forexgpt: --from must be a day such as 2018-07-06, was 'July'\n"
    )
    assert run("events", "forget", "week.csv")[0] == 0
    assert json.loads(run(*span, "--json")[1]) == []
    assert run("events", "forget", "week.csv")[0] == 1
