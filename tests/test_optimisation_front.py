"""The arithmetic of fronts agrees with its definitions and with pymoo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forexgpt_core.optimisation.front import best_first, common_hypervolumes, hypervolume, hypervolumes, non_dominated

ROWS = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.integers(-3, 3).map(float))


def beaten(values: np.ndarray) -> np.ndarray:
    below = (values[:, None] <= values[None]).all(axis=2) & (values[:, None] < values[None]).any(axis=2)
    return below.any(axis=0)


@given(ROWS)
def test_non_dominated_rows_are_those_that_nothing_beats_each_value_once(values: np.ndarray) -> None:
    kept = non_dominated(values)
    firsts = [r for r in range(len(values)) if not (values[:r] == values[r]).all(axis=1).any()]
    assert kept.tolist() == [r for r in firsts if not beaten(values)[r]]


def test_non_dominated_rows_of_many() -> None:
    values = np.random.default_rng(0).normal(size=(6000, 4))
    kept = non_dominated(values)
    assert not beaten(values[kept]).any()
    covered = (values[kept][:, None] <= values[None]).all(axis=2).any(axis=0)
    assert covered.all()


@given(values=ROWS, seed=st.integers(0, 2**16))
def test_a_history_of_hypervolumes_is_that_of_each_prefix(values: np.ndarray, seed: int) -> None:
    feasible = np.random.default_rng(seed).random(len(values)) < 0.7
    counts = sorted({1, len(values) // 2, len(values)} - {0})
    shares = hypervolumes(values, feasible, counts)
    if not feasible.any():
        assert set(shares) == {0.0}
        return
    expected = [hypervolume(values[:count][feasible[:count]], values[feasible]) for count in counts]
    np.testing.assert_allclose(shares, expected, atol=1e-12)
    assert list(shares) == sorted(shares)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_a_hypervolume_is_the_share_of_random_points_that_are_dominated(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    values = rng.random((12, objectives))
    least, most = values.min(axis=0), values.max(axis=0)
    points = least + rng.random((40_000, objectives)) * (most - least) * 1.05
    dominated = (values[:, None] <= points[None]).all(axis=2).any(axis=0).mean()
    assert hypervolume(values, values) == pytest.approx(dominated, abs=0.01)


def test_hypervolumes_compare_over_one_box() -> None:
    good, poor = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[2.0, 2.0]])
    shares = common_hypervolumes([good, poor])
    assert shares[0] == pytest.approx(1 - 0.5**2 / 1.05**2)
    assert shares[1] == pytest.approx(0.05**2 / 1.05**2)
    assert common_hypervolumes([good, np.empty((0, 2))])[1] == 0.0


@given(values=arrays(np.float64, (24, 3), elements=st.floats(-5, 5)), seed=st.integers(0, 2**16))
@settings(max_examples=50)
def test_the_best_first_go_by_rank_then_room_then_violation(values: np.ndarray, seed: int) -> None:
    violations = np.random.default_rng(seed).choice([0.0, 0.0, 1.0, 2.0], size=24)
    order = best_first(values, violations)
    assert sorted(order) == list(range(24))
    feasible = order[violations[order] <= 0]
    assert (order[: len(feasible)] == feasible).all()
    assert list(violations[order[len(feasible) :]]) == sorted(violations[order[len(feasible) :]])
    left, rank = list(feasible), 0
    while left:
        front = {row for row, out in zip(left, beaten(values[left]), strict=True) if not out}
        assert set(left[: len(front)]) == front, f"rank {rank}"
        left, rank = left[len(front) :], rank + 1


def test_the_ends_of_a_front_come_before_its_crowd() -> None:
    x = np.array([0.5, 0.51, 0.0, 0.49, 1.0, 0.3, 0.7])
    order = best_first(np.column_stack((x, 1 - x)), np.zeros(7))
    assert set(order[:2]) == {2, 4}
    assert set(order[2:4]) == {5, 6}
