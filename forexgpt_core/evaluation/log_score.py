"""The log score of the nine-quantile law: minus the log of the density it gave to what happened."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from forexgpt_core.domain.forecasts import LEVELS, SCORES
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.pairing import require_law
from forexgpt_core.evaluation.scores import normal_score

Floats = NDArray[np.float64]

_LOG_ROOT_TWO_PI = 0.5 * np.log(2 * np.pi)


def log_score(quantiles: Floats, y: Floats | float, *, resolution: float | None = None) -> Floats:
    """Return minus the log density of the law at y, in nats; smaller is better.

    The law is piecewise normal, so its density jumps at the nine quantiles; a quantile itself belongs to the piece
    above it. A law with an atom (equal neighbouring quantiles) has no density there: y on the atom scores -inf, y
    beyond a tail without spread scores inf, and every other y is scored as usual. A mean of -inf is therefore no
    praise but a sign to pass `resolution`, the step at which outcomes are told apart (one point of the price as a log
    return, say): the score is then minus the log of P(y - r / 2 < Y <= y + r / 2) / r, finite at an atom, and within
    O(r^2) of the density elsewhere.

    Args:
        quantiles: (..., 9) at LEVELS, non-decreasing.
        y: outcomes broadcastable to quantiles.shape[:-1]; NaN gives NaN.
        resolution: in the unit of y, above 0 and far above its rounding; None scores the density.

    Returns:
        (...,). Another unit of y shifts every score by the same log, so only differences compare.

    Raises:
        BadQuantiles: a quantile is not finite, or some cross.
        BadInput: resolution is not above 0.

    Source: Good (1952), JRSS B 14(1); Gneiting and Raftery (2007), JASA 102(477), section 4.1.
    """
    law = require_law(quantiles)
    outcomes = np.broadcast_to(np.asarray(y, dtype=np.float64), law.shape[:-1])
    if resolution is None:
        return _density_score(law, outcomes)
    if not resolution > 0:
        raise BadInput(f"resolution must be above 0, was {resolution}")
    low, high = (normal_score(law, outcomes + side * resolution / 2) for side in (-1, 1))
    score = np.log(resolution) - _log_between(low, high)
    return np.asarray(np.where(np.isnan(outcomes), np.nan, score))


def _density_score(law: Floats, y: Floats) -> Floats:
    z = normal_score(law, y)
    right = np.clip((law <= y[..., None]).sum(axis=-1), 1, LEVELS.size - 1)
    steps = np.diff(law, axis=-1) / np.diff(SCORES)  # the standard deviation of each piece
    spread = np.take_along_axis(steps, right[..., None] - 1, axis=-1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        score = z**2 / 2 + _LOG_ROOT_TWO_PI + np.log(spread)
    score = np.where(spread > 0, score, np.inf)
    on_atom = (law == y[..., None]).sum(axis=-1) > 1
    return np.asarray(np.where(np.isnan(y), np.nan, np.where(on_atom, -np.inf, score)))


def _log_between(low: Floats, high: Floats) -> Floats:
    """Return log(Phi(high) - Phi(low)), in the tail where the difference keeps its digits."""
    upper_half = low > 0
    a, b = np.where(upper_half, -high, low), np.where(upper_half, -low, high)
    log_a, log_b = log_ndtr(a), log_ndtr(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(np.isneginf(log_b), -np.inf, log_b + np.log1p(-np.exp(log_a - log_b))))
