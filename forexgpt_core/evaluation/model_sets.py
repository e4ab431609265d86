"""Which of many models may be called best, and is any of them better than the reference, after trying them all?

`arch` draws the bootstrap. What it leaves to the caller is done here: models that lose the same are told apart from
models that are equally good; losses are scaled to one long-run deviation, without which its test of superior predictive
ability listens to the noisiest model alone; and mean losses are drawn together by as much as the block bootstrap is too
narrow, without which it expels equal models from the set three times as often as stated when labels overlap, and in 7
to 10 cases of 10 when losses move slowly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import long_run_variance, slow_inflation
from forexgpt_core.evaluation.significance import ConstantLossDifference, UnpairedLosses, bootstrap_stretch

Floats = NDArray[np.float64]

LEAST_ROWS = 30
_LEVEL = 0.05
_MOST_CELLS = 50_000_000  # replicates x pairs of models, 400 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSettings:
    """How to resample losses.

    Attributes:
        replicates: bootstrap samples, 100 to 20,000; time and memory grow in proportion.
        block_rows: length of a block; None takes max(2 h, n^(1/3)), as `skill_interval` does.
        seed: the same seed gives the same result.
    """

    replicates: int = 1000
    block_rows: int | None = None
    seed: int

    def __post_init__(self) -> None:
        if not 100 <= self.replicates <= 20_000:
            raise BadInput(f"replicates must lie between 100 and 20000, was {self.replicates}")
        if self.block_rows is not None and self.block_rows < 1:
            raise BadInput(f"block_rows must be 1 or more, was {self.block_rows}")

    def block(self, rows: int, horizon_bars: int) -> int:
        """Return the length of a block for some rows."""
        if self.block_rows is None:
            return int(min(max(2 * horizon_bars, math.ceil(rows ** (1 / 3))), rows // 2))
        if not horizon_bars <= self.block_rows <= rows // 2:
            raise BadInput(
                f"block_rows must lie between the horizon {horizon_bars} and half of {rows} rows, was {self.block_rows}"
            )
        return self.block_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfidenceSet:
    """The models that the best one may be among.

    Attributes:
        included: names, in the order given, that hold the best model with probability 1 - size.
        p_values: by name; a model is included where it is above size. The best model has 1.
        same_as: by name, an earlier model with the same losses in every row, whose p-value it shares.
    """

    included: tuple[str, ...]
    p_values: dict[str, float]
    same_as: dict[str, str]
    size: float
    rows: int
    block_rows: int


def model_confidence_set(
    losses: Floats, names: Sequence[str], horizon_bars: int, *, size: float = 0.05, settings: BootstrapSettings
) -> ModelConfidenceSet:
    """Return the model confidence set by the range statistic and circular blocks.

    Args:
        losses: (n, k) in time order, one column a model, at least 30 rows and 2 models.
        names: of the k models.
        horizon_bars: how many consecutive rows share part of a label.
        size: of the test, in (0, 1).

    Raises:
        UnpairedLosses: shapes or names do not fit, a loss is not finite, or rows or models are too few.
        ConstantLossDifference: two models differ by the same amount in every row, and not by 0.
        BadInput: a setting is out of range, or replicates times pairs of models would not fit into memory.

    Source: Hansen, Lunde and Nason (2011), Econometrica 79(2).
    """
    x, labels = _require(losses, names, horizon_bars)
    if not 0 < size < 1:
        raise BadInput(f"size must lie in (0, 1), was {size}")
    n, block = len(x), settings.block(len(x), horizon_bars)
    same_as, distinct = _repeated(x, labels)
    if settings.replicates * len(distinct) ** 2 > _MOST_CELLS:
        raise BadInput(
            f"{settings.replicates} replicates of {len(distinct)} models are too many; at most"
            f" {math.isqrt(_MOST_CELLS // settings.replicates)} models, or fewer replicates"
        )
    p_values = {labels[distinct[0]]: 1.0}
    if len(distinct) > 1:
        differing = x[:, distinct] - x[:, distinct].mean(axis=1, keepdims=True)  # what all lose costs digits alone
        drawn = _drawn_together(differing, block, horizon_bars, size / 2, alike=True)
        p_values = _set_p_values(drawn, [labels[number] for number in distinct], size, block, settings)
    p_values = {name: p_values[same_as.get(name, name)] for name in labels}
    return ModelConfidenceSet(
        included=tuple(name for name in labels if p_values[name] > size),
        p_values=p_values,
        same_as=same_as,
        size=size,
        rows=n,
        block_rows=block,
    )


def _set_p_values(
    x: Floats, names: Sequence[str], size: float, block: int, settings: BootstrapSettings
) -> dict[str, float]:
    from arch.bootstrap import MCS

    found = MCS(
        x,
        size=size,
        reps=settings.replicates,
        block_size=block,
        method="R",
        bootstrap="circular",
        seed=settings.seed,
    )
    found.compute()
    return {names[int(number)]: float(p) for number, p in found.pvalues["Pvalue"].items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperiorAbility:
    """Is the best model better than the reference, given how many were tried?

    Attributes:
        p_consistent: of "no model is better", the one to read; p_lower and p_upper bound it.
        best: the model with the largest gain over its own noise.
        better: models whose gain is beyond chance at the level of 5 %, all models tried allowed for.
        same_as_reference: models with the reference's losses in every row; they are no trials and were left out.
    """

    reference: str
    p_lower: float
    p_consistent: float
    p_upper: float
    best: str
    better: tuple[str, ...]
    same_as_reference: tuple[str, ...]
    rows: int
    block_rows: int


def superior_ability(
    losses: Floats, names: Sequence[str], reference: str, horizon_bars: int, *, settings: BootstrapSettings
) -> SuperiorAbility:
    """Return Hansen's test of superior predictive ability of the other models over the reference.

    Every loss difference is divided by its Newey-West deviation at bandwidth max(2 h, n^(1/3)).

    Args:
        losses, names, horizon_bars: see `model_confidence_set`.
        reference: name of the column to beat.

    Returns:
        All p-values are 1 where every model equals the reference.

    Raises:
        UnpairedLosses: as in `model_confidence_set`, or the reference is not among the names.
        ConstantLossDifference: a model differs from the reference by the same amount in every row, and not by 0.

    Source: Hansen (2005), JBES 23(4).
    """
    x, labels = _require(losses, names, horizon_bars)
    if reference not in labels:
        raise UnpairedLosses(f"the reference '{reference}' is not among the models: {', '.join(labels)}")
    n, block = len(x), settings.block(len(x), horizon_bars)
    against = x[:, labels.index(reference)]
    same = tuple(name for name, loss in zip(labels, x.T) if name != reference and _equal(loss, against))
    tried = [number for number, name in enumerate(labels) if name not in (reference, *same)]
    gains = np.empty((n, len(tried)))
    bandwidth = max(2 * horizon_bars, math.ceil(n ** (1 / 3)))
    for column, number in enumerate(tried):
        gain = against - x[:, number]
        _require_varied(gain)
        gains[:, column] = gain / math.sqrt(long_run_variance(gain, min(bandwidth, n - 1)))
    drawn = _drawn_together(gains, block, horizon_bars, _LEVEL) if tried else gains
    p, better = _superior(drawn, block, settings) if tried else ((1.0, 1.0, 1.0), np.array([], dtype=np.int64))
    return SuperiorAbility(
        reference=reference,
        p_lower=p[0],
        p_consistent=p[1],
        p_upper=p[2],
        best=labels[tried[int(drawn.mean(axis=0).argmax())]] if tried else reference,
        better=tuple(labels[tried[int(column)]] for column in better),
        same_as_reference=same,
        rows=n,
        block_rows=block,
    )


def _superior(
    gains: Floats, block: int, settings: BootstrapSettings
) -> tuple[tuple[float, float, float], NDArray[np.int64]]:
    from arch.bootstrap import SPA

    found = SPA(
        np.zeros(len(gains)),
        -gains,
        block_size=block,
        reps=settings.replicates,
        bootstrap="circular",
        studentize=False,  # done already; arch 8 asks for it and then compares plain means all the same
        seed=settings.seed,
    )
    found.compute()
    p = found.pvalues
    better = np.asarray(found.better_models(_LEVEL, "consistent"), dtype=np.int64)
    return (float(p["lower"]), float(p["consistent"]), float(p["upper"])), better


def _drawn_together(x: Floats, block: int, horizon_bars: int, tail: float, *, alike: bool = False) -> Floats:
    """Return columns with the same deviations and means nearer to 0 by what the bootstrap does not see.

    Args:
        alike: draw all means as near as the column that moves most slowly needs, so that their order stays.
    """
    mean = x.mean(axis=0)
    wider = np.sqrt([slow_inflation(column, block) for column in x.T])
    stretch = bootstrap_stretch(len(x), block, horizon_bars, tail) * (wider.max() if alike else wider)
    return np.asarray(x - mean + mean / stretch)


def _require(losses: Floats, names: Sequence[str], horizon_bars: int) -> tuple[Floats, list[str]]:
    x, labels = np.asarray(losses, dtype=np.float64), [str(name) for name in names]
    if x.ndim != 2 or x.shape[1] != len(labels) or len(set(labels)) != len(labels):
        raise UnpairedLosses(f"losses must be (n, k) with k different names, were {x.shape} and {labels}")
    if x.shape[1] < 2:
        raise UnpairedLosses(f"a comparison needs at least 2 models, got {labels}")
    if horizon_bars < 1:
        raise BadInput(f"horizon_bars must be 1 or more, was {horizon_bars}")
    need = max(LEAST_ROWS, 4 * horizon_bars)
    if x.shape[0] < need:
        raise UnpairedLosses(f"labels of {horizon_bars} rows need at least {need} losses, found {x.shape[0]}")
    if not np.isfinite(x).all():
        bad = labels[int(np.flatnonzero(~np.isfinite(x).all(axis=0))[0])]
        raise UnpairedLosses(f"losses of '{bad}' are not all finite; score matured origins only")
    return x, labels


def _repeated(x: Floats, names: Sequence[str]) -> tuple[dict[str, str], list[int]]:
    """Return who repeats whom and the columns that repeat nobody; refuse columns a constant apart."""
    same_as: dict[str, str] = {}
    distinct: list[int] = []
    for number, name in enumerate(names):
        earlier = next((one for one in distinct if _equal(x[:, number], x[:, one])), None)
        if earlier is None:
            for one in distinct:
                _require_varied(x[:, number] - x[:, one])
            distinct.append(number)
        else:
            same_as[name] = names[earlier]
    return same_as, distinct


def _equal(one: Floats, other: Floats) -> bool:
    """Return whether losses are the same but for the last bits of another order of summation."""
    return bool(np.isclose(one, other, rtol=1e-9, atol=0.0).all())


def _require_varied(difference: Floats) -> None:
    if float(np.ptp(difference)) <= 1e-9 * float(np.abs(difference).max()):
        raise ConstantLossDifference(float(difference.mean()), difference.size)
