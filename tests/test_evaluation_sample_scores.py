"""Fair scores of samples: against scoringrules, slow definitions, closed forms, and unbiased at every m."""

import math

import numpy as np
import pytest
from evaluation_batches import batch
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.domain.forecasts import LEVELS, SCORES
from forexgpt_core.evaluation import sample_scores
from forexgpt_core.evaluation.closed_forms import crps_normal
from forexgpt_core.evaluation.pairing import BadSamples
from forexgpt_core.evaluation.sample_scores import NoPaths, energy_score, fair_crps, path_crps, path_energy

scoringrules = pytest.importorskip("scoringrules")


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(2, 40), ties=st.booleans())
def test_the_sorted_form_is_the_definition_over_distinct_pairs(seed: int, m: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(3, 4, m)), rng.normal(size=(3, 4))
    if ties:
        x, y = np.round(x), np.round(y)
    pairs = np.abs(x[..., :, None] - x[..., None, :]).sum(axis=(-2, -1)) / (m * (m - 1))
    slow = np.abs(x - y[..., None]).mean(axis=-1) - pairs / 2
    np.testing.assert_allclose(fair_crps(x, y), slow, atol=1e-12)
    np.testing.assert_allclose(fair_crps(x, y), scoringrules.crps_ensemble(y, x, estimator="fair"), atol=1e-12)


@pytest.mark.parametrize(("m", "usual"), [(5, 0.678), (20, 0.592), (100, 0.569)])
def test_the_fair_estimate_is_right_at_every_m_where_the_usual_one_is_high(m: int, usual: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60_000, m)), rng.normal(size=60_000)
    ours = fair_crps(x, y)
    error = 4 * ours.std() / math.sqrt(y.size)
    assert ours.mean() == pytest.approx(1 / math.sqrt(math.pi), abs=error)
    assert error < 0.01
    theirs = scoringrules.crps_ensemble(y, x).mean()
    assert theirs == pytest.approx(usual, abs=0.008)
    assert theirs == pytest.approx(ours.mean() + math.pi**-0.5 / m, abs=0.003), "what the diagonal adds"


def test_many_samples_give_the_closed_form() -> None:
    y = np.linspace(-3, 3, 13)
    x = np.random.default_rng(1).normal(size=(y.size, 40_000))
    np.testing.assert_allclose(fair_crps(x, y), crps_normal(y), atol=0.02)


def test_order_blocks_and_a_price_level_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, y = 1e-4 * rng.normal(size=(7, 3, 50)), 1e-4 * rng.normal(size=(7, 3))
    whole = fair_crps(x, y)
    np.testing.assert_allclose(fair_crps(rng.permuted(x, axis=-1), y), whole, rtol=1e-12)
    np.testing.assert_allclose(fair_crps(x + 150.0, y + 150.0), whole, rtol=1e-6)
    monkeypatch.setattr(sample_scores, "_BLOCK_BYTES", 8 * 50 * 4)  # blocks of 4 rows, the last one short
    np.testing.assert_allclose(fair_crps(x, y), whole, rtol=1e-12)


def test_an_unknown_outcome_is_nan_and_only_there() -> None:
    x, y = np.random.default_rng(3).normal(size=(3, 10)), np.array([0.0, math.nan, 1.0])
    assert list(np.isnan(fair_crps(x, y))) == [False, True, False]
    assert list(np.isnan(energy_score(x[:, :, None], y[:, None]))) == [False, True, False]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(2, 20), horizons=st.integers(1, 5))
def test_the_energy_score_is_that_of_scoringrules_and_the_crps_at_one_horizon(seed: int, m: int, horizons: int) -> None:
    rng = np.random.default_rng(seed)
    paths, y = rng.normal(size=(6, m, horizons)), rng.normal(size=(6, horizons))
    ours = energy_score(paths, y)
    np.testing.assert_allclose(ours, scoringrules.es_ensemble(y, paths, estimator="fair"), atol=1e-12)
    np.testing.assert_allclose(energy_score(paths[..., :1], y[:, :1]), fair_crps(paths[..., 0], y[:, 0]), atol=1e-12)


