"""Scores of forecasts against what happened: CRPS, pinball, interval score, coverage, width, direction, errors."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from forexgpt_core.domain.forecasts import INTERVALS, LEVELS, MEDIAN, SCORES, ForecastBatch, law_cdf, law_quantiles
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import centred_long_run_variance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MID_LEVELS: Floats = (np.arange(200) + 0.5) / 200
_MID_SCORES: Floats = ndtri(_MID_LEVELS)
_LAW: Floats = law_quantiles(np.eye(LEVELS.size), _MID_LEVELS)  # (9, 200): the law is linear in its nine quantiles
_TO_MEAN: Floats = _LAW.mean(axis=1)
_TO_LEVEL_MEAN: Floats = _LAW @ _MID_LEVELS / _MID_LEVELS.size
_TAIL_SUMS: Floats = np.concatenate([_LAW[:, ::-1].cumsum(axis=1)[:, ::-1].T, np.zeros((1, LEVELS.size))])  # (201, 9)
_NO_CALL = 1e-9  # a median this small against the 50 % interval is rounding, not an opinion


class UnpairedReturns(BadInput):
    """Returns do not stand row for row beside the forecasts, or are not all known."""


def crps(quantiles: Floats, y: Floats | float) -> Floats:
    """Return twice the pinball loss averaged over the 200 mid-levels (i + 1/2) / 200 of the law.

    The points above y are the last ones of a sorted row, so a table of tail sums replaces the 200 points.

    Args:
        quantiles: (..., 9) at LEVELS, non-decreasing.
        y: outcomes broadcastable to quantiles.shape[:-1]; NaN gives NaN.

    Returns:
        (...,) in the unit of y; .5642 = 1 / sqrt(pi) on average when forecast and truth are N(0, 1).

    Source: Gneiting and Ranjan (2011), JBES 29(3), the quantile form of the CRPS.
    """
    y_ = np.broadcast_to(np.asarray(y, dtype=np.float64), quantiles.shape[:-1])
    first_above = np.searchsorted(_MID_SCORES, _normal_score(quantiles, y_), side="right")
    excess = np.einsum("...q,...q->...", quantiles, _TAIL_SUMS[first_above]) - (_MID_LEVELS.size - first_above) * y_
    return np.asarray(y_ - 2 * (quantiles @ _TO_LEVEL_MEAN) + 2 * excess / _MID_LEVELS.size)


def _normal_score(quantiles: Floats, y: Floats) -> Floats:
    right = np.clip((quantiles <= y[..., None]).sum(axis=-1), 1, LEVELS.size - 1)
    left = right - 1
    low = np.take_along_axis(quantiles, left[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(quantiles, right[..., None], axis=-1)[..., 0]
    gap = high - low
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = SCORES[left] + (y - low) / gap * (SCORES[right] - SCORES[left])
    flat_tail = np.where(y >= high, np.inf, -np.inf)  # inside the nine levels neighbours around y always differ
    return np.asarray(np.where(gap > 0, z, flat_tail))


def pinball(quantiles: Floats, y: Floats | float, levels: Floats = LEVELS) -> Floats:
    """Return the pinball loss of each quantile, max(level d, (level - 1) d) with d = y - quantile; shape (..., m)."""
    d = np.asarray(y, dtype=np.float64)[..., None] - quantiles
    return np.asarray(np.maximum(levels * d, (levels - 1) * d))


def interval_score(quantiles: Floats, y: Floats | float, coverage_percent: int) -> Floats:
    """Return the width of a central interval plus 2 / alpha times the distance by which y lies outside it.

    Args:
        quantiles: (..., 9) at LEVELS.
        y: outcomes broadcastable to quantiles.shape[:-1].
        coverage_percent: 50, 80, 90 or 95.

    Source: Gneiting and Raftery (2007), JASA 102(477), section 6.2.
    """
    low, high = _interval(quantiles, coverage_percent)
    alpha = 1 - coverage_percent / 100
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return np.asarray(high - low + 2 / alpha * outside)


def _interval(quantiles: Floats, coverage_percent: int) -> tuple[Floats, Floats]:
    if coverage_percent not in INTERVALS:
        raise BadInput(f"intervals exist for {', '.join(map(str, INTERVALS))} %, not for {coverage_percent} %")
    low, high = INTERVALS[coverage_percent]
    return quantiles[..., low], quantiles[..., high]


def require_paired(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return `returns` as (n, H) float64.

    Raises:
        UnpairedReturns: the shape differs from the forecasts', there are no rows, or a return is not finite.
    """
    expected = forecasts.quantiles.shape[:2]
    values = np.asarray(returns, dtype=np.float64)
    if values.shape != expected:
        raise UnpairedReturns(f"returns have shape {values.shape}, {forecasts.family} forecasts need {expected}")
    if not len(forecasts):
        raise UnpairedReturns(f"{forecasts.family} holds no forecasts to score")
    unknown = int((~np.isfinite(values)).sum())
    if unknown:
        raise UnpairedReturns(
            f"{unknown} of {values.size} returns are not known (NaN or infinite); score matured origins only"
        )
    return values


