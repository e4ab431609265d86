"""The settings of a strategy: what NSGA-II searches, what a deployment freezes, what `decide` obeys."""

import hashlib
import json
from dataclasses import asdict, dataclass

from forexgpt_core.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyConfig:
    """One strategy. Equal configurations have equal hashes.

    Attributes:
        horizon_bars: which forecast horizon decides.
        entry_probability: enter when P(move beyond the round-trip cost) reaches this, in (0, 1).
        stop_scales: distance of the stop from the deciding close, in standard deviations of the horizon's return.
        take_profit_scales: distance of the target, likewise.
        size_fraction: share of equity that becomes margin: exposure = fraction x equity x leverage, in (0, 1].
        holding_limit_bars: close at the open after this many bars.
    """

    horizon_bars: int = 24
    entry_probability: float = 0.5
    stop_scales: float = 2.0
    take_profit_scales: float = 3.0
    size_fraction: float = 0.1
    holding_limit_bars: int = 24

    def __post_init__(self) -> None:
        if self.horizon_bars < 1 or self.holding_limit_bars < 1:
            raise BadInput("horizon_bars and holding_limit_bars must be 1 or more")
        if not 0 < self.entry_probability < 1:
            raise BadInput(f"entry_probability must lie in (0, 1), was {self.entry_probability}")
        if not (self.stop_scales > 0 and self.take_profit_scales > 0):
            raise BadInput("stop_scales and take_profit_scales must be above 0")
        if not 0 < self.size_fraction <= 1:
            raise BadInput(f"size_fraction must lie in (0, 1], was {self.size_fraction}")

    @property
    def hash12(self) -> str:
        """Return the first 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
