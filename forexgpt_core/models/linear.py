"""Penalised linear models of where the law sits and how wide it is."""

from pathlib import Path
from typing import cast

import numpy as np

from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.errors import BadInput
from forexgpt_core.models.files import Arrays
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.models.tabular import CAUTION, Rows, TabularForecaster, moved

PENALTIES = ("ridge", "lasso", "elastic_net")
_RIDGE = (30.0, 10.0, 3.0, 1.0, 0.3)  # per row: 1 halves the coefficient of an input with unit variance
_LASSO = (0.7, 0.4, 0.2)  # shares of the least penalty that empties the model
_SPREAD = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
_EMPTY = float("inf")
_SCORING_STEPS = 25


class Linear(TabularForecaster):
    """Shift the walk's quantiles by one linear function of the inputs and stretch them by the exp of another.

    The shift is a penalised regression on the return in scales. The stretch is a gamma regression with log link on its
    size (quasi-likelihood: only the mean of the size need be right). Both have no intercept, so an infinite penalty
    gives the walk back.

    Args:
        penalty: "ridge", "lasso" or "elastic_net" for the shift; the stretch is always ridge.
        pca_components: inputs are first projected on this many principal components; 0 for no projection.
        caution: standard errors by which a candidate must beat the walk on `valid` to be believed.
    """

    family = "linear"

    def __init__(self, *, penalty: str = "ridge", pca_components: int = 0, caution: float = CAUTION) -> None:
        super().__init__(caution)
        if penalty not in PENALTIES:
            raise BadInput(f"penalty must be one of {', '.join(PENALTIES)}, was '{penalty}'")
        if pca_components < 0:
            raise BadInput(f"pca_components must be 0 or more, was {pca_components}")
        self.penalty, self.pca_components = penalty, pca_components
        self._location, self._spread = np.empty((0, 0)), np.empty((0, 0))  # (inputs, H) each

    def _options(self) -> dict[str, object]:
        return {"penalty": self.penalty, "pca_components": self.pca_components, "caution": self.caution}

    def _fit_weights(self, train: Rows, valid: Rows, run: FitRun) -> None:
        projection = _projection(train.x, self.pca_components)
        x, x_valid = train.x @ projection, valid.x @ projection
        offset, horizons = self.fitted.offset, self.horizons_bars
        self._location, self._spread = np.zeros((2, train.x.shape[1], len(horizons)))
        for column, horizon in enumerate(horizons):
            if run.should_stop():
                break  # the horizons that remain are the walk's
            run.progress(column / len(horizons), f"horizon {horizon}")
            y, y_valid, base = train.y[:, column], valid.y[:, column], offset[column : column + 1]
            shifts = {_EMPTY: np.zeros(x.shape[1]), **_location_candidates(self.penalty, x, y)}
            none = np.zeros((len(x_valid), 1))
            best = self._choose(
                "location",
                column,
                {a: moved(base, x_valid @ b[:, None], none)[:, 0] for a, b in shifts.items()},
                y_valid,
            )
            self._location[:, column] = projection @ shifts[best]
            stretches = {_EMPTY: np.zeros(x.shape[1]), **{a: _gamma_ridge(x, np.abs(y), a) for a in _SPREAD}}
            shift = x_valid @ shifts[best][:, None]
            best = self._choose(
                "spread",
                column,
                {a: moved(base, shift, x_valid @ b[:, None])[:, 0] for a, b in stretches.items()},
                y_valid,
            )
            self._spread[:, column] = projection @ stretches[best]
        size = np.abs(self._location) + np.abs(self._spread)
        self.fitted.importance = dict(zip(self.input_names, size.mean(axis=1).tolist()))

    def _units(self, x: Floats) -> Floats:
        return moved(self.fitted.offset, _product(x, self._location), _product(x, self._spread))

    def _weights(self) -> Arrays:
        return {"location": self._location, "spread": self._spread}

    def _read_weights(self, arrays: Arrays, folder: Path) -> None:
        shape = len(self.input_names), len(self.horizons_bars)
        self._location, self._spread = (_of_shape(arrays[name], shape) for name in ("location", "spread"))


def _of_shape(array: np.ndarray, shape: tuple[int, int]) -> Floats:
    if array.shape != shape:
        raise ValueError(f"an array has shape {array.shape}, expected {shape}")
    return array.astype(np.float64)


def _product(x: Floats, coefficients: Floats) -> Floats:
    """Return x @ coefficients summed input by input, so that a row gives the same bits alone and among others."""
    total = np.zeros((len(x), coefficients.shape[1]))
    for column, row in zip(x.T, coefficients):
        total += column[:, None] * row
    return total


def _projection(x: Floats, components: int) -> Floats:
    """Return the map to principal components of unit variance, or to the inputs themselves."""
    if components == 0:
        return np.eye(x.shape[1])
    variance, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    kept = np.argsort(variance)[::-1][: min(components, x.shape[1])]
    kept = kept[variance[kept] > 1e-12]
    signs = np.sign(vectors[np.abs(vectors[:, kept]).argmax(axis=0), kept])  # eigenvectors have no sign of their own
    return np.asarray(vectors[:, kept] * signs / np.sqrt(variance[kept]))


def _location_candidates(penalty: str, x: Floats, y: Floats) -> dict[float, Floats]:
    if penalty == "ridge":
        gram, target, n = x.T @ x, x.T @ y, len(x)
        return {a: np.asarray(np.linalg.solve(gram + a * n * np.eye(x.shape[1]), target)) for a in _RIDGE}
    from sklearn.linear_model import ElasticNet

    mix = 1.0 if penalty == "lasso" else 0.5
    emptying = float(np.abs(x.T @ y).max()) / (len(x) * mix)
    model = ElasticNet(l1_ratio=mix, fit_intercept=False, max_iter=5000)
    return {share: cast("Floats", model.set_params(alpha=share * emptying).fit(x, y).coef_.copy()) for share in _LASSO}


def _gamma_ridge(x: Floats, size: Floats, penalty: float) -> Floats:
    """Return b of E(size) = mean size * exp(x b), by Fisher scoring; with a log link its weights are all 1."""
    n, inputs = x.shape
    curvature = x.T @ x + penalty * n * np.eye(inputs)
    relative, b = size / size.mean(), np.zeros(inputs)
    for _ in range(_SCORING_STEPS):
        log_mean = np.clip(x @ b, -3.0, 3.0)  # keeps a first step too far from running away
        step = np.linalg.solve(curvature, x.T @ (relative / np.exp(log_mean) - 1.0) - penalty * n * b)
        b = b + step
        if np.abs(step).max() < 1e-8:
            break
    return b
