"""What the front of a search is worth, once it is known how many settings were tried to find it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from forexgpt_core.backtest.performance import Floats, Stats
from forexgpt_core.evaluation.cscv import overfitting_of_moments
from forexgpt_core.evaluation.overfitting import (
    ConstantReturns,
    SharpeEvidence,
    TrialRegistry,
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    sharpe_evidence,
)
from forexgpt_core.optimisation.pareto import ParetoMember, ParetoResult, SearchEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberVerdict:
    """One member of the front on the later part, which the search never saw.

    Attributes:
        probabilistic_sharpe: probability that its true Sharpe ratio there is above 0; None where it is undefined.
        deflated_sharpe: that it is above what the best of so many worthless trials would show; likewise.
        falls_apart: it earned in sample and does not out of sample: its return or its Sharpe ratio is not above 0
            there, or its Sharpe ratio in most spans of it.
    """

    config_hash: str
    probabilistic_sharpe: float | None
    deflated_sharpe: float | None
    falls_apart: bool

    def shown(self) -> dict[str, float | bool | None]:
        """Return the figures beside a member's."""
        return {
            "probabilistic_sharpe": self.probabilistic_sharpe,
            "deflated_sharpe": self.deflated_sharpe,
            "falls_apart": self.falls_apart,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchVerdict:
    """What a search is worth; None where the span or the trials are too few to say.

    Attributes:
        pbo: probability of backtest overfitting over all its trials, from their returns per FX day.
        pbo_slope, pbo_loss_probability: see `cscv.BacktestOverfitting`.
        pbo_days, pbo_blocks: of the part searched; as many blocks as leave two days in each, 16 at most.
        trials_ever: configurations ever tried on the pair and timeframe.
        sharpe_std: standard deviation of their in-sample Sharpe ratios, annualised.
        best_of_worthless: Sharpe ratio, annualised, that the best of as many worthless trials is expected to show.
    """

    pbo: float | None
    pbo_slope: float | None
    pbo_loss_probability: float | None
    pbo_days: int
    pbo_blocks: int
    trials_ever: int
    sharpe_std: float | None
    best_of_worthless: float | None
    members: tuple[MemberVerdict, ...]

    def of(self, config_hash: str) -> MemberVerdict:
        """Return the verdict on one member."""
        return next(member for member in self.members if member.config_hash == config_hash)

    def figures(self) -> dict[str, float | int | None]:
        """Return the figures of the search as a whole."""
        return {name: value for name, value in asdict(self).items() if name != "members"} | {
            "fall_apart": sum(member.falls_apart for member in self.members)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe copy, members by configuration hash."""
        return {**self.figures(), "members": {member.config_hash: member.shown() for member in self.members}}


def judge_search(result: ParetoResult, evidence: SearchEvidence, registry: TrialRegistry) -> SearchVerdict:
    """Return what a search is worth.

    A member's out-of-sample Sharpe ratio is deflated by every trial behind the pair, although the later part was never
    searched: people look at it and search again.

    Args:
        registry: what was tried on the pair so far; the search's own trials are added, each counted once.
    """
    yearly = math.sqrt(result.periods_per_year)
    own = {trial.config.hash12: _per_period(trial.in_sample, yearly) for trial in result.evaluated}
    tried = registry.including(own)
    blocks, days = evidence.block_days.size, int(evidence.block_days.sum())
    judged = blocks > 0 and result.trials > 1 and bool(evidence.moments.any())
    overfitting = overfitting_of_moments(evidence.moments, evidence.block_days) if judged else None
    std = tried.sharpe_std
    known = not math.isnan(std)
    return SearchVerdict(
        pbo=overfitting.pbo if overfitting else None,
        pbo_slope=_finite(overfitting.slope) if overfitting else None,
        pbo_loss_probability=overfitting.loss_probability if overfitting else None,
        pbo_days=days,
        pbo_blocks=blocks if judged else 0,
        trials_ever=tried.count,
        sharpe_std=std * yearly if known else None,
        best_of_worthless=expected_maximum_sharpe(tried.count, std) * yearly if known else None,
        members=tuple(_judge(one, evidence.later_returns[one.hash12], tried) for one in result.members),
    )


def _judge(member: ParetoMember, later_returns: Floats, tried: TrialRegistry) -> MemberVerdict:
    evidence, std = _evidence(later_returns), tried.sharpe_std
    plain = deflated = None
    if evidence is not None:
        plain = probabilistic_sharpe(evidence)
        deflated = None if math.isnan(std) else deflated_sharpe(evidence, trials=tried.count, sharpe_std=std)
    earned, earns = _per_period(member.in_sample, 1.0) or 0.0, _per_period(member.out_of_sample, 1.0) or 0.0
    lost = float(member.out_of_sample["return_pct"] or 0.0) <= 0
    poor = [span for span in member.later_spans if (_per_period(span, 1.0) or 0.0) <= 0]
    return MemberVerdict(
        config_hash=member.hash12,
        probabilistic_sharpe=plain,
        deflated_sharpe=deflated,
        falls_apart=earned > 0 and (lost or earns <= 0 or 2 * len(poor) > len(member.later_spans)),
    )


def _evidence(later_returns: Floats) -> SharpeEvidence | None:
    """Return the evidence of the later part, None where the member did not trade or there are too few days."""
    if later_returns.size < 3:
        return None
    try:
        return sharpe_evidence(later_returns)
    except ConstantReturns:
        return None


def _per_period(stats: Stats, yearly: float) -> float | None:
    sharpe = stats["sharpe"]
    return float(sharpe) / yearly if isinstance(sharpe, int | float) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
