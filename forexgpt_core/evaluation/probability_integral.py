"""Are outcomes spread evenly over the probabilities forecast for them? PIT values, and tests that know of overlap.

Two habits make right forecasts look wrong: ranking an outcome among few samples without randomising, which leaves m + 1
steps, and a Kolmogorov-Smirnov test on overlapping targets, which counts each stretch of the market h times (a test at
5 % rejects a perfect 20-bar forecaster 8 times in 10).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from forexgpt_core.domain.forecasts import ForecastBatch, law_cdf
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.pairing import (
    independent_rows,
    origin_slots,
    overlapping_rows,
    require_paired,
    require_samples,
)
from forexgpt_core.evaluation.scores import normal_score

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_ROWS = 20  # of independent targets, for either test
_GRID: Floats = np.arange(1, 200) / 200
_BLOCK_BYTES = 1 << 25  # of indicators at a time


class OverlappingTargets(BadInput):
    """A test for independent rows was asked about targets that share bars."""


class TooFewRows(BadInput):
    """A test of uniformity was asked of too few independent targets."""

    def __init__(self, have: int, need: int, rows: int) -> None:
        super().__init__(have, need, rows)
        self.have, self.need, self.rows = have, need, rows

    def __str__(self) -> str:
        return f"uniformity needs {self.need} targets that do not overlap, found {self.have} among {self.rows} rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniformity:
    """Outcome of a test that PIT values are uniform.

    Attributes:
        statistic: largest distance between their distribution function and the uniform one.
        p_value: chance of at least that distance when forecasts are right.
        rows: values tested.
    """

    statistic: float
    p_value: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PitCheck:
    """Uniformity of the randomised PIT at one horizon.

    Attributes:
        independent: Kolmogorov-Smirnov on targets that do not overlap.
        overlapping: block bootstrap on every row, which sees more and assumes more.
    """

    horizon_bars: int
    independent: Uniformity
    overlapping: Uniformity


def pit(forecasts: ForecastBatch, returns: Floats) -> Floats:
    """Return the probability the law gave to values up to the return; (n, H), uniform when the law is right.

    At an atom it is the upper end, as in a diagram; tests need `randomised_pit`.
    """
    return law_cdf(forecasts.quantiles, require_paired(forecasts, returns))


def randomised_pit(forecasts: ForecastBatch, returns: Floats, *, seed: int) -> Floats:
    """Return the PIT with outcomes on an atom spread evenly over its probability; (n, H).

    An atom is where neighbouring quantiles are equal; at the outer ones it holds the whole tail. Elsewhere this is
    `pit` and no chance enters.

    Source: Brockwell (2007), Statistics and Probability Letters 77(14).
    """
    y, quantiles = require_paired(forecasts, returns), forecasts.quantiles
    upper = ndtr(normal_score(quantiles, y))
    below = ndtr(-normal_score(-quantiles[..., ::-1], -y))  # 1 - P(Y >= y), as levels are symmetric
    on_atom = (quantiles == y[..., None]).sum(axis=-1) > 1
    share = np.random.default_rng(seed).random(y.shape)
    return np.asarray(np.where(on_atom, below + share * (upper - below), upper))


def rank_pit(samples: Floats, y: Floats, *, seed: int) -> Floats:
    """Return the randomised rank of the outcome among samples, (rank + u) / (m + 1); uniform when samples are right.

    Args:
        samples: (..., m) in any order, m >= 1; ties with the outcome are broken by lot.
        y: (...) finite outcomes.
        seed: of u, uniform on (0, 1), and of the ties.

    Returns:
        (...) in (0, 1).

    Raises:
        BadSamples: no samples, one not finite, or outcomes of another shape.
        BadInput: an outcome is not finite.
    """
    x, outcomes = require_samples(samples, y, least=1)
    if not np.isfinite(outcomes).all():
        raise BadInput(f"{int((~np.isfinite(outcomes)).sum())} outcomes are not finite; rank matured origins only")
    below = (x < outcomes[..., None]).sum(axis=-1)
    ties = (x == outcomes[..., None]).sum(axis=-1)
    share = np.random.default_rng(seed).random(outcomes.shape)
    return np.asarray((below + share * (ties + 1)) / (x.shape[-1] + 1))


def ks_uniform(values: Floats, slots: Ints, horizon_bars: int) -> Uniformity:
    """Test uniformity by Kolmogorov-Smirnov, for targets that do not overlap.

    Args:
        values: (n,) PIT values in [0, 1].
        slots: (n,) running bar numbers of their origins, increasing.
        horizon_bars: length of the target.

    Raises:
        OverlappingTargets: two origins are closer than the horizon; take `independent_rows`, or `block_ks_uniform`.
        TooFewRows: fewer than 20 values.
        BadInput: values outside [0, 1] or not finite.
    """
    from scipy.stats import kstest

    tested = _require_probabilities(values)
    if slots.shape != tested.shape or horizon_bars < 1:
        raise BadInput(f"{tested.size} values need as many slots and a horizon of 1 or more, were {slots.shape}")
    close = int((np.diff(slots) < horizon_bars).sum())
    if close:
        raise OverlappingTargets(
            f"{close} of {tested.size} origins are less than {horizon_bars} bars after the one before, so their targets"
            " overlap and Kolmogorov-Smirnov would reject right forecasts; thin them or use the block bootstrap"
        )
    if tested.size < LEAST_ROWS:
        raise TooFewRows(tested.size, LEAST_ROWS, tested.size)
    found = kstest(tested, "uniform")
    return Uniformity(statistic=float(found.statistic), p_value=float(found.pvalue), rows=tested.size)


def block_ks_uniform(values: Floats, overlap_rows: int, *, replicates: int = 1000, seed: int) -> Uniformity:
    """Test uniformity of dependent values, the spread of the statistic taken from circular blocks.

    Blocks hold b = max(2 overlap, n^(1/3)) rows. The distance of resampled distribution functions from the observed
    one stands in for that of the observed from the uniform one, stretched by what block edges lose (as in
    `skill_interval`). Distances are taken at 199 levels.

    Args:
        values: (n,) PIT values in [0, 1], in time order.
        overlap_rows: how many consecutive rows share part of a target; 1 when none do.
        replicates: bootstrap samples.
        seed: the same seed gives the same p.

    Raises:
        TooFewRows: n is below 20 times overlap_rows.
        BadInput: values outside [0, 1] or not finite.

    Source: Bühlmann (1994), Annals of Statistics 22(2), blockwise bootstrap of the empirical process.
    """
    from scipy.sparse import csr_array

    tested = _require_probabilities(values)
    if overlap_rows < 1:
        raise BadInput(f"overlap_rows must be 1 or more, was {overlap_rows}")
    n = tested.size
    if n < LEAST_ROWS * overlap_rows:
        raise TooFewRows(n // overlap_rows, LEAST_ROWS, n)
    block = max(2 * overlap_rows, math.ceil(n ** (1 / 3)))
    blocks = math.ceil(n / block)
    starts = np.random.default_rng(seed).integers(n, size=(replicates, blocks))
    picks = csr_array((np.ones(starts.size), starts.ravel(), np.arange(replicates + 1) * blocks), shape=(replicates, n))
    statistic, resampled = 0.0, np.zeros(replicates)
    for levels in np.array_split(_GRID, min(math.ceil(n * _GRID.size * 8 / _BLOCK_BYTES), _GRID.size)):
        below = (tested[:, None] <= levels).astype(np.float64)
        share = below.mean(axis=0)
        statistic = max(statistic, float(np.abs(share - levels).max()))
        resampled = np.maximum(resampled, np.abs(picks @ _block_sums(below - share, block)).max(axis=1))
    lost = 1 / blocks + (overlap_rows - 1) / (3 * block)
    resampled *= math.sqrt(1 / (blocks * block * n * (1 - lost)))  # a mean of blocks * block rows, as if of n
    exceeded = int((resampled >= statistic).sum())
    return Uniformity(statistic=statistic, p_value=(exceeded + 1) / (replicates + 1), rows=n)


def _block_sums(deviations: Floats, block: int) -> Floats:
    """Return the sums of `block` rows from every row on, around the end; (n, levels)."""
    before = np.zeros((1, deviations.shape[1]))
    wrapped = np.concatenate([before, deviations, deviations[: block - 1]]).cumsum(axis=0)
    return np.asarray(wrapped[block:] - wrapped[:-block])


def check_pit(forecasts: ForecastBatch, returns: Floats, *, replicates: int = 1000, seed: int) -> tuple[PitCheck, ...]:
    """Return both tests of the randomised PIT, per horizon.

    Raises:
        UnsortedOrigins: origins repeat or go back in time.
        TooFewRows: a horizon has fewer than 20 targets that do not overlap.
        UnpairedReturns: returns do not pair.
    """
    slots, values = origin_slots(forecasts), randomised_pit(forecasts, returns, seed=seed)
    checks = []
    for column, horizon in enumerate(forecasts.horizons_bars):
        rows, overlap = independent_rows(slots, horizon), overlapping_rows(slots, horizon)
        checks.append(
            PitCheck(
                horizon_bars=horizon,
                independent=ks_uniform(values[rows, column], slots[rows], horizon),
                overlapping=block_ks_uniform(values[:, column], overlap, replicates=replicates, seed=seed + column),
            )
        )
    return tuple(checks)


def _require_probabilities(values: Floats) -> Floats:
    tested = np.asarray(values, dtype=np.float64)
    if tested.ndim != 1 or not ((tested >= 0) & (tested <= 1)).all():
        raise BadInput(f"PIT values must be (n,) numbers in [0, 1], were of shape {tested.shape}; are some NaN?")
    return tested
