"""How much variance each hour of the FX week holds, and the clock that runs at that speed."""

from dataclasses import dataclass

import numpy as np

from forexgpt_core.domain.clock import Timeframe, Times, slot
from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.features.windows import Rows

_DAYS = 5
_SHRINK_ROWS = 40.0  # observations at which an hour's own level counts as much as what it is shrunk towards
_LEAST_LEVEL = 0.05  # of the average absolute return: an hour that never moved is not one that never will


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HourFactor:
    """Variance per bar by hour of the week, mean 1 over the week's bars.

    Attributes:
        factor: (buckets,) an hour each, or a bar each where bars are longer than an hour.
    """

    timeframe: Timeframe
    factor: Floats

    @classmethod
    def flat(cls, timeframe: Timeframe) -> "HourFactor":
        """Return the factor that is 1 at every hour."""
        return cls(timeframe=timeframe, factor=np.ones(_buckets(timeframe)))

    @classmethod
    def fit(cls, ts_utc: Times, bar_returns: Floats, timeframe: Timeframe) -> "HourFactor":
        """Return the factor of some bars.

        Levels are squared mean absolute returns, each week divided by its own mean, so that neither one wild bar nor
        one wild year sets them. A sample of thirty weeks holds thirty noisy observations per hour: each hour of the
        week is shrunk towards that hour averaged over the days, and the day's profile, smoothed circularly, towards 1.
        The first bar of the week carries the weekend and stands alone.

        Args:
            ts_utc: (n,) opens of bars that directly follow their predecessor in the FX week.
            bar_returns: (n,) their log returns.
        """
        buckets = _buckets(timeframe)
        week, inside = np.divmod(slot(ts_utc, timeframe), timeframe.per_week)
        bucket = inside // (timeframe.per_week // buckets)
        level = np.abs(bar_returns) / _mean_of_own(week, np.abs(bar_returns))
        counts = np.bincount(bucket, minlength=buckets).astype(np.float64)
        sums = np.asarray(np.bincount(bucket, weights=level, minlength=buckets), dtype=np.float64)
        factor = np.maximum(_shrunk(counts, sums), _LEAST_LEVEL) ** 2
        return cls(timeframe=timeframe, factor=factor / factor.mean())

    def between(self, earlier_slot: Rows, later_slot: Rows) -> Floats:
        """Return the variance time from the end of one bar to the end of another, in average bars."""
        per_week = self.timeframe.per_week
        per_bar = np.repeat(self.factor, per_week // self.factor.size)
        elapsed = np.concatenate([[0.0], np.cumsum(per_bar)])[1:]
        week_a, inside_a = np.divmod(earlier_slot, per_week)
        week_b, inside_b = np.divmod(later_slot, per_week)
        return np.asarray((week_b - week_a) * float(per_week) + (elapsed[inside_b] - elapsed[inside_a]))


def _buckets(timeframe: Timeframe) -> int:
    return min(timeframe.per_week, 24 * _DAYS)


def _mean_of_own(group: Rows, x: Floats) -> Floats:
    """Return for each entry the mean of its group; an all-zero group gives 1."""
    number = group - group.min()
    mean = np.bincount(number, weights=x) / np.maximum(np.bincount(number), 1)
    return np.asarray(np.where(mean > 0, mean, 1.0)[number])


def _shrunk(counts: Floats, sums: Floats) -> Floats:
    """Return the level of each bucket, drawn towards its hour of the day, and that towards 1."""
    buckets = counts.size
    per_day = max(1, buckets // _DAYS)
    hour = np.arange(buckets) % per_day
    usual = np.arange(buckets) > 0  # all but the week's first
    day_counts = np.bincount(hour[usual], weights=counts[usual], minlength=per_day)
    day_sums = np.bincount(hour[usual], weights=sums[usual], minlength=per_day)
    profile = _smooth((day_sums + _SHRINK_ROWS) / (day_counts + _SHRINK_ROWS))
    prior = profile[hour]
    if counts[0] > 0:
        prior[0] = sums[0] / counts[0]
    return np.asarray((sums + _SHRINK_ROWS * prior) / (counts + _SHRINK_ROWS))


def _smooth(profile: Floats) -> Floats:
    """Return a light circular average; hours differ for reasons (fixes, openings), so neighbours count little."""
    if profile.size < 3:
        return profile
    return np.asarray(0.8 * profile + 0.1 * np.roll(profile, 1) + 0.1 * np.roll(profile, -1))
