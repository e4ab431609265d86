"""Does a forecast cover what it promises? A band for the share of outcomes inside an interval, and the verdict."""

import math
from dataclasses import dataclass

import numpy as np

from forexgpt_core.calibration.ranks import HIGH_LEVELS, LOW_LEVELS
from forexgpt_core.domain.forecasts import INTERVALS, Floats, ForecastBatch
from forexgpt_core.errors import BadInput


def coverage_band(n_independent: int, nominal: float, level: float = 0.99) -> tuple[float, float]:
    """Return the shares between which the coverage of a calibrated interval falls with probability >= level.

    Args:
        n_independent: outcomes that do not overlap.
        nominal: share promised, in (0, 1).
        level: confidence, in (0, 1); each tail outside holds at most half of what it leaves.

    Returns:
        Ends of the exact binomial band, both included.

    Raises:
        BadInput: a value lies outside its range.

    >>> coverage_band(100, 0.9)
    (0.82, 0.97)
    """
    if n_independent < 1 or not 0 < nominal < 1 or not 0 < level < 1:
        raise BadInput(
            f"expected n_independent >= 1 and nominal and level in (0, 1), was {n_independent}, {nominal} and {level}"
        )
    from scipy.stats import binom

    low, high = binom.ppf([(1 - level) / 2, (1 + level) / 2], n_independent, nominal)
    return max(float(low), 0.0) / n_independent, float(high) / n_independent


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Coverage and sharpness of one interval at one horizon.

    Attributes:
        n: matured forecasts. n_independent: as many of them as do not overlap.
        coverage: share of outcomes inside; nominal: share promised; low, high: the band around it.
        width: mean width, log return. width_in_scales: the same in the reference walk's standard deviations, so that
            calm and wild times compare.
        holds: the coverage lies inside the band; one that is too high fails as well, its intervals are too wide.
        can_fail: there are enough outcomes for some coverage to lie outside the band on either side.
    """

    horizon_bars: int
    nominal: float
    n: int
    n_independent: int
    coverage: float
    low: float
    high: float
    width: float
    width_in_scales: float
    holds: bool
    can_fail: bool


def coverage_holds(forecasts: ForecastBatch, returns: Floats, *, level: float = 0.99) -> tuple[Coverage, ...]:
    """Return the verdict on every horizon and interval; measure it on outcomes that no calibrator was fitted on.

    Outcomes over h bars overlap: of n forecasts from consecutive bars ceil(n / h) count as independent. Misses that
    cluster at other times (a volatility the scale does not follow) make the band narrower than chance is; see the
    coverage by volatility decile beside it.

    Args:
        returns: (n, H) realised log returns, NaN where not matured (left out).
        level: confidence of each band; across all of them some fails by chance more often than once.

    Raises:
        BadInput: shapes differ, or nothing has matured at some horizon.
    """
    if returns.shape != forecasts.scale.shape:
        raise BadInput(f"returns have shape {returns.shape}, the forecasts {forecasts.scale.shape}")
    verdicts = []
    for h, horizon in enumerate(forecasts.horizons_bars):
        known = np.isfinite(returns[:, h])
        if not known.any():
            raise BadInput(f"no forecast over {horizon} bars has matured, so there is no coverage to judge")
        low, high = forecasts.quantiles[known, h][:, LOW_LEVELS], forecasts.quantiles[known, h][:, HIGH_LEVELS]
        outcome, scale = returns[known, h][:, None], forecasts.scale[known, h][:, None]
        inside, width = ((low <= outcome) & (outcome <= high)).mean(axis=0), high - low
        sharpness = width.mean(axis=0), (width / scale).mean(axis=0)
        n = int(known.sum())
        for k, percent in enumerate(INTERVALS):
            facts = float(inside[k]), float(sharpness[0][k]), float(sharpness[1][k])
            verdicts.append(_verdict(horizon, percent / 100, n, facts, level))
    return tuple(verdicts)


def _verdict(horizon: int, nominal: float, n: int, facts: tuple[float, float, float], level: float) -> Coverage:
    independent = math.ceil(n / horizon)
    low, high = coverage_band(independent, nominal, level)
    return Coverage(
        horizon_bars=horizon,
        nominal=nominal,
        n=n,
        n_independent=independent,
        coverage=facts[0],
        low=low,
        high=high,
        width=facts[1],
        width_in_scales=facts[2],
        holds=low <= facts[0] <= high,
        can_fail=low > 0 and high < 1,
    )
