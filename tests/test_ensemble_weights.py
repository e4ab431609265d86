"""Weights of members: what was not known cannot weigh, and no method loses much against the best member."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from forexgpt_core.domain.forecasts import LEVELS, ForecastBatch
from forexgpt_core.ensemble.aggregation import boa_weights, ewa_weights
from forexgpt_core.ensemble.pooling import pool
from forexgpt_core.ensemble.regimes import REGIMES, UNKNOWN
from forexgpt_core.ensemble.weights import (
    METHODS,
    WeightSettings,
    final_regime_weights,
    final_weights,
    matured_by_time,
    matured_rows,
    matured_weights,
    regime_weights,
)
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.reporting.ensemble import weights_picture

HORIZONS = (1, 4, 12)
INVERSE = WeightSettings(halflife_bars=50.0, shrink_rows=20.0, least_weight=0.0)
seeds = st.integers(0, 2**32 - 1)
methods = st.sampled_from(METHODS)


def losses(seed: int, members: int = 3, rows: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=(members, rows, len(HORIZONS)))


def of(method: str, **changes: object) -> WeightSettings:
    return replace(INVERSE, method=method, **changes)


def running(errors: np.ndarray, chosen: WeightSettings, rows: np.ndarray | None = None) -> np.ndarray:
    places = np.arange(errors.shape[1]) if rows is None else rows
    return matured_weights(errors, matured_rows(places, HORIZONS), chosen)


@settings(deadline=None)
@given(seed=seeds, cut=st.integers(0, 79), method=methods, gaps=st.booleans())
def test_losses_that_have_not_matured_change_nothing(seed: int, cut: int, method: str, gaps: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.integers(1, 5, size=80)) if gaps else np.arange(80)
    past = losses(seed)
    known = rows[:, None] + np.array(HORIZONS) <= rows[cut]
    future = np.where(known, past, 1e6 * losses(seed + 1))
    before, after = running(past, of(method), rows), running(future, of(method), rows)
    np.testing.assert_array_equal(before[:, : cut + 1], after[:, : cut + 1])
    labels = rng.integers(-1, len(REGIMES), size=80)
    matured = matured_rows(rows, HORIZONS)
    then, later = (regime_weights(one, matured, labels, of(method)) for one in (past, future))
    np.testing.assert_array_equal(then[:, :, : cut + 1], later[:, :, : cut + 1])


@settings(deadline=None)
@given(seed=seeds, members=st.integers(1, 5), method=methods)
def test_weights_are_a_distribution_and_start_equal(seed: int, members: int, method: str) -> None:
    weights = running(losses(seed, members), of(method))
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    for column, h in enumerate(HORIZONS):
        np.testing.assert_allclose(weights[:, :h, column], 1 / members)


@settings(deadline=None)
@given(seed=seeds, order=st.permutations(range(4)), method=methods)
def test_renaming_members_renames_weights(seed: int, order: list[int], method: str) -> None:
    errors = losses(seed, members=4)
    weights = running(errors, of(method))
    np.testing.assert_allclose(running(errors[order], of(method)), weights[order], rtol=1e-6, atol=1e-9)


@settings(deadline=None)
@given(seed=seeds, method=methods)
def test_with_little_data_weights_stay_near_equal(seed: int, method: str) -> None:
    weights = running(losses(seed, rows=20), of(method, shrink_rows=2000.0))
    assert np.abs(weights - 1 / 3).max() < 0.01


@settings(deadline=None)
@given(seed=seeds, method=methods)
def test_the_final_weights_are_those_of_the_first_origin_at_which_all_has_matured(seed: int, method: str) -> None:
    errors = losses(seed)
    padded = np.concatenate([errors, np.full((3, HORIZONS[-1], len(HORIZONS)), np.nan)], axis=1)
    final = final_weights(errors, of(method))
    for column, h in enumerate(HORIZONS):
        np.testing.assert_allclose(running(padded, of(method))[:, errors.shape[1] - 1 + h, column], final[:, column])


@pytest.mark.parametrize("method", METHODS)
def test_no_member_ever_loses_its_last_share(method: str) -> None:
    errors = np.ones((3, 3000, 3))
    errors[2] = 5.0
    final = final_weights(errors, of(method, least_weight=0.02))
    assert (final >= 0.02 - 1e-12).all()
    if method in ("ewa", "boa"):
        assert final[2].max() < 0.04


def test_equal_is_equal() -> None:
    np.testing.assert_allclose(running(losses(1), of("equal")), np.full((3, 80, 3), 1 / 3), rtol=1e-15)


def test_inverse_crps_is_the_discounted_inverse_means_of_a_plain_loop() -> None:
    errors, h, column, i = losses(7), 4, 1, 60
    matured = np.arange(i - h + 1)
    age = matured[-1] - matured
    decay = 0.5 ** (age / 50)
    inverse = 1 / ((decay * errors[:, matured, column]).sum(axis=1) / decay.sum())
    trust = decay.sum() / (decay.sum() + 20)
    expected = trust * inverse / inverse.sum() + (1 - trust) / 3
    np.testing.assert_allclose(running(errors, INVERSE)[:, i, column], expected)


def test_the_better_member_gains_weight_and_a_perfect_one_does_not_break_it() -> None:
    errors = np.ones((2, 400, 3))
    errors[1] = 2.0
    final = final_weights(errors, INVERSE)
    assert (final[0] > 0.55).all()
    assert (final[0] < 2 / 3).all()
    for method in ("ewa", "boa"):
        assert (final_weights(errors, of(method))[0] > 0.9).all()
    errors[0] = 0.0
    for method in METHODS[1:]:
        perfect = final_weights(errors, of(method))
        assert np.isfinite(perfect).all()
        assert (perfect[0] > 0.6).all()
        np.testing.assert_allclose(final_weights(np.zeros((2, 50, 3)), of(method)), 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_that_one_member_lacks_counts_for_none(method: str) -> None:
    errors = losses(3)
    holed = errors.copy()
    holed[1, 30] = np.nan
    without = np.where(np.isnan(holed).any(axis=0), np.nan, holed)
    np.testing.assert_array_equal(final_weights(holed, of(method)), final_weights(without, of(method)))


class TestRegret:
    """Losses are adversarial: the unit changes on the way, and the best member is the worst elsewhere."""

    @staticmethod
    def adversary(seed: int, members: int = 4, rows: int = 300) -> np.ndarray:
        rng = np.random.default_rng(seed)
        unit = 10.0 ** rng.uniform(-4, 4) * np.repeat(10.0 ** rng.integers(-1, 2, size=6), rows // 6)
        turns = np.repeat(rng.uniform(size=(members, 6)) < 0.5, rows // 6, axis=1)
        return (np.where(turns, rng.uniform(size=(members, rows)), rng.uniform() > 0.5) * unit)[..., None]

    @settings(deadline=None, max_examples=60)
    @given(seed=seeds)
    def test_of_ewa_is_bounded_without_knowing_the_unit(self, seed: int) -> None:
        errors = self.adversary(seed)
        weights = ewa_weights(errors)[:, :-1]
        regret = (weights * errors).sum() - errors.sum(axis=1).min()
        variation = (np.ptp(errors, axis=0) ** 2).sum()
        assert regret <= np.sqrt(variation) * (1.36 * np.sqrt(np.log(4)) + 3.42) * (1 + 1e-9)

    @settings(deadline=None, max_examples=60)
    @given(seed=seeds, rate=st.floats(1e-3, 1e3))
    def test_of_ewa_at_a_fixed_rate_is_bounded(self, seed: int, rate: float) -> None:
        errors = self.adversary(seed)
        weights = ewa_weights(errors, learning_rate=rate)[:, :-1]
        regret = (weights * errors).sum() - errors.sum(axis=1).min()
        bound = np.log(4) / rate + rate / 8 * (np.ptp(errors, axis=0) ** 2).sum()
        assert regret <= bound * (1 + 1e-9)

    @settings(deadline=None, max_examples=60)
    @given(seed=seeds)
    def test_of_boa_is_bounded_for_each_member_by_its_own_variation(self, seed: int) -> None:
        errors = self.adversary(seed)
        weights = boa_weights(errors)[:, :-1, 0]
        plain, bounds = boa_by_hand(errors[..., 0])
        np.testing.assert_allclose(weights, plain, rtol=1e-6, atol=1e-12)
        regret = (weights * errors[..., 0]).sum() - errors[..., 0].sum(axis=1)
        assert (regret <= bounds * (1 + 1e-9)).all()

    @pytest.mark.parametrize("weigh", [ewa_weights, boa_weights])
    def test_stays_within_bounds_where_following_the_leader_is_ruinous(self, weigh) -> None:
        errors = np.zeros((2, 2000, 1))
        errors[0, 0], errors[1, 1::2], errors[0, 2::2] = 0.5, 1.0, 1.0  # whoever leads, loses next
        regret = (weigh(errors)[:, :-1] * errors).sum() - errors.sum(axis=1).min()
        following = 1999 - errors.sum(axis=1).min()
        assert regret <= np.sqrt(2000) * (1.36 * np.sqrt(np.log(2)) + 3.42) < following / 4

    @pytest.mark.parametrize("weigh", [ewa_weights, boa_weights])
    def test_is_a_small_part_of_that_of_equal_weights_where_one_member_is_better(self, weigh) -> None:
        errors = np.random.default_rng(1).uniform(0.5, 1.5, size=(4, 2000, 1))
        errors[2] -= 0.2
        best = errors.sum(axis=1).min()
        assert (weigh(errors)[:, :-1] * errors).sum() - best < 0.1 * (errors.mean(axis=0).sum() - best)

    def test_of_the_pooled_quantiles_is_no_larger_than_that_of_the_weights(self) -> None:
        rng = np.random.default_rng(5)
        y = 1e-3 * rng.standard_t(5, size=(500, 1))
        members = [batch(1e-3 * m, 1e-3 * w, 500) for m, w in ((0, 1), (0.5, 1.2), (0, 3), (-1, 0.6))]
        errors = np.stack([crps(one.quantiles, y) for one in members])
        for weights in (ewa_weights(errors)[:, :-1], boa_weights(errors)[:, :-1]):
            pooled = crps(pool(members, weights).quantiles, y).sum()
            assert pooled <= (weights * errors).sum()
            assert pooled <= 1.02 * errors.sum(axis=1).min()


def boa_by_hand(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights at each row and the bound on the regret against each member.

    Potential argument: sum rate r² + (ln k + ln C) / last rate + B, where C grows with every fall of a rate.
    """
    members, rows = errors.shape
    largest, growth, price = 0.0, np.zeros(members), np.zeros(members)
    squares, score = np.zeros(members), np.zeros(members)
    rate, weight, out = np.full(members, np.inf), np.full(members, 1 / members), np.empty_like(errors)
    for row in range(rows):
        out[:, row] = weight
        regret = weight @ errors[:, row] - errors[:, row]
        reach = max(largest, np.abs(regret).max())
        if reach == 0:
            continue
        clipped, first = regret * largest / reach, np.isinf(rate).all()
        second = 0.0 if first else rate * clipped**2
        score, price, squares, largest = score + clipped - second, price + second, squares + clipped**2, reach
        new = np.minimum(1 / (2 * largest), np.sqrt(np.log(members) / np.where(squares > 0, squares, 1e-300)))
        growth += 0 if first else rate / new - 1
        rate = new
        weight = rate * np.exp(rate * score - (rate * score).max())
        weight /= weight.sum()
    cost = np.log(members) + np.log1p(growth.mean() / np.e)
    return out, price + cost / rate + largest


