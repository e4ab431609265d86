"""Student's t by maximum likelihood: how heavy the tails of standardised returns are."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, stdtrit

from forexgpt_core.domain.forecasts import LEVELS, Floats

NU_RANGE = (2.5, 100.0)
_SCALE_STEPS = 30
_LOG_NU_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentT:
    """A centred Student law: `scale` times t with `nu` degrees of freedom."""

    nu: float
    scale: float

    def quantiles(self, levels: Floats = LEVELS) -> Floats:
        """Return the law's quantiles, exactly symmetric and exactly 0 at one half; shape of `levels`."""
        tail = np.asarray(stdtrit(self.nu, np.round(np.minimum(levels, 1 - levels), 12)), dtype=np.float64)
        return self.scale * np.where(levels < 0.5, tail, np.where(levels > 0.5, -tail, 0.0))

    def mean_loss(self, x: Floats) -> float:
        """Return the mean negative log likelihood of `x`."""
        nu = self.nu
        constant = gammaln(nu / 2) - gammaln((nu + 1) / 2) + 0.5 * np.log(nu * np.pi) + np.log(self.scale)
        return float(constant + (nu + 1) / 2 * np.log1p((x / self.scale) ** 2 / nu).mean())

    @classmethod
    def fit(cls, x: Floats) -> "StudentT":
        """Return the likeliest law with nu in NU_RANGE.

        Args:
            x: (n,) finite, n >= 1, not all 0.
        """
        from scipy.optimize import minimize_scalar

        squares = x * x
        low, high = np.log(NU_RANGE)
        best = minimize_scalar(
            lambda log_nu: _at(float(np.exp(log_nu)), squares).mean_loss(x),
            bounds=(low, high),
            method="bounded",
            options={"xatol": _LOG_NU_TOLERANCE},
        )
        return _at(float(np.exp(best.x)), squares)


def _at(nu: float, squares: Floats) -> StudentT:
    """Return the likeliest law of given nu: scale^2 = mean of (nu + 1) x^2 / (nu + x^2 / scale^2), iterated."""
    variance = float(squares.mean())
    for _ in range(_SCALE_STEPS):
        updated = float(((nu + 1) * squares / (nu + squares / variance)).mean())
        if abs(updated - variance) <= 1e-9 * variance:
            break
        variance = updated
    return StudentT(nu=nu, scale=float(np.sqrt(variance)))
