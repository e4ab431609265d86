"""The gate between a Pareto front and a deployment: nothing passes by itself, and nothing without shown skill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forexgpt_core.deployment.records import DeploymentRequest, Skill
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import ForexGPTError
from forexgpt_core.strategy.config import StrategyConfig


class PromotionRefused(ForexGPTError):
    """A deployment was asked for that the evidence or the approval does not carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What may be approved: the newest Pareto front, and the ensemble bundle it was searched with."""

    symbol: str
    timeframe: str
    bundle_hash: str
    costs: Costs
    front: Sequence[StrategyConfig]


def judge_promotion(
    candidates: Candidates,
    *,
    approve: str | None,
    skills: Mapping[int, Skill],
    approved_by: str,
    reason: str,
    allow_no_skill: bool = False,
) -> DeploymentRequest | None:
    """Return the deployment to record, or None where nothing was approved and the current one simply stands.

    Args:
        candidates: the newest front.
        approve: hash of the configuration a person approved; None or empty approves nothing.
        skills: out-of-sample skill of the ensemble by horizon in bars; a horizon without evidence is absent.
        approved_by, reason: who or what approves, and why; both are recorded.
        allow_no_skill: a person takes the responsibility for a strategy whose forecasts beat nothing.

    Raises:
        PromotionRefused: the hash is not on the newest front, it trades what the live loop cannot hold, nobody signs,
            or no skill has been shown.
    """
    wanted = (approve or "").strip()
    if not wanted:
        return None
    config = _on_front(wanted, candidates)
    if config.max_entries > 1:
        raise PromotionRefused(
            f"configuration {config.hash12} opens up to {config.max_entries} entries at once, and the live loop holds"
            " one position of a pair: approve one with max_entries 1, or search with max_entries at 1"
        )
    if not approved_by.strip() or not reason.strip():
        raise PromotionRefused("a deployment records who approves it and why: give both approved_by and reason")
    skill = skills.get(config.horizon_bars)
    if not allow_no_skill and not (skill is not None and skill.shown):
        raise PromotionRefused(
            f"{candidates.symbol} {candidates.timeframe}: {_evidence(skill, config.horizon_bars)}; a model without "
            "shown skill is not promoted. Set allow_no_skill to deploy it on paper all the same"
        )
    return DeploymentRequest(
        symbol=candidates.symbol,
        timeframe=candidates.timeframe,
        bundle_hash=candidates.bundle_hash,
        config=config,
        costs=candidates.costs,
        approved_by=approved_by.strip(),
        reason=reason.strip(),
        allow_no_skill=allow_no_skill,
        skill=skill,
    )


def _on_front(wanted: str, candidates: Candidates) -> StrategyConfig:
    for config in candidates.front:
        if config.hash12 == wanted:
            return config
    hashes = ", ".join(config.hash12 for config in candidates.front) or "none: materialize pareto_configs first"
    raise PromotionRefused(
        f"'{wanted}' is not a configuration of the newest Pareto front of {candidates.symbol} {candidates.timeframe}; "
        f"its hashes are {hashes}"
    )


def _evidence(skill: Skill | None, horizon_bars: int) -> str:
    if skill is None:
        return f"no evaluation of horizon {horizon_bars} bars is recorded"
    test = "" if skill.dm_p is None else f", p = {skill.dm_p:.3f}"
    return (
        f"skill over the random walk at {horizon_bars} bars is {100 * skill.skill:.2f} % "
        f"(95 % interval {100 * skill.skill_low:.2f} to {100 * skill.skill_high:.2f} %{test}, n = {skill.n})"
    )
