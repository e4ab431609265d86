"""Is a difference in mean loss more than luck, when labels overlap?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import long_run_variance, slow_inflation

Floats = NDArray[np.float64]


class UnpairedLosses(BadInput):
    """Two loss series do not stand row for row beside one another, or are too short or not finite."""


class ConstantLossDifference(BadInput):
    """Two loss series differ by the same amount in every row, so there is no chance to measure it against."""

    def __init__(self, difference: float, rows: int) -> None:
        super().__init__(difference, rows)
        self.difference, self.rows = difference, rows

    def __str__(self) -> str:
        return (
            f"the losses differ by exactly {self.difference:.6g} in all {self.rows} rows; forecasts of real returns"
            " never do: check that both were scored on the same outcomes"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DieboldMariano:
    """Outcome of the test; the statistic is negative where the model lost less than the reference.

    Attributes:
        p_value: two-sided.
        p_better: one-sided, small when the model is better than the reference.
        bandwidth_rows: last lag in the variance.
        rows: length of the two series.
    """

    statistic: float
    p_value: float
    p_better: float
    bandwidth_rows: int
    rows: int


def diebold_mariano(
    loss_model: Floats, loss_reference: Floats, horizon_bars: int, *, bandwidth_rows: int | None = None
) -> DieboldMariano:
    """Test equal mean loss of two forecasters of the same outcomes.

    The variance is Newey-West with bandwidth max(2 h, n^(1/3)): h - 1 with Bartlett weights sees two thirds of the
    variance of fully overlapping labels and rejects 8 to 10 % of equal pairs at a nominal 5 %. Where the losses move
    slowly under their noise, as they do when one forecaster's spread is off for weeks, no such bandwidth reaches, and
    the variance of `dependence.persistence` is taken where it is larger. The statistic carries
    the Harvey-Leybourne-Newbold correction and is judged by Student's t with 1.5 n / (bandwidth + 1) degrees of
    freedom, the equivalent of a Bartlett variance at that bandwidth (never more than n - 1).

    Args:
        loss_model: (n,) in time order.
        loss_reference: (n,) of the same origins.
        horizon_bars: how many consecutive rows share part of a label, 1 or more.
        bandwidth_rows: last lag, at least horizon_bars - 1, of the plain test; None chooses as above.

    Returns:
        Equal losses in every row give statistic 0 and both p 1.

    Raises:
        UnpairedLosses: shapes differ, a loss is not finite, or there are not more than 2 horizons of rows.
        ConstantLossDifference: the difference is the same in every row, and not 0.

    Source: Diebold and Mariano (1995), JBES 13(3); Harvey, Leybourne and Newbold (1997), IJF 13(2); Kiefer and
    Vogelsang (2005), Econometric Theory 21(6), on bandwidths that do not vanish.
    """
    d = loss_difference(loss_model, loss_reference, horizon_bars)
    n, h = d.size, horizon_bars
    bandwidth = max(2 * h, math.ceil(n ** (1 / 3))) if bandwidth_rows is None else bandwidth_rows
    bandwidth = min(bandwidth, n - 1)
    if bandwidth < h - 1:
        raise BadInput(f"bandwidth_rows must be at least horizon_bars - 1 = {h - 1}, was {bandwidth}")
    if not d.any():
        return DieboldMariano(statistic=0.0, p_value=1.0, p_better=1.0, bandwidth_rows=bandwidth, rows=n)
    mean = float(d.mean())
    if float(np.ptp(d)) <= 1e-12 * float(np.abs(d).max()):
        raise ConstantLossDifference(mean, n)
    harvey = math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    variance = long_run_variance(d, bandwidth) / n
    if bandwidth_rows is None:
        variance *= slow_inflation(d, bandwidth)
    statistic = harvey * mean / math.sqrt(variance)
    freedom = min(n - 1, 1.5 * n / (bandwidth + 1))
    return DieboldMariano(
        statistic=statistic,
        p_value=float(2 * stdtr(freedom, -abs(statistic))),
        p_better=float(stdtr(freedom, statistic)),
        bandwidth_rows=bandwidth,
        rows=n,
    )


def loss_difference(loss_model: Floats, loss_reference: Floats, horizon_bars: int) -> Floats:
    """Return (n,) loss of the model minus that of the reference.

    Raises:
        UnpairedLosses: shapes differ, a loss is not finite, or there are not more than 2 horizons of rows.
    """
    model, reference = np.asarray(loss_model, dtype=np.float64), np.asarray(loss_reference, dtype=np.float64)
    if model.ndim != 1 or model.shape != reference.shape:
        raise UnpairedLosses(f"losses must be two (n,) series, were {model.shape} and {reference.shape}")
    if horizon_bars < 1:
        raise BadInput(f"horizon_bars must be 1 or more, was {horizon_bars}")
    if model.size <= 2 * horizon_bars:
        raise UnpairedLosses(
            f"{model.size} losses are too few for labels of {horizon_bars} rows; more than twice needed"
        )
    if not (np.isfinite(model).all() and np.isfinite(reference).all()):
        raise UnpairedLosses("losses must be finite; score matured origins only")
    return np.asarray(model - reference)


def skill_interval(
    loss_model: Floats,
    loss_reference: Floats,
    *,
    horizon_bars: int,
    replicates: int = 1000,
    seed: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return a confidence interval of the skill 1 - mean(loss_model) / mean(loss_reference).

    Circular block bootstrap of the paired losses with blocks of b = max(2 h, n^(1/3)) rows. The percentile interval is
    too short twice over: few blocks make it so, and cutting at block edges loses (h - 1) / (3 b) of the variance of
    fully overlapping labels. Its two sides are stretched about the estimate by as much, and where losses move slowly
    by as much as `diebold_mariano` allows for that.

    Args:
        loss_model: (n,) in time order.
        loss_reference: (n,) of the same origins, with a mean above 0.
        horizon_bars: how many consecutive rows share part of a label.
        replicates: bootstrap samples.
        seed: the same seed gives the same interval.
        level: confidence, in (0, 1).

    Raises:
        UnpairedLosses: as in `diebold_mariano`.

    Source: Politis and Romano (1992), circular block resampling.
    """
    loss_difference(loss_model, loss_reference, horizon_bars)
    if not 0 < level < 1:
        raise BadInput(f"level must lie in (0, 1), was {level}")
    model, reference = np.asarray(loss_model, dtype=np.float64), np.asarray(loss_reference, dtype=np.float64)
    n = model.size
    block = min(max(2 * horizon_bars, math.ceil(n ** (1 / 3))), n // 2)
    blocks = math.ceil(n / block)
    starts = np.random.default_rng(seed).integers(n, size=(replicates, blocks))
    skills = 1 - _resampled_sums(model, starts, block) / _resampled_sums(reference, starts, block)
    skill = 1 - float(model.sum()) / float(reference.sum())
    tail = (1 - level) / 2
    # rows whose mean varies as the ratio of means does, to first order
    ratio = float(model.mean()) / float(reference.mean())
    stretch = bootstrap_stretch(n, block, horizon_bars, tail) * math.sqrt(
        slow_inflation(model - ratio * reference, block)
    )
    low, high = np.quantile(skills, [tail, 1 - tail])
    return skill + (float(low) - skill) * stretch, skill + (float(high) - skill) * stretch


def bootstrap_stretch(rows: int, block_rows: int, horizon_bars: int, tail: float) -> float:
    """Return how many times further out a quantile lies than the block bootstrap of a mean puts it, at least 1.

    Few blocks know their spread badly, as Student's t says, and b rows to a block lose 1 / blocks and (h - 1) / (3 b)
    of the variance of fully overlapping labels.

    Args:
        tail: probability beyond the quantile, in (0, 0.5).
    """
    blocks = math.ceil(rows / block_rows)
    lost = 1 / blocks + (horizon_bars - 1) / (3 * block_rows)
    return float(stdtrit(blocks - 1, 1 - tail) / ndtri(1 - tail)) / math.sqrt(1 - lost)


def _resampled_sums(x: Floats, starts: NDArray[np.int64], block: int) -> Floats:
    wrapped = np.concatenate([[0.0], np.cumsum(np.concatenate([x, x[: block - 1]]))])
    return np.asarray((wrapped[starts + block] - wrapped[starts]).sum(axis=1))
