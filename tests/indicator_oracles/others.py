"""Oracles of the clock, of other pairs and of the spread."""

import datetime as dt
import math
from zoneinfo import ZoneInfo

from indicator_oracles.plain import (
    NAN,
    Quotes,
    Series,
    ago,
    correlation,
    covariance,
    deviation,
    mean,
    over,
    plain,
    ratio,
    root_mean_square,
    variance,
)

NEW_YORK = ZoneInfo("America/New_York")
WEEK_HOURS = 5 * 24


def _local(ts: dt.datetime, zone: str = "America/New_York") -> dt.datetime:
    return ts.astimezone(ZoneInfo(zone))


def _trading_day(ts: dt.datetime) -> dt.date:
    """Return the day that a bar belongs to: it begins at 17:00 New York of the day before."""
    local = _local(ts)
    return local.date() + dt.timedelta(days=local.hour >= 17)


def _hours_since_rollover(ts: dt.datetime) -> float:
    local = _local(ts)
    return (local.hour + local.minute / 60 - 17) % 24


def _hours_of_week(ts: dt.datetime) -> float:
    """Return hours since Sunday 17:00 New York; no clock changes inside the week."""
    return 24 * _trading_day(ts).weekday() + _hours_since_rollover(ts)


@plain
def calendar(q: Quotes) -> dict[str, Series]:
    hours = [2 * math.pi * (_local(t).hour + _local(t).minute / 60) / 24 for t in q.ts]
    days = [2 * math.pi * _trading_day(t).weekday() / 7 for t in q.ts]
    return {
        "hour_sin": [math.sin(x) for x in hours],
        "hour_cos": [math.cos(x) for x in hours],
        "weekday_sin": [math.sin(x) for x in days],
        "weekday_cos": [math.cos(x) for x in days],
    }


@plain
def sessions(q: Quotes) -> dict[str, Series]:
    places = {
        "session_sydney": ("Australia/Sydney", 7, 16),
        "session_tokyo": ("Asia/Tokyo", 9, 18),
        "session_london": ("Europe/London", 8, 17),
        "session_new_york": ("America/New_York", 8, 17),
    }
    out: dict[str, Series] = {}
    for name, (zone, first, last) in places.items():
        local = [_local(t, zone) for t in q.ts]
        out[name] = [float(first <= t.hour < last and t.weekday() < 5) for t in local]
    return {**out, "sessions_open": [sum(flags) for flags in zip(*out.values())]}


@plain
def rollover(q: Quotes) -> dict[str, Series]:
    since = [_hours_since_rollover(t) for t in q.ts]
    return {"rollover_since": since, "rollover_until": [24 - x for x in since]}


@plain
def week(q: Quotes) -> dict[str, Series]:
    closes = [min(_hours_of_week(t) + q.seconds / 3600, WEEK_HOURS) for t in q.ts]
    return {
        "week_elapsed": [x / WEEK_HOURS for x in closes],
        "week_closing": [float(x > WEEK_HOURS - 3) for x in closes],
    }


@plain
def month(q: Quotes) -> dict[str, Series]:
    angles, ends = [], []
    for t in q.ts:
        day = _local(t).date()
        following = (day.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
        length = (following - day.replace(day=1)).days
        angles.append(2 * math.pi * (day.day - 1) / length)
        ends.append(float((following - day).days <= 2))
    return {"month_sin": [math.sin(x) for x in angles], "month_cos": [math.cos(x) for x in angles], "month_end": ends}


@plain
def season(q: Quotes) -> dict[str, Series]:
    angles = [2 * math.pi * t.timetuple().tm_yday / 366 for t in q.ts]
    return {"year_sin": [math.sin(x) for x in angles], "year_cos": [math.cos(x) for x in angles]}


@plain
def holiday(q: Quotes) -> dict[str, Series]:
    def rests(day: dt.date) -> float:
        return float((day.month, day.day) in {(12, 25), (1, 1)})

    def following(day: dt.date) -> dt.date:
        return day + dt.timedelta(days=3 if day.weekday() == 4 else 1)

    days = [_trading_day(t) for t in q.ts]
    return {"holiday": [rests(d) for d in days], "holiday_ahead": [rests(following(d)) for d in days]}


@plain
def reopening(q: Quotes) -> dict[str, Series]:
    def place(t: dt.datetime) -> float:
        weeks = (_trading_day(t).toordinal() - _trading_day(t).weekday()) // 7
        return weeks * (WEEK_HOURS * 3600 // q.seconds) + round(_hours_of_week(t) * 3600) // q.seconds

    places = [place(t) for t in q.ts]
    return {"bars_missing": [0.0 if i == 0 else places[i] - places[i - 1] - 1 for i in range(len(places))]}


def _carried(close: Series) -> Series:
    """Return closes with the newest known one, at most five bars old, where one is missing."""
    return [next((x for x in reversed(close[max(0, i - 5) : i + 1]) if x == x), NAN) for i in range(len(close))]


def _returns(close: Series, bars: int) -> Series:
    known = _carried(close)
    return [math.log(c / before) if c == c and before == before else NAN for c, before in zip(known, ago(known, bars))]


@plain
def cross_return(q: Quotes, other: Series, bars: int) -> dict[str, Series]:
    return {"cross_return": _returns(other, bars)}


@plain
def cross_lead(q: Quotes, other: Series, bars: int) -> dict[str, Series]:
    return {"cross_lead": [a - b for a, b in zip(_returns(q.close, bars), _returns(other, bars))]}


@plain
def cross_correlation(q: Quotes, other: Series, bars: int) -> dict[str, Series]:
    return {"cross_correlation": over(bars, correlation, q.returns, _returns(other, 1))}


@plain
def cross_beta(q: Quotes, other: Series, bars: int) -> dict[str, Series]:
    return {
        "cross_beta": over(bars, lambda y, x: ratio(covariance(x, y), variance(x), 0.0), q.returns, _returns(other, 1))
    }


@plain
def cross_z(q: Quotes, other: Series, bars: int) -> dict[str, Series]:
    spread = [math.log(a) - math.log(b) for a, b in zip(q.close, _carried(other))]
    return {"cross_z": over(bars, lambda w: ratio(w[-1] - mean(w), deviation(w), 0.0), spread)}


@plain
def currency_strength(q: Quotes, bars: int) -> dict[str, Series]:
    moves = {name: _returns(close, bars) for name, close in {q.symbol: q.close, **q.others}.items()}

    def strength(currency: str) -> Series:
        own = [x for name, x in moves.items() if name[:3] == currency]
        own += [[-r for r in x] for name, x in moves.items() if name[3:] == currency]
        return [mean(row) for row in zip(*own)]

    return {"strength_base": strength(q.symbol[:3]), "strength_quote": strength(q.symbol[3:])}


def _spread(q: Quotes) -> Series:
    return [(ask - bid) / bid for ask, bid in zip(q.ask, q.close)]


@plain
def spread(q: Quotes) -> dict[str, Series]:
    return {"spread": _spread(q)}


@plain
def spread_z(q: Quotes, bars: int) -> dict[str, Series]:
    return {"spread_z": over(bars, lambda w: ratio(w[-1] - mean(w), deviation(w), 0.0), _spread(q))}


@plain
def spread_to_volatility(q: Quotes, bars: int) -> dict[str, Series]:
    usual = over(bars, root_mean_square, q.returns)
    return {"spread_to_volatility": [ratio(s, u, 0.0) for s, u in zip(_spread(q), usual)]}
