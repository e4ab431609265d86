"""Tests and intervals for differences in loss: against statsmodels, and against what chance really does."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.dependence import long_run_variance, moves_slowly, persistence, variance_of_window_mean
from forexgpt_core.evaluation.significance import (
    ConstantLossDifference,
    UnpairedLosses,
    bootstrap_stretch,
    diebold_mariano,
    skill_interval,
)


def moving_sum(noise: np.ndarray, h: int) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(noise)])
    return np.asarray(total[h:] - total[:-h])


def equal_forecasters(rng: np.random.Generator, n: int, h: int) -> tuple[np.ndarray, np.ndarray]:
    """Return squared errors of two equally bad, unrelated forecasters of the same overlapping returns."""
    y, one, other = (moving_sum(rng.normal(size=n + h - 1), h) for _ in range(3))
    return (y - 0.3 * one) ** 2, (y - 0.3 * other) ** 2


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bandwidth=st.integers(0, 30))
def test_the_long_run_variance_is_the_bartlett_sum_of_autocovariances(seed: int, bandwidth: int) -> None:
    x = np.random.default_rng(seed).normal(size=40).cumsum()
    d = x - x.mean()
    gamma = np.array([np.dot(d[k:], d[: d.size - k]) / d.size for k in range(bandwidth + 1)])
    weights = 1 - np.arange(bandwidth + 1) / (bandwidth + 1)
    assert long_run_variance(x, bandwidth) == pytest.approx(2 * (weights * gamma).sum() - gamma[0], rel=1e-9, abs=1e-9)


def test_a_slow_window_is_worth_few_rows() -> None:
    from scipy.signal import lfilter

    rng = np.random.default_rng(0)
    noise = [variance_of_window_mean(rng.normal(size=4000), 500) * 500 for _ in range(50)]
    assert np.median(noise) == pytest.approx(1, rel=0.15)
    slow = lfilter([1.0], [1.0, -0.98], rng.normal(size=40_000))
    fitted = persistence(slow)
    assert fitted.decay == pytest.approx(0.98**fitted.block_rows, abs=0.06)
    means = slow[: 80 * 500].reshape(80, 500).mean(axis=1)
    assert variance_of_window_mean(slow, 500) == pytest.approx(means.var(), rel=0.4)
    assert variance_of_window_mean(slow, 2) <= slow.var()


@pytest.mark.parametrize(("n", "h"), [(500, 1), (800, 6)])
def test_the_statistic_is_that_of_statsmodels_at_the_same_bandwidth(n: int, h: int) -> None:
    stattools = pytest.importorskip("statsmodels.tsa.stattools")
    rng = np.random.default_rng(n)
    y, a, b = rng.normal(size=(3, n))
    lags = max(h - 1, math.ceil(n ** (1 / 3)))
    theirs = stattools.diebold_mariano_test(y, a, b, lags=lags, harvey_adj=True, horizon=h)
    ours = diebold_mariano((y - a) ** 2, (y - b) ** 2, h, bandwidth_rows=lags)
    assert ours.statistic == pytest.approx(float(theirs.statistic), rel=1e-9)
    assert ours.p_value == pytest.approx(float(theirs.pvalue), abs=0.02)


@pytest.mark.parametrize(("n", "h"), [(200, 1), (600, 24)])
def test_the_statistic_is_judged_by_a_t_of_as_many_degrees_as_its_bandwidth_leaves(n: int, h: int) -> None:
    from scipy.stats import t

    one, other = np.random.default_rng(n).exponential(size=(2, n))
    found = diebold_mariano(one, other, h)
    freedom = 1.5 * n / (max(2 * h, math.ceil(n ** (1 / 3))) + 1)
    assert freedom < n - 1
    assert found.p_value == pytest.approx(2 * t.sf(abs(found.statistic), freedom), rel=1e-9)


def test_the_interval_is_stretched_for_few_blocks_and_for_what_their_edges_lose() -> None:
    from scipy.stats import norm, t

    apart, overlapping = (bootstrap_stretch(1008, 48, h, 0.025) for h in (1, 24))
    few = t.ppf(0.975, 20) / norm.ppf(0.975)
    assert apart == pytest.approx(few / math.sqrt(1 - 1 / 21), rel=1e-9)
    assert overlapping == pytest.approx(few / math.sqrt(1 - 1 / 21 - 23 / 144), rel=1e-9)


def test_equal_losses_differ_by_nothing() -> None:
    loss = np.random.default_rng(0).exponential(size=100)
    same = diebold_mariano(loss, loss.copy(), 4)
    assert (same.statistic, same.p_value, same.p_better) == (0.0, 1.0, 1.0)
    assert skill_interval(loss, loss.copy(), horizon_bars=4, seed=1) == (0.0, 0.0)


def test_a_constant_difference_is_refused_by_name() -> None:
    loss = np.random.default_rng(0).exponential(size=100)
    with pytest.raises(ConstantLossDifference, match="all 100 rows") as caught:
        diebold_mariano(loss + 0.5, loss, 1)
    assert caught.value.difference == pytest.approx(0.5)


def test_losses_that_do_not_pair_are_refused() -> None:
    loss = np.ones(10)
    with pytest.raises(UnpairedLosses, match="two \\(n,\\) series"):
        diebold_mariano(loss, np.ones(9), 1)
    with pytest.raises(UnpairedLosses, match="too few for labels of 5 rows"):
        diebold_mariano(loss, loss, 5)
    with pytest.raises(UnpairedLosses, match="finite"):
        skill_interval(np.full(10, math.nan), loss, horizon_bars=1, seed=0)
    with pytest.raises(BadInput, match="at least horizon_bars - 1"):
        diebold_mariano(np.arange(100.0), np.ones(100), 10, bandwidth_rows=3)
    with pytest.raises(BadInput, match="level"):
        skill_interval(loss, loss, horizon_bars=1, seed=0, level=1.0)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), h=st.integers(1, 12))
def test_swapping_the_forecasters_turns_the_test_round(seed: int, h: int) -> None:
    one, other = np.random.default_rng(seed).exponential(size=(2, 60))
    there, back = diebold_mariano(one, other, h), diebold_mariano(other, one, h)
    assert there.statistic == pytest.approx(-back.statistic)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.p_better + back.p_better == pytest.approx(1)
    assert there.p_value == pytest.approx(2 * min(there.p_better, back.p_better))


def test_planted_skill_is_found_and_its_size_is_right() -> None:
    rng = np.random.default_rng(0)
    reference = rng.exponential(size=4000)
    model = 0.97 * reference + 0.02 * rng.normal(size=4000)
    low, high = skill_interval(model, reference, horizon_bars=4, seed=1)
    assert 0 < low < 0.03 < high < 0.05
    assert diebold_mariano(model, reference, 4).p_better < 1e-6


def test_the_interval_repeats_with_its_seed_and_widens_with_level_and_overlap() -> None:
    rng = np.random.default_rng(0)
    model, reference = equal_forecasters(rng, 1000, 24)
    interval = skill_interval(model, reference, horizon_bars=24, seed=5)
    assert interval == skill_interval(model, reference, horizon_bars=24, seed=5)
    assert interval[0] < 0 < interval[1]
    narrow = skill_interval(model, reference, horizon_bars=24, seed=5, level=0.8)
    naive = skill_interval(model, reference, horizon_bars=1, seed=5)
    assert narrow[1] - narrow[0] < interval[1] - interval[0]
    assert naive[1] - naive[0] < interval[1] - interval[0]


def test_slow_moves_are_told_from_noise_as_often_as_stated() -> None:
    from scipy.signal import lfilter

    rng = np.random.default_rng(8)
    noise = [rng.normal(size=900) for _ in range(600)]
    assert 0.02 < np.mean([moves_slowly(x) for x in noise]) < 0.08
    slow = [x + lfilter([0.05], [1.0, -0.98], rng.normal(size=1400))[500:] for x in noise[:100]]
    assert np.mean([moves_slowly(x) for x in slow]) > 0.6, "a fifth of the standard deviation lasts for 50 rows"
    assert not moves_slowly(np.ones(900))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "h"), [(1000, 1), (1000, 24), (2000, 60)])
def test_equal_forecasters_are_rejected_about_as_often_as_stated(n: int, h: int) -> None:
    """Nominal 5 %; a naive t test rejects 81 % at h 60, Newey-West with bandwidth h - 1 about 10 %."""
    rng = np.random.default_rng(n + h)
    pairs = [equal_forecasters(rng, n, h) for _ in range(1500)]
    tests = [diebold_mariano(one, other, h) for one, other in pairs]
    assert 0.03 < np.mean([t.p_value < 0.05 for t in tests]) < 0.07
    assert 0.03 < np.mean([t.p_better < 0.05 for t in tests]) < 0.07


@pytest.mark.slow
@pytest.mark.parametrize(("n", "h"), [(500, 1), (1000, 24), (2000, 60)])
def test_the_skill_interval_of_equal_forecasters_holds_zero_about_as_often_as_stated(n: int, h: int) -> None:
    rng = np.random.default_rng(n + h)
    missed = 0
    for seed in range(800):
        low, high = skill_interval(*equal_forecasters(rng, n, h), horizon_bars=h, seed=seed)
        missed += not low <= 0 <= high
    assert 0.02 < missed / 800 < 0.10


@pytest.mark.slow
@pytest.mark.parametrize(("memory_rows", "most"), [(0, 0.07), (10, 0.08), (50, 0.09)])
def test_spreads_that_are_off_for_weeks_are_not_taken_for_many_observations(memory_rows: int, most: float) -> None:
    """Both spreads are too wide and move slowly in opposite directions: neither is better, and luck lasts for long."""
    from scipy.signal import lfilter

    from forexgpt_core.evaluation.closed_forms import crps_normal

    rng, n, runs = np.random.default_rng(3), 1500, 400
    decay = 1 - 1 / memory_rows if memory_rows else 0.0
    rejected = {"plain": 0, "ours": 0, "interval": 0}
    for run in range(runs):
        shocks = 0.2 * np.sqrt(1 - decay**2) * rng.normal(size=n + 500)
        factor = np.exp(lfilter([1.0], [1.0, -decay], shocks)[500:])
        y = rng.normal(size=n)
        one, other = crps_normal(y, 0.0, 1.25 * factor), crps_normal(y, 0.0, 1.25 / factor)
        rejected["plain"] += diebold_mariano(one, other, 1, bandwidth_rows=12).p_better < 0.05
        rejected["ours"] += diebold_mariano(one, other, 1).p_better < 0.05
        rejected["interval"] += skill_interval(one, other, horizon_bars=1, replicates=200, seed=run)[0] > 0
    assert rejected["ours"] / runs <= most
    assert rejected["interval"] / runs <= most / 2 + 0.02
    if memory_rows >= 10:
        assert rejected["plain"] / runs > 0.1, "what a bandwidth alone makes of it"
