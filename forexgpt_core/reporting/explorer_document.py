"""What the Pareto explorer shows, in plain numbers and words: no type of another module."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from forexgpt_core.errors import BadInput

Value = float | int | str | bool | None
Figures = Mapping[str, Value]

_HASH = re.compile(r"[0-9a-f]{12}")


class Objective(NamedTuple):
    """A figure that the search made large or small; `unit` is a word such as "%", empty for a plain number."""

    name: str
    goal: Literal["max", "min"]
    unit: str = ""


class Curve(NamedTuple):
    """An account over time: milliseconds since 1970 in UTC, strictly increasing, and what it was worth, finite."""

    times_ms: Sequence[int]
    values: Sequence[float]


class ExplorerTrade(NamedTuple):
    """One closed trade; times are milliseconds since 1970 in UTC, profit is net and in account currency."""

    entry_ms: int
    exit_ms: int
    side: str
    lots: float
    entry_price: float
    exit_price: float
    profit: float
    exit_reason: str


NO_CURVE = Curve((), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorerMember:
    """One configuration of the front.

    Attributes:
        hash12: names it in an approval.
        parameters: its settings by name, at least one.
        in_sample, out_of_sample: figures of the part searched and of the part never searched; the names `sharpe`,
            `trades` and `max_drawdown_pct` feed the filters of the page.
        later_spans: out-of-sample figures of each later span by its label, in order; empty where there is but one.
        probabilistic_sharpe, deflated_sharpe: probabilities in [0, 1], None where undefined.
        falls_apart: it earned in sample and does not out of sample.
        searched, later: equity of the two parts; `NO_CURVE` where it was not kept.
        trades: of both parts, in order of entry.
    """

    hash12: str
    parameters: Figures
    in_sample: Figures
    out_of_sample: Figures
    later_spans: Mapping[str, Figures] = field(default_factory=dict)
    probabilistic_sharpe: float | None = None
    deflated_sharpe: float | None = None
    falls_apart: bool = False
    searched: Curve = NO_CURVE
    later: Curve = NO_CURVE
    trades: Sequence[ExplorerTrade] = ()

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.hash12):
            raise BadInput(f"a member is named by the 12 hex digits of its hash, got '{self.hash12}'")
        if not self.parameters:
            raise BadInput(f"{self.hash12} has no parameters; give the settings that the hash stands for")
        for part, curve in (("searched", self.searched), ("later", self.later)):
            _require_curve(f"{part} equity of {self.hash12}", curve)
        entries = [trade.entry_ms for trade in self.trades]
        if any(early > late for early, late in pairwise(entries)):
            raise BadInput(f"trades of {self.hash12} are not in order of entry; sort them by entry_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorerDocument:
    """A search and what it found.

    Attributes:
        study: id of the study.
        notes: what a reader has to know, in words; shown on top.
        objectives: what was searched for; the first ones become the first axes of the page.
        members: the front, in the order that the page shows first; may be empty.
        picks: hash by the name of a pick, such as "knee".
        trials: configurations ever tried, that any reading of the best one has to be corrected for.
        best_of_worthless: annualised Sharpe ratio that the best of as many worthless ones would show; None where too
            few were tried to say.
        overfitting: other figures of the search by name, such as `pbo`.
        searched, later: first and last date of the two parts, as people write them.
        money: currency, starting cash and costs, in words.
    """

    symbol: str
    timeframe: str
    study: str
    objectives: Sequence[Objective]
    members: Sequence[ExplorerMember]
    trials: int
    searched: tuple[str, str]
    later: tuple[str, str]
    money: str
    best_of_worthless: float | None = None
    overfitting: Figures = field(default_factory=dict)
    picks: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        known = {member.hash12 for member in self.members}
        if len(known) < len(self.members):
            raise BadInput(f"{len(self.members)} members share {len(known)} hashes; give each configuration once")
        strangers = sorted(set(self.picks.values()) - known)
        if strangers:
            raise BadInput(f"picks name {', '.join(strangers)}, which are not on the front of {len(known)} members")


def _require_curve(name: str, curve: Curve) -> None:
    times, values = np.asarray(curve.times_ms), np.asarray(curve.values, dtype=np.float64)
    if times.shape != values.shape or times.ndim != 1:
        raise BadInput(f"{name} has {times.size} times and {values.size} values; give one value for each time")
    if times.size and (times.dtype.kind not in "iu" or (np.diff(times) <= 0).any()):
        raise BadInput(f"{name} needs whole milliseconds since 1970 in strictly increasing order")
    if not np.isfinite(values).all():
        raise BadInput(f"{name} holds {int((~np.isfinite(values)).sum())} values that are not finite")
