"""The gate: nothing passes by itself, nothing without shown skill, nothing that is not on the newest front."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from forexgpt_core.deployment.gates import Candidates, PromotionRefused, judge_promotion
from forexgpt_core.deployment.records import Deployment, DeploymentRequest, Skill
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import ForexGPTError
from forexgpt_core.strategy.config import StrategyConfig

FRONT = [StrategyConfig(horizon_bars=24), StrategyConfig(horizon_bars=4)]
CANDIDATES = Candidates(symbol="EURUSD", timeframe="H1", bundle_hash="e1", costs=Costs(), front=FRONT)
SHOWN = Skill(horizon_bars=24, n=900, skill=0.02, skill_low=0.005, skill_high=0.035, dm_p=0.01)
NOT_SHOWN = Skill(horizon_bars=4, n=900, skill=0.001, skill_low=-0.01, skill_high=0.012, dm_p=0.4)
SKILLS = {24: SHOWN, 4: NOT_SHOWN}
SIGNED = {"approved_by": "ann", "reason": "it beats the walk"}


def judge(approve: str | None, **changes: object) -> DeploymentRequest | None:
    return judge_promotion(CANDIDATES, **{"approve": approve, "skills": SKILLS, **SIGNED, **changes})


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_nothing_approved_changes_nothing(nothing: str | None) -> None:
    assert judge(nothing) is None
    assert judge(nothing, skills={}, approved_by="", reason="") is None


def test_an_approved_configuration_with_shown_skill_passes() -> None:
    request = judge(f" {FRONT[0].hash12} ")
    assert request is not None
    assert (request.config, request.bundle_hash, request.skill) == (FRONT[0], "e1", SHOWN)
    assert (request.approved_by, request.reason, request.allow_no_skill) == ("ann", "it beats the walk", False)


@pytest.mark.parametrize("wrong", ["deadbeef0000", FRONT[0].hash12[:8], FRONT[0].hash12.upper() + "x"])
def test_a_hash_that_is_not_on_the_front_is_refused_with_those_that_are(wrong: str) -> None:
    with pytest.raises(PromotionRefused) as caught:
        judge(wrong, allow_no_skill=True)
    assert all(config.hash12 in str(caught.value) for config in FRONT)
    assert isinstance(caught.value, ForexGPTError)


def test_what_the_live_loop_cannot_hold_is_refused_by_name() -> None:
    pyramid = StrategyConfig(horizon_bars=24, max_entries=3)
    front = replace(CANDIDATES, front=[pyramid])
    with pytest.raises(PromotionRefused, match=f"{pyramid.hash12} opens up to 3 entries at once.*max_entries 1"):
        judge_promotion(front, approve=pyramid.hash12, skills=SKILLS, **SIGNED)


def test_an_empty_front_says_what_to_do() -> None:
    with pytest.raises(PromotionRefused, match="materialize pareto_configs"):
        judge_promotion(replace(CANDIDATES, front=[]), approve="x", skills=SKILLS, **SIGNED)


@pytest.mark.parametrize("skills", [SKILLS, {}, {24: SHOWN}])
def test_without_shown_skill_on_its_horizon_nothing_is_promoted_unless_a_person_takes_it_on(
    skills: dict[int, Skill],
) -> None:
    with pytest.raises(PromotionRefused, match="without shown skill is not promoted"):
        judge(FRONT[1].hash12, skills=skills)
    request = judge(FRONT[1].hash12, skills=skills, allow_no_skill=True)
    assert request is not None
    assert request.allow_no_skill
    assert request.skill == skills.get(4)


def test_the_refusal_shows_the_figures() -> None:
    with pytest.raises(PromotionRefused, match=r"at 4 bars is 0.10 % .*-1.00 to 1.20 %, p = 0.400, n = 900"):
        judge(FRONT[1].hash12)


@pytest.mark.parametrize("unsigned", [{"approved_by": " "}, {"reason": ""}])
def test_an_approval_is_signed(unsigned: dict[str, str]) -> None:
    with pytest.raises(PromotionRefused, match="who approves it and why"):
        judge(FRONT[0].hash12, **unsigned)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"skill_low": 0.0}, False),
        ({"skill_low": float("nan")}, False),
        ({"dm_p": 0.05}, False),
        ({"dm_p": float("nan")}, False),
        ({"dm_p": None}, True),
    ],
)
def test_skill_is_shown_by_interval_and_test(changes: dict[str, float | None], shown: bool) -> None:
    assert replace(SHOWN, **changes).shown is shown


def test_an_identity_is_short_and_follows_from_the_approval() -> None:
    request = judge(FRONT[0].hash12)
    assert request is not None
    moment = datetime(2018, 1, 2, tzinfo=UTC)
    identity = request.identity(moment)
    assert identity == request.identity(moment)
    assert len(identity) <= 24
    assert (
        len(
            {
                identity,
                request.identity(moment + timedelta(seconds=1)),
                replace(request, bundle_hash="e2").identity(moment),
            }
        )
        == 3
    )


def test_a_deployment_knows_whether_a_request_is_itself() -> None:
    request = judge(FRONT[0].hash12)
    assert request is not None
    deployment = Deployment(
        deployment_id="d",
        symbol="EURUSD",
        timeframe="H1",
        bundle_hash="e1",
        config=FRONT[0],
        costs=Costs(),
        approved_by="bob",
        approved_utc=datetime(2018, 1, 2, tzinfo=UTC),
        reason="other",
        allow_no_skill=False,
        skill=None,
    )
    assert request.same_as(deployment)
    assert not deployment.skill_shown
    assert not replace(request, costs=Costs(spread_pips=9.0)).same_as(deployment)
