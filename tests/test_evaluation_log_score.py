"""The log score of the nine-quantile law, and closed forms, against scoringrules and numerical integration."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from scipy.stats import t as student

from forexgpt_core.domain.forecasts import LEVELS, SCORES, law_cdf
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.closed_forms import crps_normal, crps_student_t, log_score_normal, log_score_student_t
from forexgpt_core.evaluation.log_score import log_score

scoringrules = pytest.importorskip("scoringrules")


def a_law(seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).normal(size=LEVELS.size)) + 0.05 * np.arange(LEVELS.size)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (3.0, 0.002)])
def test_the_log_score_of_a_normal_law_is_exact_far_into_the_tails(mean: float, spread: float) -> None:
    y = mean + spread * np.linspace(-60, 60, 121)
    law = np.broadcast_to(mean + spread * SCORES, (y.size, LEVELS.size))
    np.testing.assert_allclose(log_score(law, y), -norm.logpdf(y, mean, spread), rtol=1e-9)
    np.testing.assert_allclose(log_score_normal(y, mean, spread), -norm.logpdf(y, mean, spread), rtol=1e-12)
    near = np.abs(y - mean) < 35 * spread  # beyond, the density that scoringrules takes the logarithm of is 0
    np.testing.assert_allclose(log_score(law, y)[near], scoringrules.logs_normal(y[near], mean, spread), rtol=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_density_of_any_law_integrates_to_its_distribution_function(seed: int) -> None:
    law = a_law(seed)
    for low, high in pairwise(law):
        mass = quad(lambda y: math.exp(-float(log_score(law, y))), low, np.nextafter(high, low))[0]
        assert mass == pytest.approx(float(law_cdf(law, high) - law_cdf(law, low)), abs=1e-8)
    left = quad(lambda y: math.exp(-float(log_score(law, y))), -np.inf, law[0])[0]
    assert left == pytest.approx(LEVELS[0], abs=1e-6)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), y=st.floats(-40, 40))
def test_at_a_fine_resolution_the_score_is_that_of_the_density(seed: int, y: float) -> None:
    law, step = a_law(seed), 1e-5
    near_knot = np.abs(law - y).min() < step
    density = float(log_score(law, y))
    if not near_knot and density < 700:
        assert float(log_score(law, y, resolution=step)) == pytest.approx(density, rel=1e-3, abs=1e-3)
    mass = float(law_cdf(law, y + 0.25) - law_cdf(law, y - 0.25))
    if mass > 1e-6:
        assert float(log_score(law, y, resolution=0.5)) == pytest.approx(-math.log(mass / 0.5), rel=1e-6)


def test_an_atom_scores_minus_infinity_and_a_finite_number_at_a_resolution() -> None:
    law = SCORES.copy()
    law[3:6] = 0.0  # half of the probability at 0
    assert log_score(law, 0.0) == -math.inf
    assert log_score(law, 0.0, resolution=1e-3) == pytest.approx(-math.log(0.5 / 1e-3), abs=1e-2)
    assert np.isfinite(log_score(law, np.array(0.5)))
    point = np.zeros(LEVELS.size)
    assert log_score(point, 0.0) == -math.inf
    assert log_score(point, 1e-9) == math.inf, "no probability lies there"
    assert log_score(point, 0.0, resolution=1e-3) == pytest.approx(math.log(1e-3))
    assert log_score(point, 1.0, resolution=1e-3) == math.inf
    assert math.isnan(log_score(law, math.nan))
    assert math.isnan(log_score(law, math.nan, resolution=0.1))
    with pytest.raises(BadInput, match="resolution must be above 0, was 0"):
        log_score(law, 0.0, resolution=0.0)


def test_a_wrong_spread_or_place_scores_worse_than_the_truth() -> None:
    y = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    truth = log_score(np.broadcast_to(SCORES, (y.size, LEVELS.size)), y).mean()
    assert truth == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=1e-3), "the entropy of N(0, 1)"
    for wrong in (0.8 * SCORES, 1.25 * SCORES, SCORES + 0.3):
        assert log_score(np.broadcast_to(wrong, (y.size, LEVELS.size)), y).mean() > truth + 0.01


@settings(deadline=None)
@given(z=st.floats(-20, 20), loc=st.floats(-5, 5), scale=st.floats(1e-4, 10), nu=st.floats(1.05, 300))
def test_closed_forms_are_those_of_scoringrules(z: float, loc: float, scale: float, nu: float) -> None:
    y = loc + scale * z
    assert crps_normal(y, loc, scale) == pytest.approx(scoringrules.crps_normal(y, loc, scale), rel=1e-9, abs=1e-12)
    assert crps_student_t(y, nu, loc, scale) == pytest.approx(scoringrules.crps_t(y, nu, loc, scale), rel=1e-6)
    logs = pytest.approx(scoringrules.logs_t(y, nu, loc, scale), rel=1e-9, abs=1e-9)
    assert log_score_student_t(y, nu, loc, scale) == logs


@pytest.mark.parametrize("y", [-3.0, 0.0, 0.4, 8.0])
@pytest.mark.parametrize("nu", [2.5, 4.0, 30.0, math.inf])
def test_closed_forms_are_the_integral_of_the_squared_difference(y: float, nu: float) -> None:
    law = norm(0.5, 2.0) if math.isinf(nu) else student(nu, 0.5, 2.0)
    below = quad(lambda x: law.cdf(x) ** 2, -np.inf, y, epsabs=1e-10)[0]
    above = quad(lambda x: law.sf(x) ** 2, y, np.inf, epsabs=1e-10)[0]
    closed = crps_normal(y, 0.5, 2.0) if math.isinf(nu) else crps_student_t(y, nu, 0.5, 2.0)
    logs = log_score_normal(y, 0.5, 2.0) if math.isinf(nu) else log_score_student_t(y, nu, 0.5, 2.0)
    assert float(closed) == pytest.approx(below + above, abs=1e-7)
    assert float(logs) == pytest.approx(-law.logpdf(y), abs=1e-10)


def test_a_right_normal_forecast_scores_one_over_root_pi() -> None:
    assert quad(lambda y: float(crps_normal(y)) * norm.pdf(y), -12, 12)[0] == pytest.approx(math.pi**-0.5, abs=1e-9)


def test_parameters_that_make_no_law_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"scale must be finite and above 0, the smallest was 0\.0"):
        crps_normal(0.0, 0.0, np.array([1.0, 0.0]))
    with pytest.raises(BadInput, match="loc must be finite"):
        log_score_normal(0.0, math.nan)
    with pytest.raises(BadInput, match=r"nu must be finite and above 1, the smallest was 1\.0"):
        crps_student_t(0.0, 1.0)
    with pytest.raises(BadInput, match="nu must be finite and above 0"):
        log_score_student_t(0.0, 0.0)
    assert math.isnan(crps_student_t(math.nan, 4.0))
    assert math.isnan(crps_normal(math.nan))
