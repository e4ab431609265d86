"""Bars that the FX week has and a table lacks."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe, bar_close, in_fx_week, slot, slot_open

Times = NDArray[np.datetime64]
Ints = NDArray[np.int64]

GAP_SCHEMA = {
    "start_utc": pl.Datetime("us", "UTC"),
    "end_utc": pl.Datetime("us", "UTC"),
    "missing_bars": pl.Int64(),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage:
    """What the FX week expected between the first and the last bar, and what was missing of it.

    The trading days of 25 December and 1 January (from 17:00 New York the day before) are expected of nobody.

    Attributes:
        expected_utc: opens of the bars of ordinary days.
        missing_utc: those of them that are absent.
    """

    expected_utc: Times
    missing_utc: Times


def find_gaps(bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return every run of absent bars between the first and the last one, holidays included, oldest first.

    Returns:
        `start_utc` (open of the first absent bar), `end_utc` (close of the last one), `missing_bars`. A run that
        spans a weekend is one run: the weekend holds no bars.
    """
    present = _present(bars, timeframe)
    steps = np.diff(present)
    holes = np.flatnonzero(steps > 1)
    first, last = present[holes] + 1, present[holes + 1] - 1 if holes.size else present[:0]
    return pl.DataFrame(
        {
            "start_utc": _utc(slot_open(first, timeframe)),
            "end_utc": _utc(bar_close(slot_open(last, timeframe), timeframe)),
            "missing_bars": pl.Series(last - first + 1, dtype=pl.Int64),
        },
        schema=GAP_SCHEMA,
    )


def runs_of_absent(start: np.datetime64, end: np.datetime64, bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return every run of FX-week bars that open from `start` to `end`, both included, and are not in `bars`.

    Returns:
        `start_utc` (open of the first absent bar) and `end_utc` (close of the last one), oldest first.
    """
    ends = slot(np.array([start, end], dtype="datetime64[us]"), timeframe)
    opens = slot_open(ends, timeframe)
    first = ends[0] + int(opens[0] < start)  # the bar of a time that is no open has opened before it
    every = np.arange(first, ends[1] + 1)
    present = _present(bars, timeframe)
    absent = every[~np.isin(every, present, assume_unique=True)]
    breaks = np.flatnonzero(np.diff(absent) > 1)
    firsts = absent[np.concatenate([[0], breaks + 1])] if absent.size else absent
    lasts = absent[np.concatenate([breaks, [absent.size - 1]])] if absent.size else absent
    return pl.DataFrame(
        {
            "start_utc": _utc(slot_open(firsts, timeframe)),
            "end_utc": _utc(bar_close(slot_open(lasts, timeframe), timeframe)),
        }
    )


def coverage(bars: pl.DataFrame, timeframe: Timeframe) -> Coverage:
    """Return the bars expected on ordinary trading days, and those that are missing."""
    present = _present(bars, timeframe)
    if present.size == 0:
        none = np.array([], dtype="datetime64[us]")
        return Coverage(expected_utc=none, missing_utc=none)
    every = np.arange(present[0], present[-1] + 1)
    opens = slot_open(every, timeframe)
    ordinary = ~is_holiday(opens)
    absent = np.ones(every.size, dtype=np.bool_)
    absent[present - present[0]] = False
    return Coverage(expected_utc=opens[ordinary], missing_utc=opens[ordinary & absent])


def is_holiday(open_utc: Times) -> NDArray[np.bool_]:
    """Return where bars open on the trading day of 25 December or 1 January, when the whole market rests."""
    local = _utc(open_utc).dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
    day = local.dt.offset_by("7h")  # the trading day begins at 17:00
    christmas = (day.dt.month() == 12) & (day.dt.day() == 25)
    return np.asarray((christmas | ((day.dt.month() == 1) & (day.dt.day() == 1))).to_numpy())


def closed_bars_since(newest_utc: np.datetime64, now_utc: np.datetime64, timeframe: Timeframe) -> int:
    """Return how many bars of ordinary days opened after `newest_utc` and closed by `now_utc`."""
    newest, now = slot(np.array([newest_utc, now_utc], dtype="datetime64[us]"), timeframe)
    opens = slot_open(np.arange(newest + 1, now + 1), timeframe)
    closed = bar_close(opens, timeframe) <= now_utc
    return int((closed & ~is_holiday(opens)).sum()) if opens.size else 0


def _present(bars: pl.DataFrame, timeframe: Timeframe) -> Ints:
    """Return the running numbers of the bars that are there, increasing, each once."""
    ts = bars["ts_utc"].drop_nulls().to_numpy().astype("datetime64[us]")
    slots = slot(ts[in_fx_week(ts)], timeframe)
    if not (np.diff(slots) > 0).all():  # np.unique costs more than everything else here
        slots = np.sort(slots)
        slots = slots[np.concatenate([[True], np.diff(slots) > 0])] if slots.size else slots
    return slots


def _utc(times: Times) -> pl.Series:
    return pl.Series(times, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")
