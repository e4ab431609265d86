"""What a person means by a day, as the beginning and as the end of a range."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.candles.ranges import range_end, range_start
from forexgpt_core.domain.clock import NEW_YORK
from forexgpt_core.errors import BadInput

LATER = datetime(2059, 1, 1, tzinfo=UTC)


@settings(deadline=None, max_examples=60)
@given(day=st.dates(date(1990, 1, 2), date(2058, 12, 31)))
def test_a_day_is_the_trading_day_from_five_to_five_in_new_york(day: date) -> None:
    start, end = range_start(day.isoformat()), range_end(day.isoformat(), now_utc=LATER)
    assert (start.astimezone(NEW_YORK).hour, end.astimezone(NEW_YORK).hour) == (17, 17)
    assert end.astimezone(NEW_YORK).date() == day
    assert start == range_end((day - timedelta(days=1)).isoformat(), now_utc=LATER), "days join without a hole"


def test_the_clocks_of_new_york_move_the_end_of_the_day() -> None:
    assert range_end("2018-03-09", now_utc=LATER).hour == 22
    assert range_end("2018-03-12", now_utc=LATER).hour == 21


def test_the_end_is_never_later_than_now() -> None:
    now = datetime(2018, 7, 2, 9, 30, tzinfo=UTC)
    assert range_end("2018-07-02", now_utc=now) == now
    assert range_end("2030-01-01", now_utc=now) == now
    assert range_end("2018-07-02T12:00+03:00", now_utc=now) == datetime(2018, 7, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "expected a day such as"),
        ("2018-02-30", "expected a day such as"),
        ("2018-07-02T09:30", "has no time zone"),
        ("0001-01-01", "outside the years 1990 to 2059"),
    ],
)
def test_what_is_no_time_is_refused_in_one_line(text: str, says: str) -> None:
    for read in (range_start, lambda t: range_end(t, now_utc=LATER)):
        with pytest.raises(BadInput, match=says) as refused:
            read(text)
        assert "\n" not in str(refused.value)
