"""A space of points on a grid, and figures of them that are known in closed form: for tests of searching."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.optimisation.goals import Constraint, Goals, Objective
from forexgpt_core.optimisation.space import spread

TWO = Goals(objectives=(Objective(name="f1", direction="min"), Objective(name="f2", direction="max")))
ONE = Goals(objectives=(Objective(name="f1", direction="min"),))
FOUR = Goals(objectives=tuple(Objective(name=f"g{i}", direction="min") for i in range(4)))
BOUNDED = Goals(objectives=TWO.objectives, constraints=(Constraint(name="f1", least=0.3), Constraint(name="n", most=5)))


@dataclass(frozen=True, slots=True)
class Point:
    cells: tuple[int, ...]

    @property
    def hash12(self) -> str:
        return hashlib.sha256(json.dumps(self.cells).encode()).hexdigest()[:12]

    def document(self) -> dict[str, Any]:
        return {"cells": list(self.cells)}


@dataclass(frozen=True)
class Toy:
    """Every coordinate has as many values as its cell count says."""

    counts: tuple[int, ...] = (101, 101, 101, 101)

    @property
    def dimensions(self) -> int:
        return len(self.counts)

    @property
    def steps(self) -> np.ndarray:
        return 1 / np.array(self.counts, dtype=np.float64)

    def decode(self, x: np.ndarray) -> Point:
        return Point(tuple(min(int(s * n), n - 1) for s, n in zip(x.tolist(), self.counts)))

    def encode(self, candidate: Point) -> np.ndarray:
        return (np.array(candidate.cells) + 0.5) / self.counts

    def grid(self, count: int) -> list[Point]:
        if np.prod(self.counts) <= count:
            return [Point(cells) for cells in itertools.product(*map(range, self.counts))]
        return spread(self.decode, self.dimensions, count)

    def share(self, point: Point) -> np.ndarray:
        return np.array([c / max(n - 1, 1) for c, n in zip(point.cells, self.counts)])


@dataclass
class Counter:
    """An evaluation that remembers whom it was asked about, and does to numpy's global generator what it likes."""

    space: Toy
    asked: list[str]

    def __call__(self, points: Sequence[Point]) -> list[Stats]:
        np.random.seed(len(self.asked) % 7)
        self.asked += [point.hash12 for point in points]
        return [zdt(self.space.share(point)) for point in points]


def counting(space: Toy) -> Counter:
    return Counter(space, [])


def zdt(x: np.ndarray) -> Stats:
    """Return the two objectives of ZDT1 (the second one turned around), and four of a sphere's shell."""
    g = 1 + 9 * float(x[1:].mean()) if x.size > 1 else 1.0
    f1 = float(x[0])
    angles = x[:3] * np.pi / 2 if x.size >= 3 else np.zeros(3)
    c, s = np.cos(angles), np.sin(angles)
    shell = np.array([c[0] * c[1] * c[2], c[0] * c[1] * s[2], c[0] * s[1], s[0]]) * g
    return {"f1": f1, "f2": -g * (1 - (f1 / g) ** 0.5), "n": g, **{f"g{i}": float(v) for i, v in enumerate(shell)}}
