"""PIT: uniform for right forecasts only when it is randomised, and tested only with regard to overlap."""

import math
import re

import numpy as np
import pytest
from evaluation_batches import batch, normal, overlapping
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom, kstest

from forexgpt_core.domain.forecasts import LEVELS, SCORES, law_quantiles
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation import probability_integral
from forexgpt_core.evaluation.pairing import BadSamples, UnsortedOrigins, independent_rows
from forexgpt_core.evaluation.probability_integral import (
    OverlappingTargets,
    TooFewRows,
    block_ks_uniform,
    check_pit,
    ks_uniform,
    pit,
    randomised_pit,
    rank_pit,
)


def test_the_rank_among_few_samples_must_be_randomised() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 20)), rng.normal(size=2000)
    naive = (x <= y[:, None]).mean(axis=1)
    assert kstest(naive, "uniform").pvalue < 1e-4, "a perfect ensemble is rejected"
    assert kstest(rank_pit(x, y, seed=1), "uniform").pvalue > 0.05
    ranks = np.floor(rank_pit(x, y, seed=1) * 21)
    np.testing.assert_array_equal(ranks, (x < y[:, None]).sum(axis=1))


def test_ranks_of_a_wrong_ensemble_are_found() -> None:
    rng = np.random.default_rng(1)
    x, y = 0.8 * rng.normal(size=(2000, 20)), rng.normal(size=2000)
    assert kstest(rank_pit(x, y, seed=1), "uniform").pvalue < 1e-3


def test_ties_with_the_outcome_are_broken_by_lot() -> None:
    x, y = np.zeros((20_000, 4)), np.zeros(20_000)
    values = rank_pit(x, y, seed=2)
    assert kstest(values, "uniform").pvalue > 0.01
    np.testing.assert_array_equal(values, rank_pit(x, y, seed=2))
    rounded = np.random.default_rng(3).poisson(2.0, size=(5000, 11)).astype(float)
    assert kstest(rank_pit(rounded[:, :10], rounded[:, 10], seed=3), "uniform").pvalue > 0.01


@pytest.mark.parametrize(("first", "last"), [(3, 5), (0, 2), (6, 8), (0, 8)])
def test_an_outcome_on_an_atom_is_spread_over_its_probability(first: int, last: int) -> None:
    law = SCORES.copy()
    law[first : last + 1] = law[4] if first <= 4 <= last else law[first if last == 8 else last]
    rng = np.random.default_rng(4)
    drawn = law_quantiles(law, rng.random(8000))[:, None]
    forecasts = batch(np.broadcast_to(law, (8000, 1, LEVELS.size)), horizons=(1,))
    assert kstest(pit(forecasts, drawn)[:, 0], "uniform").pvalue < 1e-3
    assert kstest(randomised_pit(forecasts, drawn, seed=5)[:, 0], "uniform").pvalue > 0.01


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_without_atoms_no_chance_enters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forecasts = batch(np.sort(rng.normal(size=(30, 2, LEVELS.size)), axis=-1))
    y = rng.normal(size=(30, 2))
    np.testing.assert_allclose(randomised_pit(forecasts, y, seed=seed), pit(forecasts, y), atol=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), horizon=st.integers(1, 30))
def test_independent_rows_are_apart_and_no_row_could_be_added(seed: int, horizon: int) -> None:
    slots = np.flatnonzero(np.random.default_rng(seed).random(300) < 0.3)
    kept = independent_rows(slots, horizon)
    assert (np.diff(slots[kept]) >= horizon).all()
    before = np.maximum.accumulate(np.where(np.isin(np.arange(slots.size), kept), slots, -1000))
    left_out = np.setdiff1d(np.arange(slots.size), kept)
    assert (slots[left_out] - before[left_out] < horizon).all()


def test_a_test_for_independent_rows_refuses_overlapping_targets() -> None:
    _, values = overlapping(400, 20, seed=0)
    slots = np.arange(400)
    with pytest.raises(OverlappingTargets, match="399 of 400 origins are less than 20 bars after"):
        ks_uniform(ndtr(values), slots, 20)
    rows = independent_rows(slots, 20)
    tested = ks_uniform(ndtr(values)[rows], slots[rows], 20)
    theirs = kstest(ndtr(values)[rows], "uniform")
    assert (tested.rows, tested.p_value) == (20, pytest.approx(theirs.pvalue))
    assert tested.statistic == pytest.approx(theirs.statistic)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "most"), [(400, 0.085), (1000, 0.065)])  # .11, .08 if block edges are ignored
