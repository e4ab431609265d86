"""CRPS and log score of the normal and Student's t law, exactly: what every estimate is checked against."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, ndtr, stdtr

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]

_LOG_ROOT_TWO_PI = 0.5 * np.log(2 * np.pi)


def crps_normal(y: Floats | float, loc: Floats | float = 0.0, scale: Floats | float = 1.0) -> Floats:
    """Return the CRPS of N(loc, scale^2); arguments broadcast, NaN in y gives NaN.

    >>> float(crps_normal(0.0).round(4))
    0.2337

    Raises:
        BadInput: a parameter is not finite, or scale is not above 0.

    Source: Gneiting et al. (2005), MWR 133(5).
    """
    z, spread = _standardised(y, loc, scale)
    return np.asarray(spread * (z * (2 * ndtr(z) - 1) + 2 * np.exp(-(z**2) / 2 - _LOG_ROOT_TWO_PI) - np.pi**-0.5))


def log_score_normal(y: Floats | float, loc: Floats | float = 0.0, scale: Floats | float = 1.0) -> Floats:
    """Return minus the log density of N(loc, scale^2) at y, in nats.

    Raises:
        BadInput: as in `crps_normal`.
    """
    z, spread = _standardised(y, loc, scale)
    return np.asarray(z**2 / 2 + _LOG_ROOT_TWO_PI + np.log(spread))


def crps_student_t(
    y: Floats | float, nu: Floats | float, loc: Floats | float = 0.0, scale: Floats | float = 1.0
) -> Floats:
    """Return the CRPS of loc + scale t with nu degrees of freedom; arguments broadcast, NaN in y gives NaN.

    `scale` is not the standard deviation, which is scale sqrt(nu / (nu - 2)) and exists for nu > 2 alone.

    Raises:
        BadInput: a parameter is not finite, scale is not above 0, or nu is not above 1, where the CRPS is infinite.

    Source: Jordan, Krüger and Lerch (2019), JSS 90(12), appendix A.
    """
    z, spread = _standardised(y, loc, scale)
    freedom = _freedom(nu, above=1.0)
    density = np.exp(_log_density(z, freedom))
    pairs = 2 * np.sqrt(freedom) / (freedom - 1) * np.exp(betaln(0.5, freedom - 0.5) - 2 * betaln(0.5, freedom / 2))
    distance = z * (2 * stdtr(freedom, z) - 1) + 2 * density * (freedom + z**2) / (freedom - 1)
    return np.asarray(spread * (distance - pairs))


def log_score_student_t(
    y: Floats | float, nu: Floats | float, loc: Floats | float = 0.0, scale: Floats | float = 1.0
) -> Floats:
    """Return minus the log density of loc + scale t with nu degrees of freedom at y, in nats.

    Raises:
        BadInput: a parameter is not finite, or scale or nu is not above 0.
    """
    z, spread = _standardised(y, loc, scale)
    return np.asarray(np.log(spread) - _log_density(z, _freedom(nu, above=0.0)))


def _log_density(z: Floats, freedom: Floats) -> Floats:
    constant = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - 0.5 * np.log(freedom * np.pi)
    return np.asarray(constant - (freedom + 1) / 2 * np.log1p(z**2 / freedom))


def _standardised(y: Floats | float, loc: Floats | float, scale: Floats | float) -> tuple[Floats, Floats]:
    centre, spread = np.asarray(loc, dtype=np.float64), np.asarray(scale, dtype=np.float64)
    if not np.isfinite(centre).all():
        raise BadInput("loc must be finite")
    if not (np.isfinite(spread) & (spread > 0)).all():
        raise BadInput(f"scale must be finite and above 0, the smallest was {spread.min()}")
    return np.asarray((np.asarray(y, dtype=np.float64) - centre) / spread), spread


def _freedom(nu: Floats | float, *, above: float) -> Floats:
    freedom = np.asarray(nu, dtype=np.float64)
    if not (np.isfinite(freedom) & (freedom > above)).all():
        raise BadInput(f"nu must be finite and above {above:g}, the smallest was {freedom.min()}")
    return freedom
