"""Split conformal calibration: intervals that cover what they promise, by exact ranks of past misses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import INTERVALS, MEDIAN, Floats, ForecastBatch
from forexgpt_core.errors import BadInput, BundleError, ForexGPTError
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.bundle import Bundle, BundleStore, parent_references
from forexgpt_core.models.bundled import LoadedModel, load_model
from forexgpt_core.models.files import read_json, write_json

_FILE = "calibrator.json"


class TooFewScores(ForexGPTError, ValueError):
    """A coverage guarantee was asked of a calibration set too small to give it."""

    def __init__(self, have: int, need: int, miscoverage: float) -> None:
        super().__init__(have, need, miscoverage)  # kept in .args, so it survives pickling
        self.have, self.need, self.miscoverage = have, need, miscoverage

    def __str__(self) -> str:
        return f"miscoverage {self.miscoverage:g} needs {self.need} calibration scores, found {self.have}"


def conformal_radius(scores: NDArray[np.float64], miscoverage: float) -> float:
    """Return the margin that covers the next outcome with probability >= 1 - miscoverage.

    Args:
        scores: (n,) by how much past outcomes lay outside (negative: inside), exchangeable with the next.
        miscoverage: share of outcomes allowed outside the interval, in (0, 1).

    Returns:
        The ceil((n + 1)(1 - miscoverage))-th smallest score, in the scores' unit.

    Raises:
        TooFewScores: that rank exceeds n, so only an infinite interval would be honest.
        BadInput: miscoverage lies outside (0, 1).

    Source: Lei et al. (2018), JASA 113(523), split conformal prediction.
    """
    if not 0 < miscoverage < 1:
        raise BadInput(f"miscoverage must lie in (0, 1), was {miscoverage}")
    n = scores.size
    rank = _rank(n, miscoverage)
    if rank > n:
        raise TooFewScores(have=n, need=_needed(miscoverage), miscoverage=miscoverage)
    return float(np.partition(scores, rank - 1)[rank - 1])


def _rank(n: int, miscoverage: float) -> int:
    # 1 - 0.9 is a little less than 0.1: without the rounding, 9 scores would not do for an exact ninth of ten
    return math.ceil(round((n + 1) * (1 - miscoverage), 9))


def _needed(miscoverage: float) -> int:
    return math.ceil(round(1 / miscoverage, 9)) - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConformalCalibrator:
    """Widens or narrows the central intervals of a family so that they cover at their nominal rate.

    The score of an outcome is by how much it lies outside the interval, in units of the forecast's `scale`, so that
    quiet and wild hours count alike (Romano et al. 2019, conformalised quantile regression). The median stays.

    The guarantee is exact for exchangeable scores. Returns over h bars overlap, so it is approximate for h above 1:
    coverage is measured on later data all the same.

    Attributes:
        radii: (H, 4) margin per horizon and interval of INTERVALS, in scales; NaN where too few scores.
        score_count: (H,) matured outcomes used.
    """

    horizons_bars: tuple[int, ...]
    radii: Floats
    score_count: NDArray[np.int64]

    @classmethod
    def fit(cls, forecasts: ForecastBatch, returns: Floats) -> Self:
        """Return the calibrator of past forecasts and what came.

        Args:
            returns: (n, H) realised log returns, NaN where not matured (left out).

        Raises:
            BadInput: the shapes differ.
        """
        if returns.shape != forecasts.scale.shape:
            raise BadInput(f"returns have shape {returns.shape}, the forecasts {forecasts.scale.shape}")
        scores = _scores(forecasts, returns)
        known = np.isfinite(returns)
        radii = [
            [_radius(scores[known[:, h], h, k], coverage) for k, coverage in enumerate(INTERVALS)]
            for h in range(returns.shape[1])
        ]
        return cls(
            horizons_bars=forecasts.horizons_bars,
            radii=np.array(radii, dtype=np.float64).reshape(-1, len(INTERVALS)),
            score_count=known.sum(axis=0),
        )

    @property
    def uncalibrated(self) -> tuple[tuple[int, int], ...]:
        """Return (horizon in bars, coverage in %) of the intervals left as the model gave them, for want of scores."""
        return tuple(
            (horizon, coverage)
            for horizon, row in zip(self.horizons_bars, self.radii)
            for coverage, radius in zip(INTERVALS, row)
            if math.isnan(radius)
        )

    def apply(self, forecasts: ForecastBatch) -> ForecastBatch:
        """Return the calibrated forecasts, of the same family. Paths are left out: they follow the old law.

        Raises:
            BadInput: other horizons than those it was fitted on.
        """
        if forecasts.horizons_bars != self.horizons_bars:
            raise BadInput(f"calibrated for horizons {self.horizons_bars}, was given {forecasts.horizons_bars}")
        margins = np.nan_to_num(self.radii) * forecasts.scale[:, :, None]
        quantiles = forecasts.quantiles.copy()
        inner_low = inner_high = quantiles[..., MEDIAN]
        for k, (low, high) in enumerate(INTERVALS.values()):  # from the inside out, each holding the one before
            inner_low = np.minimum(quantiles[..., low] - margins[..., k], inner_low)
            inner_high = np.maximum(quantiles[..., high] + margins[..., k], inner_high)
            quantiles[..., low], quantiles[..., high] = inner_low, inner_high
        return replace(forecasts, quantiles=quantiles, paths=None)

    def save(self, folder: Path) -> None:
        """Write calibrator.json; an interval without a radius is null."""
        write_json(
            folder / _FILE,
            {
                "horizons_bars": list(self.horizons_bars),
                "coverages": list(INTERVALS),
                "radii": [[None if math.isnan(r) else r for r in row] for row in self.radii.tolist()],
                "score_count": self.score_count.tolist(),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: the file describes something else.
        """
        stored = cast("Mapping[str, list[object]]", read_json(folder / _FILE))
        try:
            if stored["coverages"] != list(INTERVALS):
                raise BundleError(f"{_FILE} calibrates coverages {stored['coverages']}, expected {list(INTERVALS)}")
            horizons = tuple(int(cast("int", h)) for h in stored["horizons_bars"])
            return cls(
                horizons_bars=horizons,
                radii=np.array(stored["radii"], dtype=np.float64).reshape(len(horizons), len(INTERVALS)),
                score_count=np.array(stored["score_count"], dtype=np.int64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{_FILE} cannot be read: {error}") from error


def _scores(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return by how many scales each outcome lies outside each interval; shape (n, H, 4)."""
    low = forecasts.quantiles[..., [pair[0] for pair in INTERVALS.values()]]
    high = forecasts.quantiles[..., [pair[1] for pair in INTERVALS.values()]]
    outcome = returns[..., None]
    return np.asarray(np.maximum(low - outcome, outcome - high) / forecasts.scale[..., None])


def _radius(scores: Floats, coverage: int) -> float:
    try:
        return conformal_radius(scores, 1 - coverage / 100)
    except TooFewScores:
        return math.nan  # listed in `uncalibrated`


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedModel:
    """A model with its calibrator."""

    model: LoadedModel
    calibrator: ConformalCalibrator
    bundle: Bundle

    def forecast(self, windows: Windows) -> ForecastBatch:
        """Return calibrated forecasts."""
        return self.calibrator.apply(self.model.forecaster.forecast(windows))


def write_calibration_bundle(
    store: BundleStore,
    calibrator: ConformalCalibrator,
    *,
    symbol: str,
    timeframe: str,
    kind: str,
    parent: Bundle,
    metadata: Mapping[str, object],
) -> Bundle:
    """Return the bundle of a calibrator, which names the model bundle it belongs to."""
    return store.write(symbol, timeframe, kind, calibrator.save, metadata=metadata, parents=(parent,))


def load_calibrated(store: BundleStore, symbol: str, timeframe: str, kind: str, hash12: str) -> CalibratedModel:
    """Return the calibrator of a bundle together with its model.

    Raises:
        BundleError: either bundle is missing, altered, or does not fit the other.
    """
    bundle = store.open(symbol, timeframe, kind, hash12)
    parents = parent_references(bundle.path)
    if len(parents) != 1:
        raise BundleError(f"calibration bundle {hash12} names {len(parents)} models, expected one")
    model = load_model(store, **parents[0])
    calibrator = ConformalCalibrator.load(bundle.path)
    if calibrator.horizons_bars != model.forecaster.horizons_bars:
        raise BundleError(
            f"calibration bundle {hash12} has horizons {calibrator.horizons_bars}, its model"
            f" {model.forecaster.horizons_bars}"
        )
    return CalibratedModel(model=model, calibrator=calibrator, bundle=bundle)
