"""What providers of bars have in common: the asked range, and higher bars out of lower ones."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.clock import Timeframe, from_utc, to_utc


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From the earliest open to the latest close, both included and in UTC; empty where they cross."""

    since_utc: datetime
    until_utc: datetime

    @property
    def empty(self) -> bool:
        """Return whether no bar fits."""
        return self.since_utc >= self.until_utc

    def cut(self, bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
        """Return the bars that open and close inside the range, in their own order."""
        closes = pl.col("ts_utc") + pl.duration(seconds=timeframe.seconds)
        return bars.filter((pl.col("ts_utc") >= self.since_utc) & (closes <= self.until_utc))


def asked_range(since_utc: datetime | None, until_utc: datetime | None, *, begin: datetime, now: datetime) -> Range:
    """Return the range to look at: from `begin` where no start is given, and never beyond `now`.

    Raises:
        BadInput: a moment has no time zone.
    """
    since, until = (None if moment is None else from_utc(to_utc(moment)) for moment in (since_utc, until_utc))
    today = now.astimezone(UTC)
    return Range(since_utc=begin if since is None else since, until_utc=today if until is None else min(until, today))


def higher_bars(
    raw: pl.DataFrame, base: Timeframe, target: Timeframe, asked: Range, left_out: "Counter[str]"
) -> pl.DataFrame:
    """Return the `target` bars of a range, built from raw `base` bars that begin no later than the range does.

    What the cleaning of the base bars drops is counted in `left_out`, as `H1_outside_week` and the like.
    """
    cleaned = clean(raw, base)
    left_out.update({f"{base}_{reason}": count for reason, count in cleaned.dropped.items() if count})
    bars = resample(cleaned.bars, base, target, known_until_utc=asked.until_utc)
    return asked.cut(bars, target)
