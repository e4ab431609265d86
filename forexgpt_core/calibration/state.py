"""What an adaptive calibrator remembers: what it learnt, and the forecasts whose outcomes it still waits for."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.calibration.ranks import outside
from forexgpt_core.domain.forecasts import INTERVALS, LEVELS, Floats, ForecastBatch, Times
from forexgpt_core.errors import BadInput

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Array = NDArray[Any]
_TYPES = {"f": "<f8", "i": "<i8", "b": "|b1", "M": "<M8[us]"}
K = len(INTERVALS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """What came of past outcomes, for H horizons, K = 4 intervals, E experts and a window of W scores.

    Attributes:
        scores: (H, K, W) newest scores in scales, oldest first, of which size[h] are there; 0 beyond.
        size: (H,)
        working: (H, K, E) working miscoverage of every expert.
        regrets: (H, K, E) and moments: (H, K, 2) of the experts' aggregation.
        missed: (H, K) outcomes outside their interval.
        capped: (H, K) origins whose radius rests on a bound, because experts without a finite one prevailed.
        fed: (H, 2) outcomes learnt from, and outcomes lost (due, but never known).
    """

    scores: Floats
    size: Ints
    working: Floats
    regrets: Floats
    moments: Floats
    missed: Ints
    capped: Ints
    fed: Ints

    @classmethod
    def empty(cls, horizons: int, window: int, alphas: Floats, experts: int) -> Self:
        """Return what is known before the first score."""
        return cls(
            scores=np.zeros((horizons, K, window)),
            size=np.zeros(horizons, dtype=np.int64),
            working=np.tile(alphas[None, :, None], (horizons, 1, experts)),
            regrets=np.zeros((horizons, K, experts)),
            moments=np.zeros((horizons, K, 2)),
            missed=np.zeros((horizons, K), dtype=np.int64),
            capped=np.zeros((horizons, K), dtype=np.int64),
            fed=np.zeros((horizons, 2), dtype=np.int64),
        )

    def copied(self) -> Self:
        """Return the same in arrays of its own."""
        return replace(self, **{one.name: getattr(self, one.name).copy() for one in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """P forecasts, oldest first, of which some horizon has not been learnt from yet.

    Attributes:
        origin_utc: (P,) OPEN of the origin bar.
        rows: (P,) its place among the bars of the pair, increasing.
        quantiles: (P, H, 9) before calibration. scale: (P, H).
        returns: (P, H) outcomes, NaN where not known; one known early is not learnt from before it is due.
        waiting: (H, P) whether it has still to be learnt from.
        radii: (H, P, K, E) of every expert at the origin, NaN where the forecast only lends its score to the window.
        mixed: (H, P, K) their average, with which it was calibrated.
        bounds: (H, P, K, 2) what an empty and an infinite radius counted as.
    """

    origin_utc: Times
    rows: Ints
    quantiles: Floats
    scale: Floats
    returns: Floats
    waiting: Bools
    radii: Floats
    mixed: Floats
    bounds: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, forecasts: ForecastBatch, returns: Floats, rows: Ints, experts: int) -> Self:
        """Return forecasts without radii yet."""
        n, horizons = forecasts.scale.shape
        return cls(
            origin_utc=forecasts.origin_utc.astype("datetime64[us]"),
            rows=rows.astype(np.int64),
            quantiles=forecasts.quantiles,
            scale=forecasts.scale,
            returns=np.asarray(returns, dtype=np.float64),
            waiting=np.ones((horizons, n), dtype=np.bool_),
            radii=np.full((horizons, n, K, experts), np.nan),
            mixed=np.full((horizons, n, K), np.nan),
            bounds=np.zeros((horizons, n, K, 2)),
        )

    def joined(self, later: Self) -> Self:
        """Return these forecasts followed by later ones, in arrays of their own."""
        axis = {"waiting": 1, "radii": 1, "mixed": 1, "bounds": 1}
        names = [one.name for one in fields(self)]
        both = {n: np.concatenate([getattr(self, n), getattr(later, n)], axis=axis.get(n, 0)) for n in names}
        return replace(self, **both)

    def take(self, kept: Bools) -> Self:
        """Return some of the forecasts, by mask."""
        by_horizon = {name: getattr(self, name)[:, kept] for name in ("waiting", "radii", "mixed", "bounds")}
        by_origin = {n: getattr(self, n)[kept] for n in ("origin_utc", "rows", "quantiles", "scale", "returns")}
        return replace(self, **by_horizon, **by_origin)

    def copied(self) -> Self:
        """Return the same in arrays of its own."""
        return replace(self, **{one.name: getattr(self, one.name).copy() for one in fields(self)})

    def unfinished(self) -> Self:
        """Return the forecasts that still wait at some horizon."""
        return self.take(np.asarray(self.waiting.any(axis=0)))

    def offsets(self) -> Floats:
        """Return the score of every outcome in scales, NaN where it is not known; shape (H, P, K)."""
        batch = ForecastBatch(
            symbol="",
            timeframe="",
            family="",
            origin_utc=self.origin_utc,
            horizons_bars=tuple(range(self.scale.shape[1])),
            quantiles=self.quantiles,
            scale=self.scale,
        )
        scores = outside(batch, self.returns) / self.scale[..., None]
        return np.ascontiguousarray(scores.transpose(1, 0, 2)) + 0.0  # -0 becomes 0, so that equal scores are equal


def to_arrays(part: Learned | Pending) -> dict[str, object]:
    """Return the arrays as JSON: type, shape and bytes in base64, which keep every bit."""
    return {one.name: _packed(getattr(part, one.name)) for one in fields(part)}


def learned_from(document: Mapping[str, Any]) -> Learned:
    """Return what `to_arrays` wrote of it."""
    return Learned(**{one.name: _unpacked(document[one.name]) for one in fields(Learned)})


def pending_from(document: Mapping[str, Any]) -> Pending:
    """Return what `to_arrays` wrote of it."""
    return Pending(**{one.name: _unpacked(document[one.name]) for one in fields(Pending)})


def require_shapes(learned: Learned, pending: Pending, horizons: int, window: int, experts: int) -> None:
    """Refuse arrays that do not belong together.

    Raises:
        BadInput: naming the first that has another shape than the settings ask for.
    """
    n = len(pending)
    wanted: dict[str, tuple[int, ...]] = {
        "scores": (horizons, K, window),
        "size": (horizons,),
        "working": (horizons, K, experts),
        "regrets": (horizons, K, experts),
        "moments": (horizons, K, 2),
        "missed": (horizons, K),
        "capped": (horizons, K),
        "fed": (horizons, 2),
        "origin_utc": (n,),
        "quantiles": (n, horizons, LEVELS.size),
        "scale": (n, horizons),
        "returns": (n, horizons),
        "waiting": (horizons, n),
        "radii": (horizons, n, K, experts),
        "mixed": (horizons, n, K),
        "bounds": (horizons, n, K, 2),
    }
    for name, shape in wanted.items():
        found = getattr(learned if hasattr(learned, name) else pending, name).shape
        if found != shape:
            raise BadInput(f"the adaptive state's {name} have shape {found}, expected {shape}")
    if (learned.size < 0).any() or (learned.size > window).any():
        raise BadInput(f"the adaptive state counts {learned.size.tolist()} scores in a window of {window}")


def _packed(array: Array) -> dict[str, object]:
    little = np.ascontiguousarray(array, dtype=_TYPES[array.dtype.kind])
    return {
        "type": _TYPES[array.dtype.kind],
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode(),
    }


def _unpacked(document: Mapping[str, Any]) -> Array:
    if document["type"] not in _TYPES.values():
        raise BadInput(f"an array of type '{document['type']}' is no part of an adaptive state")
    flat = np.frombuffer(base64.b64decode(document["base64"], validate=True), dtype=document["type"])
    return np.asarray(flat.reshape(document["shape"]).copy())
