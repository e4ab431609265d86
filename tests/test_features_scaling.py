"""The scaler: fitted on training rows, exact in storage, and strict about what it is given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from forexgpt_core.errors import BadInput
from forexgpt_core.features.scaling import Scaler


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
