"""Scaling of columns, fitted on training rows and stored with the model it belongs to."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput, UnknownName

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_ROUNDING = 1e-13  # a deviation below this share of the centre's size is rounding error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaler:
    """Subtract a centre and divide by a scale, column by column; both come from training rows alone.

    Kinds:
        standard: mean and standard deviation.
        robust: median and distance of the quartiles, so a few wild values do not set the scale. Where the quartiles are
            equal though the column varies (a column that is mostly 0), the standard deviation is the scale.
        min_max: least value and range, so the training rows fill [0, 1].

    Each value is scaled by itself, whichever rows stand beside it, and what lies beyond the training rows comes out
    beyond their range: nothing is clipped, unless `clipped` is asked, which counts.

    Attributes:
        centre: (f,).
        scale: (f,) above 0; 1 for a constant column.
        constant_columns: positions of the columns that did not vary in training, increasing.
    """

    centre: Floats
    scale: Floats
    constant_columns: tuple[int, ...] = ()
    kind: str = "standard"

    def __post_init__(self) -> None:
        _require_kind(self.kind)
        if self.centre.ndim != 1 or self.centre.shape != self.scale.shape:
            raise BadInput(
                f"scaler centre and scale must be rows of one length, have {self.centre.shape} and {self.scale.shape}"
            )
        if not (np.isfinite(self.centre).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise BadInput("scaler centres must be finite and scales finite and above 0")

    @property
    def mean(self) -> Floats:
        """Return the centre, which the standard kind stores as `mean`."""
        return self.centre

    @classmethod
    def fit(cls, x: Floats, *, kind: str = "standard") -> "Scaler":
        """Return the scaler of training rows.

        Args:
            x: (n, f), n at least 1, all finite.
            kind: standard, robust or min_max.

        Raises:
            BadInput: there are no rows, a value is not finite, or a column's spread is beyond the largest float.
            UnknownName: there is no such kind.
        """
        _require_kind(kind)
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[0] == 0:
            raise BadInput(f"a scaler is fitted on one or more rows of features, was given shape {x.shape}")
        _require_finite(x)
        with np.errstate(over="ignore"):  # an infinite spread is refused as a state
            centre, spread = _CENTRE_AND_SPREAD[kind](x)
        constant = (x.min(axis=0) == x.max(axis=0)) | (spread <= _ROUNDING * np.abs(centre))
        return cls(
            centre=centre,
            scale=np.where(constant, 1.0, spread),
            constant_columns=tuple(int(i) for i in np.flatnonzero(constant)),
            kind=kind,
        )

    def transform(self, x: Floats) -> Floats:
        """Return scaled values; (n, f), or (n, length, f) for windows, as `x`.

        Raises:
            BadInput: another number of columns than in training, or a value that is not finite.
        """
        return np.asarray((self._columns(x) - self.centre) / self.scale)

    def inverse(self, scaled: Floats) -> Floats:
        """Return what `transform` was given, up to rounding.

        Raises:
            BadInput: another number of columns than in training, or a value that is not finite.
        """
        return np.asarray(self._columns(scaled) * self.scale + self.centre)

    def clipped(self, x: Floats, low: float, high: float) -> tuple[Floats, Counts]:
        """Return the scaled values clipped to [low, high], and how many of each column that moved; shape (f,).

        Raises:
            BadInput: as `transform`.
        """
        scaled = self.transform(x)
        moved = ((scaled < low) | (scaled > high)).reshape(-1, self.centre.size)
        return np.clip(scaled, low, high), moved.sum(axis=0, dtype=np.int64)

    def to_json(self) -> str:
        """Return the scaler as JSON, exact to the last bit. A standard one is written as it always was."""
        numbers = {"scale": self.scale.tolist(), "constant_columns": list(self.constant_columns)}
        if self.kind == "standard":
            return json.dumps({"mean": self.centre.tolist(), **numbers})
        return json.dumps({"kind": self.kind, "centre": self.centre.tolist(), **numbers})

    @classmethod
    def from_json(cls, text: str) -> "Scaler":
        """Return what `to_json` wrote, of any kind.

        Raises:
            BadInput: it is something else.
        """
        try:
            document = json.loads(text)
            kind = str(document.get("kind", "standard"))
            stored = "mean" if kind == "standard" else "centre"
            centre, scale = (np.array(document[name], dtype=np.float64) for name in (stored, "scale"))
            constant = tuple(int(i) for i in document["constant_columns"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"not the JSON of a scaler (mean, scale, constant_columns): {error!r}") from None
        return cls(centre=centre, scale=scale, constant_columns=constant, kind=kind)

    def _columns(self, x: Floats) -> Floats:
        x = np.asarray(x, dtype=np.float64)
        if x.ndim not in (2, 3) or x.shape[-1] != self.centre.size:
            raise BadInput(f"the scaler was fitted on {self.centre.size} columns, was given shape {x.shape}")
        _require_finite(x)
        return x


def _standard(x: Floats) -> tuple[Floats, Floats]:
    return x.mean(axis=0), x.std(axis=0)


def _robust(x: Floats) -> tuple[Floats, Floats]:
    low, median, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    spread = high - low
    equal = spread <= _ROUNDING * np.abs(median)
    spread[equal] = x[:, equal].std(axis=0)
    return median, spread


def _min_max(x: Floats) -> tuple[Floats, Floats]:
    least = x.min(axis=0)
    return least, x.max(axis=0) - least


_CENTRE_AND_SPREAD: Mapping[str, Callable[[Floats], tuple[Floats, Floats]]] = {
    "standard": _standard,
    "robust": _robust,
    "min_max": _min_max,
}


def _require_kind(kind: str) -> None:
    if kind not in _CENTRE_AND_SPREAD:
        raise UnknownName(f"unknown scaler '{kind}'; known: {', '.join(_CENTRE_AND_SPREAD)}")


def _require_finite(x: Floats) -> None:
    rows = ~np.isfinite(x).reshape(-1, x.shape[-1])
    if rows.any():
        column = int(rows.any(axis=0).argmax())
        raise BadInput(
            f"{int(rows.any(axis=1).sum())} of {rows.shape[0]} rows hold values that are not finite, first in column"
            f" {column}; use rows whose features have warmed up"
        )
