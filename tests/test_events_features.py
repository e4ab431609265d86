"""Features of the calendar: right by a plain count, and blind to everything not yet announced or released."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.event_history import Knowledge, changes
from forexgpt_core.domain.events import EVENT_SCHEMA, CalendarEntry, EconomicEvent, event_table
from forexgpt_core.domain.figures import read_figures
from forexgpt_core.errors import BadInput
from forexgpt_core.features.events import EventFeatures, event_columns

START = datetime(2018, 7, 2, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PAIR = ("EUR", "USD")
OPTIONS = EventFeatures(least_surprises=2, window_minutes=60, half_life_minutes=120)
HOURS = np.datetime64("2018-07-02", "us") + np.arange(24 * 12) * np.timedelta64(1, "h")
Build = Callable[[np.ndarray, pl.DataFrame], dict[str, np.ndarray]]


def build(known: np.ndarray, events: pl.DataFrame) -> dict[str, np.ndarray]:
    return event_columns(known, events, PAIR, OPTIONS)


def event(hours: float, title: str = "x", known_days: float = 7.0, **changes: object) -> EconomicEvent:
    at = START + hours * HOUR
    figures = read_figures(changes.pop("actual", None), changes.pop("forecast", None), None)
    released, revision = changes.pop("released", at), changes.pop("revision", 1)
    facts = {"currency": "USD", "impact": "high", "figures": figures} | changes
    return EconomicEvent(
        entry=CalendarEntry(scheduled_utc=at, title=title, **facts),
        revision=revision,
        announced_utc=at - known_days * DAY,
        released_utc=None if figures.actual_text is None else released,
        source="test",
    )


def column(name: str, *events: EconomicEvent, at: list[float], options: EventFeatures = OPTIONS) -> list[float]:
    known = np.array([START.replace(tzinfo=None) + h * HOUR for h in at], dtype="datetime64[us]")
    return event_columns(known, event_table(events), PAIR, options)[name].tolist()


FAR = event(160, "far", impact="low")  # so that the coming week is known


def test_distances_to_releases_by_hand() -> None:
    at = [0, 9.5, 10, 10.5, 34, 80]
    events = [event(10), event(34, currency="ALL", impact="medium"), FAR]
    assert column("event_next_minutes", *events, at=at) == [600, 30, 1410 + 30, 1410, 1440, 1440]
    assert column("event_since_minutes", *events, at=at) == [1440, 1440, 0, 30, 0, 1440]
    assert column("event_near_high", *events, at=[8.9, 9, 10, 11, 11.1]) == [0, 1, 1, 1, 0]
    assert column("event_high_ahead", event(10), event(11), event(30), FAR, at=[0, 6, 10, 12]) == [2, 3, 2, 1]


def test_other_currencies_low_impact_and_untimed_events_count_for_nothing() -> None:
    ignored = [event(10, currency="JPY"), event(10, impact="low"), event(10, timed=False), event(10, impact="holiday")]
    assert column("event_next_minutes", *ignored, FAR, at=[5]) == [1440]
    assert column("event_near_high", event(10, impact="medium"), FAR, at=[10]) == [0]


def test_an_event_nobody_knew_of_is_seen_from_its_time_on() -> None:
    events = [event(10, known_days=0), FAR]
    assert column("event_next_minutes", *events, at=[9, 9.99]) == [1440, 1440]
    assert column("event_since_minutes", *events, at=[10, 11]) == [0, 60]
    assert column("event_near_high", *events, at=[9.5, 10.5]) == [0, 1]


def test_a_called_off_event_stands_until_that_is_known() -> None:
    off = event(20, revision=2, cancelled=True, known_days=10 / 24)  # known at hour 10
    events = [event(20), off, FAR]
    assert column("event_next_minutes", *events, at=[9, 10, 11]) == [660, 1440, 1440]
    assert column("event_since_minutes", *events, at=[21]) == [1440]
    assert column("event_high_ahead", *events, at=[9, 10]) == [1, 0]


def test_an_impact_that_changes_counts_from_when_it_was_known() -> None:
    events = [event(20, impact="low"), event(20, revision=2, known_days=10 / 24), FAR]
    assert column("event_near_high", *events, at=[19]) == [1]
    assert column("event_high_ahead", *events, at=[9, 10]) == [0, 1]


def test_an_unknown_week_is_not_an_empty_one() -> None:
    names = ("event_next_minutes", "event_since_minutes", "event_near_high", "event_high_ahead")
    for name in names:
        assert np.isnan(column(name, event(10), at=[11])).all()
        assert np.isnan(column(name, at=[11])).all()
        assert not np.isnan(column(name, event(10), event(170, impact="low"), at=[11])).any()


def test_a_surprise_is_measured_by_those_before_it() -> None:
    past = [event(h, "CPI", actual=f"{a}%", forecast="1%") for h, a in ((1, 1.1), (2, 0.9), (3, 1.3))]
    spread = np.std([0.1, -0.1], ddof=1)
    values = column("event_surprise_quote", *past, at=[2.5, 3, 5])
    assert np.isnan(values[0])
    assert values[1:] == pytest.approx([0.3 / spread, 0.5 * 0.3 / spread], rel=1e-9)
    assert column("event_surprise_age_quote", *past, at=[3, 5, 100]) == [0, 120, 1440]
    assert np.isnan(column("event_surprise_base", *past, at=[5])).all()


def test_outcomes_count_from_their_release_and_corrections_never() -> None:
    past = [event(h, "CPI", actual=f"{a}%", forecast="1%") for h, a in ((1, 1.1), (2, 0.9))]
    late = event(3, "CPI", actual="1.3%", forecast="1%", released=START + 6 * HOUR)
    corrected = event(3, "CPI", revision=2, known_days=-4 / 24, actual="0.1%", forecast="1%", released=START + 6 * HOUR)
    values = column("event_surprise_quote", *past, late, corrected, at=[3, 5.9, 6])
    assert np.isnan(values[:2]).all()
    assert values[2] == pytest.approx(0.3 / np.std([0.1, -0.1], ddof=1))
    assert column("event_surprise_quote", *past, late, corrected, at=[8])[0] == pytest.approx(values[2] / 2)


def test_the_largest_of_outcomes_released_together_stands_and_misprints_are_cut() -> None:
    past = [event(h, t, actual=a, forecast="0") for t in "ab" for h, a in ((1, "1"), (2, "-1"))]
    together = [event(3, "a", actual="1", forecast="0"), event(3, "b", actual="-2000", forecast="0")]
    assert column("event_surprise_quote", *past, *together, at=[3]) == [-10.0]
    alike = [event(h, "c", actual="0.3", forecast="0.2") for h in (1, 2, 3, 4)]
    assert np.isnan(column("event_surprise_quote", *alike, at=[5])).all(), "no spread to measure by"


def test_no_rows_and_no_events() -> None:
    empty = pl.DataFrame(schema=EVENT_SCHEMA)
    assert {v.size for v in event_columns(HOURS[:0], event_table([event(1)]), PAIR).values()} == {0}
    assert all(np.isnan(v).all() and v.size == 3 for v in event_columns(HOURS[:3], empty, PAIR).values())
    with pytest.raises(BadInput, match="missing"):
        event_columns(np.array(["NaT"], dtype="datetime64[us]"), empty, PAIR)


@pytest.mark.parametrize(
    "bad",
    [{"impact": "huge"}, {"cap_minutes": 0}, {"window_minutes": 1441}, {"ahead_hours": 1.5}, {"least_surprises": 1}],
)
def test_options_are_checked_at_birth(bad: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="must be"):
        EventFeatures(**bad)


# ---- laws

moments = st.floats(0, 240).map(lambda h: round(h * 4) / 4)


@st.composite
def calendars(draw: st.DrawFn) -> pl.DataFrame:
    """Return calendars with late announcements, late outcomes, changes of impact, cancellations and corrections."""
    events = []
    for n in range(draw(st.integers(1, 14))):
        title, at = draw(st.sampled_from("abc")), draw(moments)
        facts = {
            "currency": draw(st.sampled_from(["EUR", "USD", "ALL", "JPY"])),
            "impact": draw(st.sampled_from(["low", "medium", "high"])),
            "timed": draw(st.integers(0, 5)) > 0,
        }
        known_days = draw(st.sampled_from([7.0, 2.0, 0.5, 0.0, -0.25]))
        outcome = {"actual": str(draw(st.integers(-3, 3))), "forecast": "0"} if draw(st.booleans()) else {}
        released = START + (at + draw(st.sampled_from([0, 0, 3, 30]))) * HOUR
        first = event(at, f"{title}", known_days, **facts, **outcome, released=released, uid=str(n))
        events.append(first)
        if draw(st.integers(0, 2)) == 0:
            later = known_days - draw(st.sampled_from([0.25, 1.0, 5.0]))
            turned = facts | {"cancelled": draw(st.booleans()), "impact": draw(st.sampled_from(["low", "high"]))}
            figures = outcome | ({"actual": "9", "forecast": "0"} if draw(st.booleans()) else {})
            again = event(at, f"{title}", later, **turned, **figures, released=released, revision=2, uid=str(n))
            events.append(again)
    table = event_table(events).unique(["event_id", "revision"], keep="first", maintain_order=True)
    both = pl.col("revision").sum().over("event_id") != 2  # a second revision without a first is no history
    return table.filter(both)


def plain(known: datetime, events: pl.DataFrame) -> tuple[float, float, float, float]:
    """Return distances and counts of one moment, by reading the calendar as it was known then."""
    now = events.filter(pl.col("announced_utc") <= known).sort("revision").unique("event_id", keep="last")
    rows = [r for r in now.to_dicts() if r["timed"] and not r["cancelled"] and r["currency"] in ("EUR", "USD", "ALL")]
    if not any(known < r["scheduled_utc"] <= known + 7 * DAY for r in rows):
        return (np.nan,) * 4
    felt = [(r["scheduled_utc"] - known) / MINUTE for r in rows if r["impact"] in ("medium", "high")]
    high = [(r["scheduled_utc"] - known) / MINUTE for r in rows if r["impact"] == "high"]
    return (
        min([m for m in felt if m > 0] + [1440.0]),
        min([-m for m in felt if m <= 0] + [1440.0]),
        float(any(abs(m) <= 60 for m in high)),
        float(sum(0 < m <= 1440 for m in high)),
    )


@settings(max_examples=60, deadline=None)
@given(events=calendars(), at=st.lists(moments, min_size=1, max_size=12))
def test_the_schedule_columns_are_a_plain_reading_of_what_was_known(events: pl.DataFrame, at: list[float]) -> None:
    known = np.array([START.replace(tzinfo=None) + h * HOUR for h in at], dtype="datetime64[us]")
    columns = build(known, events)
    names = ("event_next_minutes", "event_since_minutes", "event_near_high", "event_high_ahead")
    expected = np.array([plain(START + h * HOUR, events) for h in at])
    np.testing.assert_array_equal(np.column_stack([columns[name] for name in names]), expected)


def future_changed(events: pl.DataFrame, cut: datetime, seed: int) -> list[pl.DataFrame]:
    """Return the calendar with all that was not known at `cut` taken away, and with it changed at random."""
    rng = np.random.default_rng(seed)
    announced = events.filter(pl.col("announced_utc") <= cut)
    secret = pl.col("released_utc") > cut
    hidden = [pl.when(~secret).then(pl.col(n)).alias(n) for n in ("actual", "actual_text", "released_utc")]
    noise = pl.Series(rng.normal(0, 50, events.height))
    ahead = pl.col("announced_utc") > cut
    impacts = pl.Series(rng.choice(["low", "medium", "high"], events.height))
    perturbed = events.with_columns(
        actual=pl.when(secret | ahead).then(noise).otherwise(pl.col("actual")),
        forecast=pl.when(ahead).then(-noise).otherwise(pl.col("forecast")),
        impact=pl.when(ahead).then(impacts).otherwise(pl.col("impact")),
        cancelled=pl.when(ahead).then(pl.Series(rng.random(events.height) < 0.5)).otherwise(pl.col("cancelled")),
    )
    return [announced.with_columns(hidden), perturbed]


def leaking(make: Build, events: pl.DataFrame, cut: datetime, seed: int) -> set[str]:
    """Return the columns whose rows up to `cut` change with what was not known at `cut`."""
    known = HOURS[np.datetime64(cut.replace(tzinfo=None), "us") >= HOURS]
    whole = make(HOURS, events)
    found = set()
    for other in future_changed(events, cut, seed):
        found |= {
            n for n, v in make(known, other).items() if not np.array_equal(v, whole[n][: known.size], equal_nan=True)
        }
    return found


@settings(max_examples=80, deadline=None)
@given(events=calendars(), cut=moments, seed=st.integers(0, 2**16))
def test_no_row_reads_what_was_not_yet_announced_or_released(events: pl.DataFrame, cut: float, seed: int) -> None:
    assert leaking(build, events, START + cut * HOUR, seed) == set()


def from_schedule(known: np.ndarray, events: pl.DataFrame) -> dict[str, np.ndarray]:
    """Know every schedule before it was announced."""
    return build(known, events.with_columns(announced_utc=pl.col("announced_utc") - 2 * DAY))


def from_outcome(known: np.ndarray, events: pl.DataFrame) -> dict[str, np.ndarray]:
    """Know every outcome an hour before its release."""
    early = pl.col("released_utc") - HOUR
    return build(known, events.with_columns(released_utc=early, announced_utc=pl.col("announced_utc") - 9 * DAY))


def from_later_surprises(known: np.ndarray, events: pl.DataFrame) -> dict[str, np.ndarray]:
    """Scale every surprise by the spread of the whole history."""
    return {"surprise": build(known, events)["event_surprise_quote"] / (events["actual"].std() or 1.0)}


@pytest.mark.parametrize(
    ("planted", "guilty"),
    [
        (from_schedule, {"event_next_minutes", "event_since_minutes", "event_near_high", "event_high_ahead"}),
        (from_outcome, {"event_surprise_quote", "event_surprise_age_quote"}),
        (from_later_surprises, {"surprise"}),
    ],
)
def test_a_planted_leak_is_caught(planted: Build, guilty: set[str]) -> None:
    events = event_table(
        [
            *(event(h, "CPI", actual=str(a), forecast="0") for h, a in enumerate((1, -1, 2, 0, 3, -2), 10)),
            event(30, known_days=0.5),
            event(31, known_days=0.0),
            event(32, known_days=0.25),
            event(60, known_days=0.0),
            event(90, known_days=-0.25),
            FAR,
        ]
    )
    cuts = [START + hour * HOUR for hour in (10.5, 11.5, 12.5, 13.5, 15.5, 17, 23, 29, 30.5, 59.5, 92)]
    assert set().union(*(leaking(planted, events, cut, 1) for cut in cuts)) >= guilty
    assert set().union(*(leaking(build, events, cut, 1) for cut in cuts)) == set()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_made_with_what_was_stored_then_stay_the_same(data: st.DataObject) -> None:
    """Imports over time, with moves, cancellations and late outcomes, change no row made before them."""
    count = data.draw(st.integers(2, 6))
    planned = [
        CalendarEntry(
            scheduled_utc=START + (30 + 25 * n + data.draw(moments) / 20) * HOUR,
            currency=data.draw(st.sampled_from(["EUR", "USD"])),
            impact="high",
            title=data.draw(st.sampled_from(["a", "b"])),
            uid=str(n),
        )
        for n in range(count)
    ]
    store: list[EconomicEvent] = []
    snapshots = []
    for day in range(8):
        now = START + day * DAY
        newest = {e.event_id: e for e in sorted(store, key=lambda e: e.revision)}
        for n, entry in enumerate(planned):
            what = data.draw(st.sampled_from(["same", "same", "move", "cancel", "impact"]))
            if entry.scheduled_utc <= now:
                outcome = read_figures(data.draw(st.sampled_from([None, "1", "5"])), "0", None)
                planned[n] = replace(entry, figures=entry.figures.completed(outcome))
            elif what == "move":
                later = entry.scheduled_utc + data.draw(st.integers(1, 40)) * HOUR
                planned[n] = replace(entry, scheduled_utc=later, sequence=entry.sequence + 1)
            elif what != "same":
                impact = "low" if what == "impact" else entry.impact
                planned[n] = replace(entry, cancelled=what == "cancel", impact=impact, sequence=entry.sequence + 1)
        try:
            store += changes(planned, newest.values(), Knowledge(now_utc=now), source="t").revisions
        except BadInput:  # two moved onto the same time
            return
        snapshots.append((now, event_table(store)))
    final = build(HOURS, snapshots[-1][1])
    for (now, then), (until, _) in pairwise(snapshots):
        low, high = (np.datetime64(m.replace(tzinfo=None), "us") for m in (now, until))
        rows = (low <= HOURS) & (high > HOURS)
        made = build(HOURS[rows], then)
        for name, values in made.items():
            np.testing.assert_array_equal(values, final[name][rows], err_msg=name)


def test_a_long_history_gives_a_row_for_every_bar() -> None:
    rng = np.random.default_rng(1)
    known = np.datetime64("2009-01-01", "us") + np.arange(400_000) * np.timedelta64(13, "m")
    events = event_table(
        event(
            float(h),
            f"t{n % 60}",
            impact="high" if n % 3 else "medium",
            actual=str(rng.integers(9)),
            forecast="4",
        )
        for n, h in enumerate(np.sort(rng.uniform(-80_000, 0, 4_000)))
    )
    columns = event_columns(known, events, PAIR)
    assert {v.shape for v in columns.values()} == {known.shape}
    assert np.isfinite(columns["event_surprise_quote"]).mean() > 0.8
    assert np.nanmin(columns["event_next_minutes"]) > 0
