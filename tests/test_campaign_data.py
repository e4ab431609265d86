"""Members stand on closed bars of their own timeframe, and neither features nor regimes read what came later."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.bars import walk_bars

from forexgpt_core.candles.resampling import resample
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput, NotReady
from forexgpt_core.features.inputs import FeatureInputs, disturbed_bars
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.optimisation.campaign_data import StoredBars, bars_of, member_arrays, recipe_on

H1, H4, D1 = Timeframe.H1, Timeframe.H4, Timeframe.D1
RECIPE = Recipe.from_document(
    {"timeframes": ["H1", "H4"], "indicators": {"rsi": None, "calendar": {}, "returns": None}}
)


def stored(bars: pl.DataFrame, **pairs: pl.DataFrame) -> StoredBars:
    inputs = FeatureInputs(symbol="EURUSD", pairs=pairs)
    return StoredBars(symbol="EURUSD", timeframe=H1, bars=bars, inputs=inputs)


def bars_until(month: int, seed: int = 5) -> pl.DataFrame:
    return walk_bars(H1, datetime(2018, 1, 2, tzinfo=UTC), datetime(2018, month, 1, 10, tzinfo=UTC), seed=seed)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return bars_until(7)


def test_the_bars_of_a_longer_timeframe_are_those_that_closed(bars: pl.DataFrame) -> None:
    assert bars_of(stored(bars), H1).equals(bars.select(bars_of(stored(bars), H1).columns))
    higher = bars_of(stored(bars), H4)
    assert higher.equals(resample(bars, H1, H4))
    assert member_arrays(stored(bars), H4, RECIPE, (1, 4)).ts_utc.size == higher.height


def test_bars_cannot_be_made_shorter_than_those_that_are_stored(bars: pl.DataFrame) -> None:
    with pytest.raises(BadInput, match="EURUSD M15 cannot be trained on: its stored candles are H1, and shorter bars"):
        member_arrays(stored(bars), Timeframe.M15, RECIPE, (1,))
    with pytest.raises(NotReady, match="EURUSD has no closed W1 bar in its 5 stored bars"):
        bars_of(stored(bars.head(5)), Timeframe.W1)


@settings(deadline=None, max_examples=12)
@given(share=st.floats(0.3, 0.95), timeframe=st.sampled_from([H1, H4]), seed=st.integers(0, 999))
def test_no_row_of_a_member_changes_with_what_comes_after_it_is_known(
    share: float, timeframe: Timeframe, seed: int
) -> None:
    bars, other = bars_until(4, seed), bars_until(4, seed + 1)
    document = {"timeframes": ["H1", "D1"], "indicators": {"rsi": None, "atr": None, "cross_return": None}}
    recipe = Recipe.from_document({**document, "pairs": ["GBPUSD"], "min_coverage": 0.0})
    cut = int(share * bars.height)
    rng = np.random.default_rng(seed)
    changed = stored(disturbed_bars(bars, cut, rng, 0.01), GBPUSD=disturbed_bars(other, cut, rng, 0.01))
    before, after = (member_arrays(one, timeframe, recipe, (1,)) for one in (stored(bars, GBPUSD=other), changed))
    moment = bars["ts_utc"].to_numpy().astype("datetime64[us]")[cut]
    known = before.known_utc <= moment
    assert known.sum() > 50
    np.testing.assert_array_equal(before.features[known], after.features[known])
    np.testing.assert_array_equal(before.close[known], after.close[known])
    assert not np.array_equal(before.features, after.features, equal_nan=True)


def test_a_recipe_stays_on_what_is_not_below_the_base_and_else_moves_onto_it() -> None:
    recipe = Recipe.from_document(
        {
            "indicators": {
                "rsi": ["H1", "D1"],
                "macd": ["H1"],
                "returns": [{"bars": 1, "timeframes": ["H1"]}, {"bars": 1, "timeframes": ["H4"]}],
                "calendar": {},
            },
            "min_coverage": 0.3,
        }
    )
    assert recipe_on(recipe, H1).columns == recipe.columns
    moved = recipe_on(recipe, H4)
    frames = {choice.indicator: choice.timeframes for choice in moved.choices}
    assert frames == {"rsi": (D1,), "macd": (H4,), "returns": (H4,), "calendar": ()}
    assert moved.min_coverage == 0.3
    moved.require_base(H4)
    assert recipe_on(recipe, Timeframe.W1).timeframes == (Timeframe.W1,)


def test_columns_without_enough_values_are_left_out_and_none_left_is_refused(bars: pl.DataFrame) -> None:
    short = Recipe.from_document({"timeframes": ["H4", "W1"], "indicators": {"rsi": None}})
    names = {
        least: member_arrays(stored(bars), H4, replace(short, min_coverage=least), (1,)).feature_names
        for least in (0.1, 0.9)
    }
    assert names == {0.1: ("rsi_14_h4", "rsi_14_w1"), 0.9: ("rsi_14_h4",)}
    with pytest.raises(NotReady, match=r"no feature of EURUSD D1 has a value in 100% of its \d+ rows"):
        member_arrays(stored(bars.head(300)), D1, replace(short, min_coverage=1.0), (1,))


def test_the_pair_itself_and_missing_pairs_are_refused_by_name(bars: pl.DataFrame) -> None:
    recipe = Recipe.from_document({"pairs": ["GBPUSD"], "indicators": {"cross_return": ["H4"]}})
    with pytest.raises(NotReady, match="the recipe reads GBPUSD, of which there are no candles"):
        member_arrays(stored(bars), H4, recipe, (1,))
