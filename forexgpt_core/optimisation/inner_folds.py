"""What a search of model options may look at: walk-forward folds inside the training part, and nothing later.

The training part ends before the calibration block of the first fold that a family is judged on, so neither the
calibration nor the test rows of any later fold are read, and the evidence of a searched option stays out of sample.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from forexgpt_core.calibration.split import ConformalCalibrator
from forexgpt_core.domain.forecasts import Floats, ForecastBatch
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.evaluation.walk_forward import Fold, WalkForwardSettings, fold_parts, plan_folds
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.catalogue import family_options, new_forecaster
from forexgpt_core.models.forecaster import FitRun


def training_part(windows: Windows, walk_forward: WalkForwardSettings) -> Windows:
    """Return the train and valid rows of the first fold: what a search may read of a pair.

    Args:
        windows: usable rows whose labels are known, in time order.

    Raises:
        NotReady: there are fewer rows than a fold needs.
    """
    first = plan_folds(windows, walk_forward)[0]
    parts = fold_parts(windows, first, embargo_bars=walk_forward.embargo_bars)
    return Windows(arrays=windows.arrays, rows=np.concatenate([parts.train.rows, parts.valid.rows]))


def inner_settings(walk_forward: WalkForwardSettings, *, folds: int = 4) -> WalkForwardSettings:
    """Return how to fold a training part: as the pair's families are judged, the newer half of it in test blocks."""
    return replace(walk_forward, folds=folds, out_of_sample=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSet:
    """Options of a family, every one named, so that a default written out and one left out are the same.

    Attributes:
        fold: the inner fold it is tried on; None for all of them.
    """

    family: str
    options: Mapping[str, object]
    fold: int | None = None
    everything: Mapping[str, object] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "everything", {**family_options(self.family), **self.options})

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {"family": self.family, "options": dict(self.everything), "fold": self.fold}

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerFolds:
    """The folds of a training part, and how models are fitted on them.

    Attributes:
        windows: the training part, see `training_part`.
        settings: of the inner folds; their test blocks are the rows options are judged on.
        seed: of every fit.
        calibration: method of the conformal calibrator, as the family is judged with later.
        folder: working folder of the fits.
    """

    windows: Windows
    settings: WalkForwardSettings
    seed: int
    folder: Path
    calibration: str = "normalised"
    folds: tuple[Fold, ...] = field(init=False)  # NotReady where the rows do not suffice

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "folds", plan_folds(self.windows, self.settings))
            fold_parts(self.windows, self.folds[0], embargo_bars=self.settings.embargo_bars)
        except NotReady as error:
            raise NotReady(f"the training part is too short for {self.settings.folds} inner folds: {error}") from None

    def forecast(self, one: OptionSet, fold: int) -> tuple[ForecastBatch, Floats]:
        """Return the calibrated forecasts (n, H) of a fold's test block, and the returns that followed (n, H)."""
        parts = fold_parts(self.windows, self.folds[fold], embargo_bars=self.settings.embargo_bars)
        run = FitRun(seed=self.seed, folder=self.folder)  # never stopped half-way: its figures would be kept
        model = new_forecaster(one.family, one.options).fit(parts.train, parts.valid, run=run)
        block = parts.calibration
        calibrator = ConformalCalibrator.fit(model.forecast(block), block.returns, method=self.calibration)
        return calibrator.apply(model.forecast(parts.test)), parts.test.returns


def joined(batches: Sequence[ForecastBatch]) -> ForecastBatch:
    """Return forecasts of consecutive blocks as one batch.

    Raises:
        BadInput: there are none.
    """
    if not batches:
        raise BadInput("there are no forecasts to join")
    first = batches[0]
    return ForecastBatch(
        symbol=first.symbol,
        timeframe=first.timeframe,
        family=first.family,
        origin_utc=np.concatenate([batch.origin_utc for batch in batches]),
        horizons_bars=first.horizons_bars,
        quantiles=np.concatenate([batch.quantiles for batch in batches]),
        scale=np.concatenate([batch.scale for batch in batches]),
        calibrator=first.calibrator,
    )


def scaled_losses(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the CRPS of each origin in reference scales, averaged over horizons; (n,).

    In scales, so that short horizons and quiet hours count like long and wild ones; the scale is the reference walk's,
    which no option changes.
    """
    scale = forecasts.scale
    return np.asarray(crps(forecasts.quantiles / scale[..., None], returns / scale).mean(axis=1))
