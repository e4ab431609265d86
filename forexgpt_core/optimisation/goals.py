"""What a search wants of a candidate's figures, and what it must not accept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.backtest.performance import Stats, StatValue
from forexgpt_core.errors import BadInput, UnknownName

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A figure to be made large or small.

    Attributes:
        undefined: what it counts as where it is None; without, such a candidate is infeasible.
    """

    name: str
    direction: Literal["max", "min"]
    undefined: float | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("max", "min"):
            raise BadInput(f"the direction of {self.name} must be max or min, was {self.direction!r}")
        if self.undefined is not None and not math.isfinite(self.undefined):
            raise BadInput(f"{self.name} where undefined must count as a finite number, was {self.undefined}")

    @property
    def sign(self) -> float:
        """Return what turns the figure into something to be made small."""
        return -1.0 if self.direction == "max" else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A figure that must be `least` or more, `most` or less, or both; one that is undefined is violated by 1."""

    name: str
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.least, self.most) if limit is not None]
        if not limits or not all(map(math.isfinite, limits)) or limits != sorted(limits):
            raise BadInput(
                f"the constraint on {self.name} needs a finite least, most or both, least <= most, had {self.least} and"
                f" {self.most}"
            )

    def violation(self, value: float | None) -> float:
        """Return by which share of its limit (of 1, for limits nearer to 0) the value is beyond it; 0 is feasible."""
        if value is None:
            return 1.0
        below = 0.0 if self.least is None else (self.least - value) / max(abs(self.least), 1.0)
        above = 0.0 if self.most is None else (value - self.most) / max(abs(self.most), 1.0)
        return max(below, above, 0.0)


RETURN = Objective(name="return_pct", direction="max")
DRAWDOWN = Objective(name="max_drawdown_pct", direction="min")
SHARPE = Objective(name="sharpe", direction="max", undefined=0.0)  # of an equity that never moves
WIN_RATE = Objective(name="win_rate_pct", direction="max", undefined=0.0)  # of no trades
SORTINO = Objective(name="sortino", direction="max", undefined=0.0)  # of an equity that never falls: it never moved
PROFIT_FACTOR = Objective(name="profit_factor", direction="max")  # of no loss: too lucky to be searched for
FRONT = (RETURN, DRAWDOWN, SHARPE, WIN_RATE)
OBJECTIVES = {one.name: one for one in (*FRONT, SORTINO, PROFIT_FACTOR)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """Objectives, in the order of every array of their values, and hard constraints."""

    objectives: tuple[Objective, ...] = FRONT
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if not self.objectives or len(set(self.names)) != len(self.names):
            raise BadInput(f"a search needs one objective or more, each once, got {list(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the objectives."""
        return tuple(one.name for one in self.objectives)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Return the goals that `document` wrote.

        Raises:
            BadInput: a part is missing, unknown or not what it has to be.
        """
        try:
            return cls(
                objectives=tuple(Objective(**one) for one in document["objectives"]),
                constraints=tuple(Constraint(**one) for one in document["constraints"]),
            )
        except (KeyError, TypeError) as error:
            raise BadInput(f"goals need lists of objectives and constraints, got {dict(document)}: {error}") from error

    def document(self) -> dict[str, Any]:
        """Return the goals as plain JSON types, the inverse of `parse`."""
        return {
            "objectives": [asdict(one) for one in self.objectives],
            "constraints": [asdict(one) for one in self.constraints],
        }

    def values(self, figures: Sequence[Stats]) -> Floats:
        """Return (n, objectives) to be made small; 0 where a figure is undefined and counts as nothing.

        Raises:
            UnknownName: the figures lack an objective.
            BadInput: a figure is neither a finite number nor None.
        """
        rows = [
            [self._counted(one, number(stats, one.name)) * one.sign for one in self.objectives] for stats in figures
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.objectives))

    def violations(self, figures: Sequence[Stats]) -> Floats:
        """Return (n,) by how much each candidate violates its constraints, all together; 0 is feasible.

        An objective that is undefined and counts as nothing adds 1.

        Raises:
            UnknownName, BadInput: as `values`.
        """
        return np.array([self._violation(stats) for stats in figures], dtype=np.float64)

    def worded(self, values: Floats) -> dict[str, float]:
        """Return one row of `values` by name, in the figures' own direction."""
        return {one.name: float(value * one.sign) + 0.0 for one, value in zip(self.objectives, values, strict=True)}

    def _counted(self, objective: Objective, value: float | None) -> float:
        return value if value is not None else objective.undefined or 0.0

    def _violation(self, stats: Stats) -> float:
        beyond = sum(one.violation(number(stats, one.name)) for one in self.constraints)
        lacking = sum(one.undefined is None and number(stats, one.name) is None for one in self.objectives)
        return float(beyond + lacking)


def strategy_goals(*, min_trades: int, max_drawdown_pct: float | None = None, objectives: Sequence[str] = ()) -> Goals:
    """Return the goals of a search for strategies: more return, less drawdown, more Sharpe, more wins.

    Args:
        objectives: names of OBJECTIVES in place of these four.

    Raises:
        UnknownName: an objective is not one of them.
        BadInput: one is named twice, min_trades is below 1 or max_drawdown_pct not above 0.
    """
    for name in objectives:
        if name not in OBJECTIVES:
            raise UnknownName(f"unknown objective '{name}'{hint(name, OBJECTIVES)}")
    if min_trades < 1:
        raise BadInput(f"min_trades must be 1 or more, was {min_trades}")
    if max_drawdown_pct is not None and not max_drawdown_pct > 0:
        raise BadInput(f"max_drawdown_pct must be above 0, was {max_drawdown_pct}")
    enough = Constraint(name="trades", least=min_trades)
    calm = () if max_drawdown_pct is None else (Constraint(name=DRAWDOWN.name, most=max_drawdown_pct),)
    return Goals(objectives=tuple(OBJECTIVES[name] for name in objectives) or FRONT, constraints=(enough, *calm))


def number(stats: Stats, name: str) -> float | None:
    """Return a figure that a search reads.

    Raises:
        UnknownName: there is none of that name.
        BadInput: it is neither a finite number nor None.
    """
    if name not in stats:
        raise UnknownName(f"the figures have no '{name}'{hint(name, stats)}")
    value = stats[name]
    if value is None:
        return None
    if isinstance(value, str) or not math.isfinite(value):
        raise BadInput(f"{name} is {value!r}: a search needs finite numbers, or None where a figure is undefined")
    return float(value)


def unlawful(stats: Mapping[str, StatValue]) -> str | None:
    """Return the name of a figure that is NaN or infinite, None if there is none."""
    return next((n for n, value in stats.items() if isinstance(value, float) and not math.isfinite(value)), None)


def hint(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """Return how a message about an unknown name ends."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
