"""A candidate beside its name: a search asks for it a dozen times, and hashing costs more than breeding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from forexgpt_core.backtest.performance import Stats
from forexgpt_core.optimisation.trials import C, Evaluate


@dataclass(frozen=True, slots=True)
class Named(Generic[C]):
    """A candidate whose hash is worked out once; itself a `trials.Candidate`."""

    candidate: C
    hash12: str

    def document(self) -> dict[str, Any]:
        """Return the candidate as plain JSON types."""
        return self.candidate.document()


def named(candidate: C) -> Named[C]:
    """Return a candidate with its name."""
    return Named(candidate, candidate.hash12)


def of_named(evaluate: Evaluate[C]) -> Evaluate[Named[C]]:
    """Return an evaluation of named candidates that asks one of plain candidates."""

    def evaluated(candidates: Sequence[Named[C]]) -> Sequence[Stats]:
        return evaluate([one.candidate for one in candidates])

    return evaluated
