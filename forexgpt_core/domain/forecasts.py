"""A forecast: the law of cumulative log returns per horizon, as nine quantiles and optional joint paths.

The law between and beyond the nine levels is the linear interpolation of the quantiles in normal-score space with
linear tails: exact for a normal law, and one definition for every family.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]

LEVELS: Floats = np.array([0.025, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.975])
SCORES: Floats = ndtri(LEVELS)  # the levels as normal scores
INTERVALS: dict[int, tuple[int, int]] = {50: (3, 5), 80: (2, 6), 90: (1, 7), 95: (0, 8)}  # coverage % → level indices
MEDIAN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBatch:
    """Forecasts of one family for n origins and H horizons.

    Attributes:
        origin_utc: (n,) datetime64[us], OPEN of the origin bar; the forecast is known at that bar's close.
        horizons_bars: H horizons, increasing.
        quantiles: (n, H, 9) cumulative log returns at LEVELS, non-decreasing along the last axis.
        scale: (n, H) one standard deviation of the return under the reference walk's volatility, log return.
        paths: (n, n_paths, H) joint samples, or None.
        class_probabilities: (n, H, classes), or None.
        calibrator: what calibrated the quantiles last, such as "split normalised" or "adaptive v12"; "" for nothing.
    """

    symbol: str
    timeframe: str
    family: str
    origin_utc: Times
    horizons_bars: tuple[int, ...]
    quantiles: Floats
    scale: Floats
    paths: Floats | None = None
    class_probabilities: Floats | None = field(default=None)
    calibrator: str = ""

    def __post_init__(self) -> None:
        n, h = len(self.origin_utc), len(self.horizons_bars)
        if self.quantiles.shape != (n, h, LEVELS.size):
            raise BadInput(f"quantiles have shape {self.quantiles.shape}, expected {(n, h, LEVELS.size)}")
        if self.scale.shape != (n, h):
            raise BadInput(f"scale has shape {self.scale.shape}, expected {(n, h)}")
        if not np.isfinite(self.quantiles).all():
            raise BadInput(f"{self.family} forecast for {self.symbol} holds values that are not finite")
        if n and (np.diff(self.quantiles, axis=-1) < 0).any():
            raise BadInput(f"{self.family} forecast for {self.symbol} has crossing quantiles")

    def __len__(self) -> int:
        return len(self.origin_utc)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "ForecastBatch":
        """Return the forecasts of some origins, by index or mask."""
        return replace(
            self,
            origin_utc=self.origin_utc[rows],
            quantiles=self.quantiles[rows],
            scale=self.scale[rows],
            paths=None if self.paths is None else self.paths[rows],
            class_probabilities=None if self.class_probabilities is None else self.class_probabilities[rows],
        )


def law_quantiles(quantiles: Floats, levels: Floats) -> Floats:
    """Return the law's quantiles at other levels.

    Args:
        quantiles: (..., 9) at LEVELS, non-decreasing.
        levels: (m,) in (0, 1).

    Returns:
        (..., m).
    """
    z = ndtri(np.asarray(levels, dtype=np.float64))
    right = np.clip(np.searchsorted(SCORES, z), 1, LEVELS.size - 1)
    left = right - 1
    weight = (z - SCORES[left]) / (SCORES[right] - SCORES[left])  # below 0 or above 1 in the linear tails
    low, high = quantiles[..., left], quantiles[..., right]
    return np.asarray(low + weight * (high - low))


def law_cdf(quantiles: Floats, x: Floats | float) -> Floats:
    """Return P(return <= x) under the law.

    Args:
        quantiles: (..., 9) at LEVELS, non-decreasing.
        x: values broadcastable to quantiles.shape[:-1].

    Returns:
        (...,) probabilities. Where the law has an atom (equal neighbouring quantiles) the upper end is returned.
    """
    x_ = np.broadcast_to(np.asarray(x, dtype=np.float64), quantiles.shape[:-1])
    right = np.clip((quantiles <= x_[..., None]).sum(axis=-1), 1, LEVELS.size - 1)
    left = right - 1
    low = np.take_along_axis(quantiles, left[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(quantiles, right[..., None], axis=-1)[..., 0]
    gap = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        atom = np.where(x_ > high, np.inf, np.where(x_ >= low, 1.0, -np.inf))  # beyond it lies no probability
        weight = np.where(gap > 0, (x_ - low) / gap, atom)
    return np.asarray(ndtr(SCORES[left] + weight * (SCORES[right] - SCORES[left])))


_MID = (np.arange(200) + 0.5) / 200


def interval_width(quantiles: Floats) -> Floats:
    """Return the width of the central 90 % interval of each law, log return; (..., 9) gives (...)."""
    low, high = INTERVALS[90]
    return np.asarray(quantiles[..., high] - quantiles[..., low])


def law_mean_std(quantiles: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the law, from 200 equally likely points; shapes (...,)."""
    points = law_quantiles(quantiles, _MID)
    return np.asarray(points.mean(axis=-1)), np.asarray(points.std(axis=-1))
