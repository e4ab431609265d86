"""The scalers: fitted on training rows, exact in storage, and strict about what they are given."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.features.scaling import Scaler

KINDS = ("standard", "robust", "min_max")


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 50), f=st.integers(1, 6))
def test_it_agrees_with_sklearn(seed: int, n: int, f: int) -> None:
    rng = np.random.default_rng(seed)
    train = rng.normal(rng.normal(0, 10, f), np.exp(rng.normal(0, 3, f)), (n, f))
    later = rng.normal(0, 5, (7, f))
    ours, theirs = Scaler.fit(train), StandardScaler().fit(train)
    np.testing.assert_allclose(ours.transform(later), theirs.transform(later), rtol=1e-9, atol=1e-9)
    scaled = ours.transform(train)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_its_json_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scaler = Scaler.fit(np.column_stack([rng.normal(size=20), np.full(20, rng.normal())]))
    again = Scaler.from_json(scaler.to_json())
    np.testing.assert_array_equal(again.mean, scaler.mean)
    np.testing.assert_array_equal(again.scale, scaler.scale)
    assert again.constant_columns == scaler.constant_columns == (1,)


@given(value=st.floats(-1e6, 1e6), n=st.integers(1, 40))
def test_a_constant_column_has_scale_one_and_is_listed(value: float, n: int) -> None:
    scaler = Scaler.fit(np.column_stack([np.full(n, value), np.arange(n, dtype=np.float64)]))
    assert scaler.scale[0] == 1.0
    assert scaler.constant_columns == ((0,) if n > 1 else (0, 1))
    assert scaler.transform(np.array([[value + 1.0, 0.0]]))[0, 0] == pytest.approx(1.0, abs=1e-6)


def test_what_is_not_finite_or_does_not_fit_is_refused() -> None:
    scaler = Scaler.fit(np.arange(6.0).reshape(3, 2))
    with pytest.raises(BadInput, match="1 of 2 rows hold values that are not finite, first in column 1"):
        Scaler.fit(np.array([[1.0, np.nan], [2.0, 3.0]]))
    with pytest.raises(BadInput, match="not finite"):
        scaler.transform(np.array([[1.0, np.inf]]))
    with pytest.raises(BadInput, match="fitted on 2 columns"):
        scaler.transform(np.ones((3, 4)))
    with pytest.raises(BadInput, match="one or more rows"):
        Scaler.fit(np.empty((0, 2)))
    assert scaler.transform(np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"mean": [0.0]}', '{"mean": [0.0], "scale": ["a"], "constant_columns": []}']
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not the JSON of a scaler"):
        Scaler.from_json(text)


@pytest.mark.parametrize("scale", ["0.0", "-1.0", "NaN"])
def test_a_scale_that_cannot_divide_is_refused(scale: str) -> None:
    with pytest.raises(BadInput, match="above 0"):
        Scaler.from_json(f'{{"mean": [0.0], "scale": [{scale}], "constant_columns": []}}')


@pytest.mark.parametrize(("kind", "peer"), [("robust", RobustScaler), ("min_max", MinMaxScaler)])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(4, 60), f=st.integers(1, 6))
def test_the_other_kinds_agree_with_sklearn(kind: str, peer: type, seed: int, n: int, f: int) -> None:
    rng = np.random.default_rng(seed)
    train = rng.normal(rng.normal(0, 10, f), np.exp(rng.normal(0, 3, f)), (n, f))
    later = rng.normal(0, 5, (7, f))
    ours, theirs = Scaler.fit(train, kind=kind), peer().fit(train)
    np.testing.assert_allclose(ours.transform(later), theirs.transform(later), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.inverse(ours.transform(later)), later, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_stored_exactly_and_read_back(kind: str) -> None:
    rng = np.random.default_rng(3)
    scaler = Scaler.fit(np.column_stack([rng.standard_t(2, 50), np.full(50, 0.1)]), kind=kind)
    again = Scaler.from_json(scaler.to_json())
    x = rng.normal(size=(9, 2))
    np.testing.assert_array_equal(again.transform(x), scaler.transform(x))
    assert (again.kind, again.constant_columns) == (kind, (1,))


def test_a_standard_scaler_is_stored_as_bundles_already_hold_it() -> None:
    stored = '{"mean": [2.0, 3.0], "scale": [1.632993161855452, 1.0], "constant_columns": [1]}'
    assert Scaler.fit(np.array([[0.0, 3.0], [2.0, 3.0], [4.0, 3.0]])).to_json() == stored
    old = Scaler.from_json(stored)
    assert old.kind == "standard"
    assert old.transform(np.array([[4.0, 3.5]])).tolist() == [[2 / 1.632993161855452, 0.5]]


@pytest.mark.parametrize("kind", KINDS)
@given(value=st.floats(-1e6, 1e6), n=st.integers(1, 40))
def test_a_constant_column_is_only_moved(kind: str, value: float, n: int) -> None:
    scaler = Scaler.fit(np.full((n, 1), value), kind=kind)
    assert scaler.constant_columns == (0,)
    assert scaler.transform(np.array([[value + 1.0]]))[0, 0] == pytest.approx(1.0, abs=1e-6)


def test_wild_values_set_the_standard_scale_and_not_the_robust_one() -> None:
    rng = np.random.default_rng(0)
    calm = rng.normal(size=(2000, 1))
    wild = np.where(rng.random((2000, 1)) < 0.005, 1e6, calm)
    middle = np.array([[0.0], [1.0]])
    steps = {kind: np.diff(Scaler.fit(wild, kind=kind).transform(middle)[:, 0])[0] for kind in KINDS}
    clean = np.diff(Scaler.fit(calm, kind="robust").transform(middle)[:, 0])[0]
    assert steps["robust"] == pytest.approx(clean, rel=0.02)
    assert steps["standard"] < 1e-4
    assert steps["min_max"] < 1e-5
    cauchy = Scaler.fit(rng.standard_cauchy((5000, 1)), kind="robust")
    assert cauchy.scale[0] == pytest.approx(2.0, rel=0.1), "the quartiles of a Cauchy law lie at -1 and 1"


def test_equal_quartiles_of_a_column_that_varies_fall_back_to_its_deviation() -> None:
    mostly_zero = np.zeros((100, 1))
    mostly_zero[:5] = 3.0
    scaler = Scaler.fit(mostly_zero, kind="robust")
    assert scaler.constant_columns == ()
    assert scaler.scale[0] == pytest.approx(mostly_zero.std())


def test_values_beyond_the_training_range_stay_beyond_it_unless_clipping_is_asked_and_counted() -> None:
    scaler = Scaler.fit(np.array([[0.0, -1.0], [10.0, 1.0]]), kind="min_max")
    later = np.array([[-10.0, 0.0], [20.0, 1.0], [5.0, 3.0]])
    np.testing.assert_array_equal(scaler.transform(later), [[-1.0, 0.5], [2.0, 1.0], [0.5, 2.0]])
    values, moved = scaler.clipped(later, 0.0, 1.0)
    np.testing.assert_array_equal(values, [[0.0, 0.5], [1.0, 1.0], [0.5, 1.0]])
    assert moved.tolist() == [2, 1]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12))
def test_a_row_is_scaled_alike_in_any_batch_and_in_any_order(kind: str, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    scaler = Scaler.fit(rng.normal(size=(30, 3)), kind=kind)
    x = rng.normal(size=(12, 3))
    whole, order = scaler.transform(x), rng.permutation(12)
    np.testing.assert_array_equal(
        np.concatenate([scaler.transform(x[i : i + size]) for i in range(0, 12, size)]), whole
    )
    np.testing.assert_array_equal(scaler.transform(x[order]), whole[order])
    np.testing.assert_array_equal(scaler.transform(x.reshape(3, 4, 3)), whole.reshape(3, 4, 3))
    windows, moved = scaler.clipped(x.reshape(3, 4, 3), -0.5, 0.5)
    assert windows.shape == (3, 4, 3)
    assert moved.tolist() == (np.abs(whole) > 0.5).sum(axis=0).tolist()


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32 - 1))
def test_later_rows_do_not_change_what_was_fitted(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(80, 3))
    fitted = Scaler.fit(rows[:50], kind=kind).to_json()
    rows[50:] *= 1e3
    assert Scaler.fit(rows[:50], kind=kind).to_json() == fitted
    everything = json.loads(Scaler.fit(rows, kind=kind).to_json())
    assert everything["scale"] != json.loads(fitted)["scale"], "a scaler of all rows would have seen them"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_refuses_what_the_first_one_does(kind: str) -> None:
    scaler = Scaler.fit(np.arange(6.0).reshape(3, 2), kind=kind)
    for act in (scaler.transform, scaler.inverse, lambda x: scaler.clipped(x, 0, 1)):
        with pytest.raises(BadInput, match="1 of 1 rows hold values that are not finite, first in column 1"):
            act(np.array([[1.0, np.nan]]))
        with pytest.raises(BadInput, match="fitted on 2 columns"):
            act(np.ones((3, 4)))
    with pytest.raises(BadInput, match="not finite"):
        Scaler.fit(np.array([[np.inf]]), kind=kind)
    with pytest.raises(BadInput, match="one or more rows"):
        Scaler.fit(np.empty((0, 2)), kind=kind)


def test_a_spread_beyond_the_largest_float_is_refused() -> None:
    with pytest.raises(BadInput, match="scales finite"):
        Scaler.fit(np.array([[-1.7e308], [1.7e308]]), kind="min_max")


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="unknown scaler 'quantile'; known: standard, robust, min_max"):
        Scaler.fit(np.ones((3, 1)), kind="quantile")
    with pytest.raises(UnknownName, match="unknown scaler"):
        Scaler.from_json('{"kind": "pickle", "centre": [0.0], "scale": [1.0], "constant_columns": []}')
