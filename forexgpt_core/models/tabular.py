"""What the quantile families share: they learn how the law of returns differs from the random walk's.

Targets are returns over the reference walk's scale, and the walk's quantiles are the offset, so a model that learned
nothing is the walk, to the last bit. On exchange rates a few per cent is all there is to learn: each family offers
candidates of growing freedom, and one is taken only if it clearly beats the walk on `valid`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np

from forexgpt_core.domain.forecasts import LEVELS, Floats, ForecastBatch
from forexgpt_core.errors import BadInput, BundleError, NotReady
from forexgpt_core.features.scaling import Scaler
from forexgpt_core.features.windows import Windows
from forexgpt_core.models.files import Arrays, read_arrays, read_json, write_arrays, write_json
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.models.random_walk import RandomWalk

LEVEL_INPUT = "reference_volatility"
LOCATION_LIMIT = 0.5  # scales; a drift beyond half a standard deviation is not credible on exchange rates
LOG_SPREAD_LIMIT = float(np.log(2.5))
INPUT_LIMIT = 6.0  # standard deviations; a feature may break, the forecast must not
_LEAST_BLOCKS = 4
CAUTION = 1.64  # one-sided 5 %: several candidates run, and the luckiest must not win


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows as a family fits on them.

    Attributes:
        x: (n, f) scaled inputs.
        y: (n, H) returns over the reference scale.
    """

    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate on `valid`: mean pinball loss over horizons' rows, in reference scales."""

    horizon_bars: int
    part: str
    candidate: float
    loss: float
    chosen: bool


@dataclass(slots=True, kw_only=True)
class Fitted:
    """What every quantile family stores beside its weights."""

    reference: RandomWalk
    scaler: Scaler
    offset: Floats  # (H, 9) quantiles of return / scale
    trials: list[Trial] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)


