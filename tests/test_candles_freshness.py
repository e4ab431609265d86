"""Is a pair up to date? By the bars the market has traded, so that weekends and holidays are nobody's fault."""

from datetime import UTC, datetime, timedelta

import pytest

from forexgpt_core.candles.freshness import Freshness, freshness, market_open, table
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput

H1, M1, D1 = Timeframe.H1, Timeframe.M1, Timeframe.D1
FRIDAY_LAST = "2018-07-06 20:00"  # the week's last hourly bar; it closes at 21:00 UTC, 17:00 New York


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def state(newest: str | None, now: str, frame: Timeframe = H1, *, archive: bool = False) -> Freshness:
    opened = None if newest is None else at(newest)
    return freshness("EURUSD", frame, opened, at(now), source="a feed", archive=archive)


@pytest.mark.parametrize(
    ("newest", "now", "behind", "expected"),
    [
        ("2018-07-04 09:00", "2018-07-04 10:00", 0, "fresh"),
        ("2018-07-04 09:00", "2018-07-04 10:59", 0, "fresh"),  # the next bar is still forming
        ("2018-07-04 09:00", "2018-07-04 12:30", 2, "fresh"),
        ("2018-07-04 09:00", "2018-07-04 13:00", 3, "stale"),
        (FRIDAY_LAST, "2018-07-07 12:00", 0, "fresh"),  # Saturday
        (FRIDAY_LAST, "2018-07-08 21:59", 0, "fresh"),  # Sunday, the first bar is forming
        (FRIDAY_LAST, "2018-07-09 00:00", 3, "stale"),  # three hours of the new week have closed
        ("2018-07-06 15:00", "2018-07-08 12:00", 5, "stale"),  # Friday's last bars never came
        ("2018-12-24 16:00", "2018-12-25 21:59", 0, "fresh"),  # Christmas from noon on the day before
        ("2018-12-24 16:00", "2018-12-26 01:00", 3, "stale"),
    ],
)
def test_only_bars_that_the_market_has_traded_count(newest: str, now: str, behind: int, expected: str) -> None:
    found = state(newest, now)
    assert (found.bars_behind, found.state) == (behind, expected)


@pytest.mark.parametrize(("frame", "tolerated"), [(M1, 120), (Timeframe.M15, 8), (H1, 2), (Timeframe.H4, 1), (D1, 1)])
def test_lateness_is_tolerated_by_the_clock_and_by_one_bar_at_least(frame: Timeframe, tolerated: int) -> None:
    newest = "2018-07-03 21:00"  # a bar of every timeframe opens there: 17:00 New York
    bar = timedelta(seconds=frame.seconds)
    for late, expected in ((0, "fresh"), (1, "stale")):
        now = at(newest) + bar * (1 + tolerated + late)
        found = freshness("EURUSD", frame, at(newest), now, source="a feed", archive=False)
        assert (found.state, found.tolerated_bars, found.bars_behind) == (expected, tolerated, tolerated + late)


def test_an_archive_is_an_archive_and_an_empty_table_is_told_as_such() -> None:
    old = state("2012-07-04 09:00", "2018-07-04 10:00", archive=True)
    assert old.state == "archive"
    assert old.line == "EURUSD H1 is an archive (a feed): newest bar closed 2012-07-04 10:00 UTC"
    empty = state(None, "2018-07-07 10:00")
    assert (empty.state, empty.newest_close_utc) == ("no candles", None)
    assert empty.line == "EURUSD H1 has no candles; the market is closed"


def test_the_line_says_what_a_person_must_know() -> None:
    assert state("2018-07-04 09:00", "2018-07-04 13:00").line == (
        "EURUSD H1 is stale: newest bar closed 2018-07-04 10:00 UTC, 3 closed bars behind, 2 tolerated;"
        " the market is open"
    )


@pytest.mark.parametrize(
    ("moment", "opened"),
    [
        ("2018-07-06 20:59", True),
        ("2018-07-06 21:00", False),
        ("2018-07-08 20:59", False),
        ("2018-07-08 21:00", True),
        ("2018-01-07 21:30", False),  # in winter the week opens an hour later by UTC
        ("2018-12-25 12:00", False),
        ("2018-12-25 22:00", True),
        ("2018-12-24 16:59", True),
        ("2018-12-24 17:00", False),
        ("2019-01-01 12:00", False),
    ],
)
def test_the_market_keeps_the_hours_of_new_york_and_rests_on_two_days(moment: str, opened: bool) -> None:
    assert market_open(at(moment)) is opened


def test_a_table_of_pairs_begins_with_the_stale_ones() -> None:
    now = at("2018-07-04 13:00")
    given = {"AUDUSD": ("2018-07-04 12:00", False), "GBPUSD": ("2018-07-04 08:00", False), "USDCAD": (None, False)}
    given["USDJPY"] = ("2012-07-04 08:00", True)
    states = [
        freshness(pair, H1, at(newest) if newest else None, now, source="a feed", archive=archive)
        for pair, (newest, archive) in given.items()
    ]
    assert table(states).select("symbol", "state").rows() == [
        ("GBPUSD", "stale"),
        ("USDCAD", "no candles"),
        ("AUDUSD", "fresh"),
        ("USDJPY", "archive"),
    ]
    assert table([]).is_empty()


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(BadInput, match="no time zone"):
        freshness("EURUSD", H1, None, datetime(2018, 7, 4), source="a feed", archive=False)
