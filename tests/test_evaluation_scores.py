"""Scores against closed forms, other libraries and slow definitions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from evaluation_batches import batch, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from forexgpt_core.domain.forecasts import LEVELS, SCORES, law_mean_std, law_quantiles
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.log_score import log_score
from forexgpt_core.evaluation.pairing import BadQuantiles, UnpairedReturns
from forexgpt_core.evaluation.point_errors import ConstantReturns, law_mean, mae, mape, r2_out_of_sample, rmse
from forexgpt_core.evaluation.probability_integral import pit
from forexgpt_core.evaluation.scores import (
    coverage,
    crps,
    interval,
    interval_score,
    pinball,
    scaled_wql,
    width,
    wql,
)

MID = (np.arange(200) + 0.5) / 200
EVEN_NORMAL = norm.ppf((np.arange(20_000) + 0.5) / 20_000)


def test_crps_of_a_right_normal_forecast_is_one_over_root_pi() -> None:
    quantiles = np.broadcast_to(SCORES, (EVEN_NORMAL.size, LEVELS.size))
    assert crps(quantiles, EVEN_NORMAL).mean() == pytest.approx(1 / math.sqrt(math.pi), abs=3e-4)
    nine_levels = 2 * pinball(quantiles, EVEN_NORMAL).mean()
    assert nine_levels == pytest.approx(0.380, abs=0.002), "nine levels alone are not CRPS"


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (0.7, 0.5), (-1.0, 2.0)])
def test_crps_agrees_with_the_closed_form_of_scoringrules(mean: float, spread: float) -> None:
    scoringrules = pytest.importorskip("scoringrules")
    y = np.linspace(-4, 4, 161)
    ours = crps(np.broadcast_to(mean + spread * SCORES, (y.size, LEVELS.size)), y)
    np.testing.assert_allclose(ours, scoringrules.crps_normal(y, mean, spread), atol=3e-3 * spread)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), atoms=st.integers(0, 8))
def test_crps_is_twice_the_mean_pinball_of_the_200_points(seed: int, atoms: int) -> None:
    rng = np.random.default_rng(seed)
    quantiles = np.sort(rng.normal(size=(40, LEVELS.size)), axis=-1)
    quantiles[:, : atoms + 1] = quantiles[:, [0]]  # equal neighbours, up to a single point
    y = np.concatenate([rng.normal(size=37) * 2, quantiles[37:, 0]])
    slow = 2 * pinball(law_quantiles(quantiles, MID), y, MID).mean(axis=-1)
    np.testing.assert_allclose(crps(quantiles, y), slow, atol=1e-12)


@settings(deadline=None)
@given(factor=st.floats(1e-6, 1e6), shift=st.floats(-1e3, 1e3))
def test_crps_moves_with_units_and_not_with_location(factor: float, shift: float) -> None:
    quantiles, y = np.broadcast_to(SCORES, (5, LEVELS.size)), np.linspace(-2, 2, 5)
    moved = crps(factor * quantiles + shift, factor * y + shift)
    np.testing.assert_allclose(moved, factor * crps(quantiles, y), rtol=1e-6, atol=1e-9 * max(factor, abs(shift)))


def test_crps_of_a_point_is_the_absolute_error_and_nan_stays_nan() -> None:
    scores = crps(np.zeros((4, LEVELS.size)), np.array([3.0, -2.0, 0.0, math.nan]))
    np.testing.assert_allclose(scores, [3.0, 2.0, 0.0, math.nan])


def test_the_interval_score_is_the_width_plus_the_penalty_outside() -> None:
    quantiles = np.broadcast_to(SCORES, (3, LEVELS.size))
    reach = norm.ppf(0.95)
    scores = interval_score(quantiles, np.array([0.0, reach + 1, -reach - 2]), 90)
    np.testing.assert_allclose(scores, [2 * reach, 2 * reach + 20, 2 * reach + 40])
    with pytest.raises(BadInput, match="50, 80, 90, 95 %, not for 99"):
        interval_score(quantiles, 0.0, 99)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), percent=st.sampled_from([50, 80, 90, 95]))
def test_the_interval_score_is_that_of_scoringrules(seed: int, percent: int) -> None:
    scoringrules = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(seed)
    quantiles, y = np.sort(rng.normal(size=(30, LEVELS.size)), axis=-1), 2 * rng.normal(size=30)
    low, high = interval(quantiles, percent)
    theirs = scoringrules.interval_score(y, low, high, 1 - percent / 100)
    np.testing.assert_allclose(interval_score(quantiles, y, percent), theirs)


@pytest.mark.parametrize(("levels", "expected"), [(9, 0.617), (19, 0.591), (200, 0.56420)])
def test_wql_of_a_right_normal_forecast_is_the_crps_only_at_many_even_levels(levels: int, expected: float) -> None:
    even = (np.arange(1, levels + 1)) / (levels + 1) if levels < 200 else MID
    quantiles = np.broadcast_to(norm.ppf(even), (EVEN_NORMAL.size, levels))
    assert wql(quantiles, EVEN_NORMAL, even).mean() == pytest.approx(expected, abs=1e-3)
    assert 2 * norm.pdf(norm.ppf(even)).mean() == pytest.approx(expected, abs=5e-4)


def test_wql_at_our_levels_and_scaled_as_other_libraries_do() -> None:
    quantiles, y = np.broadcast_to(SCORES, (3, LEVELS.size)), np.array([1.0, -2.0, 0.5])
    per_level = [2 * pinball(quantiles[:, [k]], y, LEVELS[[k]]).sum() / np.abs(y).sum() for k in range(LEVELS.size)]
    assert scaled_wql(quantiles, y) == pytest.approx(np.mean(per_level)), "the mean over levels of 2 loss / sum |y|"
    assert wql(quantiles, y).shape == (3,)
    assert math.isnan(wql(quantiles[0], math.nan))
    with pytest.raises(BadInput, match="every outcome is 0"):
        scaled_wql(quantiles, np.zeros(3))
    with pytest.raises(BadInput, match="must be finite"):
        scaled_wql(quantiles, np.array([1.0, math.nan, 0.0]))


@pytest.mark.parametrize("score", [crps, wql, log_score, lambda q, y: interval_score(q, y, 90)])
def test_quantiles_that_are_no_law_are_refused_by_name(score: Callable[..., np.ndarray]) -> None:
    crossing, unknown = np.stack([SCORES, SCORES]), np.stack([SCORES, SCORES])
    crossing[1, 3:5] = crossing[1, [4, 3]]
    unknown[0, 0] = math.nan
    with pytest.raises(BadQuantiles, match="quantiles of 1 forecasts cross"):
        score(crossing, 0.0 * np.ones(2))
    with pytest.raises(BadQuantiles, match="1 of 18 quantiles are not finite"):
        score(unknown, 0.0 * np.ones(2))


def test_coverage_and_pit_of_a_right_forecast_are_nominal_and_uniform() -> None:
    forecasts, y = normal(EVEN_NORMAL.size), np.stack([EVEN_NORMAL, 2 * EVEN_NORMAL], axis=1)
    observed = coverage(forecasts, y)
    assert list(observed) == [50, 80, 90, 95]
    for percent, share in observed.items():
        assert share[0] == pytest.approx(percent / 100, abs=1e-3)
        assert share[1] == pytest.approx(2 * norm.cdf(norm.ppf(0.5 + percent / 200) / 2) - 1, abs=1e-3)
    values = np.sort(pit(forecasts, y)[:, 0])
    np.testing.assert_allclose(values, (np.arange(values.size) + 0.5) / values.size, atol=1e-9)


def test_width_is_the_mean_distance_between_the_ends() -> None:
    widths = width(normal(10, spread=2.0))
    np.testing.assert_allclose(widths[90], 4 * norm.ppf(0.95))
    assert (np.diff([widths[p][0] for p in (50, 80, 90, 95)]) > 0).all()


def test_errors_of_the_mean_and_the_mean_itself() -> None:
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(size=(30, 2, LEVELS.size)), axis=-1)
    np.testing.assert_allclose(law_mean(quantiles), law_mean_std(quantiles)[0], atol=1e-12)
    forecasts, y = normal(3, shift=1.0), np.array([[1.0, 2.0], [3.0, 1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(mae(forecasts, y), [4 / 3, 1 / 3], atol=1e-9)
    np.testing.assert_allclose(rmse(forecasts, y), [math.sqrt(8 / 3), math.sqrt(1 / 3)], atol=1e-9)


def test_the_price_error_needs_no_price() -> None:
    rng = np.random.default_rng(0)
    forecasts, y = normal(50, spread=0.01, shift=0.002), rng.normal(0, 0.01, (50, 2))
    close = rng.uniform(0.5, 150, (50, 1))
    came, expected = close * np.exp(y), close * np.exp(0.002)
    np.testing.assert_allclose(mape(forecasts, y), np.abs(expected / came - 1).mean(axis=0))


def test_r2_is_against_no_change_and_a_worse_forecast_is_below_zero() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(20_000, 2))
    y = 0.1 * signal + np.sqrt(0.99) * rng.normal(size=signal.shape)
    perfect = batch(y[:, :, None] + 0.1 * SCORES)
    np.testing.assert_allclose(r2_out_of_sample(perfect, y), 1.0)
    np.testing.assert_allclose(r2_out_of_sample(batch(0.1 * signal[:, :, None] + SCORES), y), 0.01, atol=0.004)
    assert (r2_out_of_sample(batch(-0.1 * signal[:, :, None] + SCORES), y) < -0.02).all()
    np.testing.assert_allclose(r2_out_of_sample(normal(len(y)), y), 0.0, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_r2_of_a_constant_series_is_refused_by_name(value: float) -> None:
    y = np.random.default_rng(0).normal(size=(40, 2))
    y[:, 1] = value
    with pytest.raises(ConstantReturns, match=rf"all 40 returns over 4 bars are {value:g}"):
        r2_out_of_sample(normal(40), y)


def test_returns_that_do_not_pair_are_refused_by_name() -> None:
    forecasts = normal(4)
    with pytest.raises(UnpairedReturns, match=r"shape \(3, 2\)"):
        coverage(forecasts, np.zeros((3, 2)))
    with pytest.raises(UnpairedReturns, match="1 of 8 returns are not known"):
        rmse(forecasts, np.array([[0.0, 0.0]] * 3 + [[0.0, math.nan]]))
    with pytest.raises(UnpairedReturns, match="no forecasts"):
        coverage(normal(0), np.zeros((0, 2)))
