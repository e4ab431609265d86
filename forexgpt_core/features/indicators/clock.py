"""What the time of a bar says: hour, day, sessions, rollover. Known in advance, and of the base bar alone.

Times follow the clocks of the places they are about, through every change of clocks.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.candles.gaps import is_holiday
from forexgpt_core.domain.clock import WEEK_SECONDS, Ints, Timeframe, Times, slot, slot_open, week_opens
from forexgpt_core.features.calendar import calendar as circles
from forexgpt_core.features.indicator import Bars, Columns, Family, Floats

FAMILY = Family("clock")

SESSIONS = {  # local opening hours of banks, where liquidity follows them
    "sydney": ("Australia/Sydney", 7, 16),
    "tokyo": ("Asia/Tokyo", 9, 18),
    "london": ("Europe/London", 8, 17),
    "new_york": ("America/New_York", 8, 17),
}


@FAMILY.indicator("hour_sin", "hour_cos", "weekday_sin", "weekday_cos", per_row=True)
def calendar(b: Bars) -> Columns:
    """Hour of the New York day and trading day of the week, as points on circles."""
    return circles(b.ts_utc)


@FAMILY.indicator(*(f"session_{name}" for name in SESSIONS), "sessions_open", per_row=True)
def sessions(b: Bars) -> Columns:
    """Whether Sydney, Tokyo, London and New York are at work when the bar opens (1 or 0), and how many are."""
    flags = {f"session_{name}": _open_in(b.ts_utc, *hours) for name, hours in SESSIONS.items()}
    return {**flags, "sessions_open": np.asarray(sum(flags.values()))}


def _open_in(ts_utc: Times, zone: str, first: int, last: int) -> Floats:
    local = pl.Series(ts_utc).dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    at_work = (local.dt.hour() >= first) & (local.dt.hour() < last) & (local.dt.weekday() <= 5)
    return at_work.cast(pl.Float64).to_numpy()


@FAMILY.indicator("rollover_since", "rollover_until", per_row=True)
def rollover(b: Bars) -> Columns:
    """Hours since the newest and until the next 17:00 New York, when positions roll over and spreads widen."""
    since = _seconds_of_week(b.ts_utc) % 86_400 / 3600
    return {"rollover_since": since, "rollover_until": 24 - since}


@FAMILY.indicator("week_elapsed", "week_closing", per_row=True)
def week(b: Bars) -> Columns:
    """Share of the FX week that has passed at the bar's close, and 1 in its last three hours, else 0."""
    closes = np.minimum(_seconds_of_week(b.ts_utc) + b.timeframe.seconds, WEEK_SECONDS)
    return {
        "week_elapsed": closes / WEEK_SECONDS,
        "week_closing": (closes > WEEK_SECONDS - 3 * 3600).astype(np.float64),
    }


@FAMILY.indicator("month_sin", "month_cos", "month_end", per_row=True)
def month(b: Bars) -> Columns:
    """Day of the New York month as a point on a circle, and 1 on its last two calendar days (fixings), else 0."""
    local = pl.Series(b.ts_utc).dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    day, length = (s.cast(pl.Float64).to_numpy() for s in (local.dt.day(), local.dt.month_end().dt.day()))
    angle = 2 * np.pi * (day - 1) / length
    return {"month_sin": np.sin(angle), "month_cos": np.cos(angle), "month_end": (length - day < 2).astype(np.float64)}


@FAMILY.indicator("year_sin", "year_cos", per_row=True)
def season(b: Bars) -> Columns:
    """Day of the year (UTC) as a point on a circle of 366 days."""
    angle = 2 * np.pi * pl.Series(b.ts_utc).dt.ordinal_day().cast(pl.Float64).to_numpy() / 366
    return {"year_sin": np.sin(angle), "year_cos": np.cos(angle)}


@FAMILY.indicator("holiday", "holiday_ahead", per_row=True)
def holiday(b: Bars) -> Columns:
    """1 on the trading days of 25 December and 1 January, and 1 on the trading day before them, else 0."""
    ahead = slot_open(slot(b.ts_utc, Timeframe.D1) + 1, Timeframe.D1)  # across the weekend, too
    return {"holiday": _flag(is_holiday(b.ts_utc)), "holiday_ahead": _flag(is_holiday(ahead))}


@FAMILY.indicator("bars_missing", per_row=True)
def reopening(b: Bars) -> Columns:
    """Bars of the FX week missing just before the bar: 0 in an unbroken history and for the first bar."""
    missing = np.diff(slot(b.ts_utc, b.timeframe)) - 1
    return {"bars_missing": np.concatenate([np.zeros(min(1, len(b))), missing.astype(np.float64)])}


def _weeks(ts_utc: Times) -> Ints:
    return np.searchsorted(week_opens(), ts_utc, side="right")


def _seconds_of_week(ts_utc: Times) -> Floats:
    opens = week_opens()[_weeks(ts_utc) - 1]
    return np.asarray((ts_utc - opens) / np.timedelta64(1, "s"))


def _flag(x: NDArray[np.bool_]) -> Floats:
    return x.astype(np.float64)
