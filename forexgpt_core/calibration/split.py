"""Split conformal calibration: intervals that cover what they promise, by exact ranks of past misses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.calibration.ranks import (
    HIGH_LEVELS,
    LOW_LEVELS,
    MISCOVERAGES,
    outside,
    radius_or_infinity,
    require_scales,
    widened,
)
from forexgpt_core.domain.forecasts import INTERVALS, Floats, ForecastBatch
from forexgpt_core.errors import BadInput, BundleError
from forexgpt_core.models.files import read_json, write_json

Method = Literal["normalised", "plain", "mondrian"]
METHODS: tuple[Method, ...] = get_args(Method)
_FILE = "calibrator.json"
_TERCILES = ("calm", "normal", "wild")
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConformalCalibrator:
    """Widens or narrows the central intervals of a family so that they cover at their nominal rate.

    The score of an outcome is by how much it lies outside the interval (Romano et al. 2019). By method:

    - "normalised": in units of the forecast's `scale`, so that quiet and wild hours count alike.
    - "plain": in log return, as published; wild hours are covered less, quiet ones more.
    - "mondrian": as "normalised", with a radius of its own per group of forecasts (Vovk et al. 2003): terciles of
      `scale` on the calibration rows, per horizon, or the labels given, such as regimes.

    The median stays. The guarantee is exact for exchangeable scores. Returns over h bars overlap, so it is approximate
    for h above 1: coverage is measured on later data all the same.

    Attributes:
        radii: (H, 4), for "mondrian" (G, H, 4): margin per horizon and interval of INTERVALS, in scales ("plain": in
            log return); infinite where the exact rank exceeds the scores.
        score_count: (H,), for "mondrian" (G, H): matured outcomes used.
        groups: names of the G groups, empty but for "mondrian".
        edges: (H, G - 1) scales that part the groups; None where labels do.
    """

    horizons_bars: tuple[int, ...]
    radii: Floats
    score_count: _Ints
    method: Method = "normalised"
    groups: tuple[str, ...] = ()
    edges: Floats | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"no conformal method is named '{self.method}'; there are {', '.join(METHODS)}")
        grouped = (len(self.groups),) if self.method == "mondrian" else ()
        shape = (*grouped, len(self.horizons_bars), len(INTERVALS))
        if self.radii.shape != shape or self.score_count.shape != shape[:-1]:
            raise BadInput(f"radii have shape {self.radii.shape}, expected {shape} for the method '{self.method}'")

    @classmethod
    def fit(
        cls,
        forecasts: ForecastBatch,
        returns: Floats,
        *,
        method: str = "normalised",
        labels: Sequence[str] | None = None,
    ) -> Self:
        """Return the calibrator of past forecasts and what came.

        Args:
            returns: (n, H) realised log returns, NaN where not matured (left out).
            method: one of METHODS.
            labels: (n,) group of each origin, for "mondrian" alone; None for terciles of the scale.

        Raises:
            BadInput: the shapes differ, a scale is not positive, or labels come with a method that has no groups.
        """
        if method not in METHODS:
            raise BadInput(f"no conformal method is named '{method}'; there are {', '.join(METHODS)}")
        if labels is not None and method != "mondrian":
            raise BadInput(f"the method '{method}' has no groups; labels are for 'mondrian'")
        scores = outside(forecasts, returns)
        if method != "plain":
            require_scales(forecasts)
            scores = scores / forecasts.scale[..., None]
        known = np.isfinite(returns)
        if method != "mondrian":
            radii, count = _radii(scores, known), known.sum(axis=0)
            named = cast("Method", method)
            return cls(horizons_bars=forecasts.horizons_bars, radii=radii, score_count=count, method=named)
        groups, edges = _groups_of(forecasts, known, labels)
        member = _members(forecasts, labels, groups, edges)
        within = [known & (member == group) for group in range(len(groups))]
        return cls(
            horizons_bars=forecasts.horizons_bars,
            radii=np.stack([_radii(scores, one) for one in within]),
            score_count=np.stack([one.sum(axis=0) for one in within]),
            method="mondrian",
            groups=groups,
            edges=edges,
        )

    @property
    def uncalibrated(self) -> tuple[tuple[int, int], ...]:
        """Return (horizon in bars, coverage in %) of the intervals left as the model gave them, for want of scores.

        For "mondrian": in some group.
        """
        finite = np.isfinite(self.radii).reshape(-1, len(self.horizons_bars), len(INTERVALS))
        return tuple(
            (horizon, coverage)
            for horizon, row in zip(self.horizons_bars, np.asarray(finite.all(axis=0)))
            for coverage, known in zip(INTERVALS, row)
            if not known
        )

    def left_alone(self, forecasts: ForecastBatch, labels: Sequence[str] | None = None) -> _Ints:
        """Return how many of these intervals `apply` leaves as the model gave them; shape (H, 4)."""
        radii = np.broadcast_to(self._radii_for(forecasts, labels), (*forecasts.scale.shape, len(INTERVALS)))
        return np.asarray((~np.isfinite(radii)).sum(axis=0))

    def intervals(self, forecasts: ForecastBatch, labels: Sequence[str] | None = None) -> tuple[Floats, Floats]:
        """Return both ends of the calibrated intervals, (n, H, 4) each: -inf and inf where only that is honest.

        Unlike the quantiles of `apply` they are not made to hold one another.
        """
        margins = self._margins(forecasts, labels)
        return forecasts.quantiles[..., LOW_LEVELS] - margins, forecasts.quantiles[..., HIGH_LEVELS] + margins

    def apply(self, forecasts: ForecastBatch, labels: Sequence[str] | None = None) -> ForecastBatch:
        """Return the calibrated forecasts, of the same family. Paths are left out: they follow the old law.

        A forecast's quantiles are finite, so an interval whose radius is infinite stays as the model gave it: see
        `uncalibrated` and `left_alone`.

        Args:
            labels: (n,) group of each origin, where the calibrator was fitted with labels.

        Raises:
            BadInput: other horizons than those it was fitted on, or labels that are missing or unknown.
        """
        margins = self._margins(forecasts, labels)
        quantiles = widened(forecasts.quantiles, np.where(np.isfinite(margins), margins, 0.0))
        return replace(forecasts, quantiles=quantiles, paths=None, calibrator=f"split {self.method}")

    def save(self, folder: Path) -> None:
        """Write calibrator.json; an infinite radius is null."""
        write_json(
            folder / _FILE,
            {
                "method": self.method,
                "horizons_bars": list(self.horizons_bars),
                "coverages": list(INTERVALS),
                "radii": np.where(np.isfinite(self.radii), self.radii, None).tolist(),  # type: ignore[call-overload]
                "score_count": self.score_count.tolist(),
                "groups": list(self.groups),
                "edges": None if self.edges is None else self.edges.tolist(),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, in this release or an earlier one, which knew the method "normalised" alone.

        Raises:
            BundleError: the file describes something else.
        """
        stored = cast("Mapping[str, list[object]]", read_json(folder / _FILE))
        try:
            if stored["coverages"] != list(INTERVALS):
                raise BundleError(f"{_FILE} calibrates coverages {stored['coverages']}, expected {list(INTERVALS)}")
            horizons = tuple(int(cast("int", h)) for h in stored["horizons_bars"])
            groups = tuple(str(name) for name in stored.get("groups", ()))
            shape = (*((len(groups),) if groups else ()), len(horizons), len(INTERVALS))
            radii = np.array(stored["radii"], dtype=np.float64).reshape(shape)
            edges = stored.get("edges")
            return cls(
                horizons_bars=horizons,
                radii=np.where(np.isnan(radii), math.inf, radii),
                score_count=np.array(stored["score_count"], dtype=np.int64).reshape(shape[:-1]),
                method=cast("Method", stored.get("method", "normalised")),
                groups=groups,
                edges=None if edges is None else np.array(edges, dtype=np.float64).reshape(len(horizons), -1),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{_FILE} cannot be read: {error}") from error

    def _margins(self, forecasts: ForecastBatch, labels: Sequence[str] | None) -> Floats:
        """Return the margin of every interval in log return, infinite where unknown; broadcasts to (n, H, 4)."""
        radii = self._radii_for(forecasts, labels)
        radii = np.where(np.isfinite(radii), radii, math.inf)
        if self.method == "plain":
            return radii
        require_scales(forecasts)
        return np.asarray(radii * forecasts.scale[:, :, None])

    def _radii_for(self, forecasts: ForecastBatch, labels: Sequence[str] | None) -> Floats:
        if forecasts.horizons_bars != self.horizons_bars:
            raise BadInput(f"calibrated for horizons {self.horizons_bars}, was given {forecasts.horizons_bars}")
        if self.method != "mondrian":
            return self.radii
        if labels is None and self.edges is None:
            raise BadInput(f"this calibrator was fitted with the labels {', '.join(self.groups)}; give each origin's")
        member = _members(forecasts, labels, self.groups, self.edges)
        return np.asarray(self.radii[member, np.arange(len(self.horizons_bars))])


def _radii(scores: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return the radius per horizon and interval, of the known outcomes; shape (H, 4)."""
    return np.array(
        [
            [radius_or_infinity(scores[known[:, h], h, k], alpha) for k, alpha in enumerate(MISCOVERAGES)]
            for h in range(known.shape[1])
        ]
    ).reshape(known.shape[1], len(INTERVALS))


def _groups_of(
    forecasts: ForecastBatch, known: NDArray[np.bool_], labels: Sequence[str] | None
) -> tuple[tuple[str, ...], Floats | None]:
    """Return the names of the groups, and the scales between them where the scale parts them; shape (H, G - 1)."""
    if labels is not None:
        return tuple(sorted(set(labels))), None
    if not known.any(axis=0).all():
        raise BadInput("terciles of the scale need at least one matured outcome at every horizon")
    scale = np.where(known, forecasts.scale, np.nan)
    return _TERCILES, np.asarray(np.nanquantile(scale, [1 / 3, 2 / 3], axis=0).T)


def _members(
    forecasts: ForecastBatch, labels: Sequence[str] | None, groups: tuple[str, ...], edges: Floats | None
) -> _Ints:
    """Return the number of the group of every origin and horizon; shape (n, H)."""
    if labels is None:
        assert edges is not None
        return np.asarray((forecasts.scale[..., None] > edges).sum(axis=-1))
    if edges is not None:
        raise BadInput("this calibrator tells its groups by the scale; it takes no labels")
    if len(labels) != len(forecasts):
        raise BadInput(f"there are {len(labels)} labels for {len(forecasts)} origins")
    number = {name: place for place, name in enumerate(groups)}
    unknown = sorted(set(labels) - set(number))
    if unknown:
        raise BadInput(f"no radius was fitted for the label {', '.join(unknown)}; known are {', '.join(groups)}")
    places = np.array([number[label] for label in labels], dtype=np.int64)
    return np.repeat(places[:, None], len(forecasts.horizons_bars), axis=1)