def test_the_energy_score_of_a_right_normal_forecast_has_its_closed_form() -> None:
    rng = np.random.default_rng(4)
    paths, y = rng.normal(size=(20_000, 5, 3)), rng.normal(size=(20_000, 3))
    scores = energy_score(paths, y)
    expected = 2 / math.sqrt(math.pi)  # half of E|X - X'| = sqrt(2) E|N3| = sqrt(2) sqrt(8 / pi)
    assert scores.mean() == pytest.approx(expected, abs=4 * scores.std() / math.sqrt(len(y)))


def test_the_energy_score_sees_that_horizons_belong_together() -> None:
    rng = np.random.default_rng(5)
    paths = rng.normal(size=(3000, 40, 4)).cumsum(axis=2)
    y = rng.normal(size=(3000, 4)).cumsum(axis=1)
    apart = np.stack([rng.permuted(paths[..., h], axis=1) for h in range(4)], axis=2)  # the same law at each horizon
    np.testing.assert_allclose(fair_crps(np.moveaxis(apart, 1, 2), y), fair_crps(np.moveaxis(paths, 1, 2), y))
    scale = np.broadcast_to(np.sqrt(np.arange(1, 5)), y.shape)
    for unit in (None, scale):
        difference = energy_score(apart, y, scale=unit) - energy_score(paths, y, scale=unit)
        assert difference.mean() > 3 * difference.std() / math.sqrt(difference.size)


def test_the_scores_of_a_forecast_take_its_paths() -> None:
    rng = np.random.default_rng(6)
    paths, y = rng.normal(size=(8, 30, 2)), rng.normal(size=(8, 2))
    forecasts = batch(np.broadcast_to(SCORES, (8, 2, LEVELS.size)), paths=paths, scale=np.full((8, 2), 2.0))
    np.testing.assert_allclose(path_crps(forecasts, y)[:, 1], fair_crps(paths[:, :, 1], y[:, 1]))
    np.testing.assert_allclose(path_energy(forecasts, y), energy_score(paths, y) / 2)
    with pytest.raises(NoPaths, match="test gave no paths"):
        path_crps(batch(forecasts.quantiles), y)
    with pytest.raises(BadSamples, match=r"expected \(n, paths, H\) = \(8, paths, 2\)"):
        path_energy(batch(forecasts.quantiles, paths=paths[:, :, :1]), y)


def test_samples_that_cannot_be_scored_are_refused_by_name() -> None:
    one, y = np.zeros((4, 1)), np.zeros(4)
    with pytest.raises(BadSamples, match="1 samples are too few, at least 2"):
        fair_crps(one, y)
    with pytest.raises(BadSamples, match="1 samples are too few"):
        energy_score(one[..., None], y[:, None])
    with pytest.raises(BadSamples, match="2 of 20 samples are not finite"):
        fair_crps(np.where(np.arange(20).reshape(4, 5) < 2, math.nan, 0.0), y)
    with pytest.raises(BadSamples, match="1 of 20 samples are not finite"):
        energy_score(np.where(np.arange(20).reshape(4, 5, 1) < 1, math.inf, 0.0), y[:, None])
    with pytest.raises(BadSamples, match=r"outcomes have shape \(3,\)"):
        fair_crps(np.zeros((4, 5)), np.zeros(3))
    with pytest.raises(BadSamples, match=r"paths \(n, m, H\) and outcomes \(n, H\)"):
        energy_score(np.zeros((4, 5, 2)), np.zeros((4, 5)))
    with pytest.raises(BadSamples, match="numbers above 0"):
        energy_score(np.zeros((4, 5, 2)), np.zeros((4, 2)), scale=np.zeros((4, 2)))
