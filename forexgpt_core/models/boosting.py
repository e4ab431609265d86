"""Gradient-boosted quantiles (XGBoost) that start at the random walk's."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forexgpt_core.domain.forecasts import LEVELS, Floats
from forexgpt_core.errors import BadInput, BundleError
from forexgpt_core.models.files import Arrays
from forexgpt_core.models.forecaster import FitRun
from forexgpt_core.models.tabular import CAUTION, Rows, TabularForecaster, Trial, first_that_convinces, pinball

if TYPE_CHECKING:
    import xgboost

_THREADS = 2
_ROWS_PER_TREE = 8000  # each leaf sorts its rows once per quantile, which is what takes the time
_MOVE_LIMIT = 1.5  # scales; no quantile moves further from the walk's
_CHECKPOINTS = 8  # numbers of rounds that stand for election on `valid`


class Boosting(TabularForecaster):
    """Boost all nine quantiles of each horizon from the walk's own, and stop early on `valid`.

    The walk's quantiles are the base margin, so no rounds means the walk. Quantiles are fitted one tree each per round
    and may cross, so they are sorted.

    Args:
        rounds: at most.
        learning_rate: share of each tree that is believed.
        max_depth: of each tree.
        leaf_share: least share of a tree's rows in a leaf; the outer quantiles need many.
        caution: standard errors by which a number of rounds must beat the walk on `valid` to be believed.
    """

    family = "boosting"

    def __init__(
        self,
        *,
        rounds: int = 60,
        learning_rate: float = 0.1,
        max_depth: int = 3,
        leaf_share: float = 0.1,
        caution: float = CAUTION,
    ) -> None:
        super().__init__(caution)
        if rounds < 0 or max_depth < 1:
            raise BadInput(f"rounds must be 0 or more and max_depth 1 or more, were {rounds} and {max_depth}")
        if not (0 < learning_rate <= 1 and 0 < leaf_share <= 0.5):
            raise BadInput(
                f"learning_rate must lie in (0, 1] and leaf_share in (0, 0.5], were {learning_rate} and {leaf_share}"
            )
        self.rounds, self.learning_rate, self.max_depth, self.leaf_share = rounds, learning_rate, max_depth, leaf_share
        self._boosters: dict[int, xgboost.Booster] = {}  # by position of the horizon

    def _options(self) -> dict[str, object]:
        return {
            "rounds": self.rounds,
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "leaf_share": self.leaf_share,
            "caution": self.caution,
        }

    def _fit_weights(self, train: Rows, valid: Rows, run: FitRun) -> None:
        self._boosters, gains = {}, np.zeros(train.x.shape[1])
        for column, horizon in enumerate(self.horizons_bars):
            if run.should_stop() or self.rounds == 0:
                break  # the horizons that remain are the walk's
            run.progress(column / len(self.horizons_bars), f"horizon {horizon}")
            grown = self._grow(train, valid, column, run)
            rounds = self._elect(grown, valid, column)
            if rounds > 0:
                booster = grown[:rounds]
                booster.set_param({"nthread": 1})  # one origin at a time gains nothing from threads
                self._boosters[column] = booster
                gains += _gains(booster, gains.size)
        self.fitted.importance = dict(zip(self.input_names, gains.tolist()))

    def _grow(self, train: Rows, valid: Rows, column: int, run: FitRun) -> "xgboost.Booster":
        import xgboost as xgb

        offset = self.fitted.offset[column]
        inside = xgb.QuantileDMatrix(
            train.x, label=train.y[:, column], base_margin=np.tile(offset, (len(train.x), 1)), max_bin=64
        )
        outside = xgb.QuantileDMatrix(
            valid.x, label=valid.y[:, column], base_margin=np.tile(offset, (len(valid.x), 1)), ref=inside, max_bin=64
        )
        return xgb.train(
            {
                "objective": "reg:quantileerror",
                "quantile_alpha": LEVELS.tolist(),
                "base_score": 0.0,  # the walk's quantiles are the margin, and nothing is added to it
                "tree_method": "hist",
                "max_bin": 64,
                "max_depth": self.max_depth,
                "min_child_weight": max(1.0, self.leaf_share * min(0.7 * len(train.x), _ROWS_PER_TREE)),
                "learning_rate": self.learning_rate,
                "subsample": min(0.7, _ROWS_PER_TREE / len(train.x)),
                "colsample_bytree": 0.5,
                "nthread": _THREADS if len(train.x) > _ROWS_PER_TREE else 1,  # threads that wait for few rows cost more
                "seed": run.seed + column,
            },
            inside,
            num_boost_round=self.rounds,
            evals=[(outside, "valid")],
            verbose_eval=False,
            callbacks=[
                xgb.callback.EarlyStopping(rounds=max(5, self.rounds // 8), save_best=True),
                _stop_when_asked(run),
            ],
        )

    def _elect(self, grown: "xgboost.Booster", valid: Rows, column: int) -> int:
        """Return how many rounds to keep, 0 where none convinces."""
        available = _rounds(grown)
        counts: list[int] = sorted(
            {0, *np.linspace(0, available, min(available, _CHECKPOINTS) + 1).astype(int).tolist()}
        )
        offset, y = self.fitted.offset[column], valid.y[:, column]
        moves = [_moves(grown, valid.x, count) for count in counts]
        losses = np.stack([pinball(offset + move, y) for move in moves])
        chosen = first_that_convinces(losses, block_rows=self.horizons_bars[-1], caution=self.caution)
        self.fitted.trials += [
            Trial(
                horizon_bars=self.horizons_bars[column],
                part="rounds",
                candidate=float(count),
                loss=float(loss.mean()),
                chosen=position == chosen,
            )
            for position, (count, loss) in enumerate(zip(counts, losses))
        ]
        return counts[chosen]

    def _units(self, x: Floats) -> Floats:
        units = np.repeat(self.fitted.offset[None], len(x), axis=0)
        for column, booster in self._boosters.items():
            units[:, column] += _moves(booster, x, _rounds(booster))
        return units

    def _weights(self) -> Arrays:
        return {"boosted_horizons": np.array(sorted(self._boosters), dtype=np.int64)}

    def _save_more(self, folder: Path) -> None:
        for column, booster in self._boosters.items():
            (folder / f"horizon_{column}.ubj").write_bytes(booster.save_raw("ubj"))

    def _read_weights(self, arrays: Arrays, folder: Path) -> None:
        self._boosters = {int(c): _read_booster(folder / f"horizon_{c}.ubj") for c in arrays["boosted_horizons"]}


def _rounds(booster: "xgboost.Booster") -> int:
    return int(booster.num_boosted_rounds())


def _moves(booster: "xgboost.Booster", x: Floats, rounds: int) -> Floats:
    """Return how far each quantile moves from the walk's, in scales; (n, 9)."""
    if rounds == 0:
        return np.zeros((len(x), LEVELS.size))
    moves = booster.inplace_predict(x, iteration_range=(0, rounds)).reshape(len(x), LEVELS.size)
    return np.asarray(np.clip(moves.astype(np.float64), -_MOVE_LIMIT, _MOVE_LIMIT))


def _gains(booster: "xgboost.Booster", inputs: int) -> Floats:
    gains = np.zeros(inputs)
    for name, gain in booster.get_score(importance_type="total_gain").items():
        gains[int(name[1:])] = gain  # inputs have no names there: f0, f1, …
    return np.asarray(gains / max(gains.sum(), 1e-300))


def _read_booster(path: Path) -> "xgboost.Booster":
    import xgboost as xgb

    booster = xgb.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(path.read_bytes()))
    except (OSError, xgb.core.XGBoostError) as error:
        raise BundleError(f"{path.name} is not a boosted model: {error}") from error
    return booster


def _stop_when_asked(run: FitRun) -> "xgboost.callback.TrainingCallback":
    import xgboost as xgb

    class StopWhenAsked(xgb.callback.TrainingCallback):  # type: ignore[misc]  # xgboost has no types
        def after_iteration(self, model: object, epoch: int, evals_log: object) -> bool:
            return run.should_stop()

    return StopWhenAsked()