class TabularForecaster(ABC):
    """A family that maps one feature row to quantiles around the reference walk."""

    family: ClassVar[str]

    def __init__(self, caution: float) -> None:
        """Remember by how many standard errors a candidate must beat the walk on `valid` to be believed."""
        if not caution >= 0:
            raise BadInput(f"caution must be 0 standard errors or more, was {caution}")
        self.caution = caution
        self.feature_names: tuple[str, ...] = ()
        self._fitted: Fitted | None = None

    @property
    def fitted(self) -> Fitted:
        """Return what was fitted.

        Raises:
            NotReady: nothing was.
        """
        if self._fitted is None:
            raise NotReady(f"this {self.family} model has not been fitted; call fit or load first")
        return self._fitted

    @property
    def horizons_bars(self) -> tuple[int, ...]:
        """Return the horizons it was fitted for."""
        return self.fitted.reference.horizons_bars

    @property
    def input_names(self) -> tuple[str, ...]:
        """Return the names of the inputs: the features, and how high the reference volatility stands."""
        return (*self.feature_names, LEVEL_INPUT)

    def fit(self, train: Windows, valid: Windows, *, run: FitRun) -> Self:
        """Fit reference, scaler and weights on `train`, and choose on `valid` how much of them to believe."""
        reference = RandomWalk().fit(train, valid, run=run)
        self.feature_names = train.arrays.feature_names
        raw = self._raw_inputs(train, reference)
        fitted = Fitted(reference=reference, scaler=Scaler.fit(raw), offset=reference.standard_quantiles)
        self._fitted = fitted
        self._fit_weights(self._rows(train), self._rows(valid), run)
        run.progress(1.0, "fitted")
        return self

    def forecast(self, windows: Windows, *, n_paths: int = 0, seed: int | None = None) -> ForecastBatch:
        """Return quantiles per window; the law is given by quantiles alone, so there are no paths.

        Raises:
            BundleError: the windows have other features, or in another order.
            BadInput: a feature is not finite.
        """
        fitted = self.fitted
        require_features(self.feature_names, windows.arrays.feature_names)
        scale = fitted.reference.scale(windows)
        units = self._units(self._inputs(windows)) if len(windows) else np.empty((0, *fitted.offset.shape))
        return ForecastBatch(
            symbol=windows.arrays.symbol,
            timeframe=str(windows.arrays.timeframe),
            family=self.family,
            origin_utc=windows.origin_utc,
            horizons_bars=self.horizons_bars,
            quantiles=scale[:, :, None] * np.sort(units, axis=-1),
            scale=scale,
        )

    def save(self, folder: Path) -> None:
        """Write config.json, reference.json, scaler.json and the weights."""
        fitted = self.fitted
        write_json(
            folder / "config.json",
            {
                "family": self.family,
                "options": self._options(),
                "feature_names": list(self.feature_names),
                "importance": fitted.importance,
                "trials": [
                    [t.horizon_bars, t.part, t.candidate if np.isfinite(t.candidate) else None, t.loss, t.chosen]
                    for t in fitted.trials
                ],
            },
        )
        write_json(folder / "reference.json", fitted.reference.to_dict())
        (folder / "scaler.json").write_text(fitted.scaler.to_json(), encoding="utf-8")
        write_arrays(folder / "weights.npz", self._weights())
        self._save_more(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: a file does not hold what this family writes.
        """
        config = read_json(folder / "config.json")
        if config.get("family") != cls.family:
            raise BundleError(f"config.json describes a {config.get('family')} model, expected {cls.family}")
        model = cls(**cast("dict[str, Any]", config["options"]))
        model.feature_names = tuple(cast("list[str]", config["feature_names"]))
        reference = RandomWalk.from_dict(read_json(folder / "reference.json"))
        model._fitted = Fitted(
            reference=reference,
            scaler=Scaler.from_json((folder / "scaler.json").read_text(encoding="utf-8")),
            offset=reference.standard_quantiles,
            trials=[_trial(row) for row in cast("list[list[object]]", config["trials"])],
            importance=cast("dict[str, float]", config["importance"]),
        )
        try:
            model._read_weights(read_arrays(folder / "weights.npz"), folder)
        except (KeyError, ValueError) as error:
            raise BundleError(f"the weights in {folder.name} are not those of a {cls.family} model: {error}") from error
        return model

    @abstractmethod
    def _options(self) -> dict[str, object]:
        """Return the constructor's arguments, as JSON values."""

    @abstractmethod
    def _fit_weights(self, train: Rows, valid: Rows, run: FitRun) -> None:
        """Fit and choose; record trials and importance in `fitted`."""

    @abstractmethod
    def _units(self, x: Floats) -> Floats:
        """Return the quantiles of return / scale, in any order along the last axis; shape (n, H, 9)."""

    @abstractmethod
    def _weights(self) -> Arrays:
        """Return the arrays of weights.npz."""

    @abstractmethod
    def _read_weights(self, arrays: Arrays, folder: Path) -> None:
        """Take the weights from weights.npz, and from the files of `_save_more`."""

    def _save_more(self, folder: Path) -> None:  # noqa: B027  # most families have arrays only
        """Write weights that are no arrays."""

    def _raw_inputs(self, windows: Windows, reference: RandomWalk) -> Floats:
        features = windows.features
        if not np.isfinite(features).all():
            row, column = np.argwhere(~np.isfinite(features))[0]
            raise BadInput(
                f"feature '{self.feature_names[column]}' is {features[row, column]} at {windows.origin_utc[row]};"
                " forecast from rows whose features are all known"
            )
        return np.column_stack([features, np.log(reference.level(windows))])

    def _inputs(self, windows: Windows) -> Floats:
        fitted = self.fitted
        scaled = fitted.scaler.transform(self._raw_inputs(windows, fitted.reference))
        return np.clip(scaled, -INPUT_LIMIT, INPUT_LIMIT)

    def _rows(self, windows: Windows) -> Rows:
        return Rows(x=self._inputs(windows), y=windows.returns / self.fitted.reference.scale(windows))

    def _choose(self, part: str, column: int, candidates: Mapping[float, Floats], y: Floats) -> float:
        """Return the candidate to believe for one horizon, and record all of them.

        Args:
            candidates: (n, 9) quantiles of return / scale on `valid` by candidate; the first is the empty model.
            y: (n,) outcomes on `valid`, in scales.
        """
        losses = np.stack([pinball(units, y) for units in candidates.values()])
        names = list(candidates)
        chosen = names[first_that_convinces(losses, block_rows=self.horizons_bars[-1], caution=self.caution)]
        self.fitted.trials += [
            Trial(
                horizon_bars=self.horizons_bars[column],
                part=part,
                candidate=name,
                loss=float(loss.mean()),
                chosen=name == chosen,
            )
            for name, loss in zip(names, losses)
        ]
        return chosen


def require_features(expected: tuple[str, ...], found: tuple[str, ...]) -> None:
    """Refuse features that differ in name or order from those a model was fitted on.

    Raises:
        BundleError: naming the first column that differs.
    """
    if expected == found:
        return
    for position, name in enumerate(expected):
        if name not in found:
            raise BundleError(f"the model needs the feature '{name}', which the data lacks; build it with its recipe")
        if position >= len(found) or found[position] != name:
            raise BundleError(f"feature '{name}' must be column {position}, found at {found.index(name)}")
    raise BundleError(f"the data has the feature '{found[len(expected)]}', which the model was not fitted on")


def pinball(units: Floats, y: Floats) -> Floats:
    """Return the pinball loss of sorted quantiles, averaged over LEVELS.

    Args:
        units: (n, 9).
        y: (n,).
    """
    miss = y[:, None] - np.sort(units, axis=-1)
    return np.asarray(np.maximum(LEVELS * miss, (LEVELS - 1) * miss).mean(axis=1))


def first_that_convinces(losses: Floats, *, block_rows: int, caution: float = CAUTION) -> int:
    """Return the candidate with the least mean loss among those that clearly beat the first, else 0.

    Clearly is by `caution` standard errors of the paired difference.

    The error is that of the mean of block means: rows within a horizon of each other share their outcome.

    Args:
        losses: (k, n), the empty model first.
    """
    blocks = losses.shape[1] // block_rows
    if blocks < _LEAST_BLOCKS:
        return 0
    gains = (losses[0] - losses)[:, -blocks * block_rows :].reshape(len(losses), blocks, block_rows).mean(axis=2)
    mean, error = gains.mean(axis=1), gains.std(axis=1, ddof=1) / np.sqrt(blocks)
    convincing = np.where(mean > caution * error, mean, 0.0)
    return int(np.argmax(convincing))


def moved(offset: Floats, location: Floats, log_spread: Floats) -> Floats:
    """Return the offset quantiles shifted and stretched within credible limits.

    Args:
        offset: (H, 9).
        location: (n, H) in scales.
        log_spread: (n, H) log of the factor on the width.
    """
    shift = np.clip(location, -LOCATION_LIMIT, LOCATION_LIMIT)
    stretch = np.exp(np.clip(log_spread, -LOG_SPREAD_LIMIT, LOG_SPREAD_LIMIT))
    return shift[:, :, None] + stretch[:, :, None] * offset


def _trial(row: list[object]) -> Trial:
    horizon, part, candidate, loss, chosen = row
    return Trial(
        horizon_bars=int(cast("int", horizon)),
        part=str(part),
        candidate=float("inf") if candidate is None else float(cast("float", candidate)),
        loss=float(cast("float", loss)),
        chosen=bool(chosen),
    )