def batch(mean: float, width: float, n: int) -> ForecastBatch:
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="any",
        origin_utc=np.datetime64("2018-01-02", "us") + np.arange(n) * np.timedelta64(1, "h"),
        horizons_bars=(1,),
        quantiles=np.broadcast_to(mean + width * ndtri(LEVELS), (n, 1, LEVELS.size)).copy(),
        scale=np.full((n, 1), width),
    )


class TestMaturity:
    @settings(deadline=None)
    @given(seed=seeds)
    def test_it_is_the_definition_whatever_is_missing(self, seed: int) -> None:
        rows = np.cumsum(np.random.default_rng(seed).integers(1, 6, size=60))
        matured = matured_rows(rows, HORIZONS)
        for column, h in enumerate(HORIZONS):
            np.testing.assert_array_equal(matured[:, column], (rows[:, None] + h <= rows).sum(axis=0))
        in_place = matured_rows(np.arange(60), HORIZONS)
        assert (in_place <= matured).all(), "the number of the origin is never too early"

    def test_the_clock_says_the_same_without_gaps_and_waits_where_there_are_some(self) -> None:
        known = np.datetime64("2018-01-02", "us") + np.arange(80) * np.timedelta64(1, "h")
        label = known[:, None] + np.array(HORIZONS) * np.timedelta64(1, "h")
        by_rows = matured_rows(np.arange(80), HORIZONS)
        np.testing.assert_array_equal(matured_by_time(known, label), by_rows)
        late = matured_by_time(known, label + np.timedelta64(30, "h"))
        assert not late[:31].any()
        assert late[60, 0] == by_rows[30, 0]


