"""What a search tries, and the memory that every worker of a study shares."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from forexgpt_core.backtest.performance import Stats

LEASE_SECONDS = 60.0
_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.002, 0.05


class Candidate(Protocol):
    """Something a search may try, such as a StrategyConfig. Equal candidates have equal hashes."""

    @property
    def hash12(self) -> str:
        """Return the name of the candidate."""
        ...

    def document(self) -> dict[str, Any]:
        """Return the candidate as plain JSON types."""
        ...


def shown(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures for people: those whose name begins with an underscore are the search's own."""
    return {name: value for name, value in figures.items() if not name.startswith("_")}


C = TypeVar("C", bound=Candidate)
Evaluate = Callable[[Sequence[C]], Sequence[Stats]]


class TrialStore(Protocol):
    """The trials of one study. Every worker of the study tries the same candidates under the same numbers."""

    def finished(self, hashes: Sequence[str]) -> Mapping[str, Stats]:
        """Return the figures of those candidates that somebody has finished, exactly as they were handed over."""
        ...

    def claim(self, candidates: Mapping[int, Candidate], *, seconds: float) -> list[str]:
        """Reserve candidates that nobody has finished or holds for so long, at once, and return their hashes.

        A store may leave some to other workers; whoever claims again gets them where nobody else came.

        Args:
            candidates: by their number in the order tried.
            seconds: after so long without `finish` or another `claim`, anybody may claim them again.
        """
        ...

    def finish(self, figures: Mapping[str, Stats]) -> None:
        """Store the figures of claimed candidates; of one that somebody finished meanwhile the first ones stay."""
        ...


@dataclass(slots=True)
class Memory:
    """A store for one worker that remembers as long as it lives."""

    figures: dict[str, Stats] = field(default_factory=dict)

    def finished(self, hashes: Sequence[str]) -> Mapping[str, Stats]:
        """Return the figures known of those candidates."""
        return {name: self.figures[name] for name in hashes if name in self.figures}

    def claim(self, candidates: Mapping[int, Candidate], *, seconds: float) -> list[str]:
        """Return the candidates not finished yet."""
        return [one.hash12 for one in candidates.values() if one.hash12 not in self.figures]

    def finish(self, figures: Mapping[str, Stats]) -> None:
        """Remember the figures."""
        for name, stats in figures.items():
            self.figures.setdefault(name, stats)


def try_all(
    candidates: Mapping[int, C],
    evaluate: Evaluate[C],
    store: TrialStore,
    *,
    lease_seconds: float = LEASE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Stats]:
    """Return the figures of every candidate: remembered, evaluated here, or awaited from another worker.

    Args:
        candidates: by their number in the order tried, each once.
        evaluate: returns one set of JSON-safe figures per candidate, the same for the same candidate.
    """
    by_hash = {one.hash12: one for one in candidates.values()}
    known = dict(store.finished(list(by_hash)))
    pause = _FIRST_POLL_SECONDS
    while missing := {number: one for number, one in candidates.items() if one.hash12 not in known}:
        mine = [by_hash[name] for name in store.claim(missing, seconds=lease_seconds)]
        if mine:
            store.finish({one.hash12: stats for one, stats in zip(mine, evaluate(mine), strict=True)})
            pause = _FIRST_POLL_SECONDS
        else:
            sleep(pause)  # others hold them all
            pause = min(2 * pause, _LAST_POLL_SECONDS)
        known |= store.finished([one.hash12 for one in missing.values()])
    return known