def coverage(forecasts: ForecastBatch, returns: Floats) -> dict[int, Floats]:
    """Return the share of returns inside each central interval, ends included: {50, 80, 90, 95} to (H,)."""
    y = require_paired(forecasts, returns)
    shares = {}
    for percent in INTERVALS:
        low, high = _interval(forecasts.quantiles, percent)
        shares[percent] = np.asarray(((low <= y) & (y <= high)).mean(axis=0))
    return shares


def width(forecasts: ForecastBatch) -> dict[int, Floats]:
    """Return the mean width of each central interval in log return: {50, 80, 90, 95} to (H,)."""
    widths = {}
    for percent in INTERVALS:
        low, high = _interval(forecasts.quantiles, percent)
        widths[percent] = np.asarray((high - low).mean(axis=0))
    return widths


def pit(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the probability the law gave to values up to the return; (n, H), uniform when the law is right."""
    return law_cdf(forecasts.quantiles, require_paired(forecasts, returns))


def direction(forecasts: ForecastBatch, returns: Floats) -> tuple[Floats, Floats]:
    """Return how often the sign of the median was right, and the standard error of that share.

    Bars that did not move are left out, and so are forecasts whose median is 0: `direction_calls` counts both. A
    family whose median is always 0, like the driftless random walk, makes no call and gets NaN. The standard error
    allows for overlapping labels (Bartlett weights up to lag h - 1).

    Returns:
        share (H,) and standard error (H,).
    """
    called, right = _calls(forecasts, require_paired(forecasts, returns))
    calls = called.sum(axis=0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(calls > 0, right.sum(axis=0) / calls, np.nan)
    deviations = np.where(called, right - share, 0.0)
    error = np.full(share.shape, np.nan)
    for column, horizon in enumerate(forecasts.horizons_bars):
        if calls[column] > 0:
            n = len(forecasts)
            variance = centred_long_run_variance(deviations[:, column], horizon - 1) * n / calls[column] ** 2
            error[column] = np.sqrt(variance)
    return np.asarray(share), error


def direction_calls(forecasts: ForecastBatch, returns: Floats) -> tuple[Ints, Ints]:
    """Return how many directional calls were scored and how many bars did not move; each (H,)."""
    y = require_paired(forecasts, returns)
    called, _ = _calls(forecasts, y)
    return called.sum(axis=0), (y == 0).sum(axis=0)


def _calls(forecasts: ForecastBatch, y: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    median = forecasts.quantiles[..., MEDIAN]
    low, high = _interval(forecasts.quantiles, 50)
    called = (np.abs(median) > _NO_CALL * (high - low)) & (median != 0) & (y != 0)
    return called, called & (np.sign(median) == np.sign(y))


def law_mean(quantiles: Floats) -> Floats:
    """Return the mean of the law from its 200 equally likely points; shape (...,)."""
    return np.asarray(quantiles @ _TO_MEAN)


def rmse(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the root mean squared error of the law's mean, in log return; (H,)."""
    error = require_paired(forecasts, returns) - law_mean(forecasts.quantiles)
    return np.asarray(np.sqrt((error**2).mean(axis=0)))


def mae(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the mean absolute error of the law's mean, in log return; (H,)."""
    error = require_paired(forecasts, returns) - law_mean(forecasts.quantiles)
    return np.asarray(np.abs(error).mean(axis=0))
