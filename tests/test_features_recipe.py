"""Recipes are values: checked at birth, stored as JSON, equal when what they build is equal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.cli.features import read_recipe
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.features.catalogue import indicators
from forexgpt_core.features.recipe import DEFAULT_INDICATORS, Recipe

frames = st.lists(st.sampled_from([t.value for t in Timeframe]), min_size=1, unique=True)
entries = st.one_of(
    frames,
    st.just({}),
    st.builds(lambda bars: {"bars": bars}, st.integers(2, 500)),
    st.builds(lambda bars, on: {"bars": bars, "timeframes": on}, st.integers(2, 500), frames),
)
documents = st.fixed_dictionaries(
    {"indicators": st.dictionaries(st.sampled_from(["rsi", "atr", "sma", "cci", "obv"]), entries, min_size=1)},
    optional={"timeframes": frames, "min_coverage": st.floats(0, 1)},
)


@settings(deadline=None)
@given(document=documents)
def test_a_recipe_survives_its_json_and_its_document(document: dict[str, object]) -> None:
    recipe = Recipe.from_document(document)
    for again in (Recipe.from_json(recipe.to_json()), Recipe.from_document(recipe.to_document())):
        assert again == recipe
        assert again.to_json() == recipe.to_json()
        assert again.hash12 == recipe.hash12


@settings(deadline=None)
@given(one=documents, other=documents)
def test_hashes_are_equal_exactly_when_recipes_are(one: dict[str, object], other: dict[str, object]) -> None:
    first, second = Recipe.from_document(one), Recipe.from_document(other)
    assert (first.hash12 == second.hash12) == (first == second)
    assert len(first.hash12) == 12


def test_the_usual_hash_never_changes_by_accident() -> None:
    assert Recipe.usual().hash12 == "ee5a566e9dd4", "features built under the old hash would be taken for the new ones"
    assert Recipe.from_json("{}") == Recipe.usual()
    assert {choice.indicator for choice in Recipe.usual().choices} == set(DEFAULT_INDICATORS)


def test_neither_order_nor_case_of_timeframes_and_indicators_matters() -> None:
    mixed = Recipe.from_json('{"timeframes": ["d1", "H1", "H4"]}')
    assert mixed == Recipe.usual()
    assert mixed.timeframes == (Timeframe.H1, Timeframe.H4, Timeframe.D1)
    both = [Recipe.from_document({"indicators": dict.fromkeys(names)}) for names in (["rsi", "adx"], ["adx", "rsi"])]
    assert both[0] == both[1]


def test_an_indicator_may_stand_on_its_own_timeframes_with_its_own_parameters_and_more_than_once() -> None:
    recipe = Recipe.from_document(
        {
            "timeframes": ["H1", "D1"],
            "indicators": {
                "rsi": ["M5"],
                "macd": {"fast": 5, "slow": 20},
                "returns": [{"bars": 1}, {"bars": 24, "timeframes": ["H4"]}],
                "calendar": {},
                "cross_beta": {"pairs": ["gbp/usd", "USDJPY"], "timeframes": ["H1"]},
            },
        }
    )
    assert recipe.columns == (
        *("hour_sin", "hour_cos", "weekday_sin", "weekday_cos"),
        "rsi_14_m5",
        *("return_1_h1", "macd_5_20_9_h1", "macd_signal_5_20_9_h1", "macd_histogram_5_20_9_h1"),
        *("cross_beta_48_gbpusd_h1", "cross_beta_48_usdjpy_h1"),
        "return_24_h4",
        *("return_1_d1", "macd_5_20_9_d1", "macd_signal_5_20_9_d1", "macd_histogram_5_20_9_d1"),
    )
    assert recipe.pairs == ("GBPUSD", "USDJPY")
    assert recipe.needs == {"pairs"}


def test_all_is_every_indicator_that_needs_no_other_data() -> None:
    recipe = Recipe.from_document({"timeframes": ["H1"], "indicators": "all"})
    chosen = {choice.indicator for choice in recipe.choices}
    assert {name for name, one in indicators().items() if not one.needs} <= chosen
    assert not recipe.needs & {"pairs", "ask", "events"}


def test_warm_up_and_memory_are_those_of_the_slowest_indicator_of_a_timeframe() -> None:
    recipe = Recipe.from_document({"indicators": {"sma": {"bars": 200, "timeframes": ["H1"]}, "rsi": ["H1", "D1"]}})
    assert recipe.warm_up_bars(Timeframe.H1) == 199
    assert recipe.warm_up_bars(Timeframe.D1) == 14
    assert recipe.warm_up_seconds() == max(200 * 3600, 15 * 86400)
    assert recipe.memory_bars(Timeframe.D1) > 400, "Wilder's average forgets slowly"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"rsi_bars": 3}, "names 'rsi_bars' beside its settings, as recipes of earlier releases did; name indicators"),
        ({"timeframes": ["H1"], "rsi": True}, "names 'rsi' beside its settings"),
        ({"rsi_span": 3}, "unknown recipe setting 'rsi_span'; known: timeframes, indicators"),
        ({"indicator": {}}, "unknown recipe setting 'indicator'; did you mean 'indicators'"),
        ({"indicators": {"rsii": {}}}, "unknown indicator 'rsii'; did you mean 'rsi'"),
        ({"indicators": {"RSI": {}}}, "unknown indicator 'RSI'; did you mean 'rsi'"),
        ({"indicators": {"zzzzz": {}}}, "unknown indicator 'zzzzz'; known: see 'forexgpt features list'"),
        ({"indicators": {"rsi": {"bar": 3}}}, "unknown parameter of 'rsi' 'bar'; did you mean 'bars'"),
        ({"indicators": {"rsi": {"bars": 1}}}, "recipe rsi.bars must be a whole number from 2 to 10000, was 1"),
        ({"indicators": {"rsi": {"bars": 14.0}}}, "rsi.bars must be a whole number"),
        ({"indicators": {"rsi": {"bars": True}}}, "rsi.bars must be a whole number"),
        ({"indicators": {"rsi": {"bars": "14"}}}, "rsi.bars must be a whole number"),
        ({"indicators": {"rsi": {"bars": 10**9}}}, "to 10000"),
        ({"indicators": {"rsi": 14}}, "must be a list of timeframes, a mapping of parameters"),
        ({"indicators": {"rsi": []}}, "must be a list of timeframes, a mapping of parameters"),
        ({"indicators": {"rsi": ["H1", {"bars": 3}]}}, "must be a list of timeframes, a mapping of parameters"),
        (
            {"indicators": {"macd": {"fast": 26, "slow": 12}}},
            "macd: fast must be below slow, were fast 26",
        ),
        ({"indicators": {"bollinger": {"deviations": 0}}}, "bollinger.deviations must be a number from 0.1"),
        ({"indicators": {"bollinger": {"deviations": float("nan")}}}, "bollinger.deviations must be a number from 0.1"),
        ({"indicators": {"calendar": ["H1"]}}, "'calendar' is of the bar itself and takes no timeframes"),
        ({"indicators": {"ohlc": {"bars": 3}}}, "unknown parameter of 'ohlc' 'bars'"),
        ({"indicators": {"rsi": [{"bars": 3}, {"bars": 3}]}}, "builds the column 'rsi_3_d1' twice"),
        ({"indicators": {"cross_beta": {}}}, "'cross_beta' reads other pairs: name them"),
        ({"indicators": {"rsi": {"pairs": ["GBPUSD"]}}}, "unknown parameter of 'rsi' 'pairs'"),
        ({"indicators": {}}, "must map names to timeframes or parameters, or be 'all'"),
        ({"indicators": "some"}, "must map names to timeframes or parameters, or be 'all'"),
        ({"min_coverage": 1.5}, "min_coverage must be a number from 0 to 1"),
        ({"min_coverage": "0.5"}, "min_coverage must be a number from 0 to 1"),
        ({"timeframes": []}, "one or more"),
        ({"timeframes": "H1"}, "must be a list"),
        ({"timeframes": ["H1", "h1"]}, "name one twice"),
        ({"indicators": {"rsi": ["H1", "h1"]}}, "rsi.timeframes name one twice"),
        ({"pairs": "GBPUSD"}, "pairs must be a list of pairs"),
        ([], "must be a mapping"),
    ],
)
def test_an_unlawful_recipe_says_what_is_wrong(document: object, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refusal:
        Recipe.from_document(document)
    assert "\n" not in str(refusal.value)


def test_text_that_is_not_json_and_unknown_names_are_refused() -> None:
    with pytest.raises(BadInput, match="not valid JSON"):
        Recipe.from_json("{")
    with pytest.raises(UnknownName, match="unknown timeframe 'H2'"):
        Recipe.from_document({"indicators": {"rsi": ["H2"]}})
    with pytest.raises(UnknownName, match="unknown symbol 'EURUSE'"):
        Recipe.from_document({"indicators": {"cross_beta": {"pairs": ["EURUSE"]}}})
    assert json.loads(Recipe.usual().to_json())["min_coverage"] == 0.15


def test_a_recipe_module_imports_no_indicator_until_one_is_made() -> None:
    code = (
        "import sys, forexgpt_core.features.recipe, forexgpt_core.deployment.symbol_settings as s;"
        "s.default_settings('EURUSD'); print(sorted({'pandas', 'talib', 'torch', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("indicators: {rsi: {bars: 5}}\nindicators: {ema: {}}", "the key 'indicators' stands there twice (line 2)"),
        ("indicators:\n  rsi: [H1]\n  rsi: [H4]", "the key 'rsi' stands there twice (line 3): keep one"),
        ("2018-01-01: 3", "unknown recipe setting '2018-01-01'"),
        ("indicators: {on: {}}", "unknown indicator 'True'"),
        ("indicators: &a\n  rsi: *a", "a value refers to itself (line 1)"),
        ("indicators:\n\trsi: {}", "not valid YAML (line 2)"),
        ("? [a, b]\n: 1", "not valid YAML (line 1)"),
        ("timeframes: [2018-01-01]", "timeframes must be a list of one or more of M1"),
        ("", "recipe must be a mapping of settings"),
        ("\xff", "cannot read a recipe from"),
    ],
)
def test_a_recipe_file_that_says_something_else_is_one_clear_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput) as refused:
        read_recipe(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recipe_file_may_be_yaml_or_json_and_repeat_keys_in_different_places(tmp_path: Path) -> None:
    path = tmp_path / "recipe"
    path.write_text("indicators:\n  rsi: [{bars: 5}, {bars: 6}]\n  ema: {bars: 5}\n")
    recipe = read_recipe(str(path))
    assert [c.indicator for c in recipe.choices] == ["rsi", "rsi", "ema"]
    path.write_text(recipe.to_json())
    assert read_recipe(str(path)) == recipe
