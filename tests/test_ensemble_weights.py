"""Weights of members: what was not known cannot weigh."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.ensemble.weights import final_weights, matured_inverse_crps_weights, matured_weights_by_time
from forexgpt_core.errors import BadInput
from forexgpt_core.reporting.ensemble import weights_picture

HORIZONS = (1, 4, 12)
WEIGHING = {"horizons_bars": HORIZONS, "halflife_bars": 50.0, "shrink_rows": 20.0}
seeds = st.integers(0, 2**32 - 1)


def losses(seed: int, members: int = 3, rows: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=(members, rows, len(HORIZONS)))


@settings(deadline=None)
@given(seed=seeds, cut=st.integers(0, 79))
def test_losses_that_have_not_matured_change_nothing(seed: int, cut: int) -> None:
    past = losses(seed)
    future = past.copy()
    for column, h in enumerate(HORIZONS):
        future[:, max(cut - h + 1, 0) :, column] = 1e6 * losses(seed + 1)[:, max(cut - h + 1, 0) :, column]
    before, after = matured_inverse_crps_weights(past, **WEIGHING), matured_inverse_crps_weights(future, **WEIGHING)
    np.testing.assert_array_equal(before[:, : cut + 1], after[:, : cut + 1])


@settings(deadline=None)
@given(seed=seeds, members=st.integers(1, 5))
def test_weights_are_a_distribution_and_start_equal(seed: int, members: int) -> None:
    weights = matured_inverse_crps_weights(losses(seed, members), **WEIGHING)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    for column, h in enumerate(HORIZONS):
        np.testing.assert_allclose(weights[:, :h, column], 1 / members)


@settings(deadline=None)
@given(seed=seeds, order=st.permutations(range(4)))
def test_renaming_members_renames_weights(seed: int, order: list[int]) -> None:
    errors = losses(seed, members=4)
    weights = matured_inverse_crps_weights(errors, **WEIGHING)
    np.testing.assert_allclose(matured_inverse_crps_weights(errors[order], **WEIGHING), weights[order])


@settings(deadline=None)
@given(seed=seeds)
def test_the_final_weights_are_those_of_the_first_origin_at_which_all_has_matured(seed: int) -> None:
    errors = losses(seed)
    padded = np.concatenate([errors, np.full((3, HORIZONS[-1], len(HORIZONS)), np.nan)], axis=1)
    running = matured_inverse_crps_weights(padded, **WEIGHING)
    final = final_weights(errors, **WEIGHING)
    for column, h in enumerate(HORIZONS):
        np.testing.assert_allclose(running[:, errors.shape[1] - 1 + h, column], final[:, column])


def test_they_are_the_discounted_inverse_means_of_a_plain_loop() -> None:
    errors, h, column, i = losses(7), 4, 1, 60
    matured = np.arange(i - h + 1)
    age = matured[-1] - matured
    decay = 0.5 ** (age / 50)
    inverse = 1 / ((decay * errors[:, matured, column]).sum(axis=1) / decay.sum())
    trust = decay.sum() / (decay.sum() + 20)
    expected = trust * inverse / inverse.sum() + (1 - trust) / 3
    np.testing.assert_allclose(matured_inverse_crps_weights(errors, **WEIGHING)[:, i, column], expected)


def test_the_better_member_gains_weight_and_a_perfect_one_does_not_break_it() -> None:
    errors = np.ones((2, 400, 3))
    errors[1] = 2.0
    final = final_weights(errors, **WEIGHING)
    assert (final[0] > 0.55).all()
    assert (final[0] < 2 / 3).all()
    errors[0] = 0.0
    perfect = final_weights(errors, **WEIGHING)
    assert np.isfinite(perfect).all()
    assert (perfect[0] > final[0]).all()
    np.testing.assert_allclose(final_weights(np.zeros((2, 50, 3)), **WEIGHING), 0.5)


def test_a_row_that_one_member_lacks_counts_for_none() -> None:
    errors = losses(3)
    holed = errors.copy()
    holed[1, 30] = np.nan
    without = np.where(np.isnan(holed).any(axis=0), np.nan, holed)
    np.testing.assert_array_equal(final_weights(holed, **WEIGHING), final_weights(without, **WEIGHING))


def test_weights_by_the_clock_equal_those_by_rows_without_gaps_and_wait_where_there_are_some() -> None:
    errors = losses(5)
    known = np.datetime64("2018-01-02", "us") + np.arange(80) * np.timedelta64(1, "h")
    label = known[:, None] + np.array(HORIZONS) * np.timedelta64(1, "h")
    by_time = matured_weights_by_time(errors, known_utc=known, label_known_utc=label, **WEIGHING)
    np.testing.assert_array_equal(by_time, matured_inverse_crps_weights(errors, **WEIGHING))
    late = label + np.timedelta64(30, "h")
    waiting = matured_weights_by_time(errors, known_utc=known, label_known_utc=late, **WEIGHING)
    np.testing.assert_allclose(waiting[:, :31], 1 / 3)
    np.testing.assert_array_equal(waiting[:, 60, 0], by_time[:, 30, 0])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="3 horizons"):
        final_weights(np.ones((2, 5, 2)), **WEIGHING)
    with pytest.raises(BadInput, match="finite and 0 or more"):
        final_weights(-np.ones((2, 5, 3)), **WEIGHING)
    with pytest.raises(BadInput, match="halflife_bars"):
        final_weights(np.ones((2, 5, 3)), horizons_bars=HORIZONS, halflife_bars=0, shrink_rows=1)
    times = np.datetime64("2018-01-02", "us") + np.arange(5) * np.timedelta64(1, "h")
    backwards = np.stack([times[::-1]] * 3, axis=1)
    with pytest.raises(BadInput, match="go back"):
        matured_weights_by_time(np.ones((2, 5, 3)), known_utc=times, label_known_utc=backwards, **WEIGHING)


def test_the_picture_takes_weights_as_they_come_and_refuses_what_does_not_fit() -> None:
    weights = matured_inverse_crps_weights(losses(1), **WEIGHING)[:, :, 0]
    origins = np.datetime64("2018-01-02", "us") + np.arange(80) * np.timedelta64(1, "h")
    assert weights_picture(origins, weights, ("a", "b", "c"), "EURUSD H1").startswith(b"\x89PNG")
    assert weights_picture(origins[:1], np.ones((1, 1)), ("random_walk",), "one").startswith(b"\x89PNG")
    with pytest.raises(BadInput, match="expected"):
        weights_picture(origins, weights, ("a", "b"), "EURUSD H1")
