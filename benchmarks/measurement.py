"""What a benchmark reports, and how a time is taken."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured figure, beside its peer where there is one.

    Attributes:
        ours, peer: in `unit`; peer is None where nothing comparable exists.
        ratio: how many times faster than the peer we are, None without one.
        goal: the goal in words and numbers, such as "ratio >= 10" or "ours <= 3", None where there is none.
        met: whether the goal was reached, None without one.
        note: what was measured on what, in one line.
    """

    name: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    unit: str
    goal: str | None = None
    met: bool | None = None
    note: str = ""


def against_peer(
    name: str, ours: float, peer: float, *, unit: str, least_ratio: float | None = None, note: str = ""
) -> Measurement:
    """Return the measurement of two times taken in the same run; the goal is to be `least_ratio` times faster."""
    ratio = peer / ours
    return Measurement(
        name=name,
        ours=ours,
        peer=peer,
        ratio=ratio,
        unit=unit,
        goal=None if least_ratio is None else f"ratio >= {least_ratio:g}",
        met=None if least_ratio is None else ratio >= least_ratio,
        note=note,
    )


def alone(
    name: str,
    ours: float,
    *,
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
    note: str = "",
) -> Measurement:
    """Return a measurement without a peer; the goal is a bound from above or from below, or none."""
    if at_most is not None and at_least is not None:
        raise ValueError(f"{name} has two goals; expected at_most or at_least")
    goal, met = None, None
    if at_most is not None:
        goal, met = f"ours <= {at_most:g}", ours <= at_most
    if at_least is not None:
        goal, met = f"ours >= {at_least:g}", ours >= at_least
    return Measurement(name=name, ours=ours, unit=unit, goal=goal, met=met, note=note)


def seconds(fn: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started = perf_counter()
    fn()
    return perf_counter() - started


def median_seconds(fn: Callable[[], object], repeats: int) -> float:
    """Return the median time of `repeats` calls, after one that is not counted."""
    fn()
    return statistics.median(seconds(fn) for _ in range(repeats))


def alternating_seconds(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median times of both, called in turn so that a busy moment of the machine touches both.

    One call of each is made first and not counted.
    """
    ours()
    peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
