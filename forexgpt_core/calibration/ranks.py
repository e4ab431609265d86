"""Scores of past intervals and their exact ranks: what every conformal method here stands on."""

import math

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import INTERVALS, MEDIAN, Floats, ForecastBatch
from forexgpt_core.errors import BadInput, ForexGPTError

MISCOVERAGES: Floats = np.array([1 - coverage / 100 for coverage in INTERVALS])
LOW_LEVELS = [low for low, _ in INTERVALS.values()]
HIGH_LEVELS = [high for _, high in INTERVALS.values()]


class TooFewScores(ForexGPTError, ValueError):
    """A coverage guarantee was asked of a calibration set too small to give it."""

    def __init__(self, have: int, need: int, miscoverage: float) -> None:
        super().__init__(have, need, miscoverage)  # kept in .args, so it survives pickling
        self.have, self.need, self.miscoverage = have, need, miscoverage

    def __str__(self) -> str:
        return f"miscoverage {self.miscoverage:g} needs {self.need} calibration scores, found {self.have}"


def exact_rank(n: int, miscoverage: float) -> int:
    """Return ceil((n + 1)(1 - miscoverage)), the rank of the score that is the radius; above n there is none."""
    # 1 - 0.9 is a little less than 0.1: without the allowance, 9 scores would not do for an exact ninth of ten
    return max(math.ceil((n + 1) * (1 - miscoverage) - 1e-9), 1)


def radius_or_infinity(scores: NDArray[np.float64], miscoverage: float) -> float:
    """Return the margin that covers the next outcome with probability >= 1 - miscoverage, infinite if need be.

    Args:
        scores: (n,) by how much past outcomes lay outside (negative: inside), exchangeable with the next.
        miscoverage: share of outcomes allowed outside the interval, in (0, 1).

    Returns:
        The ceil((n + 1)(1 - miscoverage))-th smallest score, in the scores' unit; infinity where that rank exceeds n.

    Raises:
        BadInput: miscoverage lies outside (0, 1), or a score is NaN.

    Source: Lei et al. (2018), JASA 113(523), split conformal prediction.
    """
    if not 0 < miscoverage < 1:
        raise BadInput(f"miscoverage must lie in (0, 1), was {miscoverage}")
    if np.isnan(scores).any():
        raise BadInput(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN; leave them out")
    rank = exact_rank(scores.size, miscoverage)
    return math.inf if rank > scores.size else float(np.partition(scores, rank - 1)[rank - 1])


def conformal_radius(scores: NDArray[np.float64], miscoverage: float) -> float:
    """Return the same margin as `radius_or_infinity`, for those who cannot use an infinite one.

    Raises:
        TooFewScores: the rank exceeds n, so only an infinite interval would be honest.
        BadInput: miscoverage lies outside (0, 1), or a score is NaN.
    """
    radius = radius_or_infinity(scores, miscoverage)
    if math.isinf(radius) and exact_rank(scores.size, miscoverage) > scores.size:
        need = math.ceil(round(1 / miscoverage, 9)) - 1
        raise TooFewScores(have=scores.size, need=need, miscoverage=miscoverage)
    return radius


def conformal_interval(low: float, high: float, scores: NDArray[np.float64], miscoverage: float) -> tuple[float, float]:
    """Return the interval widened (or narrowed) by its radius: (-inf, inf) where there are too few scores.

    Args:
        low, high: the interval as the model gave it.
        scores: (n,) by how much past outcomes lay outside theirs, in the same unit.

    >>> conformal_interval(-1.0, 1.0, np.arange(9.0), 0.1)
    (-9.0, 9.0)
    >>> conformal_interval(-1.0, 1.0, np.arange(8.0), 0.1)
    (-inf, inf)
    """
    radius = radius_or_infinity(scores, miscoverage)
    return low - radius, high + radius


def outside(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return by how much each outcome lies outside each interval, log return; negative inside; shape (n, H, 4).

    Raises:
        BadInput: returns do not have the forecasts' shape (n, H), or hold an infinite value.

    Source: Romano, Patterson and Candes (2019), conformalised quantile regression.
    """
    if returns.shape != forecasts.scale.shape:
        raise BadInput(f"returns have shape {returns.shape}, the forecasts {forecasts.scale.shape}")
    if np.isinf(returns).any():
        raise BadInput("returns hold infinite values; expected log returns, NaN where not matured")
    low, high = forecasts.quantiles[..., LOW_LEVELS], forecasts.quantiles[..., HIGH_LEVELS]
    outcome = returns[..., None]
    return np.asarray(np.maximum(low - outcome, outcome - high))


def require_scales(forecasts: ForecastBatch) -> None:
    """Refuse forecasts that scores cannot be divided by.

    Raises:
        BadInput: a scale is not a positive number, as of a series that never moved.
    """
    bad = int((~(np.isfinite(forecasts.scale) & (forecasts.scale > 0))).sum())
    if bad:
        raise BadInput(
            f"{bad} of {forecasts.scale.size} scales of {forecasts.symbol} are not above 0; normalised scores need"
            " volatility: check the candles for a constant price, or calibrate by the method 'plain'"
        )


def widened(quantiles: Floats, margins: Floats) -> Floats:
    """Return the quantiles with every interval moved outwards by its margin, in order and around the same median.

    Args:
        quantiles: (n, H, 9) at LEVELS.
        margins: (n, H, 4) per interval of INTERVALS, finite, log return; below 0 narrows.
    """
    moved = quantiles.copy()
    inner_low = inner_high = quantiles[..., MEDIAN]
    for k, (low, high) in enumerate(INTERVALS.values()):  # from the inside out, each holding the one before
        inner_low = np.minimum(quantiles[..., low] - margins[..., k], inner_low)
        inner_high = np.maximum(quantiles[..., high] + margins[..., k], inner_high)
        moved[..., low], moved[..., high] = inner_low, inner_high
    return moved
