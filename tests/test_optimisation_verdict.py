"""A search is judged by everything that was tried, and members that fall apart are named."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from forexgpt_core.backtest.engine import block_edges
from forexgpt_core.evaluation.cscv import backtest_overfitting, largest_blocks
from forexgpt_core.evaluation.overfitting import (
    TrialRegistry,
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    sharpe_evidence,
)
from forexgpt_core.optimisation.pareto import ParetoMember, ParetoResult, ParetoSettings, SearchEvidence, Trial
from forexgpt_core.optimisation.verdict import judge_search
from forexgpt_core.strategy.config import StrategyConfig

NOTHING_BEFORE = TrialRegistry(sharpes={})
YEARLY = math.sqrt(260)


def stats(returns: np.ndarray) -> dict[str, Any]:
    spread = returns.std(ddof=1)
    sharpe = float(returns.mean() / spread * YEARLY) if spread > 0 else None
    return {"return_pct": 100 * float(np.prod(1 + returns) - 1), "sharpe": sharpe, "trades": 20}


def found(inside: np.ndarray, outside: np.ndarray) -> tuple[ParetoResult, SearchEvidence]:
    """Return a search with one trial a column of `inside`, the first columns members with returns `outside`."""
    configs = [StrategyConfig(entry_probability=0.3 + n / 1000) for n in range(inside.shape[1])]
    trials = tuple(Trial(config=c, in_sample=stats(x)) for c, x in zip(configs, inside.T, strict=True))
    members = tuple(
        ParetoMember(config=t.config, in_sample=t.in_sample, out_of_sample=stats(x), later_spans=spans(x))
        for t, x in zip(trials, outside.T)
    )
    moment = datetime(2018, 1, 1, tzinfo=UTC)
    result = ParetoResult(
        settings=ParetoSettings(),
        members=members,
        evaluated=trials,
        neighbours=0,
        repeats=0,
        picks={},
        stability={},
        hypervolume=(),
        feasible=True,
        stopped="finished",
        note="",
        purge_bars=24,
        searched_utc=(moment, moment),
        later_utc=((moment, moment),),
        periods_per_year=260,
    )
    edges = block_edges(len(inside), largest_blocks(len(inside)))
    blocks = [inside[first:last] for first, last in pairwise(edges)]
    moments = np.array([[part.sum(axis=0), (part**2).sum(axis=0)] for part in blocks]).reshape(
        len(blocks), 2, len(configs)
    )
    return result, SearchEvidence(
        moments=moments.transpose(2, 0, 1),
        block_days=np.diff(edges),
        later_returns={m.hash12: x for m, x in zip(members, outside.T)},
    )


def spans(returns: np.ndarray) -> tuple[dict[str, Any], ...]:
    return tuple(stats(part) for part in np.array_split(returns, 1))


def noise(seed: int = 0, days: int = 120, trials: int = 12, members: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 0.005 * rng.normal(size=(days, trials)), 0.005 * rng.normal(size=(80, members))


def test_the_figures_are_those_of_the_tests_with_ratios_per_day() -> None:
    inside, outside = noise()
    verdict = judge_search(*found(inside, outside), NOTHING_BEFORE)
    std = float((inside.mean(axis=0) / inside.std(axis=0, ddof=1)).std(ddof=1))
    assert verdict.trials_ever == 12
    assert verdict.sharpe_std == pytest.approx(std * YEARLY)
    assert verdict.best_of_worthless == pytest.approx(expected_maximum_sharpe(12, std) * YEARLY)
    assert verdict.pbo == backtest_overfitting(inside).pbo
    assert (verdict.pbo_days, verdict.pbo_blocks) == (120, 16)
    for member, returns in zip(verdict.members, outside.T, strict=True):
        evidence = sharpe_evidence(returns)
        assert member.probabilistic_sharpe == pytest.approx(probabilistic_sharpe(evidence))
        assert member.deflated_sharpe == pytest.approx(deflated_sharpe(evidence, trials=12, sharpe_std=std))


def test_earlier_searches_count_and_the_same_search_again_does_not() -> None:
    result, proof = found(*noise())
    first = judge_search(result, proof, NOTHING_BEFORE)
    own = {t.config.hash12: float(t.in_sample["sharpe"]) / YEARLY for t in result.evaluated}
    assert judge_search(result, proof, TrialRegistry(sharpes=own)) == first
    before = TrialRegistry(sharpes={f"earlier {n}": s for n, s in enumerate(own.values())} | own, unrecorded=5)
    second = judge_search(result, proof, before)
    assert second.trials_ever == 12 + 12 + 5
    assert all(later.deflated_sharpe < sooner.deflated_sharpe for later, sooner in zip(second.members, first.members))


def test_members_that_earned_and_no_longer_do_are_marked() -> None:
    inside, outside = noise(members=4)
    inside[:, 0] += 0.002 - inside[:, 0].mean()
    inside[:, 1] = inside[:, 0][::-1]
    inside[:, 2] = inside[:, 0]
    inside[:, 3] -= 0.002 + inside[:, 3].mean()
    outside[:, 0] += 0.001 - outside[:, 0].mean()
    outside[:, 1] -= 0.001 + outside[:, 1].mean()
    outside[:, 2] = 0.0  # trades no more
    outside[:, 3] -= 0.001 + outside[:, 3].mean()  # never earned, so nothing falls apart
    verdict = judge_search(*found(inside, outside), NOTHING_BEFORE)
    assert [member.falls_apart for member in verdict.members] == [False, True, True, False]
    assert verdict.figures()["fall_apart"] == 2
    idle = verdict.members[2]
    assert (idle.probabilistic_sharpe, idle.deflated_sharpe) == (None, None)
    assert verdict.of(idle.config_hash) is idle


def test_a_member_that_lost_falls_apart_though_its_mean_day_gained() -> None:
    inside, outside = noise(members=1)
    inside[:, 0] += 0.002 - inside[:, 0].mean()
    outside[:, 0] = np.tile([0.101, -0.1], len(outside) // 2)  # its volatility eats the mean
    result, proof = found(inside, outside)
    assert result.members[0].out_of_sample["sharpe"] > 0 > result.members[0].out_of_sample["return_pct"]
    assert judge_search(result, proof, NOTHING_BEFORE).members[0].falls_apart


def test_what_cannot_be_said_is_absent_and_not_zero() -> None:
    short = judge_search(*found(*noise(days=7)), NOTHING_BEFORE)
    assert (short.pbo, short.pbo_slope, short.pbo_loss_probability, short.pbo_blocks) == (None, None, None, 0)
    alone = judge_search(*found(*noise(trials=1, members=1)), NOTHING_BEFORE)
    assert (alone.pbo, alone.sharpe_std, alone.best_of_worthless) == (None, None, None)
    assert alone.members[0].deflated_sharpe is None
    assert alone.members[0].probabilistic_sharpe is not None
    inside, outside = noise(trials=3)
    idle = judge_search(*found(0 * inside, outside), NOTHING_BEFORE)
    assert (idle.trials_ever, idle.sharpe_std) == (3, None)
    assert (idle.pbo, idle.pbo_slope) == (None, None), "where nothing traded there was nothing to choose"


def test_a_verdict_is_plain_json() -> None:
    result, proof = found(*noise())
    verdict = judge_search(result, proof, NOTHING_BEFORE)
    document = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert set(document["members"]) == {member.hash12 for member in result.members}
    assert set(document["members"][result.members[0].hash12]) == {
        "probabilistic_sharpe",
        "deflated_sharpe",
        "falls_apart",
    }
    assert document["trials_ever"] == 12


def test_one_real_edge_among_noise_is_believed() -> None:
    inside, outside = noise(days=400, trials=40)
    inside[:, 0] += 0.0015
    outside = np.random.default_rng(9).normal(0.003, 0.005, (300, 2))
    verdict = judge_search(*found(inside, outside), NOTHING_BEFORE)
    assert verdict.pbo is not None
    assert verdict.pbo < 0.1
    best = verdict.members[0]
    assert best.deflated_sharpe is not None
    assert best.deflated_sharpe > 0.95
    assert not best.falls_apart
    lucky = judge_search(*found(*noise(days=400, trials=40)), NOTHING_BEFORE)
    assert lucky.pbo is not None
    assert lucky.pbo > 0.2


def test_a_member_that_loses_in_most_later_spans_falls_apart_whatever_the_whole_says() -> None:
    result, proof = found(*noise(members=1))
    earning = {"return_pct": 2.0, "sharpe": 2.0, "trades": 20}
    losing = {"return_pct": -0.1, "sharpe": -0.1, "trades": 20}
    for later, apart in (((earning, losing, earning), False), ((losing, losing, earning), True)):
        kept = replace(result.members[0], in_sample=earning, out_of_sample=earning, later_spans=later)
        verdict = judge_search(replace(result, members=(kept,)), proof, NOTHING_BEFORE)
        assert verdict.members[0].falls_apart is apart
