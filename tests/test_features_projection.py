"""Principal components: those of sklearn, fitted on training rows, exact in storage, with a sign of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from forexgpt_core.errors import BadInput
from forexgpt_core.features.projection import Projection


def correlated(n: int, f: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, f)) @ rng.normal(size=(f, f)) + rng.normal(0, 5, f)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(12, 60), f=st.integers(2, 8), data=st.data())
def test_it_agrees_with_sklearn(seed: int, n: int, f: int, data: st.DataObject) -> None:
    train, later = correlated(n, f, seed), correlated(9, f, seed + 1)
    k = data.draw(st.integers(1, f))
    ours, theirs = Projection.fit(train, components=k), PCA(n_components=k, svd_solver="full").fit(train)
    np.testing.assert_allclose(ours.explained, theirs.explained_variance_ratio_, rtol=1e-8)
    np.testing.assert_allclose(ours.variance, theirs.explained_variance_, rtol=1e-8)
    sign = np.sign((ours.directions * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.transform(later), theirs.transform(later) * sign, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        ours.inverse(ours.transform(later)), theirs.inverse_transform(theirs.transform(later)), rtol=1e-6, atol=1e-6
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_coordinates_are_uncorrelated_and_all_of_them_lose_nothing(seed: int) -> None:
    train = correlated(200, 5, seed)
    whole = Projection.fit(train, components=5)
    covariance = np.cov(whole.transform(train).T)
    np.testing.assert_allclose(covariance, np.diag(whole.variance), atol=1e-8 * whole.total_variance)
    np.testing.assert_allclose(whole.inverse(whole.transform(train)), train, atol=1e-9)
    assert whole.explained.sum() == pytest.approx(1)
    largest = np.abs(whole.directions).argmax(axis=1)
    assert (whole.directions[np.arange(5), largest] > 0).all(), "the sign is fixed by the largest loading"


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.99))
def test_a_share_takes_as_few_directions_as_hold_it(seed: int, share: float) -> None:
    train = correlated(100, 6, seed)
    taken = Projection.fit(train, components=share)
    assert taken.explained.sum() >= share - 1e-12
    assert taken.explained[:-1].sum() < share
    assert f"{taken.variance.size} of 6 directions hold" in taken.line


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_its_json_is_exact_and_a_second_fit_is_the_same(seed: int) -> None:
    train = correlated(50, 4, seed)
    fitted = Projection.fit(train, components=3)
    again = Projection.from_json(fitted.to_json())
    for name in ("mean", "directions", "variance"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))
    assert again.total_variance == fitted.total_variance
    assert Projection.fit(train.copy(), components=3).to_json() == fitted.to_json()


def test_later_rows_do_not_change_what_was_fitted() -> None:
    rows = correlated(300, 4, 1)
    fitted = Projection.fit(rows[:200], components=2).to_json()
    rows[200:] *= 100
    assert Projection.fit(rows[:200], components=2).to_json() == fitted


def test_windows_are_projected_observation_by_observation() -> None:
    train = correlated(60, 4, 2)
    fitted = Projection.fit(train, components=2)
    windows = fitted.transform(train.reshape(6, 10, 4))
    np.testing.assert_allclose(windows.reshape(60, 2), fitted.transform(train), atol=1e-12)
    assert fitted.inverse(windows).shape == (6, 10, 4)


def test_constant_and_repeated_columns_are_legal_but_are_no_directions() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2))
    train = np.column_stack([x, x[:, 0], np.full(50, 7.0)])
    fitted = Projection.fit(train, components=2)
    assert fitted.explained.sum() == pytest.approx(1)
    np.testing.assert_allclose(fitted.inverse(fitted.transform(train)), train, atol=1e-9)
    with pytest.raises(BadInput, match="only 2 directions vary in training, 3 were asked for"):
        Projection.fit(train, components=3)
    assert Projection.fit(rng.normal(size=(3, 9)), components=2).variance.size == 2, "fewer rows than columns"


def test_what_cannot_be_projected_is_refused() -> None:
    train = correlated(20, 3, 0)
    fitted = Projection.fit(train, components=2)
    with pytest.raises(BadInput, match="not finite"):
        Projection.fit(np.where(train > 100, train, np.nan), components=2)
    with pytest.raises(BadInput, match="not finite"):
        fitted.transform(np.array([[1.0, np.nan, 0.0]]))
    with pytest.raises(BadInput, match="maps 3 columns to 2"):
        fitted.transform(np.ones((2, 4)))
    with pytest.raises(BadInput, match="maps 3 columns to 2"):
        fitted.inverse(np.ones((2, 3)))
    with pytest.raises(BadInput, match="two or more rows"):
        Projection.fit(train[:1], components=1)
    with pytest.raises(BadInput, match="no column varies"):
        Projection.fit(np.ones((20, 3)), components=0.9)


@pytest.mark.parametrize("components", [0, -1, 1.0, 0.0, 2.5, True, "3"])
def test_an_unlawful_number_of_components_is_refused(components: object) -> None:
    with pytest.raises(BadInput, match="components must be a whole number from 1, or a share"):
        Projection.fit(correlated(20, 3, 0), components=components)


@pytest.mark.parametrize("text", ["{", "[]", '{"mean": [0.0]}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not the JSON of a projection"):
        Projection.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"mean": [0.0, 1.0], "directions": [[1.0]], "variance": [1.0], "total_variance": 1.0}', "1 x 2 loadings"),
        ('{"mean": [0.0], "directions": [[1.0]], "variance": [1.0], "total_variance": 0.0}', "above 0"),
        ('{"mean": [NaN], "directions": [[1.0]], "variance": [1.0], "total_variance": 1.0}', "finite numbers"),
    ],
)
def test_a_state_that_cannot_project_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Projection.from_json(text)
