"""Probability of backtest overfitting: how often the best of a search in sample is below the median out of sample.

Combinatorially symmetric cross-validation cuts the span into blocks, takes every half of them as "in sample", and asks
where the strategy that is best there ranks among all of them on the other half.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput

Floats = NDArray[np.float64]

MOST_BLOCKS = 20  # 184,756 halves
_LEAST_BLOCK_ROWS = 2
_CELLS = 60_000  # halves x trials at once: arrays of half a MB stay in the cache, five times as fast as those of 8 MB


class ConstantTrial(BadInput):
    """A trial earns the same, and not 0, in every row: its Sharpe ratio would be infinite."""


class TooFewRows(BadInput):
    """A span is too short for that many blocks."""

    def __init__(self, have: int, need: int, blocks: int) -> None:
        super().__init__(have, need, blocks)
        self.have, self.need, self.blocks = have, need, blocks

    def __str__(self) -> str:
        return f"{self.blocks} blocks need at least {self.need} rows of returns, found {self.have}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BacktestOverfitting:
    """Where the best in sample ends up out of sample, over all halves of the span.

    Attributes:
        pbo: share of halves whose best trial ranks at or below the median on the other half.
        logits: (halves,) log of rank over rank from above; 0 at the median, above 0 better.
        slope: of the out-of-sample Sharpe ratio of the best on its in-sample one; below 0 where selection hurts. NaN
            where the in-sample ratios are all equal.
        loss_probability: share of halves whose best trial has a Sharpe ratio below 0 on the other half.
        trials, rows, blocks: of the returns that were judged.
    """

    pbo: float
    logits: Floats
    slope: float
    loss_probability: float
    trials: int
    rows: int
    blocks: int


def largest_blocks(rows: int, *, most: int = 16) -> int:
    """Return the largest even number of blocks, at most `most`, that leaves two rows in each; 0 where none does."""
    blocks = min(most, rows // _LEAST_BLOCK_ROWS)
    blocks -= blocks % 2
    return blocks if blocks >= 4 else 0


def backtest_overfitting(returns: NDArray[np.floating], *, blocks: int = 16) -> BacktestOverfitting:
    """Return the probability of backtest overfitting by combinatorially symmetric cross-validation.

    Trials are ranked by Sharpe ratio; one that does not vary in a half, because it does not trade there, has 0. Trials
    that score the same share their mean rank, and the first of equal best ones is taken. Blocks differ by one row at
    most, so no row is left out. Time O(halves x trials); memory some arrays of
    half a MB, or of one half each where there are more trials than that.

    Args:
        returns: (rows, trials) simple returns of one period each, oldest first, of every trial of the search.
        blocks: even, 4 to 20.

    Raises:
        TooFewRows: a block would have fewer than 2 rows.
        ConstantTrial: a trial earns the same in every row, and not 0.
        BadInput: there are fewer than 2 trials, a return is not finite, or blocks is odd or out of range.

    Source: Bailey, Borwein, Lopez de Prado and Zhu (2017), Journal of Computational Finance 20(4).
    """
    x = _require(returns, blocks)
    edges = np.linspace(0, len(x), blocks + 1).astype(np.int64)
    sums, squares = (np.add.reduceat(values, edges[:-1], axis=0) for values in (x, x**2))
    return _judge(sums, squares, np.diff(edges))


def overfitting_of_moments(moments: Floats, lengths: NDArray[np.int64]) -> BacktestOverfitting:
    """Return what `backtest_overfitting` returns, from the moments of the returns in each block alone.

    A Sharpe ratio needs no more, so thousands of trials are judged without keeping their returns.

    Args:
        moments: (trials, blocks, 2) sum and sum of squares of each trial's returns in each block.
        lengths: (blocks,) rows in each block.

    Raises:
        TooFewRows: a block has fewer than 2 rows.
        BadInput: there are fewer than 2 trials, a moment is not finite, or the blocks are odd or out of range.
    """
    if moments.ndim != 3 or moments.shape[0] < 2 or moments.shape[1:] != (lengths.size, 2):
        raise BadInput(f"moments must be (trials, {lengths.size}, 2) with at least 2 trials, had {moments.shape}")
    _require_blocks(lengths.size)
    if lengths.min() < _LEAST_BLOCK_ROWS:
        raise TooFewRows(int(lengths.sum()), _LEAST_BLOCK_ROWS * lengths.size, lengths.size)
    if not np.isfinite(moments).all():
        raise BadInput(f"the moments of trial {int(np.nonzero(~np.isfinite(moments))[0][0])} are not finite")
    return _judge(np.ascontiguousarray(moments[:, :, 0].T), np.ascontiguousarray(moments[:, :, 1].T), lengths)


def _judge(sums: Floats, squares: Floats, lengths: NDArray[np.int64]) -> BacktestOverfitting:
    blocks, trials = sums.shape
    rows = int(lengths.sum())
    size = np.sqrt(squares.sum(axis=0) / rows)
    size = np.where(size > 0, size, 1.0)  # returns of size 1 have the same ratio
    sums, squares = sums / size, squares / size**2
    halves = _halves(blocks)
    chunk = max(_CELLS // trials, 1)
    parts = [_chosen(halves[at : at + chunk], sums, squares, lengths) for at in range(0, len(halves), chunk)]
    inside, outside, rank = (np.concatenate(values) for values in zip(*parts, strict=True))
    share = rank / (trials + 1)
    varied = float(np.ptp(inside)) > 0
    return BacktestOverfitting(
        pbo=float((share <= 0.5).mean()),
        logits=np.log(share / (1 - share)),
        slope=float(np.polyfit(inside, outside, 1)[0]) if varied else math.nan,
        loss_probability=float((outside < 0).mean()),
        trials=trials,
        rows=rows,
        blocks=blocks,
    )


def _require(returns: NDArray[np.floating], blocks: int) -> Floats:
    x = np.asarray(returns, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 2:
        raise BadInput(f"returns must be (rows, trials) with at least 2 trials, had shape {x.shape}")
    _require_blocks(blocks)
    if x.shape[0] < _LEAST_BLOCK_ROWS * blocks:
        raise TooFewRows(x.shape[0], _LEAST_BLOCK_ROWS * blocks, blocks)
    if not np.isfinite(x).all():
        row, trial = (int(index[0]) for index in np.nonzero(~np.isfinite(x)))
        raise BadInput(f"the return of trial {trial} in row {row} is not finite")
    still = np.flatnonzero((np.ptp(x, axis=0) <= 1e-9 * np.abs(x[0])) & (x[0] != 0))
    if still.size:
        trial = int(still[0])
        raise ConstantTrial(f"trial {trial} returns {x[0, trial]:.6g} in all {len(x)} rows; check how it was computed")
    return x


def _require_blocks(blocks: int) -> None:
    if blocks % 2 or not 4 <= blocks <= MOST_BLOCKS:
        raise BadInput(f"blocks must be even and between 4 and {MOST_BLOCKS}, was {blocks}")


def _halves(blocks: int) -> Floats:
    """Return (C(blocks, blocks / 2), blocks) with 1 where a block is in sample."""
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    halves = np.zeros((len(chosen), blocks))
    np.put_along_axis(halves, chosen, 1.0, axis=1)
    return halves


def _chosen(halves: Floats, sums: Floats, squares: Floats, lengths: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Return Sharpe ratio of the best trial of each half, the same outside, and its rank there from 1, the worst."""
    inside = _sharpe(halves @ sums, halves @ squares, halves @ lengths)
    others = 1 - halves
    outside = _sharpe(others @ sums, others @ squares, others @ lengths)
    best = inside.argmax(axis=1)[:, None]
    here, there = np.take_along_axis(inside, best, axis=1), np.take_along_axis(outside, best, axis=1)
    equal = np.isclose(outside, there, rtol=1e-9, atol=1e-12)
    rank = ((outside < there) & ~equal).sum(axis=1) + (equal.sum(axis=1) + 1) / 2
    return here[:, 0], there[:, 0], rank


def _sharpe(sums: Floats, squares: Floats, rows: Floats) -> Floats:
    n = rows[:, None]
    mean = sums / n
    variance = (squares / n - mean**2) * (n / (n - 1))
    moves = variance > 1e-12 * squares / n
    return np.asarray(np.where(moves, mean, 0.0) / np.sqrt(np.where(moves, variance, 1.0)))
