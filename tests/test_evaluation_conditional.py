"""Equal conditional predictive ability: against the textbook, against Diebold and Mariano, and against chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.conditional import (
    ConstantInstrument,
    DependentInstruments,
    OneRegime,
    TooFewInRegime,
    compare_by_regime,
    giacomini_white,
)
from forexgpt_core.evaluation.dependence import moves_slowly
from forexgpt_core.evaluation.report_card import holm
from forexgpt_core.evaluation.significance import ConstantLossDifference, UnpairedLosses, diebold_mariano

seeds = st.integers(0, 2**32 - 1)


def losses(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.random.default_rng(seed).exponential(size=(2, n)))  # type: ignore[return-value]  # two rows


def textbook(d: np.ndarray, columns: np.ndarray, lags: int) -> float:
    """Return n mean(z)' S^-1 mean(z) with S summed lag by lag, as it is printed."""
    z = columns * d[:, None]
    n, mean = len(z), z.mean(axis=0)
    e = z - mean
    s = e.T @ e / n
    for k in range(1, lags + 1):
        gamma = e[k:].T @ e[:-k] / n
        s += (1 - k / (lags + 1)) * (gamma + gamma.T)
    return float(n * mean @ np.linalg.inv(s) @ mean)


@settings(deadline=None)
@given(seed=seeds, horizon=st.integers(1, 12), lags=st.integers(11, 30))
def test_the_statistic_is_that_of_the_textbook(seed: int, horizon: int, lags: int) -> None:
    one, other = losses(seed)
    given_ = np.random.default_rng(seed).normal(5, 2, size=(200, 2))
    found = giacomini_white(one, other, horizon, instruments=given_, bandwidth_rows=lags)
    columns = np.column_stack([np.ones(200), given_])
    assert found.statistic == pytest.approx(textbook(one - other, columns, lags), rel=1e-6)
    assert found.p_chi_squared == pytest.approx(chi2.sf(found.statistic, 3), rel=1e-9)
    assert found.p_value > found.p_chi_squared, "an estimated covariance makes large values likelier"


