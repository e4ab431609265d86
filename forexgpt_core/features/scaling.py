"""Standard scaling, fitted on training rows and stored with the model it belongs to."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]

_ROUNDING = 1e-13  # a deviation below this share of the mean's size is rounding error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaler:
    """Subtract the training mean and divide by the training standard deviation, column by column.

    Attributes:
        mean: (f,).
        scale: (f,) above 0; 1 for a constant column.
        constant_columns: positions of the columns that did not vary in training, increasing.
    """

    mean: Floats
    scale: Floats
    constant_columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise BadInput(
                f"scaler mean and scale must be rows of one length, have {self.mean.shape} and {self.scale.shape}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise BadInput("scaler means must be finite and scales finite and above 0")

    @classmethod
    def fit(cls, x: Floats) -> "Scaler":
        """Return the scaler of training rows.

        Args:
            x: (n, f), n at least 1, all finite.

        Raises:
            BadInput: there are no rows, or a value is not finite.
        """
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[0] == 0:
            raise BadInput(f"a scaler is fitted on one or more rows of features, was given shape {x.shape}")
        _require_finite(x)
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        constant = (x.min(axis=0) == x.max(axis=0)) | (deviation <= _ROUNDING * np.abs(mean))
        scale = np.where(constant, 1.0, deviation)
        return cls(mean=mean, scale=scale, constant_columns=tuple(int(i) for i in np.flatnonzero(constant)))

    def transform(self, x: Floats) -> Floats:
        """Return scaled rows; (n, f) as `x`.

        Raises:
            BadInput: another number of columns than in training, or a value that is not finite.
        """
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.mean.size:
            raise BadInput(f"the scaler was fitted on {self.mean.size} columns, was given shape {x.shape}")
        _require_finite(x)
        return np.asarray((x - self.mean) / self.scale)

    def to_json(self) -> str:
        """Return the scaler as JSON, exact to the last bit."""
        return json.dumps(
            {
                "mean": self.mean.tolist(),
                "scale": self.scale.tolist(),
                "constant_columns": list(self.constant_columns),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Scaler":
        """Return what `to_json` wrote.

        Raises:
            BadInput: it is something else.
        """
        try:
            document = json.loads(text)
            mean, scale = (np.array(document[name], dtype=np.float64) for name in ("mean", "scale"))
            constant = tuple(int(i) for i in document["constant_columns"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"not the JSON of a scaler (mean, scale, constant_columns): {error!r}") from None
        return cls(mean=mean, scale=scale, constant_columns=constant)


def _require_finite(x: Floats) -> None:
    bad = ~np.isfinite(x)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        raise BadInput(
            f"{int(bad.any(axis=1).sum())} of {x.shape[0]} rows hold values that are not finite, first in column"
            f" {column}; use rows whose features have warmed up"
        )
