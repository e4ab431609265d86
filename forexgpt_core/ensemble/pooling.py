"""Several forecasts made one: quantiles averaged, their medians, or a vote on the direction."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from forexgpt_core.domain.forecasts import INTERVALS, MEDIAN, Floats, ForecastBatch
from forexgpt_core.errors import BadInput

FAMILY = "ensemble"
MODES = ("weighted", "mean", "median", "voting")
_LOW, _HIGH = INTERVALS[90]
_MOST_RELATIVE = 10.0  # a spread beyond ten times the usual, or below a tenth, counts as that
_NO_VOTE = 1e-9  # a median this small against the 50 % interval is rounding, not an opinion


def combine(
    batches: Sequence[ForecastBatch], weights: Floats, *, mode: str = "weighted", uncertainty_exponent: float = 0.0
) -> ForecastBatch:
    """Return one law from the members' laws; it never crosses.

    - "weighted": quantiles averaged with the weights, level by level.
    - "mean": the same with equal weights, whatever `weights` say.
    - "median": at each level the median of the members' quantiles, and of their scales.
    - "voting": every member has one vote, up or down by the sign of its median, none where that is 0. The law is the
      "weighted" one, moved as a whole so that its median keeps its size and takes the sign of the majority, or 0 at a
      tie. A vote is about direction alone: width and skew stay, and where the weighted median is 0 a vote cannot say
      how far, so it stays 0.

    Args:
        batches: k forecasts of the same origins and horizons.
        weights: (k, H) or (k, n, H), at least 0, summing to 1 over members.
        mode: one of MODES.
        uncertainty_exponent: see `scaled_by_spread`; for "weighted" and "voting".

    Raises:
        BadInput: the members do not line up, the weights are not weights, or there is no such mode.
    """
    if mode not in MODES:
        raise BadInput(f"mode must be one of {', '.join(MODES)}, was '{mode}'")
    if mode == "mean":
        return pool(batches, np.full(np.shape(weights), 1 / max(len(batches), 1)))
    pooled = pool(batches, scaled_by_spread(batches, weights, uncertainty_exponent))
    if mode == "weighted":
        return pooled
    quantiles = np.stack([batch.quantiles for batch in batches])
    if mode == "median":
        scale = np.median(np.stack([batch.scale for batch in batches]), axis=0)
        return replace(pooled, quantiles=np.median(quantiles, axis=0), scale=scale)
    median = pooled.quantiles[..., MEDIAN]
    shift = _majority(quantiles) * np.abs(median) - median
    return replace(pooled, quantiles=np.maximum.accumulate(pooled.quantiles + shift[..., None], axis=-1))


def pool(batches: Sequence[ForecastBatch], weights: Floats) -> ForecastBatch:
    """Return the weighted average of the members' quantiles (Vincentization), level by level.

    Quantiles are averaged rather than probabilities. The spread of a mixture of calibrated members grows by how far
    they disagree, so it is too wide; the spread of averaged quantiles is the members' average spread. That is still
    too wide by as much as errors of different members cancel: recalibrate what comes out.

    Args:
        batches: k forecasts of the same origins and horizons.
        weights: (k, H), or (k, n, H) where they change with the origin; at least 0, summing to 1 over members.

    Raises:
        BadInput: the members do not line up, or the weights are not weights.

    Source: Lichtendahl, Grushka-Cockayne and Winkler (2013), Management Science 59(7).
    """
    require_aligned(batches)
    first = batches[0]
    shares = require_shares(weights, (len(batches), *first.scale.shape))
    quantiles = np.einsum("knh,knhq->nhq", shares, np.stack([batch.quantiles for batch in batches]))
    return ForecastBatch(
        symbol=first.symbol,
        timeframe=first.timeframe,
        family=FAMILY,
        origin_utc=first.origin_utc,
        horizons_bars=first.horizons_bars,
        # equal neighbours may come out of the sum an ulp apart, in the wrong order
        quantiles=np.maximum.accumulate(quantiles, axis=-1),
        scale=np.einsum("knh,knh->nh", shares, np.stack([batch.scale for batch in batches])),
    )


def scaled_by_spread(batches: Sequence[ForecastBatch], weights: Floats, exponent: float) -> Floats:
    """Return weights that trust a member less where it is less sure of itself than the others are.

    A member's relative spread is the width of its 90 % interval over the members' median width, at that origin and
    horizon, held within [1/10, 10]. Weights are divided by it to the power `exponent` and made to sum to 1 again.

    Args:
        weights: (k, H) or (k, n, H).
        exponent: 0 returns the weights as they are, 1 weighs by inverse relative spread.

    Returns:
        (k, n, H), or the weights' own shape where exponent is 0.

    Raises:
        BadInput: the members do not line up, or the weights are not weights.
    """
    require_aligned(batches)
    shares = require_shares(weights, (len(batches), *batches[0].scale.shape))
    if exponent == 0:
        return weights
    width = np.stack([batch.quantiles[..., _HIGH] - batch.quantiles[..., _LOW] for batch in batches])
    usual = np.median(width, axis=0)
    relative = np.divide(width, usual, out=np.ones_like(width), where=usual > 0)
    scaled = shares * np.clip(relative, 1 / _MOST_RELATIVE, _MOST_RELATIVE) ** -exponent
    return np.asarray(scaled / scaled.sum(axis=0))


def _majority(quantiles: Floats) -> Floats:
    """Return the sign that most members' medians have, 0 at a tie; shape (n, H)."""
    low, high = INTERVALS[50]
    median = quantiles[..., MEDIAN]
    called = np.abs(median) > _NO_VOTE * (quantiles[..., high] - quantiles[..., low])
    return np.asarray(np.sign(np.where(called, np.sign(median), 0.0).sum(axis=0)))


def require_aligned(batches: Sequence[ForecastBatch]) -> None:
    """Refuse members of different pairs, timeframes, horizons or origins.

    Raises:
        BadInput: naming the two members, or there is none.
    """
    if not batches:
        raise BadInput("a pool needs at least one member")
    first = batches[0]
    for other in batches[1:]:
        for name in ("symbol", "timeframe", "horizons_bars"):
            if getattr(first, name) != getattr(other, name):
                raise BadInput(
                    f"{other.family} forecasts {name} {getattr(other, name)}, but {first.family} {getattr(first, name)}"
                )
        if not np.array_equal(first.origin_utc, other.origin_utc):
            raise BadInput(f"{first.family} and {other.family} forecast from different origins")


def require_shares(weights: Floats, shape: tuple[int, int, int]) -> Floats:
    """Return weights as (k, n, H).

    Raises:
        BadInput: they have another shape, are negative, or do not sum to 1 over members.
    """
    values = np.asarray(weights, dtype=np.float64)
    members, _, horizons = shape
    if values.shape not in ((members, horizons), shape):
        raise BadInput(f"weights have shape {values.shape}, expected {(members, horizons)} or {shape}")
    if not (values >= 0).all() or not np.allclose(values.sum(axis=0), 1.0, rtol=0, atol=1e-9):
        raise BadInput("pool weights must be 0 or more and sum to 1 over the members")
    return np.broadcast_to(values if values.ndim == 3 else values[:, None, :], shape)
