"""All families at one horizon: which of them may be the best, and is any better than the reference after all tries?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.evaluation.model_sets import BootstrapSettings, model_confidence_set, superior_ability

Floats = NDArray[np.float64]

MOST_ROWS = 3_000  # arch's test of superior ability takes time and memory by the square of the rows


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonSets:
    """Model confidence set and superior predictive ability of all families at one horizon.

    Attributes:
        rows: origins that all families share.
        rows_averaged: how many neighbours were averaged into one row for speed; the oldest rest was left out.
        included: families the best may be among, at 95 %.
        set_p: by family.
        superior_p: of "no family is better than the reference", all tries allowed for.
        superior: families whose gain is beyond chance at 5 %.
    """

    horizon_bars: int
    rows: int
    rows_averaged: int
    included: tuple[str, ...]
    set_p: Mapping[str, float]
    superior_p: float
    superior: tuple[str, ...]


def horizon_sets(
    losses: Floats, names: tuple[str, ...], reference: str, horizon_bars: int, overlap_rows: int, *, seed: int
) -> HorizonSets:
    """Return both at one horizon.

    Long series are averaged over neighbours: means, and the variance of means over blocks, stay what they were.

    Args:
        losses: (n, k) in time order, one column a family.
        overlap_rows: how many consecutive rows share part of a label.

    Raises:
        BadInput: see `model_confidence_set`.
    """
    shorter, group = averaged(losses)
    overlap = math.ceil((overlap_rows - 1) / group) + 1 if overlap_rows > 1 else 1
    bootstrap = BootstrapSettings(seed=seed)
    best = model_confidence_set(shorter, names, overlap, settings=bootstrap)
    superior = superior_ability(shorter, names, reference, overlap, settings=bootstrap)
    return HorizonSets(
        horizon_bars=horizon_bars,
        rows=len(losses),
        rows_averaged=group,
        included=best.included,
        set_p=best.p_values,
        superior_p=superior.p_consistent,
        superior=superior.better,
    )


def averaged(losses: Floats) -> tuple[Floats, int]:
    """Return means of as many neighbours as leave at most MOST_ROWS rows, and how many those are."""
    group = max(1, math.ceil(len(losses) / MOST_ROWS))
    newest = losses[len(losses) % group :]
    return np.asarray(newest.reshape(-1, group, losses.shape[1]).mean(axis=1)), group
