"""Does a forecast cover what it promises? The band of the coverage seen, and the verdict on all intervals at once."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from forexgpt_core.domain.forecasts import INTERVALS, Floats, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.pairing import UnpairedReturns, origin_slots, overlapping_rows
from forexgpt_core.evaluation.scores import interval


def coverage_band(share: float, independent: int, *, level: float = 0.99) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a true coverage, at the number of independent observations.

    >>> low, high = coverage_band(0.9, 100, level=0.95)
    >>> round(low, 4), round(high, 4)
    (0.8238, 0.951)

    Args:
        share: covered, in [0, 1]; share * independent need not be whole, as the share is that of all rows.
        independent: rows whose targets do not overlap, 1 or more.
        level: confidence, in (0, 1).

    Source: Clopper and Pearson (1934), Biometrika 26(4).
    """
    if not 0 < level < 1:
        raise BadInput(f"level must lie in (0, 1), was {level}")
    if not 0 <= share <= 1 or independent < 1:
        raise BadInput(f"a share in [0, 1] of 1 or more observations is needed, was {share} of {independent}")
    tail, hits = (1 - level) / 2, share * independent
    low = float(betaincinv(hits, independent - hits + 1, tail)) if share > 0 else 0.0
    high = float(betaincinv(hits + 1, independent - hits, 1 - tail)) if share < 1 else 1.0
    return low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Coverage and sharpness of one interval at one horizon.

    Attributes:
        n: matured forecasts. n_independent: as many of them as do not overlap.
        coverage: share of outcomes inside; low, high: the band of the true one; nominal: share promised.
        width: mean width, log return. width_in_scales: the same in the reference walk's standard deviations, so that
            calm and wild times compare.
        holds: the share promised lies inside the band; one that is too low fails as well, its intervals are too wide.
        can_fail: there are enough outcomes for intervals that are far too wide or too narrow to fail.
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

    Each of the H x 4 bands takes its share of what `level` leaves (Bonferroni), so a right forecaster is called wrong
    anywhere with at most that chance: measured over horizons of 1, 4 and 24 bars and 1,500 origins in 0.2 % of runs.
    Were each a band of 99 %, it would be 3.4 %, and up to one false alarm in five evaluations of six families. Misses
    that cluster at other times (a volatility the scale does not follow) make the band narrower than chance is; see the
    coverage by volatility decile beside it.

    Args:
        forecasts: origins in time order.
        returns: (n, H) realised log returns, NaN where not matured (left out).
        level: confidence of all bands together, in (0, 1).

    Raises:
        UnpairedReturns: shapes differ, or nothing has matured at some horizon.
        UnsortedOrigins: origins repeat or go back in time.
    """
    if returns.shape != forecasts.scale.shape:
        raise UnpairedReturns(f"returns have shape {returns.shape}, the forecasts {forecasts.scale.shape}")
    slots = origin_slots(forecasts)
    each = 1 - (1 - level) / (len(forecasts.horizons_bars) * len(INTERVALS))
    verdicts = []
    for column, horizon in enumerate(forecasts.horizons_bars):
        known = np.isfinite(returns[:, column])
        if not known.any():
            raise UnpairedReturns(f"no forecast over {horizon} bars has matured, so there is no coverage to judge")
        n = int(known.sum())
        independent = math.ceil(n / overlapping_rows(slots[known], horizon))
        quantiles, outcome = forecasts.quantiles[known, column], returns[known, column]
        for percent in INTERVALS:
            low, high = interval(quantiles, percent)
            verdicts.append(
                _verdict(
                    horizon_bars=horizon,
                    nominal=percent / 100,
                    n=n,
                    n_independent=independent,
                    coverage=float(((low <= outcome) & (outcome <= high)).mean()),
                    widths=(high - low, forecasts.scale[known, column]),
                    level=each,
                )
            )
    return tuple(verdicts)


def _verdict(
    *,
    horizon_bars: int,
    nominal: float,
    n: int,
    n_independent: int,
    coverage: float,
    widths: tuple[Floats, Floats],
    level: float,
) -> Coverage:
    low, high = coverage_band(coverage, n_independent, level=level)
    none, every = (coverage_band(share, n_independent, level=level) for share in (0.0, 1.0))
    width, scale = widths
    return Coverage(
        horizon_bars=horizon_bars,
        nominal=nominal,
        n=n,
        n_independent=n_independent,
        coverage=coverage,
        low=low,
        high=high,
        width=float(width.mean()),
        width_in_scales=float((width / scale).mean()),
        holds=low <= nominal <= high,
        can_fail=none[1] < nominal < every[0],
    )
