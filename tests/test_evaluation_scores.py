"""Scores against closed forms, other libraries and slow definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from forexgpt_core.domain.forecasts import LEVELS, SCORES, ForecastBatch, law_mean_std, law_quantiles
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.scores import (
    UnpairedReturns,
    coverage,
    crps,
    direction,
    direction_calls,
    interval_score,
    law_mean,
    mae,
    pinball,
    pit,
    rmse,
    width,
)

MID = (np.arange(200) + 0.5) / 200
EVEN_NORMAL = norm.ppf((np.arange(20_000) + 0.5) / 20_000)


def batch(quantiles: np.ndarray, horizons: tuple[int, ...] = (1, 4)) -> ForecastBatch:
    n = len(quantiles)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="test",
        origin_utc=np.datetime64("2018-01-02T00", "us") + np.arange(n) * np.timedelta64(1, "h"),
        horizons_bars=horizons,
        quantiles=quantiles,
        scale=np.ones((n, len(horizons))),
    )


def normal(n: int, spread: float = 1.0, shift: float = 0.0) -> ForecastBatch:
    return batch(np.broadcast_to(shift + spread * SCORES, (n, 2, LEVELS.size)).copy())


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


def test_direction_counts_right_signs_and_leaves_out_what_did_not_move() -> None:
    medians = np.array([1.0, 1.0, -1.0, -1.0, 1.0, 0.0])
    moves = np.array([0.5, -0.5, -0.5, 0.0, 2.0, 1.0])
    forecasts = batch((medians[:, None] * 0.1)[:, :, None] + SCORES, horizons=(1,))
    share, error = direction(forecasts, moves[:, None])
    calls, unmoved = direction_calls(forecasts, moves[:, None])
    assert (int(calls[0]), int(unmoved[0])) == (4, 1)
    assert share[0] == pytest.approx(3 / 4)
    assert error[0] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


def test_a_family_without_a_median_makes_no_call() -> None:
    forecasts, y = normal(50), np.random.default_rng(0).normal(size=(50, 2))
    rounding = batch(forecasts.quantiles + 1e-17)
    for driftless in (forecasts, rounding):
        share, error = direction(driftless, y)
        assert np.isnan(share).all()
        assert np.isnan(error).all()
        assert not direction_calls(driftless, y)[0].any()


def test_the_error_of_a_direction_allows_for_overlapping_labels() -> None:
    rng = np.random.default_rng(0)
    signs = np.repeat(rng.choice([-1.0, 1.0], 200), 10)  # ten rows share one outcome
    forecasts = batch(np.broadcast_to(0.1 + SCORES, (2000, 2, LEVELS.size)).copy(), horizons=(1, 10))
    _, error = direction(forecasts, np.stack([signs, signs], axis=1))
    assert error[1] > 2 * error[0]


def test_errors_of_the_mean_and_the_mean_itself() -> None:
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(size=(30, 2, LEVELS.size)), axis=-1)
    np.testing.assert_allclose(law_mean(quantiles), law_mean_std(quantiles)[0], atol=1e-12)
    forecasts, y = normal(3, shift=1.0), np.array([[1.0, 2.0], [3.0, 1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(mae(forecasts, y), [4 / 3, 1 / 3], atol=1e-9)
    np.testing.assert_allclose(rmse(forecasts, y), [math.sqrt(8 / 3), math.sqrt(1 / 3)], atol=1e-9)


def test_returns_that_do_not_pair_are_refused_by_name() -> None:
    forecasts = normal(4)
    with pytest.raises(UnpairedReturns, match=r"shape \(3, 2\)"):
        coverage(forecasts, np.zeros((3, 2)))
    with pytest.raises(UnpairedReturns, match="1 of 8 returns are not known"):
        rmse(forecasts, np.array([[0.0, 0.0]] * 3 + [[0.0, math.nan]]))
    with pytest.raises(UnpairedReturns, match="no forecasts"):
        direction(normal(0), np.zeros((0, 2)))