@given(seed=seeds)
def test_one_step_ahead_it_is_n_times_the_uncentred_r_squared_of_the_paper(seed: int) -> None:
    one, other = losses(seed)
    found = giacomini_white(one, other, 1, lag_rows=1)
    d = one - other
    z = np.column_stack([np.ones(199), d[:-1]]) * d[1:, None]
    fitted = z @ np.linalg.lstsq(z, np.ones(199), rcond=None)[0]
    paper = 199 * float(fitted @ fitted) / 199
    assert found.bandwidth_rows == 0
    assert found.statistic / (1 + found.statistic / 199) == pytest.approx(paper, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(seed=seeds, horizon=st.integers(1, 20))
def test_without_instruments_it_is_the_square_of_diebold_and_mariano(seed: int, horizon: int) -> None:
    one, other = losses(seed)
    plain = diebold_mariano(one, other, horizon, bandwidth_rows=2 * horizon)
    harvey = (200 + 1 - 2 * horizon + horizon * (horizon - 1) / 200) / 200
    found = giacomini_white(one, other, horizon, bandwidth_rows=2 * horizon)
    assert found.statistic * harvey == pytest.approx(plain.statistic**2, rel=1e-9)
    assert found.instruments == ("constant",)


@settings(deadline=None)
@given(seed=seeds, horizon=st.integers(1, 6))
def test_it_depends_on_what_the_instruments_know_and_not_on_how_they_say_it(seed: int, horizon: int) -> None:
    one, other = losses(seed)
    given_ = np.random.default_rng(seed).normal(size=(200, 2))
    mixed = given_ @ np.array([[1000.0, -2.0], [3.0, 0.001]]) + np.array([7.0, -300.0])
    here, there = (giacomini_white(one, other, horizon, instruments=x) for x in (given_, mixed))
    back = giacomini_white(other, one, horizon, instruments=given_)
    assert there.statistic == pytest.approx(here.statistic, rel=1e-5)
    assert (back.statistic, back.p_value) == pytest.approx((here.statistic, here.p_value))


def test_a_lagged_difference_must_have_matured_by_the_origin() -> None:
    one, other = losses(0)
    found = giacomini_white(one, other, 6, lag_rows=6)
    assert (found.rows, found.instruments) == (194, ("constant", "difference 6 rows ago"))
    d = one - other
    by_hand = giacomini_white(one[6:], other[6:], 6, instruments=d[:-6, None])
    assert found.statistic == pytest.approx(by_hand.statistic, rel=1e-9)
    with pytest.raises(BadInput, match="not known at the origin"):
        giacomini_white(one, other, 6, lag_rows=5)
    with pytest.raises(BadInput, match="less than half"):
        giacomini_white(one, other, 6, lag_rows=100)


def test_a_model_that_wins_in_one_regime_and_loses_in_the_other_is_seen_here_and_nowhere_else() -> None:
    rng = np.random.default_rng(3)
    wild = np.repeat(rng.random(40) < 0.5, 50)
    reference = rng.exponential(size=2000)
    model = reference + np.where(wild, 0.1, -0.1 * wild.mean() / (1 - wild.mean())) + rng.normal(0, 0.5, 2000)
    assert diebold_mariano(model, reference, 4).p_value > 0.2
    found = compare_by_regime(model, reference, np.where(wild, "wild", "calm"), 4)
    assert found.test.p_value < 1e-3
    calm, rough = found.regimes
    assert (calm.regime, rough.regime) == ("calm", "wild")
    assert calm.mean_difference < 0 < rough.mean_difference
    assert max(calm.holm_p, rough.holm_p) < 0.01
    assert calm.rows + rough.rows == 2000
    assert [r.holm_p for r in found.regimes] == holm([r.p_value for r in found.regimes])


@settings(deadline=None)
@given(seed=seeds, horizon=st.integers(1, 10), cut=st.integers(40, 160))
def test_a_regime_of_neighbouring_rows_is_judged_as_those_rows_alone(seed: int, horizon: int, cut: int) -> None:
    one, other = losses(seed)
    found = compare_by_regime(one, other, np.arange(200) >= cut, horizon)
    for regime, rows in zip(found.regimes, (slice(cut), slice(cut, None)), strict=True):
        alone = diebold_mariano(one[rows], other[rows], horizon)
        if moves_slowly(one - other):  # which the rows of a regime may be too few to show
            assert regime.p_value >= alone.p_value * (1 - 1e-9)
            continue
        assert regime.statistic == pytest.approx(alone.statistic, rel=1e-9)
        assert regime.p_value == pytest.approx(alone.p_value, rel=1e-9)


@settings(deadline=None)
@given(seed=seeds, horizon=st.integers(1, 4))
def test_by_regime_it_is_the_test_with_dummies(seed: int, horizon: int) -> None:
    one, other = losses(seed)
    which = np.arange(180) % 3  # 60 rows of each, too few to see slow moves in
    dummies = (which[:, None] == [1, 2]).astype(float)
    found = compare_by_regime(one[:180], other[:180], which, horizon).test
    plain = giacomini_white(one[:180], other[:180], horizon, instruments=dummies)
    assert found.statistic == pytest.approx(plain.statistic)
    assert found.instruments == ("0", "1", "2")
    longer = (np.arange(200) % 2)[:, None].astype(float)
    d = one - other
    if not any(moves_slowly(rows) for rows in (d, d[::2], d[1::2])):
        wider = compare_by_regime(one, other, longer[:, 0], horizon).test
        plain = giacomini_white(one, other, horizon, instruments=longer)
        assert wider.statistic == pytest.approx(plain.statistic), "nothing to widen"


def test_a_regime_in_which_both_lose_the_same_is_no_evidence() -> None:
    one, other = losses(0)
    which = np.where(np.arange(200) < 100, "off", "on")
    same = np.where(which == "off", other, one)
    found = compare_by_regime(same, other, which, 2)
    off, on = found.regimes
    assert (off.mean_difference, off.statistic, off.p_value) == (0.0, 0.0, 1.0)
    assert on.rows == 100
    assert found.test.instruments == ("on",)
    nothing = compare_by_regime(other, other, which, 2)
    assert (nothing.test.statistic, nothing.test.p_value) == (0.0, 1.0)


def test_bad_input_is_refused_by_name() -> None:
    one, other = losses(0)
    ramp = np.arange(200.0)[:, None]
    with pytest.raises(OneRegime, match="all 200 rows belong to regime 'calm'"):
        compare_by_regime(one, other, ["calm"] * 200, 1)
    with pytest.raises(TooFewInRegime, match="'b' needs 30 rows, found 29") as caught:
        compare_by_regime(one, other, ["a"] * 171 + ["b"] * 29, 1)
    assert caught.value.have == 29
    with pytest.raises(TooFewInRegime, match="needs 97 rows, found 90"):
        compare_by_regime(one, other, ["a"] * 110 + ["b"] * 90, 48)
    with pytest.raises(BadInput, match="one regime for each of 200 rows"):
        compare_by_regime(one, other, ["a", "b"], 1)
    with pytest.raises(ConstantInstrument, match="'trend' has one value in all 200 rows"):
        giacomini_white(one, other, 1, instruments=np.column_stack([ramp, np.full(200, 0.1)]), names=["t", "trend"])
    with pytest.raises(DependentInstruments, match="combination of the others"):
        giacomini_white(one, other, 1, instruments=np.column_stack([ramp, 3 - 2 * ramp]))
    with pytest.raises(DependentInstruments, match="leave one out"):
        giacomini_white(one, other, 1, instruments=np.column_stack([ramp < 90, ramp >= 90]).astype(float))
    holed = np.column_stack([ramp, np.where(ramp == 3, np.nan, ramp**2)])
    with pytest.raises(BadInput, match="'b' is not finite"):
        giacomini_white(one, other, 1, instruments=holed, names=["a", "b"])
    with pytest.raises(BadInput, match=r"beside 200 losses, were \(199, 1\)"):
        giacomini_white(one, other, 1, instruments=ramp[1:])
    with pytest.raises(BadInput, match="as many different names"):
        giacomini_white(one, other, 1, instruments=ramp, names=["a", "b"])
    with pytest.raises(BadInput, match=r"worth 4\.1 observations, too few for 5"):
        giacomini_white(one, other, 36, instruments=np.random.default_rng(0).normal(size=(200, 4)))
    with pytest.raises(BadInput, match="horizon_bars - 1 = 5"):
        giacomini_white(one, other, 6, bandwidth_rows=3)
    with pytest.raises(ConstantLossDifference, match="all 200 rows"):
        giacomini_white(other + 1, other, 1, instruments=ramp)
    with pytest.raises(UnpairedLosses, match="finite"):
        giacomini_white(np.full(200, np.nan), other, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "h"), [(500, 1), (1000, 6), (1000, 24)])
