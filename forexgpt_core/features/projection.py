"""Principal components: fewer, uncorrelated columns, fitted on training rows and stored with the model."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projection:
    """The directions in which the training rows varied most. Scale the columns first, or the widest one wins.

    Attributes:
        mean: (f,) training means.
        directions: (k, f) unit rows at right angles, most variance first; the loading of the largest size in each is
            positive, so the sign does not hang on the library.
        variance: (k,) training variance along each direction, divisor n - 1.
        total_variance: of all f columns together.
    """

    mean: Floats
    directions: Floats
    variance: Floats
    total_variance: float

    def __post_init__(self) -> None:
        k = self.variance.size
        if self.mean.ndim != 1 or self.variance.ndim != 1 or self.directions.shape != (k, self.mean.size):
            raise BadInput(
                f"a projection of {self.mean.size} columns on {k} directions needs {k} x {self.mean.size} loadings,"
                f" has {self.directions.shape}"
            )
        arrays = (self.mean, self.directions, self.variance, np.array(self.total_variance))
        if not all(np.isfinite(array).all() for array in arrays) or not self.total_variance > 0:
            raise BadInput("a projection holds finite numbers and a total variance above 0")

    @property
    def explained(self) -> Floats:
        """Return the share of the training variance along each direction; shape (k,)."""
        return np.asarray(self.variance / self.total_variance)

    @property
    def line(self) -> str:
        """Return the outcome as one sentence."""
        return f"{self.variance.size} of {self.mean.size} directions hold {self.explained.sum():.1%} of the variance"

    @classmethod
    def fit(cls, x: Floats, *, components: int | float) -> "Projection":
        """Return the projection of training rows.

        Args:
            x: (n, f), n at least 2, all finite, preferably scaled.
            components: how many directions (a whole number), or the share of the variance they must hold at least (in
                (0, 1)), which takes as few as do.

        Raises:
            BadInput: a value is not finite, nothing varies, or fewer directions vary than are asked for.

        Source: Chan (1982), ACM TOMS 8(1), the SVD of a tall matrix through its triangular factor, which squares no
        number and needs no left singular vectors.
        """
        x = _finite(x)
        if x.ndim != 2 or x.shape[0] < 2:
            raise BadInput(f"a projection is fitted on two or more rows of features, was given shape {x.shape}")
        mean = x.mean(axis=0)
        _, sizes, directions = np.linalg.svd(np.linalg.qr(x - mean, mode="r"), full_matrices=False)
        variance = sizes**2 / (x.shape[0] - 1)
        varying = int((sizes > sizes.max(initial=0) * max(x.shape) * np.finfo(np.float64).eps).sum())
        wanted = _wanted(components, variance, varying)
        return cls(
            mean=mean,
            directions=_signed(directions[:wanted]),
            variance=variance[:wanted],
            total_variance=float(variance.sum()),
        )

    def transform(self, x: Floats) -> Floats:
        """Return the coordinates along the directions; (n, k) of (n, f), or (n, length, k) of windows.

        Raises:
            BadInput: another number of columns than in training, or a value that is not finite.
        """
        return np.asarray((self._columns(x, self.mean.size) - self.mean) @ self.directions.T)

    def inverse(self, coordinates: Floats) -> Floats:
        """Return the rows nearest to those `transform` was given that the directions can express.

        Raises:
            BadInput: another number of coordinates than directions, or a value that is not finite.
        """
        return np.asarray(self._columns(coordinates, self.variance.size) @ self.directions + self.mean)

    def to_json(self) -> str:
        """Return the projection as JSON, exact to the last bit."""
        return json.dumps(
            {
                "mean": self.mean.tolist(),
                "directions": self.directions.tolist(),
                "variance": self.variance.tolist(),
                "total_variance": self.total_variance,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Projection":
        """Return what `to_json` wrote.

        Raises:
            BadInput: it is something else.
        """
        try:
            document = json.loads(text)
            mean, directions, variance = (
                np.array(document[name], dtype=np.float64) for name in ("mean", "directions", "variance")
            )
            total = float(document["total_variance"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"not the JSON of a projection (mean, directions, variance, total_variance): {error!r}"
            ) from None
        return cls(mean=mean, directions=directions, variance=variance, total_variance=total)

    def _columns(self, x: Floats, count: int) -> Floats:
        x = _finite(x)
        if x.ndim not in (2, 3) or x.shape[-1] != count:
            raise BadInput(
                f"the projection maps {self.mean.size} columns to {self.variance.size}, was given shape {x.shape}"
            )
        return x


def _finite(x: Floats) -> Floats:
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        raise BadInput("a projection cannot read values that are not finite; use rows whose features have warmed up")
    return x


def _wanted(components: int | float, variance: Floats, varying: int) -> int:
    if varying == 0:
        raise BadInput("no column varies in training, so there is no direction to project on")
    if isinstance(components, float) and 0 < components < 1:
        shares = variance.cumsum() / variance.sum()
        return min(int(np.searchsorted(shares, components)) + 1, varying)
    if isinstance(components, bool) or not isinstance(components, int) or components < 1:
        raise BadInput(f"components must be a whole number from 1, or a share in (0, 1), was {components!r}")
    if components > varying:
        raise BadInput(f"only {varying} directions vary in training, {components} were asked for")
    return components


def _signed(directions: Floats) -> Floats:
    largest = np.abs(directions).argmax(axis=1)
    return np.asarray(directions * np.sign(directions[np.arange(largest.size), largest])[:, None])
