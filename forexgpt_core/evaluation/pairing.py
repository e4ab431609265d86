"""What every score asks of its rows: paired outcomes, finite samples, ordered quantiles, origins in time order."""

import math

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe, slot
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class UnpairedReturns(BadInput):
    """Returns do not stand row for row beside the forecasts, or are not all known."""


class UnsortedOrigins(BadInput):
    """Origins are not strictly increasing, so tests that allow for dependence in time would be wrong."""


class BadSamples(BadInput):
    """Samples are too few, not finite, or do not stand beside the outcomes."""


class BadQuantiles(BadInput):
    """Quantiles are not finite or cross, so they describe no law."""


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


def require_law(quantiles: Floats) -> Floats:
    """Return quantiles as float64.

    Raises:
        BadQuantiles: one is not finite, or a higher level has a lower quantile.
    """
    values = np.asarray(quantiles, dtype=np.float64)
    if not np.isfinite(values).all():
        raise BadQuantiles(f"{int((~np.isfinite(values)).sum())} of {values.size} quantiles are not finite")
    if (values[..., 1:] < values[..., :-1]).any():
        crossing = int((values[..., 1:] < values[..., :-1]).any(axis=-1).sum())
        raise BadQuantiles(f"quantiles of {crossing} forecasts cross; sort them by level before scoring")
    return values


def require_samples(samples: Floats, y: Floats | float, *, least: int) -> tuple[Floats, Floats]:
    """Return (..., m) samples and (...) outcomes as float64.

    Raises:
        BadSamples: fewer than `least` samples, one is not finite, or outcomes have another shape.
    """
    x, outcomes = np.asarray(samples, dtype=np.float64), np.asarray(y, dtype=np.float64)
    members = x.shape[-1] if x.ndim else 0
    if members < least:
        raise BadSamples(f"{members} samples are too few, at least {least} are needed")
    if outcomes.shape != x.shape[:-1]:
        raise BadSamples(f"outcomes have shape {outcomes.shape}, samples of shape {x.shape} need {x.shape[:-1]}")
    if not np.isfinite(x).all():
        raise BadSamples(f"{int((~np.isfinite(x)).sum())} of {x.size} samples are not finite")
    return x, outcomes


def require_time_order(forecasts: ForecastBatch) -> None:
    """Refuse origins that repeat or go back in time.

    Raises:
        UnsortedOrigins: naming the first such row.
    """
    steps = np.diff(forecasts.origin_utc.astype("datetime64[us]").astype(np.int64))
    if (steps <= 0).any():
        first = int(np.flatnonzero(steps <= 0)[0]) + 1
        raise UnsortedOrigins(
            f"origins of {forecasts.family} must be strictly increasing; row {first} ({forecasts.origin_utc[first]})"
            " is not later than the one before it"
        )


def origin_slots(forecasts: ForecastBatch) -> Ints:
    """Return the running bar number of every origin, (n,) increasing.

    Raises:
        UnsortedOrigins: origins repeat or go back in time.
    """
    require_time_order(forecasts)
    return slot(forecasts.origin_utc, Timeframe.parse(forecasts.timeframe))


def overlapping_rows(slots: Ints, horizon_bars: int) -> int:
    """Return how many consecutive rows can share part of a target: h for one origin per bar, 1 when none do.

    Args:
        slots: (n,) running bar numbers of origins, strictly increasing.
        horizon_bars: h, 1 or more.
    """
    stride = max(1, int(np.diff(slots).min())) if slots.size > 1 else 1
    return math.ceil(horizon_bars / stride)


def independent_rows(slots: Ints, horizon_bars: int) -> Ints:
    """Return the rows whose targets do not overlap, as many as there can be: the first one, then each next free one.

    A target of h bars after bar s covers s + 1 to s + h, so the next one may start at s + h.

    Args:
        slots: (n,) running bar numbers of origins, increasing; gaps are allowed.
        horizon_bars: h, 1 or more.

    Returns:
        Row numbers, increasing.
    """
    from forexgpt_core.evaluation.kernels import spaced_rows

    if horizon_bars < 1:
        raise BadInput(f"horizon_bars must be 1 or more, was {horizon_bars}")
    return spaced_rows(np.ascontiguousarray(slots, dtype=np.int64), horizon_bars)
