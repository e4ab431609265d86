"""Consistency across horizons: a martingale breaks no law, and each planted contradiction is found."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.consistency import HorizonConsistency, horizon_consistency
from forexgpt_core.evaluation.pairing import UnpairedReturns, UnsortedOrigins
from forexgpt_core.evaluation.report_card import DifferentOrigins
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.evaluation.significance import UnpairedLosses

Floats = np.ndarray
HORIZONS = (1, 4, 24)


def law(location: Floats, scale: Floats, horizons: tuple[int, ...] = HORIZONS, family: str = "linear") -> ForecastBatch:
    """Return normal laws with (n, H) location and scale, one origin per hourly bar."""
    opens = next_opens(np.array([week_opens()[1400] - np.timedelta64(1, "s")]), Timeframe.H1, len(location))[0]
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family=family,
        origin_utc=opens,
        horizons_bars=horizons,
        quantiles=location[..., None] + scale[..., None] * SCORES,
        scale=scale,
    )


def future(noise: Floats, horizons: tuple[int, ...] = HORIZONS) -> Floats:
    """Return (n, H) sums of the noise to come; the noise is as much longer as the longest horizon."""
    n, total = noise.size - max(horizons), np.concatenate([[0.0], np.cumsum(noise)])
    return np.stack([total[h : h + n] - total[:n] for h in horizons], axis=1)


def martingale(seed: int, n: int = 1000, horizons: tuple[int, ...] = HORIZONS) -> tuple[ForecastBatch, Floats]:
    noise = 1e-3 * np.random.default_rng(seed).normal(size=n + max(horizons))
    scale = np.tile(1e-3 * np.sqrt(np.array(horizons, dtype=float)), (n, 1))
    return law(np.zeros_like(scale), scale, horizons, "random_walk"), future(noise, horizons)


def judged(forecasts: ForecastBatch, y: Floats, reference: ForecastBatch | None = None) -> HorizonConsistency:
    return horizon_consistency(forecasts, y, forecasts if reference is None else reference)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_true_law_of_a_martingale_breaks_nothing(seed: int) -> None:
    walk, y = martingale(seed)
    found = judged(walk, y)
    assert found.flags == ()
    assert [(one.shorter_bars, one.longer_bars) for one in found.crps_order] == [(1, 4), (1, 24), (4, 24)]
    assert all(one.crps_longer > one.crps_shorter for one in found.crps_order)
    assert all(one.skill == 0 and one.p_value == 1 for one in found.skill_order)
    assert all(one.calls == 0 and math.isnan(one.share) for one in found.contradictions), "the walk makes no call"
    assert all("too few to see" in one.sentence for one in found.contradictions)
    assert all(one.share == 0 for one in found.narrowings)
    assert len({one.sentence for one in (*found.crps_order, *found.skill_order, *found.narrowings)}) == 8


def test_a_longer_horizon_that_scores_better_is_flagged() -> None:
    walk, y = martingale(1)
    leaked = walk.quantiles.copy()
    leaked[:, 2] = y[:, [2]] + 1e-4 * SCORES  # the longest return is known
    found = judged(replace(walk, quantiles=leaked, family="linear"), y, walk)
    assert [(one.shorter_bars, one.longer_bars) for one in found.crps_order if one.flagged] == [(1, 24), (4, 24)]
    one = found.crps_order[1]
    assert one.crps_longer == pytest.approx(crps(leaked[:, 2], y[:, 2]).mean())
    assert one.p_value < 1e-6
    assert "a longer horizon cannot be easier, look for a leak" in one.sentence
    assert [one.horizon_bars for one in found.skill_order if one.flagged] == [24]
    assert [(n.shorter_bars, n.longer_bars) for n in found.narrowings if n.flagged] == [(1, 24), (4, 24)]
    assert all(n.share == 1 and "uncertainty cannot shrink" in n.sentence for n in found.narrowings if n.flagged)
    assert len(found.flags) == 5


def test_more_skill_at_a_longer_horizon_than_at_every_shorter_one_is_flagged() -> None:
    walk, y = martingale(2, n=3000)
    error = np.array([1.0, 0.5, 0.9])  # of the forecast, in scales: it knows three quarters, and a fifth
    noise = np.random.default_rng(0).normal(size=y.shape) * walk.scale
    found = judged(law((1 - error**2) * y + error * np.sqrt(1 - error**2) * noise, error * walk.scale), y, walk)
    first, second = found.skill_order
    assert (first.horizon_bars, first.rival_bars, first.flagged) == (4, 1, True)
    assert first.skill == pytest.approx(0.5, abs=0.03)
    assert "look for a leak or for a reference that fails there" in first.sentence
    assert (second.horizon_bars, second.rival_bars, second.flagged) == (24, 4, False), "it beats one of two"
    assert second.skill > 0.05
    assert second.p_value > 0.9
    # a model that is bad at short horizons and no better than the walk at the long one is no wonder
    worse = judged(law(np.zeros_like(y), np.array([3.0, 2.0, 1.0]) * walk.scale), y, walk)
    assert worse.skill_order[1].skill == 0
    assert not any(one.flagged for one in worse.skill_order)


def test_flags_of_several_horizons_are_corrected_for_how_many_there_are() -> None:
    walk, y = martingale(2, n=400)
    noise = np.random.default_rng(0).normal(size=y.shape) * walk.scale
    error = np.array([1.0, 0.97, 1.0])  # of the forecast, in scales: a little is known of the second horizon
    told = law((1 - error**2) * y + error * np.sqrt(1 - error**2) * noise, error * walk.scale)
    two = [replace(b, horizons_bars=(1, 4), quantiles=b.quantiles[:, :2], scale=b.scale[:, :2]) for b in (told, walk)]
    (alone,) = judged(two[0], y[:, :2], two[1]).skill_order
    first, second = judged(told, y, walk).skill_order
    assert 0 < alone.p_value < 0.5 * second.p_value
    assert first.p_value == pytest.approx(2 * alone.p_value, rel=1e-9), "the smaller of two, times two (Holm)"


def test_medians_that_contradict_each_other_are_flagged_and_small_ones_make_no_call() -> None:
    walk, y = martingale(3)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=len(walk))
    turned = np.stack([signs, signs, -signs], axis=1)
    found = judged(law(0.1 * turned * walk.scale, walk.scale), y, walk).contradictions
    assert [one.flagged for one in found] == [False, True, True]
    assert [one.share for one in found] == [0.0, 1.0, 1.0]
    assert [one.calls for one in found] == [1000, 1000, 1000]
    assert "opposite signs in 100 % of 1000 calls" in found[1].sentence
    mostly = np.where(rng.random(len(walk)) < 0.7, -signs, signs)
    mixed = law(0.1 * np.stack([signs, signs, mostly], axis=1) * walk.scale, walk.scale)
    assert [one.flagged for one in judged(mixed, y, walk).contradictions] == [False, True, True]
    small = judged(law(0.01 * turned * walk.scale, walk.scale), y, walk).contradictions
    assert [one.calls for one in small] == [0, 0, 0], "a hundredth of the 50 % interval is .0135 scales"
    few = np.where(np.arange(1000)[:, None] < 40, 0.1 * turned, 0.0) * walk.scale
    told = judged(law(few, walk.scale), y, walk).contradictions
    assert [(one.calls, math.isnan(one.p_value), one.flagged) for one in told] == [
        (40, False, False),
        (40, True, False),  # 40 calls cover less than two labels of 24 bars
        (40, True, False),
    ]


def test_calls_that_agree_by_chance_half_of_the_time_contradict_nothing() -> None:
    """Directions that keep for long give few independent calls: unrelated ones must not look like a contradiction."""
    flagged = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        slow = lfilter([1.0], [1.0, -0.97], rng.normal(size=(1500, 2)), axis=0)
        walk, y = martingale(seed, n=1500, horizons=(1, 4))
        found = judged(law(0.1 * np.sign(slow) * walk.scale, walk.scale, (1, 4)), y, walk)
        flagged.append(found.contradictions[0].flagged)
    assert 0 <= np.mean(flagged) < 0.15, "nominal 5 %; taking the rows for independent flags a third of them"


def test_a_few_narrower_intervals_are_let_pass_and_many_are_not() -> None:
    walk, y = martingale(4)
    for narrow, expected in ((10, False), (11, True)):
        scale = walk.scale.copy()
        scale[:narrow, 1] = 0.9 * scale[:narrow, 0]
        found = judged(law(np.zeros_like(scale), scale), y, walk).narrowings
        assert [one.flagged for one in found] == [expected, False, False]
        assert found[0].share == narrow / 1000
    equal = law(np.zeros_like(walk.scale), np.ones_like(walk.scale) * (1 - 1e-12 * np.arange(3)))
    assert all(one.share == 0 for one in judged(equal, y, walk).narrowings), "rounding narrows nothing"


def test_one_horizon_has_nothing_to_be_compared_with() -> None:
    walk, y = martingale(5, horizons=(4,))
    found = judged(walk, y)
    assert found == HorizonConsistency(
        family="random_walk", crps_order=(), skill_order=(), contradictions=(), narrowings=()
    )
    assert found.flags == ()


@pytest.mark.slow
def test_equal_crps_and_equal_skill_at_two_horizons_are_flagged_about_as_often_as_stated() -> None:
    """At the edge of the law, with labels that overlap: nominal 5 %."""
    rng = np.random.default_rng(0)
    horizons, n, h = (1, 12), 1000, 12
    crps_flags, skill_flags = [], []
    for _ in range(500):
        # both columns move as sums over 12 bars of their own noise, so that their CRPS is equal, and so is the skill of
        # forecasts that see a third of the variance of either
        seen, unseen = (
            np.stack([future(rng.normal(size=n + h), (h,))[:, 0] for _ in range(2)], axis=1) / math.sqrt(h)
            for _ in range(2)
        )
        y = math.sqrt(1 / 3) * seen + math.sqrt(2 / 3) * unseen
        forecasts = law(math.sqrt(1 / 3) * seen, np.full_like(y, math.sqrt(2 / 3)), horizons)
        reference = law(np.zeros_like(y), np.ones_like(y), horizons, "random_walk")
        found = horizon_consistency(forecasts, y, reference)
        crps_flags.append(found.crps_order[0].flagged)
        skill_flags.append(found.skill_order[0].flagged)
    assert 0.02 < np.mean(crps_flags) < 0.09
    assert 0.02 < np.mean(skill_flags) < 0.10


def test_bad_input_is_refused_by_name() -> None:
    walk, y = martingale(6, n=100)
    with pytest.raises(UnsortedOrigins, match="strictly increasing"):
        judged(replace(walk, origin_utc=walk.origin_utc[::-1]), y)
    with pytest.raises(DifferentOrigins, match="restrict both"):
        judged(walk, y, walk.take(np.arange(99)))
    with pytest.raises(DifferentOrigins, match="restrict both"):
        judged(walk, y, replace(walk, horizons_bars=(1, 4, 23)))
    with pytest.raises(UnpairedReturns, match="1 of 300 returns are not known"):
        judged(walk, np.where(np.arange(300).reshape(100, 3) == 7, np.nan, y))
    short = walk.take(np.arange(48))
    with pytest.raises(UnpairedLosses, match="48 losses are too few for labels of 24 rows"):
        judged(short, y[:48])
    with pytest.raises(BadInput, match="significance must lie in"):
        horizon_consistency(walk, y, walk, significance=0.0)
