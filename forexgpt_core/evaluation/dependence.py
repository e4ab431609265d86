"""How much a mean of dependent rows varies: overlapping labels and slow regimes leave fewer observations than rows."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def long_run_variance(x: Floats, bandwidth_rows: int) -> float:
    """Return the Bartlett (Newey-West) long-run variance of a series about its mean.

    Equal to gamma_0 + 2 sum_k (1 - k / (L + 1)) gamma_k with divisor n, computed as the mean square of all sums of
    L + 1 neighbours, so it costs O(n) at any bandwidth L and is never negative.

    Args:
        x: (n,) rows in time order.
        bandwidth_rows: L, the last lag that enters, 0 or more.

    Source: Newey and West (1987), Econometrica 55(3).
    """
    return centred_long_run_variance(x - x.mean(), bandwidth_rows)


def centred_long_run_variance(deviations: Floats, bandwidth_rows: int) -> float:
    """Return the same for deviations that are already centred; rows that do not count hold 0."""
    n = deviations.size
    window = min(bandwidth_rows, n - 1) + 1
    running = np.concatenate([[0.0], np.cumsum(deviations)])
    ends = np.arange(1, n + window)
    sums = running[np.minimum(ends, n)] - running[np.maximum(ends - window, 0)]
    return float(np.dot(sums, sums) / (n * window))


def ar1_coefficient(x: Floats) -> float:
    """Return the lag-one autocorrelation, corrected for its downward bias and kept in [0, 0.999].

    Source: Kendall (1954), Biometrika 41; the bias is -(1 + 3 rho) / n to first order.
    """
    d = x - x.mean()
    power = float(np.dot(d[:-1], d[:-1]))
    if power <= 0:
        return 0.0
    raw = float(np.dot(d[1:], d[:-1])) / power
    return min(max((x.size * raw + 1) / (x.size - 3), 0.0), 0.999)


def variance_of_window_mean(reference: Floats, rows: int, *, least_coefficient: float = 0.0) -> float:
    """Return the variance of the mean of `rows` consecutive rows of a stationary series like `reference`.

    The persistent part is an AR(1) fitted to the reference; what that leaves is measured on its residuals
    (prewhitening), because sample autocorrelations alone miss most of the persistence of a short slow series. The
    exact finite sum is used, so a window shorter than the correlation time is not given more than one observation's
    variance.

    Args:
        reference: (n,) rows in time order, at least 4.
        rows: length of the window.
        least_coefficient: the result is not below that of an AR(1) with this lag-one autocorrelation.

    Source: Andrews and Monahan (1992), Econometrica 60(4).
    """
    d = reference - reference.mean()
    marginal = float(d.var())
    rho = ar1_coefficient(reference)
    residual = d[1:] - rho * d[:-1]
    spread = float(residual.var())
    if marginal <= 0 or spread <= 0:
        return marginal
    colour = long_run_variance(residual, math.ceil(d.size ** (1 / 3))) / spread  # 1 for an exact AR(1)
    fitted = spread / (1 - rho**2) * max(colour, 1.0) * _inflation(rho, rows)
    return max(fitted, marginal * _inflation(least_coefficient, rows)) / rows


def _inflation(rho: float, rows: int) -> float:
    lags = np.arange(1, rows)
    return 1 + 2 * float(((1 - lags / rows) * rho**lags).sum())
