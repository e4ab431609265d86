"""Pairs whose law is known, as hourly candles: the truth that a verdict can be held against."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe, expected_opens

Floats = NDArray[np.float64]

SIZE = 1e-3  # standard deviation of one bar's log return, in the long run
_STEPS = 8  # price steps inside a bar
_BURN_IN = 500
_HOURS = expected_opens(np.datetime64("2010-01-03T22", "us"), np.datetime64("2019-12-31T20", "us"), Timeframe.H1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Returns that cannot be told up from down: GARCH(1, 1) with symmetric shocks; with alpha = beta = 0 independent.

    Attributes:
        nu: degrees of freedom of the shocks, infinite for Gaussian ones.
    """

    alpha: float = 0.0
    beta: float = 0.0
    nu: float = np.inf

    def draw(self, rng: np.random.Generator, bars: int) -> tuple[Floats, Floats]:
        """Return (bars,) log returns and the standard deviation that each was drawn with."""
        shocks = self._shocks(rng, (1, bars + _BURN_IN))
        returns, deviations = _garch(shocks, np.array([SIZE]), self._omega, self.alpha, self.beta)
        return returns[0, _BURN_IN:], deviations[0, _BURN_IN:]

    def futures(
        self, rng: np.random.Generator, deviations: Floats, horizons_bars: tuple[int, ...], draws: int
    ) -> Floats:
        """Return (n, draws, H) cumulative returns that could have followed n origins.

        Args:
            deviations: (n,) of the bar after each origin; it is known at the origin's close.
            draws: an even number; each path stands beside its mirror image.
        """
        half = draws // 2
        shocks = self._shocks(rng, (deviations.size * half, horizons_bars[-1]))
        steps, _ = _garch(shocks, np.repeat(deviations, half), self._omega, self.alpha, self.beta)
        paths = np.cumsum(steps, axis=1)[:, np.array(horizons_bars) - 1].reshape(deviations.size, half, -1)
        return np.concatenate([paths, -paths], axis=1)

    @property
    def _omega(self) -> float:
        return SIZE**2 * (1 - self.alpha - self.beta)

    def _shocks(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        if np.isinf(self.nu):
            return rng.standard_normal(shape)
        return np.asarray(rng.standard_t(self.nu, shape) * np.sqrt((self.nu - 2) / self.nu))


NOISE: Mapping[str, Law] = {
    "Gaussian walk": Law(),
    "GARCH-t walk": Law(alpha=0.08, beta=0.90, nu=5.0),
    "white noise": Law(nu=4.0),  # fat tails, one size
}


@njit(cache=True)
def _garch(shocks: Floats, first: Floats, omega: float, alpha: float, beta: float) -> tuple[Floats, Floats]:
    returns, deviations = np.empty_like(shocks), np.empty_like(shocks)
    for path in range(shocks.shape[0]):
        variance = first[path] ** 2
        for bar in range(shocks.shape[1]):
            deviations[path, bar] = np.sqrt(variance)
            returns[path, bar] = deviations[path, bar] * shocks[path, bar]
            variance = omega + alpha * returns[path, bar] ** 2 + beta * variance
    return returns, deviations


def candles(returns: Floats, rng: np.random.Generator) -> pl.DataFrame:
    """Return hourly candles with those returns close to close, and a path inside each.

    A path is as rough as its own bar's move, so highs and lows look real and tell nothing that closes do not.
    """
    n = returns.size
    noise = rng.normal(size=(n, _STEPS)) * np.abs(returns)[:, None] / np.sqrt(_STEPS)
    inside = np.cumsum(noise - noise.mean(axis=1, keepdims=True) + returns[:, None] / _STEPS, axis=1)
    close = np.cumsum(returns)
    start = np.concatenate([[0.0], close[:-1]])
    high = np.maximum(start + np.maximum(inside.max(axis=1), 0), close)
    low = np.minimum(start + np.minimum(inside.min(axis=1), 0), close)
    prices = {"open": start, "high": high, "low": low, "close": close}
    stamps = pl.Series(_HOURS[:n]).dt.replace_time_zone("UTC")
    table = pl.DataFrame({"ts_utc": stamps, **{name: 1.3 * np.exp(values) for name, values in prices.items()}})
    return table.with_columns(volume=pl.lit(None, dtype=pl.Float64))
