"""Two sources of one pair side by side: how far apart they are, what each lacks, and whether one's clock is wrong."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.clock import Timeframe, expected_opens, to_utc
from forexgpt_core.errors import BadInput

_LEAST_BARS = 20  # of a week, that say anything about its clock
_ROWS_PER_LAG = 60_000  # of the own bars; a week has enough of them, and minutes are many
_HOURS = 12  # a clock is wrong by whole or half hours, hardly ever by more than this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The closes of two sources against each other.

    A lag is how much later the second source's times are: its clock runs ahead by that much.

    Attributes:
        timeframe: on which they were compared, the longer of the two.
        first_utc, last_utc: opens of the first and the last bar that both could have.
        bars, other_bars, common_bars: in that range.
        expected_bars: bars of the FX week in that range.
        median_pips, high_pips, max_pips: of the absolute difference of the closes (high: 99 % of bars are below).
        bias_pips: median of other minus own close; a constant one means another price side or another mark-up.
        worst: `ts_utc, close, other_close, difference_pips`, the largest first.
        lag_minutes: at which all weeks together agree best.
        weeks: `week_utc, bars, lag_minutes, median_pips` (at lag 0), `best_pips` (at the week's own lag), oldest first.
    """

    timeframe: Timeframe
    first_utc: datetime
    last_utc: datetime
    bars: int
    other_bars: int
    common_bars: int
    expected_bars: int
    median_pips: float
    high_pips: float
    max_pips: float
    bias_pips: float
    worst: pl.DataFrame
    lag_minutes: int
    weeks: pl.DataFrame

    @property
    def weeks_at_lag_0(self) -> int:
        """Return in how many weeks the clocks agree."""
        return int((self.weeks["lag_minutes"] == 0).sum())


def compare(
    bars: pl.DataFrame, timeframe: Timeframe, other: pl.DataFrame, other_timeframe: Timeframe, pip: float
) -> Comparison:
    """Return the comparison of two tables of lawful bars of one pair; the shorter bars are resampled to the longer.

    Raises:
        BadInput: they have no time in common.
    """
    common = max(timeframe, other_timeframe, key=lambda frame: frame.seconds)
    own, theirs = (
        resample(table, frame, common) if frame is not common else table
        for table, frame in ((bars, timeframe), (other, other_timeframe))
    )
    if own.is_empty() or theirs.is_empty():
        raise BadInput("there is nothing to compare: one of the two sources holds no bar")
    first, last = max(own["ts_utc"][0], theirs["ts_utc"][0]), min(own["ts_utc"][-1], theirs["ts_utc"][-1])
    if first > last:
        raise BadInput(f"the two sources have no time in common: one covers {_span(own)}, the other {_span(theirs)}")
    own, theirs = (table.filter(pl.col("ts_utc").is_between(first, last)) for table in (own, theirs))
    joined = own.select("ts_utc", "close").join(theirs.select("ts_utc", other_close="close"), on="ts_utc")
    joined = joined.with_columns(difference_pips=(pl.col("other_close") - pl.col("close")) / pip)
    apart = joined["difference_pips"].abs()
    lags = _lags(own, theirs, common, pip)
    return Comparison(
        timeframe=common,
        first_utc=first,
        last_utc=last,
        bars=own.height,
        other_bars=theirs.height,
        common_bars=joined.height,
        expected_bars=int(expected_opens(to_utc(first), to_utc(last), common).size),
        median_pips=_quantile(apart, 0.5),
        high_pips=_quantile(apart, 0.99),
        max_pips=_quantile(apart, 1.0),
        bias_pips=_quantile(joined["difference_pips"], 0.5),
        worst=joined.sort(apart, descending=True).head(10),
        lag_minutes=_best_lag(lags),
        weeks=_weeks(lags),
    )


def _lags(own: pl.DataFrame, theirs: pl.DataFrame, timeframe: Timeframe, pip: float) -> pl.DataFrame:
    """Return `week_utc, lag_minutes, bars, pips`: the median difference of each week at each lag."""
    week = pl.col("ts_utc").dt.offset_by("2h").dt.truncate("1w")  # the FX week opens on Sunday 21:00 or 22:00 UTC
    base = own.gather_every(max(1, own.height // _ROWS_PER_LAG)).lazy().select("ts_utc", "close", week_utc=week)
    found = []
    for minutes in _lag_grid(timeframe):
        moved = theirs.lazy().select(
            pl.col("ts_utc") - pl.duration(minutes=minutes), apart_close="close", lag_minutes=pl.lit(minutes)
        )
        apart = ((pl.col("apart_close") - pl.col("close")) / pip).abs()
        found.append(
            base.join(moved, on="ts_utc").group_by("week_utc", "lag_minutes").agg(bars=pl.len(), pips=apart.median())
        )
    rows: pl.DataFrame = pl.concat(pl.collect_all(found))
    return rows.filter(pl.col("bars") >= min(_LEAST_BARS, timeframe.per_week // 2))


def _lag_grid(timeframe: Timeframe) -> list[int]:
    """Return the lags to try in minutes, from the smallest on: whole bars, in steps of half an hour or a bar."""
    bar = timeframe.seconds // 60
    step = max(30, bar)
    most = max(_HOURS * 60, 3 * bar)
    near = {bar * n for n in (-2, -1, 1, 2)}
    grid = {0, *near, *range(-(most // step) * step, most + 1, step)}
    return sorted((lag for lag in grid if lag % bar == 0), key=abs)


def _best_lag(lags: pl.DataFrame) -> int:
    """Return the lag at which the median over the weeks is smallest; the smaller lag where two are alike."""
    if lags.is_empty():
        return 0
    by_lag = lags.group_by("lag_minutes").agg(pl.col("pips").median())
    return int(by_lag.sort("pips", pl.col("lag_minutes").abs())["lag_minutes"][0])


def _weeks(lags: pl.DataFrame) -> pl.DataFrame:
    now = lags.filter(pl.col("lag_minutes") == 0).select("week_utc", "bars", median_pips="pips")
    best = (
        lags.sort("pips", pl.col("lag_minutes").abs())
        .group_by("week_utc", maintain_order=True)
        .agg(pl.col("lag_minutes").first(), best_pips=pl.col("pips").first())
    )
    joined = best.join(now, on="week_utc", how="left").sort("week_utc")
    return joined.select("week_utc", "bars", "lag_minutes", "median_pips", "best_pips")


def _span(bars: pl.DataFrame) -> str:
    return f"{bars['ts_utc'][0]:%Y-%m-%d} to {bars['ts_utc'][-1]:%Y-%m-%d}"


def _quantile(values: pl.Series, share: float) -> float:
    found = values.quantile(share, "linear")
    return float("nan") if found is None else float(found)
