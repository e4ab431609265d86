"""A search space holds lawful strategies only, covers them evenly, and is written and read back."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.errors import BadInput, UnknownName
from forexgpt_core.optimisation.search_space import PRESETS, SearchSpace
from forexgpt_core.strategy.config import StrategyConfig

WIDE = SearchSpace(
    horizons_bars=(24, 1, 6),
    cost_multiples=(0, 1, 2.5),
    trailing_scales=(0, 3),
    sizings=("risk", "fraction"),
    lots=(0.01, 0.05),
    max_entries=(1, 3),
    opposite_exits=(True, False),
)
SPACES = [SearchSpace(), SearchSpace.preset("classic"), WIDE, SearchSpace(stop_scales=(0.123, 0.1284))]
RANGES = ("entry_probability", "stop_scales", "take_profit_scales", "size_fraction", "holding_limit_bars")


@given(space=st.sampled_from(SPACES), seed=st.integers(0, 2**16), edge=st.sampled_from([None, 0.0, 1.0]))
def test_every_point_is_a_lawful_strategy_and_encodes_to_the_middle_of_its_cell(
    space: SearchSpace, seed: int, edge: float | None
) -> None:
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(space.dimensions) < 0.3, edge, rng.random(space.dimensions)) if edge is not None else None
    x = rng.random(space.dimensions) if x is None else x.astype(np.float64)
    config = space.decode(x)
    middle = space.encode(config)
    assert space.decode(middle) == config
    np.testing.assert_array_equal(space.encode(space.decode(middle)), middle)
    assert (np.abs(middle - x) <= space.steps / 2 + 1e-12).all()
    for name in (*RANGES, "trailing_scales", "lots", "max_entries"):
        least, most = getattr(space, name)
        assert least <= getattr(config, name) <= most
    assert config.horizon_bars in space.horizons_bars
    assert config.sizing in space.sizings
    assert config.cost_multiple in space.cost_multiples
    assert config.distance_unit == space.distance_unit


def test_every_value_of_a_setting_has_the_same_share_of_its_coordinate() -> None:
    space = SearchSpace(holding_limit_bars=(1, 4))
    place = list(RANGES).index("holding_limit_bars") + 1
    points = np.full((400, space.dimensions), 0.5)
    points[:, place] = (np.arange(400) + 0.5) / 400
    found = [space.decode(x).holding_limit_bars for x in points]
    assert [found.count(bars) for bars in (1, 2, 3, 4)] == [100] * 4


def test_a_space_reaches_its_ends_though_they_lie_between_the_hundredths() -> None:
    space = SearchSpace(stop_scales=(0.123, 0.1284))
    stops = {space.decode(np.array([0.5, 0.5, share, 0.5, 0.5, 0.5])).stop_scales for share in (0, 0.5, 1)}
    assert stops == {0.123, 0.1284}


def test_only_open_settings_have_a_coordinate() -> None:
    assert SearchSpace().dimensions == 6
    assert WIDE.dimensions == 12
    assert len(WIDE.steps) == 12
    assert WIDE.steps[0] == pytest.approx(1 / 3)
    fixed = SearchSpace(horizons_bars=(6,), **{name: (getattr(SearchSpace(), name)[0],) * 2 for name in RANGES})
    assert (fixed.dimensions, fixed.size) == (1, 1)
    only = fixed.decode(np.array([0.3]))
    assert fixed.grid(10) == [only]
    assert fixed.decode(fixed.encode(only)) == only


def test_every_setting_of_a_strategy_can_be_searched() -> None:
    varied = {f.name for f in fields(StrategyConfig) if len({getattr(c, f.name) for c in WIDE.grid(600)}) > 1}
    assert varied | {"distance_unit"} == {f.name for f in fields(StrategyConfig)}


@pytest.mark.parametrize("space", SPACES[:3])
@pytest.mark.parametrize("count", [500, 512, 1000])
def test_the_grid_covers_the_space(space: SearchSpace, count: int) -> None:
    grid = space.grid(count)
    assert len({config.hash12 for config in grid}) == len(grid) == count
    assert grid == space.grid(count)
    points = np.array([space.encode(config) for config in grid])
    coordinates = range(space.dimensions)
    for one in coordinates:
        tenths = np.histogram(points[:, one], bins=10, range=(0, 1))[0]
        values = round(1 / space.steps[one])
        if values >= 40:
            assert tenths.min() >= 0.8 * count / 10
        elif values <= 4:
            cells = np.histogram(points[:, one], bins=values, range=(0, 1))[0]
            assert cells.min() >= 0.9 * count / values
    for one in coordinates:
        for other in range(one):
            quarters = np.histogram2d(points[:, one], points[:, other], bins=2, range=((0, 1), (0, 1)))[0]
            if round(1 / space.steps[one]) % 2 == 0 == round(1 / space.steps[other]) % 2:
                assert quarters.min() >= 0.8 * count / 4


def test_a_small_space_is_its_own_grid() -> None:
    space = SearchSpace(
        horizons_bars=(6,),
        entry_probability=(0.5, 0.504),
        stop_scales=(2, 2.01),
        take_profit_scales=(3, 3),
        size_fraction=(0.1, 0.1),
        holding_limit_bars=(3, 5),
    )
    assert space.size == 30
    assert len({config.hash12 for config in space.grid(500)}) == 30
    assert len({config.hash12 for config in space.grid(10)}) == 10
    with pytest.raises(BadInput, match="1 candidate or more"):
        space.grid(0)


def test_presets() -> None:
    assert SearchSpace.preset("volatility") == SearchSpace()
    classic = SearchSpace.preset("classic", horizons_bars=(1, 24))
    assert (classic.entry_probability, classic.size_fraction) == ((0.50, 0.70), (0.05, 0.20))
    assert (classic.stop_scales, classic.take_profit_scales) == ((1.0, 5.0), (2.0, 10.0))
    assert (classic.holding_limit_bars, classic.distance_unit) == ((1, 48), "percent")
    assert SearchSpace.parse({"preset": "classic", "horizons_bars": [1, 24]}) == classic
    assert set(PRESETS) == {"volatility", "classic"}
    with pytest.raises(UnknownName, match="unknown preset 'clasic'; did you mean classic"):
        SearchSpace.preset("clasic")
    with pytest.raises(UnknownName, match="did you mean stop_scales"):
        SearchSpace.preset("classic", stop_scale=(1, 2))


@pytest.mark.parametrize("space", SPACES)
def test_a_space_is_written_and_read_back_with_its_hash(space: SearchSpace) -> None:
    document = json.loads(json.dumps(space.document()))
    assert SearchSpace.parse(document) == space
    assert SearchSpace.parse(document).hash12 == space.hash12


def test_equal_spaces_have_equal_hashes_and_others_do_not() -> None:
    assert replace(WIDE, horizons_bars=(1, 6, 24), cost_multiples=(2.5, 1, 0.0), trailing_scales=(0, 3.0)) == WIDE
    assert WIDE.hash12 == SearchSpace.parse({**WIDE.document(), "horizons_bars": [6, 24, 1]}).hash12
    assert len({space.hash12 for space in SPACES}) == len(SPACES)
    assert SearchSpace().hash12 == "32430ab6af65", "studies are found by it: change it on purpose only"


@pytest.mark.parametrize(
    ("document", "error", "message"),
    [
        ({"trailing_scale": [1, 2]}, UnknownName, "did you mean trailing_scales"),
        ({"xyz": [1, 2]}, UnknownName, "known: horizons_bars"),
        ({"stop_scales": [1, float("inf")]}, BadInput, "stop_scales .* finite numbers"),
        ({"stop_scales": [float("nan"), float("nan")]}, BadInput, "least <= most"),
        ({"stop_scales": [1, 2, 3]}, BadInput, "least, most"),
        ({"stop_scales": ["1", "2"]}, BadInput, "finite numbers"),
        ({"stop_scales": "12"}, BadInput, "least, most"),
        ({"stop_scales": None}, BadInput, "least, most"),
        ({"stop_scales": [True, True]}, BadInput, "finite numbers"),
        ({"stop_scales": [1, 1e9]}, BadInput, "over 100000 values"),
        ({"trailing_scales": [-1, 2]}, BadInput, "trailing_scales must be 0 or more"),
        ({"max_entries": [0, 2]}, BadInput, "max_entries must be 1 or more"),
        ({"max_entries": [1, 2.5]}, BadInput, "max_entries must be whole"),
        ({"lots": [0, 1]}, BadInput, "lots must be above 0"),
        ({"cost_multiples": [-1]}, BadInput, "cost_multiple must be 0 or more"),
        ({"cost_multiples": [1, 1.0]}, BadInput, "each once"),
        ({"cost_multiples": 1.0}, BadInput, "list of numbers"),
        ({"cost_multiples": [float("nan")]}, BadInput, "list of numbers"),
        ({"horizons_bars": [1.5]}, BadInput, "whole numbers"),
        ({"horizons_bars": [True]}, BadInput, "list of numbers"),
        ({"sizings": ["martingale"]}, BadInput, "unknown sizing 'martingale'"),
        ({"sizings": ["fraction", "martingale", "risk"]}, BadInput, "unknown sizing 'martingale'"),
        ({"sizings": "risk"}, BadInput, "list of names"),
        ({"sizings": [1]}, BadInput, "list of names"),
        ({"opposite_exits": [1]}, BadInput, "true or false"),
        ({"opposite_exits": []}, BadInput, "at least one choice"),
        ({"distance_unit": "pips"}, BadInput, "unknown distance_unit 'pips'"),
        ({"distance_unit": ["percent"]}, BadInput, "unknown distance_unit"),
    ],
)
def test_a_bad_space_is_refused_in_one_line(document: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        SearchSpace.parse(document)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stop_scales": 9.0}, r"stop_scales 9.0, outside of the space's 0.5 to 4.0"),
        ({"horizon_bars": 7}, r"horizons_bars 7, outside of the space's 6, 24"),
        ({"max_entries": 2}, "max_entries 2, outside"),
        ({"distance_unit": "percent"}, "measures distances in percent, the space in volatility"),
    ],
)
def test_a_strategy_outside_of_the_space_has_no_point(change: dict[str, object], message: str) -> None:
    config = replace(StrategyConfig(), **change)
    with pytest.raises(BadInput, match=message):
        SearchSpace().encode(config)


@given(stop=st.floats(0.5, 4.0), size=st.floats(0.02, 0.2))
@settings(max_examples=50)
def test_a_strategy_between_the_grid_s_values_encodes_to_the_nearest(stop: float, size: float) -> None:
    space = SearchSpace()
    near = space.decode(space.encode(StrategyConfig(stop_scales=stop, size_fraction=size)))
    assert near.stop_scales == pytest.approx(stop, abs=0.005 + 1e-9)
    assert near.size_fraction == pytest.approx(size, abs=0.0005 + 1e-9)