def test_equal_forecasters_are_rejected_about_as_often_as_stated(n: int, h: int) -> None:
    """Nominal 5 %, labels overlapping; measured 4 to 8 %, and 9 % by chi-squared with the lag at horizon 24."""
    rng = np.random.default_rng(n + h)
    by_regime, by_lag, chi_squared, one_regime = [], [], [], []
    for _ in range(1200):
        noise = np.cumsum(rng.normal(size=(3, n + h)), axis=1)
        y, one, other = noise[:, h:] - noise[:, :-h]
        loss, reference = (y - 0.3 * one) ** 2, (y - 0.3 * other) ** 2
        regimes = np.repeat(rng.random(n // 50) < 0.5, 50)
        if not 200 <= regimes.sum() <= n - 200:
            continue
        compared = compare_by_regime(loss, reference, regimes, h)
        by_regime.append(compared.test.p_value)
        one_regime.append(min(r.holm_p for r in compared.regimes))
        lagged = giacomini_white(loss, reference, h, lag_rows=h)
        by_lag.append(lagged.p_value)
        chi_squared.append(lagged.p_chi_squared)
    shares = {
        name: float(np.mean(np.array(p) < 0.05))
        for name, p in {
            "regime": by_regime,
            "lag": by_lag,
            "chi-squared": chi_squared,
            "one regime": one_regime,
        }.items()
    }
    assert len(by_regime) > 500
    assert all(0.015 < shares[name] < 0.09 for name in ("regime", "lag", "one regime")), shares


@pytest.mark.slow
def test_slow_moves_of_losses_are_no_regime() -> None:
    """Losses that swing over 50 rows, regimes that know nothing of it; 66 and 27 % unless the variance sees it."""
    from scipy.signal import lfilter

    rng, n, runs = np.random.default_rng(0), 1200, 200
    regimes = (np.arange(n) // 97) % 4
    any_regime = one_regime = 0
    for _ in range(runs):
        slow = lfilter([1.0], [1.0, -0.98], np.sqrt(1 - 0.98**2) * rng.normal(size=n + 500))[500:]
        reference = np.abs(rng.normal(size=n))
        loss = reference + 0.05 * (np.sqrt(0.95) * rng.normal(size=n) + np.sqrt(0.05) * slow)
        found = compare_by_regime(loss, reference, regimes, 1)
        any_regime += found.test.p_value < 0.05
        one_regime += any(one.holm_p < 0.05 and one.mean_difference < 0 for one in found.regimes)
    assert any_regime / runs < 0.35
    assert one_regime / runs < 0.16
