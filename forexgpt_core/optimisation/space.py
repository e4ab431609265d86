"""What a search moves through: candidates laid out over the unit cube."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.errors import BadInput
from forexgpt_core.optimisation.trials import C

Floats = NDArray[np.float64]

_MOST_DRAWS = 64  # for each candidate wanted


class Space(Protocol[C]):
    """Candidates over the unit cube. Every point is a candidate, and a candidate fills a cell of points."""

    @property
    def dimensions(self) -> int:
        """Return how many coordinates a point has, 1 or more."""
        ...

    @property
    def steps(self) -> Floats:
        """Return (dimensions,) how far the next value of each coordinate is, in (0, 1]; 0.5 where it has two."""
        ...

    def decode(self, x: Floats) -> C:
        """Return the candidate at a point (dimensions,) in [0, 1]."""
        ...

    def encode(self, candidate: C) -> Floats:
        """Return the middle of the candidate's cell, which `decode` turns back; raise BadInput where it has none."""
        ...

    def grid(self, count: int) -> Sequence[C]:
        """Return at most `count` different candidates that cover the space; the same ones every time."""
        ...


def spread(decode: Callable[[Floats], C], dimensions: int, count: int) -> list[C]:
    """Return up to `count` different candidates that cover the cube evenly, always the same ones.

    They are the first points of Sobol's sequence, unscrambled. In the six dimensions of the default space, 729 of them
    have a centred discrepancy of 0.0002, a full grid of three levels each 0.08 (and random points 0.002); the grid's
    emptiest spot is nearer to a point (0.38 against 0.46), but it knows three values of every setting where the
    sequence knows hundreds, and with more settings it would have two. The first half of the sequence covers as evenly
    as a whole, so what a stopped search has seen is no corner.

    Args:
        decode: candidate at a point (dimensions,).

    Returns:
        Fewer than `count` where 64 times as many points do not hold as many candidates.

    Raises:
        BadInput: count is below 1.

    Source: Sobol (1967); Joe and Kuo (2008), SIAM J. Sci. Comput. 30(5), for the direction numbers in SciPy.
    """
    from scipy.stats import qmc

    if count < 1:
        raise BadInput(f"a grid needs 1 candidate or more, was asked for {count}")
    sequence = qmc.Sobol(dimensions, scramble=False)
    found: dict[str, C] = {}
    draw = 1 << (count - 1).bit_length()  # powers of two keep the sequence balanced
    while len(found) < count and sequence.num_generated < _MOST_DRAWS * count:
        for point in sequence.random(max(draw, sequence.num_generated)):
            candidate = decode(point)
            found.setdefault(candidate.hash12, candidate)
    return list(found.values())[:count]
