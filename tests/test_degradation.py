"""In-sample against out-of-sample skill: the gap's interval holds, and learning by heart is told from learning."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.degradation import Degradation, Losses, degradation
from forexgpt_core.evaluation.significance import UnpairedLosses, skill_interval

Floats = np.ndarray


def squared(y: Floats, forecast: Floats) -> Losses:
    return Losses(model=((y - forecast) ** 2)[:, None], reference=(y**2)[:, None])


def moving_sum(noise: Floats, h: int) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(noise)])
    return np.asarray(total[h:] - total[:-h])


def learnt_nothing(rng: np.random.Generator, n: int, h: int) -> Losses:
    """Return the losses of a forecast that knows nothing of overlapping returns, against a reference as ignorant."""
    y, one, other = (moving_sum(rng.normal(size=n + h - 1), h) for _ in range(3))
    return Losses(model=((y - 0.3 * one) ** 2)[:, None], reference=((y - 0.3 * other) ** 2)[:, None])


def memorised(rng: np.random.Generator, rows: int, inputs: int) -> tuple[Losses, Losses]:
    """Return the losses of least squares on inputs of pure noise, on the rows it was fitted on and on later ones."""
    x, y = rng.normal(size=(2, rows, inputs)), rng.normal(size=(2, rows))
    weights = np.linalg.lstsq(x[0], y[0], rcond=None)[0]
    return squared(y[0], x[0] @ weights), squared(y[1], x[1] @ weights)


def one(inside: Losses, outside: Losses, h: int = 1, *, seed: int = 0, replicates: int = 1000) -> Degradation:
    return degradation(inside, outside, (h,), seed=seed, replicates=replicates)[0]


def test_the_skills_are_those_of_the_losses_and_their_intervals_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    inside = Losses(model=rng.exponential(size=(300, 2)), reference=rng.exponential(size=(300, 2)))
    outside = Losses(model=rng.exponential(size=(200, 2)), reference=rng.exponential(size=(200, 2)))
    found = degradation(inside, outside, (1, 6), seed=4)
    assert found == degradation(inside, outside, (1, 6), seed=4)
    for column, (horizon, it) in enumerate(zip((1, 6), found, strict=True)):
        skill = 1 - inside.model[:, column].mean() / inside.reference[:, column].mean()
        later = 1 - outside.model[:, column].mean() / outside.reference[:, column].mean()
        assert it.horizon_bars == horizon
        assert (it.in_sample_skill, it.out_of_sample_skill) == pytest.approx((skill, later))
        assert it.gap == pytest.approx(skill - later)
        low, high = skill_interval(
            inside.model[:, column], inside.reference[:, column], horizon_bars=horizon, seed=4 + 2 * column
        )
        assert (it.in_sample_low, it.in_sample_high) == (low, high)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), h=st.integers(1, 12))
def test_swapping_the_stretches_turns_the_gap_round_and_certainty_about_one_leaves_the_other(seed: int, h: int) -> None:
    rng = np.random.default_rng(seed)
    inside, outside = learnt_nothing(rng, 120, h), learnt_nothing(rng, 90, h)
    it = one(inside, outside, h, replicates=100)
    assert it.gap_low <= it.gap <= it.gap_high
    known = Losses(model=np.full((90, 1), 0.5), reference=np.ones((90, 1)))  # skill .5 without doubt
    sure = one(inside, known, h, replicates=100)
    assert sure.gap_low == pytest.approx(sure.in_sample_low - 0.5)
    assert sure.gap_high == pytest.approx(sure.in_sample_high - 0.5)
    turned = one(known, inside, h, replicates=100)
    assert turned.gap_low == pytest.approx(0.5 - turned.out_of_sample_high)


def test_a_memorising_model_is_flagged_and_one_that_learnt_is_not() -> None:
    rng = np.random.default_rng(0)
    by_heart = [one(*memorised(rng, 300, 100), replicates=200) for _ in range(15)]
    assert all(it.overfitted for it in by_heart)
    assert "it is overfitted, or the market changed" in by_heart[0].sentence
    assert by_heart[0].sentence.startswith("At 1 bar the skill is +")
    for _ in range(15):
        signal = rng.normal(size=(2, 400))
        y = signal + 2 * rng.normal(size=(2, 400))
        learnt = one(squared(y[0], 0.9 * signal[0]), squared(y[1], 0.9 * signal[1]), replicates=200)
        assert not learnt.overfitted


def test_the_reference_itself_loses_nothing() -> None:
    loss = np.random.default_rng(0).exponential(size=(100, 1))
    it = one(Losses(model=loss, reference=loss.copy()), Losses(model=loss, reference=loss.copy()))
    assert (it.gap, it.gap_low, it.gap_high, it.overfitted) == (0.0, 0.0, 0.0, False)
    assert it.sentence.endswith("no more is lost than luck explains.")


def test_each_condition_of_the_flag_is_needed() -> None:
    flagged = one(*memorised(np.random.default_rng(3), 400, 150))
    assert flagged.overfitted
    assert not replace(flagged, in_sample_low=-0.01).overfitted, "no skill was seen in sample"
    assert not replace(flagged, gap_low=-0.01).overfitted, "the gap may be luck"
    half = replace(flagged, out_of_sample_skill=0.6 * flagged.in_sample_skill)
    assert not half.overfitted, "more than half of it survives"
    assert "not what marks an overfitted model" in half.sentence


@pytest.mark.slow
@pytest.mark.parametrize("h", [1, 12])
def test_a_family_that_learnt_nothing_is_flagged_no_more_often_than_stated(h: int) -> None:
    """The 95 % interval of the gap misses 0 about one time in twenty; the flag asks more, and on one side."""
    rng = np.random.default_rng(h)
    found = [one(learnt_nothing(rng, 800, h), learnt_nothing(rng, 500, h), h, seed=n) for n in range(600)]
    missed = np.mean([not it.gap_low <= 0 <= it.gap_high for it in found])
    assert 0.02 < missed < 0.09
    assert np.mean([it.gap_low > 0 for it in found]) < 0.05
    assert np.mean([it.overfitted for it in found]) < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 600)


def test_bad_losses_are_refused_by_name() -> None:
    good = Losses(model=np.ones((20, 1)), reference=np.ones((20, 1)))
    with pytest.raises(UnpairedLosses, match="two \\(n, H\\) tables"):
        Losses(model=np.ones(20), reference=np.ones(20))
    with pytest.raises(UnpairedLosses, match="two \\(n, H\\) tables"):
        Losses(model=np.ones((20, 1)), reference=np.ones((19, 1)))
    with pytest.raises(UnpairedLosses, match="there are no losses"):
        Losses(model=np.ones((0, 1)), reference=np.ones((0, 1)))
    with pytest.raises(UnpairedLosses, match="finite"):
        Losses(model=np.full((20, 1), math.nan), reference=np.ones((20, 1)))
    with pytest.raises(BadInput, match="above 0"):
        Losses(model=np.ones((20, 1)), reference=np.zeros((20, 1)))
    with pytest.raises(UnpairedLosses, match="1 horizons in sample and 1 out of sample were given for 2 horizons"):
        degradation(good, good, (1, 4), seed=0)
    with pytest.raises(UnpairedLosses, match="too few for labels of 10 rows"):
        degradation(good, good, (10,), seed=0)
    with pytest.raises(BadInput, match="level"):
        degradation(good, good, (1,), seed=0, level=1.0)
