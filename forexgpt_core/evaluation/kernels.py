"""Compiled loops that no array operation expresses without n * m * m numbers in memory, or at all. Imported on use."""

import math

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.features.kernels import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@compiled
def spaced_rows(slots: Ints, gap: int) -> Ints:
    """Return the first row, and after each returned row the first one at least `gap` slots later."""
    rows = np.empty(slots.size, dtype=np.int64)
    count = 0
    for row in range(slots.size):
        if count == 0 or slots[row] - slots[rows[count - 1]] >= gap:
            rows[count] = row
            count += 1
    return rows[:count]


@compiled
def fair_energy(paths: Floats, y: Floats) -> Floats:
    """Return mean |X - y| minus half the mean |X - X'| over distinct pairs, per origin.

    Args:
        paths: (n, m, H), m >= 2.
        y: (n, H).
    """
    n, members, horizons = paths.shape
    scores = np.empty(n)
    for origin in range(n):
        to_outcome, between = 0.0, 0.0
        for i in range(members):
            square = 0.0
            for h in range(horizons):
                square += (paths[origin, i, h] - y[origin, h]) ** 2
            to_outcome += math.sqrt(square)
            for j in range(i):
                square = 0.0
                for h in range(horizons):
                    square += (paths[origin, i, h] - paths[origin, j, h]) ** 2
                between += math.sqrt(square)
        scores[origin] = to_outcome / members - between / (members * (members - 1))
    return scores