def test_a_perfect_forecaster_is_rejected_near_five_percent_unless_overlap_is_ignored(n: int, most: float) -> None:
    runs, horizon, slots = 1000, 20, np.arange(n)
    rows = independent_rows(slots, horizon)
    naive = thinned = blocks = 0
    for seed in range(runs):
        values = ndtr(overlapping(n, horizon, seed)[1])
        naive += kstest(values, "uniform").pvalue < 0.05
        thinned += ks_uniform(values[rows], slots[rows], horizon).p_value < 0.05
        blocks += block_ks_uniform(values, horizon, replicates=300, seed=seed).p_value < 0.05
    assert naive / runs > 0.75
    assert binom.ppf(0.001, runs, 0.05) <= thinned <= binom.ppf(0.999, runs, 0.05)
    assert 0.03 <= blocks / runs <= most


def test_the_block_bootstrap_is_calm_about_a_perfect_forecaster_and_not_about_a_wrong_one() -> None:
    perfect = [ndtr(overlapping(2000, 20, seed)[1]) for seed in range(20)]
    rejected = sum(block_ks_uniform(values, 20, replicates=300, seed=0).p_value < 0.05 for values in perfect)
    assert rejected <= 4, "0.3 % of such tests would see more at 5 %"
    assert sum(kstest(values, "uniform").pvalue < 0.05 for values in perfect) >= 10
    wrong = ndtr(overlapping(2000, 20, 1)[1] * 2 + 1)
    found = block_ks_uniform(wrong, 20, seed=0)
    assert found.p_value < 0.01
    assert found == block_ks_uniform(wrong, 20, seed=0), "the same seed gives the same p"


def test_without_overlap_the_bootstrap_agrees_with_kolmogorov_smirnov() -> None:
    rng = np.random.default_rng(6)
    for shift in (0.0, 0.02, 0.05):
        values = np.clip(rng.random(2000) + shift, 0, 1)
        ours, plain = block_ks_uniform(values, 1, replicates=4000, seed=1), kstest(values, "uniform")
        assert ours.statistic == pytest.approx(plain.statistic, abs=0.006), "at 199 levels"
        assert ours.p_value == pytest.approx(plain.pvalue, abs=0.15)


def test_both_tests_of_a_forecast_stand_side_by_side() -> None:
    one_bar, far = overlapping(1200, 12, seed=4)
    right = normal(1200, horizons=(1, 12))
    first, second = check_pit(right, np.stack([one_bar, far], axis=1), seed=0)
    assert (first.independent.rows, first.overlapping.rows) == (1200, 1200)
    assert (second.horizon_bars, second.independent.rows, second.overlapping.rows) == (12, 100, 1200)
    assert min(first.independent.p_value, second.independent.p_value, second.overlapping.p_value) > 0.01
    narrow = normal(1200, spread=0.5, horizons=(1, 12))
    for check in check_pit(narrow, np.stack([one_bar, far], axis=1), seed=0):
        assert check.overlapping.p_value < 0.01
        assert check.independent.p_value < 0.05


def test_values_that_cannot_be_tested_are_refused_by_name() -> None:
    with pytest.raises(TooFewRows, match=re.escape("needs 20 targets that do not overlap, found 19 among 19 rows")):
        ks_uniform(np.full(19, 0.5), np.arange(19), 1)
    with pytest.raises(TooFewRows, match="found 15 among 300 rows"):
        block_ks_uniform(np.full(300, 0.5), 20, seed=0)
    for wrong in (math.nan, -0.1, 1.1):
        with pytest.raises(BadInput, match="PIT values must be"):
            ks_uniform(np.full(30, wrong), np.arange(30), 1)
    with pytest.raises(BadInput, match="as many slots"):
        ks_uniform(np.full(30, 0.5), np.arange(29), 1)
    with pytest.raises(BadInput, match="overlap_rows must be 1 or more"):
        block_ks_uniform(np.full(30, 0.5), 0, seed=0)
    with pytest.raises(BadInput, match="horizon_bars must be 1 or more"):
        independent_rows(np.arange(3), 0)
    with pytest.raises(BadSamples, match="0 samples are too few, at least 1"):
        rank_pit(np.zeros((3, 0)), np.zeros(3), seed=0)
    with pytest.raises(BadInput, match="1 outcomes are not finite"):
        rank_pit(np.zeros((3, 2)), np.array([0.0, math.nan, 1.0]), seed=0)
    back = batch(normal(3).quantiles, slots=np.array([0, 2, 1]))
    with pytest.raises(UnsortedOrigins, match="row 2"):
        check_pit(back, np.zeros((3, 2)), seed=0)


def test_levels_taken_a_few_at_a_time_give_the_same_test(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ndtr(overlapping(600, 5, seed=8)[1])
    whole = block_ks_uniform(values, 5, seed=0)
    for bytes_ in (8 * 600 * 7, 1):  # seven levels at a time, then one
        monkeypatch.setattr(probability_integral, "_BLOCK_BYTES", bytes_)
        found = block_ks_uniform(values, 5, seed=0)
        assert (found.statistic, found.p_value) == (whole.statistic, pytest.approx(whole.p_value, abs=2e-3))
