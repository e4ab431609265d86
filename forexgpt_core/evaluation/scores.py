"""Scores of the nine-quantile law against what happened: CRPS, pinball, WQL, interval score, coverage and width."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from forexgpt_core.domain.forecasts import INTERVALS, LEVELS, SCORES, ForecastBatch, law_quantiles
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.pairing import require_law, require_paired

Floats = NDArray[np.float64]

_MID_LEVELS: Floats = (np.arange(200) + 0.5) / 200
_MID_SCORES: Floats = ndtri(_MID_LEVELS)
_LAW: Floats = law_quantiles(np.eye(LEVELS.size), _MID_LEVELS)  # (9, 200): the law is linear in its nine quantiles
_TO_LEVEL_MEAN: Floats = _LAW @ _MID_LEVELS / _MID_LEVELS.size
_TAIL_SUMS: Floats = np.concatenate([_LAW[:, ::-1].cumsum(axis=1)[:, ::-1].T, np.zeros((1, LEVELS.size))])  # (201, 9)


def crps(quantiles: Floats, y: Floats | float) -> Floats:
    """Return twice the pinball loss averaged over the 200 mid-levels (i + 1/2) / 200 of the law.

    The points above y are the last ones of a sorted row, so a table of tail sums replaces the 200 points.

    Args:
        quantiles: (..., 9) at LEVELS, non-decreasing.
        y: outcomes broadcastable to quantiles.shape[:-1]; NaN gives NaN.

    Returns:
        (...,) in the unit of y; .5642 = 1 / sqrt(pi) on average when forecast and truth are N(0, 1).

    Raises:
        BadQuantiles: a quantile is not finite, or some cross.

    Source: Gneiting and Ranjan (2011), JBES 29(3), the quantile form of the CRPS.
    """
    quantiles = require_law(quantiles)
    y_ = np.broadcast_to(np.asarray(y, dtype=np.float64), quantiles.shape[:-1])
    first_above = np.searchsorted(_MID_SCORES, normal_score(quantiles, y_), side="right")
    excess = np.einsum("...q,...q->...", quantiles, _TAIL_SUMS[first_above]) - (_MID_LEVELS.size - first_above) * y_
    return np.asarray(y_ - 2 * (quantiles @ _TO_LEVEL_MEAN) + 2 * excess / _MID_LEVELS.size)


def normal_score(quantiles: Floats, y: Floats) -> Floats:
    """Return the z for which the law gives Phi(z) to values up to y; shape of y.

    At an atom (equal neighbouring quantiles) it is the upper end; beyond a tail without spread it is infinite.

    Args:
        quantiles: (..., 9) at LEVELS, non-decreasing.
        y: quantiles.shape[:-1].
    """
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


def wql(quantiles: Floats, y: Floats | float, levels: Floats = LEVELS) -> Floats:
    """Return the quantile loss: twice the pinball loss, averaged over the levels with equal weight.

    It is not the CRPS unless levels are many and even: a right N(0, 1) forecast scores .617 on 9 even levels, .591 on
    19 and .380 on our nine, against a CRPS of .564. Compare it between forecasts at the same levels alone.

    Args:
        quantiles: (..., m) at `levels`.
        y: outcomes of shape quantiles.shape[:-1], or one number; NaN gives NaN.
        levels: (m,) in (0, 1).

    Returns:
        (...) in the unit of y, not divided by anything; `scaled_wql` divides.

    Raises:
        BadQuantiles: a quantile is not finite, or some cross.
    """
    return np.asarray(2 * pinball(require_law(quantiles), y, levels).mean(axis=-1))


def scaled_wql(quantiles: Floats, y: Floats, levels: Floats = LEVELS) -> float:
    """Return `wql` summed over all forecasts and divided by the sum of |y|, as GluonTS and Chronos report it.

    Others divide each series first, or by the number of levels twice, so figures of other libraries need a look at
    their formula first. On returns |y| is small and the figure is near 1; on prices it is near 0 and says nothing.

    Raises:
        BadQuantiles: as in `wql`.
        BadInput: every outcome is 0, or one is not finite.
    """
    outcomes = np.asarray(y, dtype=np.float64)
    total = float(np.abs(outcomes).sum())
    if not np.isfinite(total):
        raise BadInput("outcomes must be finite; score matured origins only")
    if total == 0:
        raise BadInput("every outcome is 0, so a loss relative to their size is undefined; use wql")
    return float(wql(quantiles, outcomes, levels).sum()) / total


def interval_score(quantiles: Floats, y: Floats | float, coverage_percent: int) -> Floats:
    """Return the width of a central interval plus 2 / alpha times the distance by which y lies outside it.

    Args:
        quantiles: (..., 9) at LEVELS.
        y: outcomes broadcastable to quantiles.shape[:-1].
        coverage_percent: 50, 80, 90 or 95.

    Raises:
        BadQuantiles: a quantile is not finite, or some cross.

    Source: Gneiting and Raftery (2007), JASA 102(477), section 6.2.
    """
    low, high = interval(require_law(quantiles), coverage_percent)
    alpha = 1 - coverage_percent / 100
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return np.asarray(high - low + 2 / alpha * outside)


def interval(quantiles: Floats, coverage_percent: int) -> tuple[Floats, Floats]:
    """Return the lower and upper end of a central interval, each quantiles.shape[:-1].

    Raises:
        BadInput: coverage_percent is not 50, 80, 90 or 95.
    """
    if coverage_percent not in INTERVALS:
        raise BadInput(f"intervals exist for {', '.join(map(str, INTERVALS))} %, not for {coverage_percent} %")
    low, high = INTERVALS[coverage_percent]
    return quantiles[..., low], quantiles[..., high]


def coverage(forecasts: ForecastBatch, returns: Floats) -> dict[int, Floats]:
    """Return the share of returns inside each central interval, ends included: {50, 80, 90, 95} to (H,)."""
    y = require_paired(forecasts, returns)
    shares = {}
    for percent in INTERVALS:
        low, high = interval(forecasts.quantiles, percent)
        shares[percent] = np.asarray(((low <= y) & (y <= high)).mean(axis=0))
    return shares


def width(forecasts: ForecastBatch) -> dict[int, Floats]:
    """Return the mean width of each central interval in log return: {50, 80, 90, 95} to (H,)."""
    widths = {}
    for percent in INTERVALS:
        low, high = interval(forecasts.quantiles, percent)
        widths[percent] = np.asarray((high - low).mean(axis=0))
    return widths
