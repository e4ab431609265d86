"""Coverage: the exact band, the verdict on all intervals at once, and how often it wrongs a right forecaster."""

import math

import numpy as np
import pytest
from evaluation_batches import batch, normal, overlapping
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.coverage import coverage_band, coverage_holds
from forexgpt_core.evaluation.pairing import UnpairedReturns, UnsortedOrigins


@settings(deadline=None)
@given(hits=st.integers(0, 200), more=st.integers(0, 200), level=st.sampled_from([0.9, 0.95, 0.99]))
def test_the_band_is_the_exact_binomial_one(hits: int, more: int, level: float) -> None:
    n = max(hits + more, 1)
    exact = binomtest(hits, n).proportion_ci(level, method="exact")
    assert coverage_band(hits / n, n, level=level) == pytest.approx((exact.low, exact.high), abs=1e-7)


def test_what_makes_no_band_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="1 or more observations"):
        coverage_band(0.9, 0)
    with pytest.raises(BadInput, match=r"a share in \[0, 1\]"):
        coverage_band(math.nan, 10)
    with pytest.raises(BadInput, match=r"level must lie in \(0, 1\)"):
        coverage_band(0.9, 10, level=1.0)


def test_right_intervals_hold_and_wrong_ones_do_not() -> None:
    returns = np.random.default_rng(14).normal(size=(2000, 2))
    good = coverage_holds(normal(2000), returns)
    assert len(good) == 8
    assert all(one.holds and one.can_fail for one in good)
    assert [(one.horizon_bars, one.n_independent) for one in good[::4]] == [(1, 2000), (4, 500)]
    assert good[2].width_in_scales == pytest.approx(2 * 1.6449, rel=1e-4)
    for spread in (0.8, 1.3):  # too narrow, too wide
        verdicts = coverage_holds(normal(2000, spread=spread), returns)
        assert not any(one.holds for one in verdicts if one.horizon_bars == 1)


def test_origins_that_are_apart_count_in_full() -> None:
    forecasts = batch(np.broadcast_to(SCORES, (300, 1, SCORES.size)), (24,), slots=24 * np.arange(300))
    returns = np.random.default_rng(2).normal(size=(300, 1))
    assert {one.n_independent for one in coverage_holds(forecasts, returns)} == {300}


def test_few_outcomes_cannot_fail() -> None:
    assert not any(one.can_fail for one in coverage_holds(normal(3), np.zeros((3, 2))))
    hundred = coverage_holds(normal(100, horizons=(1,)), np.zeros((100, 1)))
    assert [one.can_fail for one in hundred] == [True, True, True, False], "100 of 100 are no proof of more than 95 %"


def test_what_cannot_be_judged_is_refused_by_name() -> None:
    forecasts, returns = normal(40), np.zeros((40, 2))
    with pytest.raises(UnpairedReturns, match="returns have shape"):
        coverage_holds(forecasts, returns[:2])
    with pytest.raises(UnsortedOrigins, match="row 1"):
        coverage_holds(forecasts.take(np.arange(40)[::-1]), returns)
    with pytest.raises(BadInput, match="not finite"):
        normal(40, spread=math.nan)
    returns[:, 1] = np.nan
    with pytest.raises(UnpairedReturns, match="no forecast over 4 bars has matured"):
        coverage_holds(forecasts, returns)


@pytest.mark.parametrize("horizon", [1, 4, 24])
def test_a_right_forecaster_is_seldom_called_wrong(horizon: int) -> None:
    """Of 400 runs over 1,500 overlapping targets at most 1 % alarm, all intervals of the horizon taken together."""
    forecasts = normal(1500, horizons=(horizon,))
    alarms = sum(_alarms(forecasts, horizon, seed) for seed in range(400))
    assert binomtest(alarms, 400, 0.01, alternative="greater").pvalue > 1e-3


def _alarms(forecasts: ForecastBatch, horizon: int, seed: int) -> bool:
    _, y = overlapping(len(forecasts), horizon, seed)
    return not all(one.holds for one in coverage_holds(forecasts, y[:, None]))
