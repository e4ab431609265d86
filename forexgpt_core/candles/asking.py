"""What to ask a source for: slices of time no longer than it allows, and the holes worth asking about.

Times are half-open ranges of bar OPENS: a bar belongs to the slice in which it opens, also where it closes in the next.
"""

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.candles.gaps import find_gaps, runs_of_absent
from forexgpt_core.candles.store import ASKED_SCHEMA
from forexgpt_core.domain.clock import Timeframe, bar_close, slot, slot_open

Times = NDArray[np.datetime64]
Ints = NDArray[np.int64]
_MONTH = timedelta(days=27), timedelta(days=32)  # a chunk in between is about a month
_MICROSECOND = np.timedelta64(1, "us")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One request: bars that open in [start, end)."""

    start: np.datetime64
    end: np.datetime64

    def last_close(self, timeframe: Timeframe) -> np.datetime64:
        """Return the close of the last bar of the FX week that opens in the slice (or of the one before it)."""
        last = slot_open(slot(np.array([self.end - _MICROSECOND]), timeframe), timeframe)
        return np.datetime64(bar_close(last, timeframe)[0])

    @property
    def line(self) -> str:
        """Return the range as a person reads it."""
        return f"{str(self.start)[:16]} to {str(self.end)[:16]} UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class HolePolicy:
    """How persistent to be about holes.

    Attributes:
        ages: a hole is asked about when it is found, and again when it has reached each of these ages; no more.
        requests: at most so many requests about holes in one run, the newest first.
        join: holes closer to each other than this are asked about in one request.
    """

    ages: tuple[timedelta, ...] = (timedelta(days=1), timedelta(days=7))
    requests: int = 24
    join: timedelta = timedelta(days=2)


def slices(start: np.datetime64, end: np.datetime64, chunk: timedelta | None) -> list[Slice]:
    """Return [start, end) cut where the source's chunks begin: calendar months where a chunk is about one.

    >>> [s.line for s in slices(np.datetime64("2018-01-31"), np.datetime64("2018-02-02"), timedelta(days=31))]
    ['2018-01-31T00:00 to 2018-02-01T00:00 UTC', '2018-02-01T00:00 to 2018-02-02T00:00 UTC']
    """
    start, end = start.astype("datetime64[us]"), end.astype("datetime64[us]")
    first, last = _chunk_of(np.array([start, max(start, end - _MICROSECOND)]), chunk)
    borders = [start, *_begin_of(np.arange(first + 1, last + 1), chunk), end]
    return [Slice(start=a, end=b) for a, b in pairwise(borders) if a < b]


def holes_within(
    bars: pl.DataFrame, start: np.datetime64, timeframe: Timeframe, chunk: timedelta | None
) -> pl.DataFrame:
    """Return the holes between `start` and the newest bar, cut where the source's chunks begin.

    Args:
        bars: lawful bars, at least one.
        start: where the history is wanted from; what lies before the first bar is a hole then.
    """
    gaps = find_gaps(bars, timeframe).select("start_utc", "end_utc")
    first = bars["ts_utc"].to_numpy()[0].astype("datetime64[us]")
    if start < first:
        gaps = pl.concat([runs_of_absent(start, first - _MICROSECOND, bars.head(1), timeframe), gaps])
    return _cut(gaps, timeframe, chunk)


def due(holes: pl.DataFrame, asked: pl.DataFrame, now: np.datetime64, policy: HolePolicy) -> pl.DataFrame:
    """Return the holes to ask about now: unknown ones, and those that came of age since they were asked about.

    Args:
        holes: `start_utc, end_utc`, oldest first.
        asked: of ASKED_SCHEMA; a hole inside one of its rows was asked about then.
    """
    if holes.is_empty() or asked.is_empty():
        return holes
    start, end = (holes[c].to_numpy() for c in ("start_utc", "end_utc"))
    memory = asked.sort("start_utc")
    before = np.searchsorted(memory["start_utc"].to_numpy(), start, side="right") - 1
    known = (before >= 0) & (memory["end_utc"].to_numpy()[before] >= end)
    ages = np.array([np.timedelta64(age) for age in policy.ages], dtype="timedelta64[us]")
    then = np.searchsorted(ages, memory["asked_utc"].to_numpy()[before] - end, side="right")
    today = np.searchsorted(ages, now - end, side="right")
    return holes.filter(pl.Series(~known | (today > then)))


def requests_for(holes: pl.DataFrame, chunk: timedelta | None, policy: HolePolicy) -> list[Slice]:
    """Return the requests that cover the holes, newest first, each within one chunk; at most `policy.requests`.

    Where one call gives everything, one request covers all of them.
    """
    if holes.is_empty():
        return []
    start, end = (holes[c].to_numpy().astype("datetime64[us]") for c in ("start_utc", "end_utc"))
    if chunk is None:
        return [Slice(start=start[0], end=end.max())]
    chunks = _chunk_of(start, chunk)
    apart = (np.diff(chunks) != 0) | (start[1:] - end[:-1] > np.timedelta64(policy.join))
    firsts = np.concatenate([[0], np.flatnonzero(apart) + 1])
    lasts = np.concatenate([firsts[1:] - 1, [start.size - 1]])
    found = [Slice(start=start[a], end=end[b]) for a, b in zip(firsts, lasts)]
    return found[::-1][: policy.requests]


def remembered(
    asked: pl.DataFrame, one: Slice, answer: pl.DataFrame, timeframe: Timeframe, now: np.datetime64, *, open_end: bool
) -> pl.DataFrame:
    """Return the memory after a slice was answered with `answer`: what is lacking in it was asked about in vain.

    Args:
        answer: the lawful bars that came.
        open_end: the slice ends now, so what lies after its last bar may only be late and is not remembered.
    """
    last = one.end - _MICROSECOND
    if open_end:
        if answer.is_empty():
            return asked
        last = min(last, answer["ts_utc"].to_numpy()[-1].astype("datetime64[us]"))
    start, end = (pl.lit(t).cast(ASKED_SCHEMA["start_utc"]) for t in (one.start, one.end))
    outside = asked.filter(~((pl.col("start_utc") >= start) & (pl.col("start_utc") < end)))
    lacking = runs_of_absent(one.start, last, answer, timeframe)
    before = asked.select("start_utc", "end_utc", "asks")
    again = lacking.join(before, on=["start_utc", "end_utc"], how="left", maintain_order="left").with_columns(
        pl.col("asks").fill_null(0) + 1, asked_utc=pl.lit(now).cast(ASKED_SCHEMA["asked_utc"])
    )
    return pl.concat([outside, again.select(list(ASKED_SCHEMA))]).sort("start_utc")


def _cut(gaps: pl.DataFrame, timeframe: Timeframe, chunk: timedelta | None) -> pl.DataFrame:
    """Return holes cut at the chunks' borders; few cross one, so only those are looked at singly."""
    if chunk is None or gaps.is_empty():
        return gaps
    start, end = (gaps[c].to_numpy().astype("datetime64[us]") for c in ("start_utc", "end_utc"))
    crossing = _chunk_of(start, chunk) != _chunk_of(np.subtract(end, _MICROSECOND), chunk)
    pieces = [
        runs_of_absent(one.start, one.end - _MICROSECOND, gaps.head(0).rename({"start_utc": "ts_utc"}), timeframe)
        for a, b in zip(start[crossing], end[crossing])
        for one in slices(a, b, chunk)
    ]
    return pl.concat([gaps.filter(pl.Series(~crossing)), *pieces]).sort("start_utc")


def _chunk_of(times: Times, chunk: timedelta | None) -> Ints:
    """Return the running number of the chunk that each time lies in."""
    if chunk is None:
        return np.zeros(times.size, dtype=np.int64)
    if _MONTH[0] <= chunk <= _MONTH[1]:
        return times.astype("datetime64[M]").astype(np.int64)
    return np.asarray(times.astype("datetime64[us]").astype(np.int64) // (np.timedelta64(chunk) // _MICROSECOND))


def _begin_of(numbers: Ints, chunk: timedelta | None) -> list[np.datetime64]:
    """Return where the chunks of these numbers begin."""
    if chunk is None:
        return []
    if _MONTH[0] <= chunk <= _MONTH[1]:
        return list(numbers.astype("datetime64[M]").astype("datetime64[us]"))
    return list((numbers * (np.timedelta64(chunk) // _MICROSECOND)).astype("datetime64[us]"))
