"""Does the trading week begin and end when it should? If not, the file's clock is not the one that was stated."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from forexgpt_core.domain.clock import WEEK_SECONDS, Ints, Timeframe, Times, week_opens

_HALF_HOUR = np.timedelta64(30, "m")
_HALF_WEEK = np.timedelta64(84, "h")
_PAUSE = np.timedelta64(24, "h")  # no shorter one is a weekend; longer holidays are sorted out by their day
_FARTHEST = 24  # half hours: what begins or ends further from its time is another event
_STUB_SHARE = 0.25  # of the usual range of a bar
_LEAST_WEEKS = 2  # a single odd week is a holiday's business


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeekOpen:
    """When the weeks of a table begin and end.

    A week is judged when its first and its last bar stand at a weekend's pause. It is shifted when both are equally far
    from 17:00 New York: a late first bar alone, or an early last one, is a hole and says nothing about the clock.

    Attributes:
        weeks: one row per judged week, oldest first: `opens_utc` (when it should open), `opened_utc` (its first bar),
            `shift_hours` (how much later the whole week lies; 0 where all is right).
    """

    weeks: pl.DataFrame

    @property
    def shifted(self) -> pl.DataFrame:
        """Return the weeks that contradict the stated clock."""
        return self.weeks.filter(pl.col("shift_hours") != 0)

    @property
    def figure(self) -> str:
        """Return in how many weeks all is right, for the record."""
        right, of = self.weeks.height - self.shifted.height, self.weeks.height
        return f"17:00 New York in {right} of {of} weeks" if of else "not judged"

    def warning(self, timezone: str = "") -> str:
        """Return one sentence on the weeks that contradict the clock named `timezone`, "" where all is well."""
        shifted = self.shifted
        if shifted.height < _LEAST_WEEKS:
            return ""
        kinds = shifted["shift_hours"].value_counts().sort("count", "shift_hours", descending=True)
        shift, count = kinds.row(0)
        minutes = round(17 * 60 + shift * 60) % (24 * 60)
        mainly = shifted.filter(pl.col("shift_hours") == shift)["opened_utc"].dt.strftime("%Y-%m-%d")
        others = f", {shifted.height - count} more at other hours" if kinds.height > 1 else ""
        return (
            f"the week opens at {minutes // 60:02d}:{minutes % 60:02d} New York instead of 17:00 in {count} of"
            f" {self.weeks.height} weeks{_season(shifted, self.weeks)}, from {mainly[0]} to {mainly[-1]}{others}:"
            f" is the time zone{f' {timezone}' if timezone else ''} right?"
        )


def week_open(bars: pl.DataFrame, timeframe: Timeframe) -> WeekOpen:
    """Return when the weeks of bars begin and end.

    Args:
        bars: raw `ts_utc`, `high` and `low` in any order, before what lies outside the FX week is dropped.

    Where no week stands there from pause to pause, none is judged.
    """
    timed = bars.select("ts_utc", "high", "low").drop_nulls("ts_utc")
    if not timed["ts_utc"].is_sorted():
        timed = timed.sort("ts_utc")
    ts = timed["ts_utc"].to_numpy().astype("datetime64[us]")
    length = np.timedelta64(timeframe.seconds, "s")
    pauses = np.flatnonzero(np.diff(ts) - length >= _PAUSE)
    last = pauses - _is_stub(timed)[pauses]
    begins = _nearest(ts[pauses + 1], week_opens())
    ends = _nearest(np.add(ts[last], length), np.add(week_opens(), np.timedelta64(WEEK_SECONDS, "s")))
    weeks = (
        begins.join(ends, on="week")
        .sort("week")
        .filter(pl.max_horizontal(pl.col("late", "late_right").abs()) <= _FARTHEST)
    )
    shift = pl.when(pl.col("late") == pl.col("late_right")).then("late").otherwise(0) / 2
    opens = pl.Series(week_opens()[weeks["week"].to_numpy()], dtype=pl.Datetime("us"))
    return WeekOpen(
        weeks=weeks.select(
            opens_utc=pl.lit(opens).dt.replace_time_zone("UTC"),
            opened_utc=pl.col("moment").dt.replace_time_zone("UTC"),
            shift_hours=shift,
        )
    )


def _is_stub(bars: pl.DataFrame) -> Ints:
    """Return 1 where a bar hardly moved: some brokers end the week with a few ticks in a bar opened at its close."""
    moved = bars["high"] - bars["low"]
    typical = moved.median()
    few = moved < _STUB_SHARE * typical if isinstance(typical, float) else pl.zeros(moved.len(), eager=True)
    return few.fill_null(False).cast(pl.Int64).to_numpy()


def _nearest(moments: Times, edges: Times) -> pl.DataFrame:
    """Return each `moment` with the number of the nearest edge as `week` and the half hours it comes `late` to it.

    Of several moments by one edge, such as a week's opening and the end of a holiday, the nearest one counts.
    """
    week: Ints = np.searchsorted(edges, moments + _HALF_WEEK, side="right") - 1
    late = np.rint((moments - edges[week]) / _HALF_HOUR).astype(np.int64)
    table = pl.DataFrame(
        {"week": week, "moment": moments, "late": late},
        schema={"week": pl.Int64, "moment": pl.Datetime("us"), "late": pl.Int64},
    )
    return table.sort(pl.col("late").abs()).unique("week", keep="first", maintain_order=True)


def _season(shifted: pl.DataFrame, weeks: pl.DataFrame) -> str:
    """Return the part of the year to which the shifted weeks belong, "" if to none in particular."""

    def within(table: pl.DataFrame, season: pl.Expr) -> int:
        return int(table.select(season.sum()).item())

    opens = pl.col("opens_utc")
    american = opens.dt.convert_time_zone("America/New_York").dt.dst_offset().dt.total_hours() > 0
    european = opens.dt.convert_time_zone("Europe/London").dt.dst_offset().dt.total_hours() > 0
    seasons = {
        "while only one of America and Europe has summer time": american != european,
        "in American summer time": american,
        "in American winter time": ~american,
    }
    for name, season in seasons.items():
        if within(shifted, season) == shifted.height and shifted.height >= 0.8 * within(weeks, season):
            return f", all {name}"
    return ""
