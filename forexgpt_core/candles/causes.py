"""Why bars are missing: the market rests, the week begins or ends, the day rolls over, or the provider has a hole."""

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.candles.gaps import find_gaps
from forexgpt_core.domain.clock import WEEK_SECONDS, Timeframe, hour_of_week, slot, slot_open, week_opens

Times = NDArray[np.datetime64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
_Inside = Callable[[Ints, Timeframe], Bools]

HOLIDAY, WEEKEND, ROLLOVER, PROVIDER = "holiday", "weekend", "rollover", "provider"
CAUSES: Final = (HOLIDAY, WEEKEND, ROLLOVER, PROVIDER)

_DAY = 24 * 3600
_EDGE_SECONDS = 2 * 3600  # after the daily and the weekly opening: servers on European clocks open up to 2 hours late
_LEAD_SECONDS = 300  # some stop quoting a few minutes before 17:00
_LAST_SECONDS = 3600  # of the week
_NOON_SECONDS = 19 * 3600  # 12:00 New York, counted from the 17:00 before
_HOLIDAY_SHARE = 0.9  # of a hole's bars must lie around the holiday
_WHOLE, _EVE, _AFTER = 0, 1, 2


def explain_gaps(bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return the holes between the first and the last bar with the cause of each, oldest first.

    - `holiday`: around 25 December or 1 January. The hole touches the holiday's trading day (17:00 to 17:00 New York;
      the Monday after, where it falls on a Sunday) or the afternoon before it (from 12:00 New York), and nine tenths
      of it lie between that noon and the end of the trading day after the holiday.
    - `weekend`: inside the first two hours or the last hour of the FX week; a hole may go on after the weekend.
    - `rollover`: inside the two hours after 17:00 New York (from five minutes before), Monday to Thursday.
    - `provider`: everything else. Bars longer than the span of a cause are never explained by it.

    Returns:
        The columns of `gaps.find_gaps` and `cause`, one of CAUSES.
    """
    return with_causes(find_gaps(bars, timeframe), timeframe)


def with_causes(gaps: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return holes, as `gaps.find_gaps` gives them, with the `cause` of each."""
    starts = gaps["start_utc"].to_numpy().astype("datetime64[us]")
    first = slot(starts, timeframe)
    last = first + gaps["missing_bars"].to_numpy() - 1
    causes = np.full(gaps.height, PROVIDER, dtype=object)
    causes[_at_the_edge(first, last, timeframe, _in_rollover)] = ROLLOVER
    causes[_at_the_edge(first, last, timeframe, _at_week_end)] = WEEKEND
    if timeframe is not Timeframe.W1:
        causes[_over_a_holiday(first, last, timeframe)] = HOLIDAY
    return gaps.with_columns(cause=pl.Series(causes.tolist(), dtype=pl.String))


def missing_by_cause(gaps: pl.DataFrame) -> dict[str, int]:
    """Return how many bars are missing under each of CAUSES."""
    sums = dict(gaps.group_by("cause").agg(pl.col("missing_bars").sum()).iter_rows())
    return {cause: int(sums.get(cause, 0)) for cause in CAUSES}


def rests(open_utc: Times) -> Bools:
    """Return where bars open while the market may rest: on a holiday's trading day or in the afternoon before it."""
    days = _around_holidays(open_utc)
    return np.asarray((days == _WHOLE) | (days == _EVE))


def _at_the_edge(first: Ints, last: Ints, timeframe: Timeframe, inside: _Inside) -> Bools:
    """Return which holes consist of bars for which `inside` is true, none of them longer than the span.

    A hole that fits is short, so its two ends and its number of bars say everything: both ends inside, and no more
    bars than the spans on both sides of a weekend or of a day can hold.
    """
    most = (_EDGE_SECONDS + _LAST_SECONDS + _LEAD_SECONDS) // timeframe.seconds
    short = last - first < most
    return np.asarray(short & inside(first, timeframe) & inside(last, timeframe))


def _in_rollover(slots: Ints, timeframe: Timeframe) -> Bools:
    start = (slots % timeframe.per_week) * timeframe.seconds
    since = (start + _LEAD_SECONDS) % _DAY - _LEAD_SECONDS  # seconds since 17:00, the lead being below 0
    monday_to_thursday = (start >= _DAY - _LEAD_SECONDS) & (start < WEEK_SECONDS - _LEAD_SECONDS)
    return np.asarray(monday_to_thursday & (since + timeframe.seconds <= _EDGE_SECONDS))


def _at_week_end(slots: Ints, timeframe: Timeframe) -> Bools:
    start = (slots % timeframe.per_week) * timeframe.seconds
    opening = start + timeframe.seconds <= _EDGE_SECONDS
    return np.asarray(opening | (start >= WEEK_SECONDS - _LAST_SECONDS))


def _over_a_holiday(first: Ints, last: Ints, timeframe: Timeframe) -> Bools:
    """Return which holes touch a holiday or its eve, and lie around it by nine tenths."""
    held = np.zeros(first.size, dtype=np.bool_)
    if not first.size:
        return held
    every = np.arange(first.min() - 1, last.max() + 1)  # one more in front, so that differences of sums are counts
    days = _around_holidays(slot_open(every, timeframe))
    around = np.cumsum(days >= 0)
    core = np.cumsum((days == _WHOLE) | (days == _EVE))
    before, end = first - 1 - every[0], last - every[0]
    missing = last - first + 1
    return np.asarray((core[end] > core[before]) & (around[end] - around[before] >= _HOLIDAY_SHARE * missing))


def _around_holidays(open_utc: Times) -> NDArray[np.int8]:
    """Return for each bar _WHOLE on a holiday's trading day, _EVE from noon before it, _AFTER on the day after it.

    -1 anywhere else. A holiday on a Sunday is held on the Monday, one on a Saturday costs no trading day.
    """
    hours = hour_of_week(open_utc)
    week = np.searchsorted(week_opens(), open_utc, side="right") - 1
    day = week * 5 + np.minimum(hours // 24, 4)  # trading days, counted without weekends
    holidays = _holiday_days()
    found = np.full(open_utc.size, -1, dtype=np.int8)
    after_noon = (hours % 24) * 3600 >= _NOON_SECONDS
    found[np.isin(day, holidays + 1)] = _AFTER
    found[np.isin(day, holidays - 1) & after_noon] = _EVE
    found[np.isin(day, holidays)] = _WHOLE
    return found


@cache
def _holiday_days() -> Ints:
    """Return the running numbers of the trading days on which 25 December and 1 January are held."""
    opens = week_opens()
    mondays = (opens.astype("datetime64[D]") + np.timedelta64(1, "D")).astype("datetime64[D]")
    first, last = int(str(mondays[0])[:4]), int(str(mondays[-1])[:4])
    dates = np.array(
        [f"{year}-{day}" for year in range(first, last) for day in ("01-01", "12-25")], dtype="datetime64[D]"
    )
    weekday = (dates.astype(np.int64) + 3) % 7  # Monday is 0
    held = (dates + np.where(weekday == 6, 1, 0).astype("timedelta64[D]"))[weekday != 5]
    held = held[(held >= mondays[0]) & (held < mondays[-1])]
    week = np.searchsorted(mondays, held, side="right") - 1
    return np.asarray(week * 5 + (held - mondays[week]).astype(np.int64))
