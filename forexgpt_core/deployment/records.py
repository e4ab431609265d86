"""What a deployment is: the bundle and configuration somebody approved, with the evidence they were shown."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime

from forexgpt_core.domain.costs import Costs
from forexgpt_core.strategy.config import StrategyConfig

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """The out-of-sample skill over the random walk that was on the table, for the horizon the strategy trades.

    Attributes:
        skill: 1 - CRPS / CRPS of the reference; above 0 is better than the random walk.
        skill_low, skill_high: 95 % interval.
        dm_p: one-sided Diebold-Mariano p-value, corrected for every comparison made; None where not computed.
        n: matured forecasts behind it.
    """

    horizon_bars: int
    n: int
    skill: float
    skill_low: float
    skill_high: float
    dm_p: float | None = None

    @property
    def shown(self) -> bool:
        """Return whether the whole interval lies above 0 and the test agrees."""
        return self.skill_low > 0 and (self.dm_p is None or self.dm_p < SIGNIFICANT)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRequest:
    """A promotion that passed the gate and waits to be recorded."""

    symbol: str
    timeframe: str
    bundle_hash: str
    config: StrategyConfig
    costs: Costs
    approved_by: str
    reason: str
    allow_no_skill: bool
    skill: Skill | None

    def same_as(self, deployment: "Deployment") -> bool:
        """Return whether this would deploy what is deployed already."""
        mine = (self.symbol, self.timeframe, self.bundle_hash, self.config, self.costs)
        return mine == tuple(getattr(deployment, n) for n in ("symbol", "timeframe", "bundle_hash", "config", "costs"))

    def identity(self, approved_utc: datetime) -> str:
        """Return the deployment id: short, and the same for the same approval."""
        facts = [self.symbol, self.timeframe, self.bundle_hash, self.config.hash12, asdict(self.costs)]
        text = json.dumps([*facts, approved_utc.isoformat()], sort_keys=True)
        return f"{self.symbol.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An approved strategy: who approved what, when and why."""

    deployment_id: str
    symbol: str
    timeframe: str
    bundle_hash: str
    config: StrategyConfig
    costs: Costs
    approved_by: str
    approved_utc: datetime
    reason: str
    allow_no_skill: bool
    skill: Skill | None
    active: bool = True

    @property
    def skill_shown(self) -> bool:
        """Return whether skill over the random walk had been shown when this was approved."""
        return self.skill is not None and self.skill.shown
