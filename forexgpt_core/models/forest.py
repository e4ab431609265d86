"""Random forests of where the law sits and how wide it is."""

from pathlib import Path

import numpy as np

from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.errors import BadInput
from forexgpt_core.models.files import Arrays
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.models.tabular import CAUTION, Rows, TabularForecaster, moved
from forexgpt_core.models.trees import Trees

_BELIEFS = (0.0, 0.25, 0.5, 0.75, 1.0)  # 0 is the walk
_ROWS_PER_TREE = 5000
_THREADS = 2
_PARTS = ("location", "spread")


class Forest(TabularForecaster):
    """Shift the walk's quantiles by one forest's mean and stretch them by another's mean size.

    Both forests answer for all horizons at once. How far each is believed is chosen per horizon on `valid`, down to
    not at all; a forest nobody believes is not kept.

    Args:
        trees: per forest.
        max_depth: of each tree.
        leaf_share: least share of a tree's rows in a leaf.
        caution: standard errors by which a candidate must beat the walk on `valid` to be believed.
    """

    family = "forest"

    def __init__(
        self, *, trees: int = 100, max_depth: int = 6, leaf_share: float = 0.02, caution: float = CAUTION
    ) -> None:
        super().__init__(caution)
        if trees < 0 or max_depth < 1:
            raise BadInput(f"trees must be 0 or more and max_depth 1 or more, were {trees} and {max_depth}")
        if not 0 < leaf_share <= 0.5:
            raise BadInput(f"leaf_share must lie in (0, 0.5], was {leaf_share}")
        self.trees, self.max_depth, self.leaf_share = trees, max_depth, leaf_share
        self._forests: dict[str, Trees] = {}
        self._belief = {part: np.zeros(0) for part in _PARTS}

    def _options(self) -> dict[str, object]:
        return {
            "trees": self.trees,
            "max_depth": self.max_depth,
            "leaf_share": self.leaf_share,
            "caution": self.caution,
        }

    def _fit_weights(self, train: Rows, valid: Rows, run: FitRun) -> None:
        horizons = len(self.horizons_bars)
        self._belief = {part: np.zeros(horizons) for part in _PARTS}
        self._forests, gains = {}, np.zeros(train.x.shape[1])
        size = np.abs(train.y)
        targets = {"location": train.y, "spread": size / size.mean(axis=0)}
        grown: dict[str, Floats] = {part: np.zeros((len(valid.x), horizons)) for part in _PARTS}
        for done, part in enumerate(_PARTS):
            if run.should_stop() or self.trees == 0:
                break  # what remains is the walk's
            run.progress(done / len(_PARTS), part)
            forest, importance = self._grow(train.x, targets[part], run.seed + done)
            answer = _answer(part, forest.mean(valid.x))
            self._belief[part] = self._beliefs(part, answer, grown, valid.y)
            grown[part] = answer * self._belief[part]
            if self._belief[part].any():
                self._forests[part] = forest
                gains += importance
        self.fitted.importance = dict(zip(self.input_names, gains.tolist()))

    def _grow(self, x: Floats, y: Floats, seed: int) -> tuple[Trees, Floats]:
        from sklearn.ensemble import RandomForestRegressor

        drawn = min(len(x), _ROWS_PER_TREE)
        model = RandomForestRegressor(
            n_estimators=self.trees,
            max_depth=self.max_depth,
            min_samples_leaf=max(1, int(self.leaf_share * drawn)),
            max_features=1 / 3,
            max_samples=drawn,
            random_state=seed,
            n_jobs=_THREADS,
        ).fit(x, y)
        return Trees.of([tree.tree_ for tree in model.estimators_]), np.asarray(model.feature_importances_)

    def _beliefs(self, part: str, answer: Floats, grown: dict[str, Floats], y: Floats) -> Floats:
        """Return per horizon how far to believe this part, given what is believed of the other."""
        chosen = np.zeros(len(self.horizons_bars))
        for column in range(chosen.size):
            one, base = slice(column, column + 1), self.fitted.offset[column : column + 1]
            candidates = {}
            for belief in _BELIEFS:
                moves = {name: values[:, one] for name, values in {**grown, part: belief * answer}.items()}
                candidates[belief] = moved(base, moves["location"], moves["spread"])[:, 0]
            chosen[column] = self._choose(part, column, candidates, y[:, column])
        return chosen

    def _units(self, x: Floats) -> Floats:
        moves = {part: np.zeros((len(x), len(self.horizons_bars))) for part in _PARTS}
        for part, forest in self._forests.items():
            moves[part] = _answer(part, forest.mean(x)) * self._belief[part]
        return moved(self.fitted.offset, moves["location"], moves["spread"])

    def _weights(self) -> Arrays:
        arrays: Arrays = {f"{part}_belief": self._belief[part] for part in _PARTS}
        for part, forest in self._forests.items():
            arrays |= forest.to_arrays(part)
        return arrays

    def _read_weights(self, arrays: Arrays, folder: Path) -> None:
        self._belief = {part: arrays[f"{part}_belief"].astype(np.float64) for part in _PARTS}
        self._forests = {
            part: Trees.from_arrays(arrays, part, inputs=len(self.input_names))
            for part in _PARTS
            if self._belief[part].any()
        }


def _answer(part: str, mean: Floats) -> Floats:
    """Return the forest's answer as a shift, or as the log of a factor on the width."""
    return mean if part == "location" else np.log(np.maximum(mean, 1e-3))
