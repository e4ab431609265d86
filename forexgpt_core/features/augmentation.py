"""Random variations of training windows, so that a sequence model learns shapes and not single values.

Only windows whose origins are training rows can be varied; labels are never touched. No variation reads a value from
beyond the origin, because each one moves values inside the window that was given.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput
from forexgpt_core.features.windows import Windows

Floats = NDArray[np.floating]


class NotTraining(BadInput):
    """Windows outside the training part were to be varied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How strongly windows are varied, each from 0 (not at all, bit for bit) to 1; what is on is applied in this order.

    In the literature jitter is often another word for noise. Here noise moves values, and jitter moves times.

    Attributes:
        time_warp: run through the window at a smoothly varying speed; the standard deviation of the log speed. The
            first and last observations stay, and all columns are bent alike.
        jitter: read each observation up to this share of a bar earlier, between it and the one before; never later.
            The first and last observations stay.
        magnitude_warp: multiply each column by a smooth random curve that ends at 1; the standard deviation of its log
            at the knots. The last observation stays.
        scaling: multiply each column of a window by one factor; the standard deviation of its log.
        noise: add normal noise; its size as a share of the column's own standard deviation in the window. The last
            observation stays, because labels are measured from it.
        knots: of the smooth curves, evenly spread over the window, joined by a cubic spline.

    Source: Um et al. (2017), arXiv:1706.00527, for the family of variations.
    """

    time_warp: float = 0.0
    jitter: float = 0.0
    magnitude_warp: float = 0.0
    scaling: float = 0.0
    noise: float = 0.0
    knots: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "knots" and not 0 <= value <= 1:
                raise BadInput(f"augmentation {field.name} must lie from 0 to 1, was {value!r}")
        if isinstance(self.knots, bool) or not isinstance(self.knots, int) or self.knots < 2:
            raise BadInput(f"augmentation knots must be a whole number of 2 or more, was {self.knots!r}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingAugmentation:
    """Variations bound to the training part of a run, refused for any other row.

    Attributes:
        train: the training windows; the only rows whose windows may be varied.
    """

    train: Windows
    settings: Augmentation

    def apply(self, x: Floats, *, origins: Windows, rng: np.random.Generator) -> Floats:
        """Return varied copies of windows.

        Args:
            x: (n, length, f), oldest observation first, all finite.
            origins: the n windows that `x` belongs to.
            rng: equal generators give equal variations.

        Returns:
            (n, length, f) in the type of `x`.

        Raises:
            NotTraining: an origin is not a training row.
            BadInput: the shape does not fit the origins, or a value is not finite.
        """
        self._require_training(origins)
        if x.ndim != 3 or x.shape[0] != len(origins) or x.shape[1] < 2:
            raise BadInput(
                f"augmentation takes (n, length, f) with one window per origin, was given {x.shape} for {len(origins)}"
            )
        if not np.isfinite(x).all():
            raise BadInput("augmentation cannot vary windows that hold values that are not finite")
        s = self.settings
        varied = np.array(x, dtype=np.float64, order="C")  # one memory layout, so that sums round alike
        spread = varied.std(axis=1, keepdims=True)
        if s.time_warp:
            varied = _read_at(varied, _warped_times(x.shape[:2], s.time_warp, s.knots, rng))
        if s.jitter:
            varied = _read_at(varied, _jittered_times(x.shape[:2], s.jitter, rng))
        if s.magnitude_warp:
            varied *= np.exp(_curves(varied.shape, s.magnitude_warp, s.knots, rng))
        if s.scaling:
            varied *= np.exp(rng.normal(0.0, s.scaling, (x.shape[0], 1, x.shape[2])))
        if s.noise:
            varied[:, :-1] += s.noise * spread * rng.normal(size=varied[:, :-1].shape)
        return varied.astype(x.dtype)

    def _require_training(self, origins: Windows) -> None:
        if origins.arrays is not self.train.arrays:
            raise NotTraining("these windows stand on other arrays than the training part; only training rows vary")
        outside = ~np.isin(origins.rows, self.train.rows)
        if outside.any():
            first = origins.origin_utc[outside].min()
            raise NotTraining(
                f"{int(outside.sum())} of {len(origins)} windows are no training rows, first at {first}; augmentation"
                " is for training only: validation, calibration and test see the market as it was"
            )


def _curves(shape: tuple[int, ...], size: float, knots: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return smooth random curves over the length, one per window and column, 0 at the last observation."""
    from scipy.interpolate import CubicSpline

    n, length, f = shape
    heights = rng.normal(0.0, size, (knots - 1, n, 1, f))  # the last knot has height 0
    # a spline is linear in its heights, so one basis of (length, knots) serves every window
    basis = CubicSpline(np.linspace(0, length - 1, knots), np.eye(knots))(np.arange(length))
    basis[-1, :-1] = 0.0  # exactly at the last knot, whatever the rounding
    curves = np.zeros(shape)
    for knot in range(knots - 1):  # a matrix product could round differently from one call to the next
        curves += heights[knot] * basis[None, :, knot, None]
    return curves


def _warped_times(shape: tuple[int, int], size: float, knots: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return increasing reading positions from exactly 0 to exactly length - 1; (n, length)."""
    n, length = shape
    speed = np.exp(_curves((n, length - 1, 1), size, knots, rng)[:, :, 0]) if length > 2 else np.ones((n, 1))
    times = np.concatenate([np.zeros((n, 1)), speed.cumsum(axis=1)], axis=1)
    times *= (length - 1) / times[:, -1:]
    times[:, -1] = length - 1
    return np.asarray(np.minimum(times, length - 1))


def _jittered_times(shape: tuple[int, int], size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    times = np.arange(shape[1]) - rng.uniform(0.0, size, shape)
    times[:, 0], times[:, -1] = 0, shape[1] - 1
    return np.asarray(times)


def _read_at(x: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values between observations by straight lines; times within [0, length - 1]; (n, length, f)."""
    before = np.minimum(times.astype(np.int64), x.shape[1] - 2)
    share = (times - before)[:, :, None]
    windows = np.arange(x.shape[0])[:, None]
    return np.asarray(x[windows, before] * (1 - share) + x[windows, before + 1] * share)