class TestRegimeWeights:
    def test_each_regime_learns_from_itself_and_an_unseen_one_from_all(self) -> None:
        errors = np.ones((2, 600, 3))
        labels = np.repeat([0, 4, UNKNOWN], 200)
        errors[1, :200], errors[0, 200:400] = 3.0, 3.0
        chosen = of("inverse_crps", halflife_bars=1e6, regime_shrink_rows=5.0, least_weight=0.05)
        by_regime = final_regime_weights(errors, labels, chosen)
        overall = final_weights(errors, chosen)
        assert (by_regime[0, 0] > 0.68).all()
        assert (by_regime[4, 1] > 0.68).all()
        np.testing.assert_allclose(by_regime[8], overall)
        np.testing.assert_allclose(by_regime.sum(axis=1), 1)

    def test_few_errors_in_a_regime_move_little(self) -> None:
        errors = losses(2, members=2)
        labels = np.full(80, 3)
        labels[:2] = 7
        chosen = of("inverse_crps", regime_shrink_rows=1000.0)
        by_regime = final_regime_weights(errors, labels, chosen)
        np.testing.assert_allclose(by_regime[7], final_weights(errors, chosen), atol=0.002)

    def test_labels_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(BadInput, match="regime labels"):
            final_regime_weights(losses(1), np.zeros(3, dtype=np.int64), INVERSE)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="matured counts have shape"):
        matured_weights(np.ones((2, 5, 2)), matured_rows(np.arange(5), HORIZONS), INVERSE)
    with pytest.raises(BadInput, match=r"must lie in \[0, 5\]"):
        matured_weights(np.ones((2, 5, 3)), np.full((1, 3), 6), INVERSE)
    with pytest.raises(BadInput, match="finite and 0 or more"):
        final_weights(-np.ones((2, 5, 3)), INVERSE)
    with pytest.raises(BadInput, match="strictly increasing"):
        matured_rows(np.array([0, 2, 2]), HORIZONS)
    with pytest.raises(BadInput, match="1 bar or more"):
        matured_rows(np.arange(3), (0, 1))
    times = np.datetime64("2018-01-02", "us") + np.arange(5) * np.timedelta64(1, "h")
    with pytest.raises(BadInput, match="go back"):
        matured_by_time(times, np.stack([times[::-1]] * 3, axis=1))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"method": "best"}, "method must be one of equal, inverse_crps, ewa, boa"),
        ({"mode": "sum"}, "mode must be one of"),
        ({"halflife_bars": 0.0}, "halflife_bars"),
        ({"shrink_rows": float("nan")}, "shrink_rows"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"least_weight": 1.0}, "least_weight"),
        ({"uncertainty_exponent": -0.5}, "uncertainty_exponent"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, object], line: str) -> None:
    with pytest.raises(BadInput, match=line):
        WeightSettings(**changes)


def test_the_picture_takes_weights_as_they_come_and_refuses_what_does_not_fit() -> None:
    weights = running(losses(1), INVERSE)[:, :, 0]
    origins = np.datetime64("2018-01-02", "us") + np.arange(80) * np.timedelta64(1, "h")
    assert weights_picture(origins, weights, ("a", "b", "c"), "EURUSD H1").startswith(b"\x89PNG")
    assert weights_picture(origins[:1], np.ones((1, 1)), ("random_walk",), "one").startswith(b"\x89PNG")
    with pytest.raises(BadInput, match="expected"):
        weights_picture(origins, weights, ("a", "b"), "EURUSD H1")
