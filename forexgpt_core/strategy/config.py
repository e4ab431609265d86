"""The settings of a strategy: what a search tries, what a deployment freezes, what `decide` obeys."""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from forexgpt_core.errors import BadInput

DistanceUnit = Literal["volatility", "percent"]
Sizing = Literal["fraction", "lots", "risk", "volatility", "kelly", "uncertainty"]

_FIRST_FIELDS = (  # those of the first release: always part of the hash
    "horizon_bars",
    "entry_probability",
    "stop_scales",
    "take_profit_scales",
    "size_fraction",
    "holding_limit_bars",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyConfig:
    """One strategy. Equal configurations have equal hashes.

    Attributes:
        horizon_bars: which forecast horizon decides.
        entry_probability: enter when P(move beyond the hurdle) reaches this, in (0, 1).
        stop_scales: distance of the stop from the deciding close, see `distance_unit`.
        take_profit_scales: distance of the target, likewise.
        size_fraction: how much to trade, in (0, 1]; of what, says `sizing`.
        holding_limit_bars: close at the open after this many bars.
        cost_multiple: the hurdle in round-trip costs; 0 asks for the sign alone.
        distance_unit: one scale is a standard deviation of the horizon's return under the reference walk ("volatility")
            or a hundredth, as a log return ("percent").
        trailing_scales: the stop follows the best close since the entry at this distance; 0 leaves it where it is.
        sizing: what `size_fraction` is a share of.
            "fraction": equity that becomes margin: exposure = fraction x equity x leverage.
            "lots": nothing; `lots` are traded.
            "risk": equity lost where the stop fills at its price.
            "volatility": equity, as the standard deviation of a year's profit under the reference walk.
            "kelly": equity lost at the stop, at most; less where the Kelly fraction of probability, stop and target is.
            "uncertainty": as "fraction" where the 90 % interval is as wide as the reference walk's, less in proportion
            where it is wider.
        lots: traded under "lots".
        max_entries: how many entries of one side may be open at once.
        opposite_exit: leave when the opposite side would be entered.
    """

    horizon_bars: int = 24
    entry_probability: float = 0.5
    stop_scales: float = 2.0
    take_profit_scales: float = 3.0
    size_fraction: float = 0.1
    holding_limit_bars: int = 24
    cost_multiple: float = 1.0
    distance_unit: DistanceUnit = "volatility"
    trailing_scales: float = 0.0
    sizing: Sizing = "fraction"
    lots: float = 0.1
    max_entries: int = 1
    opposite_exit: bool = True

    def __post_init__(self) -> None:
        for name in ("horizon_bars", "holding_limit_bars", "max_entries"):
            if not (getattr(self, name) >= 1 and getattr(self, name) % 1 == 0):
                raise BadInput(f"{name} must be 1 or more and whole, was {getattr(self, name)}")
        if not 0 < self.entry_probability < 1:
            raise BadInput(f"entry_probability must lie in (0, 1), was {self.entry_probability}")
        if not (self.stop_scales > 0 and self.take_profit_scales > 0):
            raise BadInput("stop_scales and take_profit_scales must be above 0")
        if not 0 < self.size_fraction <= 1:
            raise BadInput(f"size_fraction must lie in (0, 1], was {self.size_fraction}")
        for name in ("cost_multiple", "trailing_scales"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} must be 0 or more and finite, was {getattr(self, name)}")
        if not 0 < self.lots < math.inf:
            raise BadInput(f"lots must be above 0 and finite, was {self.lots}")
        for name, known in (("distance_unit", DistanceUnit), ("sizing", Sizing)):
            if getattr(self, name) not in get_args(known):
                raise BadInput(f"unknown {name} '{getattr(self, name)}'; known: {', '.join(get_args(known))}")

    def document(self) -> dict[str, Any]:
        """Return the configuration as plain JSON types."""
        return {name: getattr(self, name) for name in _USUAL}  # `asdict` would copy them, for five times the time

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON.

        Settings that later releases added are part of it where they are not at their default, so a configuration keeps
        the name it was approved under.
        """
        told = {n: v for n, v in self.document().items() if n in _FIRST_FIELDS or v != _USUAL[n]}
        return hashlib.sha256(_CANONICAL(told).encode()).hexdigest()[:12]


_CANONICAL = json.JSONEncoder(sort_keys=True).encode
_USUAL = {f.name: f.default for f in fields(StrategyConfig)}
