"""The contract of every model family."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.features.windows import Windows

MOST_SEED = 2**31 - 1  # scikit-learn takes 32 bits, and families add small numbers to it


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRun:
    """What a training run hands to a family.

    Attributes:
        seed: of every random draw, 0 to MOST_SEED; the same seed gives the same model on the same machine.
        folder: working folder for checkpoints.
        progress: called with (share done, message).
        should_stop: asked between steps; when True the family stops and keeps what it has.
    """

    seed: int
    folder: Path
    progress: Callable[[float, str], None] = field(default=lambda share, message: None)
    should_stop: Callable[[], bool] = field(default=lambda: False)


class Forecaster(Protocol):
    """A family of models that forecasts the law of cumulative log returns.

    Everything fitted (scaler, PCA, volatility, weights) is fitted on `train` (and tuned on `valid`) and is saved with
    the model. `forecast` reads rows up to each origin only. The same seed and data give the same model.
    """

    family: str
    feature_names: tuple[str, ...]
    horizons_bars: tuple[int, ...]

    def fit(self, train: Windows, valid: Windows, *, run: FitRun) -> Self:
        """Fit on `train`, tune on `valid`, and return self. No label of either reaches past the cut."""
        ...

    def forecast(self, windows: Windows, *, n_paths: int = 0, seed: int | None = None) -> ForecastBatch:
        """Return one forecast per window; `paths` only where the family can sample and n_paths > 0."""
        ...

    def save(self, folder: Path) -> None:
        """Write config.json, weights and whatever was fitted into an existing empty folder, without pickles."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. The caller has verified the manifest."""
        ...
