"""Recipes are values: checked at birth, stored as JSON, equal when what they build is equal."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.features.recipe import GROUPS, Recipe

windows = st.integers(2, 500)
recipes = st.builds(
    Recipe,
    timeframes=st.lists(st.sampled_from(list(Timeframe)), min_size=1, unique=True).map(tuple),
    rsi_bars=windows,
    macd_bars=st.tuples(st.integers(2, 20), st.integers(21, 60), st.integers(2, 20)),
    ewma_decay=st.floats(0.01, 0.99),
    calendar=st.booleans(),
    adx=st.booleans(),
)


@given(recipe=recipes)
def test_a_recipe_survives_its_json(recipe: Recipe) -> None:
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.to_json() == recipe.to_json()
    assert again.hash12 == recipe.hash12


@given(one=recipes, other=recipes)
def test_hashes_are_equal_exactly_when_recipes_are(one: Recipe, other: Recipe) -> None:
    assert (one.hash12 == other.hash12) == (one == other)
    assert len(one.hash12) == 12


def test_the_default_hash_never_changes_by_accident() -> None:
    assert Recipe().hash12 == "0ca78e5fafd1", "features built under the old hash would be taken for the new ones"
    assert Recipe.from_json("{}") == Recipe()


def test_the_order_of_timeframes_does_not_matter() -> None:
    mixed = Recipe.from_json('{"timeframes": ["d1", "H1", "H4"]}')
    assert mixed == Recipe()
    assert mixed.timeframes == (Timeframe.H1, Timeframe.H4, Timeframe.D1)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"rsi_bar": 3}, "unknown recipe setting 'rsi_bar'; did you mean 'rsi_bars'"),
        ({"rsi_bars": 1}, "rsi_bars must be a whole number from 2"),
        ({"rsi_bars": 14.0}, "rsi_bars must be a whole number"),
        ({"adx_bars": True}, "adx_bars must be a whole number"),
        ({"volatility_bars": 10**9}, "to 10000"),
        ({"macd_bars": [12, 26]}, "three windows"),
        ({"macd_bars": [26, 12, 9]}, "fast window below the slow"),
        ({"ewma_decay": 1.0}, "between 0 and 1"),
        ({"ewma_decay": "0.9"}, "between 0 and 1"),
        ({"rsi": 1}, "rsi must be true or false"),
        ({"timeframes": []}, "one or more"),
        ({"timeframes": "H1"}, "must be a list"),
        ({"timeframes": ["H1", "h1"]}, "name one twice"),
        (dict.fromkeys(GROUPS, False), "every group off"),
        ([], "must be a JSON object"),
    ],
)
def test_an_unlawful_recipe_says_what_is_wrong(document: object, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refusal:
        Recipe.from_json(json.dumps(document))
    assert "\n" not in str(refusal.value)


def test_text_that_is_not_json_and_unknown_timeframes_are_refused() -> None:
    with pytest.raises(BadInput, match="not valid JSON"):
        Recipe.from_json("{")
    with pytest.raises(UnknownName, match="unknown timeframe 'H2'"):
        Recipe(timeframes=("H2",))


def test_building_features_imports_no_pandas_until_it_computes() -> None:
    code = "import sys, forexgpt_core.features.build; print(sorted({'pandas', 'talib', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
