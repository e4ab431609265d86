"""A campaign is a grid: each combination once, the same ones whatever order its document has, and of bounded size."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.deployment.campaign_documents import campaign_from_yaml, campaign_of, campaign_to_yaml
from forexgpt_core.errors import BadInput, ForexGPTError, UnknownName
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.optimisation.campaign import Campaign, CampaignMember

OPTIONS = {
    "random_walk": {"seasonal": st.booleans(), "window_bars": st.integers(2, 500)},
    "linear": {"penalty": st.sampled_from(["ridge", "lasso"]), "pca_components": st.integers(0, 9)},
    "forest": {"trees": st.integers(1, 200), "max_depth": st.integers(1, 9)},
    "boosting": {"rounds": st.integers(1, 200), "learning_rate": st.floats(0.01, 1)},
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    def some(values: st.SearchStrategy[object], most: int = 3) -> list[object]:
        return draw(st.lists(values, min_size=1, max_size=most, unique_by=json.dumps))

    families = some(st.sampled_from(list(FAMILIES)), 4)
    parameters = {
        family: {name: some(values) for name, values in OPTIONS[family].items() if draw(st.booleans())}
        for family in families
        if draw(st.booleans())
    }
    return {
        "name": "grid",
        "symbols": some(st.sampled_from(["EURUSD", "GBPUSD", "USDJPY"])),
        "timeframes": some(st.sampled_from(["M15", "H1", "D1"])),
        "horizons": some(st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True).map(sorted)),
        "families": families,
        "parameters": parameters,
        "most_members": 5000,
    }


def backwards(value: object) -> object:
    """The same document with the keys of every mapping in the other order."""
    if isinstance(value, dict):
        return {key: backwards(item) for key, item in reversed(value.items())}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=80)
@given(document=documents())
def test_a_grid_is_every_combination_once_whatever_the_order_of_the_keys(document: dict[str, object]) -> None:
    campaign = campaign_of(document)
    members = campaign.members()
    assert campaign_of(backwards(document)).members() == members
    assert campaign_of(backwards(document)).hash12 == campaign.hash12
    assert len({member.hash12 for member in members}) == len(members) == campaign.size
    wanted = {
        (symbol, timeframe, tuple(horizons), family)
        for symbol in document["symbols"]
        for timeframe in document["timeframes"]
        for horizons in document["horizons"]
        for family in {"random_walk", *document["families"]}
    }
    assert {(m.symbol, m.timeframe, m.horizons_bars, m.family) for m in members} == wanted
    for symbol, timeframe, horizons, family in wanted:
        beside = [m for m in members if (m.symbol, m.timeframe, m.horizons_bars) == (symbol, timeframe, horizons)]
        assert beside[0].is_reference, "the random walk comes first"
        assert sum(m.is_reference for m in beside) == 1
        grid = document["parameters"].get(family, {})
        of_family = [m for m in beside if m.family == family and not m.is_reference]
        crossed = math.prod(len(values) for values in grid.values())
        assert len(of_family) == (0 if family == "random_walk" and not grid else crossed)
        assert all(m.options[name] in values for m in of_family for name, values in grid.items())


@settings(deadline=None, max_examples=40)
@given(document=documents())
def test_a_campaign_and_its_members_survive_being_written_down(document: dict[str, object]) -> None:
    campaign = campaign_of(document)
    assert campaign_from_yaml(campaign_to_yaml(campaign)) == campaign
    assert campaign_of(json.loads(json.dumps(campaign.to_document()))) == campaign
    for member in campaign.members()[:20]:
        again = CampaignMember.from_document(json.loads(json.dumps(member.to_document())))
        assert (again, again.hash12) == (member, member.hash12)


SMALL = Campaign(name="small", symbols=("EURUSD",), timeframes=("H1",), horizons=((1, 4),), families=("linear",))


def test_the_hash_of_a_member_tells_apart_whatever_would_change_its_result() -> None:
    others = [
        SMALL,
        replace(SMALL, symbols=("GBPUSD",)),
        replace(SMALL, timeframes=("H4",)),
        replace(SMALL, horizons=((1, 5),)),
        replace(SMALL, families=("forest",)),
        replace(SMALL, parameters={"linear": {"pca_components": [3]}}),
        replace(SMALL, recipe={"indicators": {"rsi": ["H1"]}}),
        replace(SMALL, walk_forward=WalkForwardSettings(embargo_bars=1)),
        replace(SMALL, seed=8),
    ]
    assert len({campaign.members()[-1].hash12 for campaign in others}) == len(others)
    renamed = replace(SMALL, name="other", most_members=9)
    assert [m.hash12 for m in renamed.members()] == [m.hash12 for m in SMALL.members()], "its name changes no result"


def test_names_are_written_one_way_and_settings_cannot_change_from_outside() -> None:
    values = [3]
    campaign = replace(
        SMALL, symbols=("eur/usd",), timeframes=("h1",), parameters={"linear": {"pca_components": values}}
    )
    values.append(4)
    assert (campaign.symbols, campaign.timeframes, campaign.size) == (("EURUSD",), ("H1",), 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "Spring!"}, "a campaign's name must be up to 32 lower-case letters.* was 'Spring!'"),
        ({"symbols": ["EURUSD", "EUR/USD"]}, "symbols name EURUSD twice"),
        ({"symbols": []}, "symbols must name one or more"),
        ({"symbols": ["EURXXX"]}, "EURXXX"),
        ({"symbols": "EURUSD"}, "'symbols' must be a list, was 'EURUSD'"),
        ({"timeframes": ["H3"]}, "unknown timeframe 'H3'; known: M1"),
        ({"horizons": [[4, 1]]}, r"each of horizons must be increasing whole numbers from 1, was \[4, 1\]"),
        ({"horizons": [1, 4]}, "'horizons' must be a list, was 1"),
        ({"horizons": [[1], [1]]}, r"horizons name \[1\] twice"),
        ({"horizons": [[1.5]]}, "'horizons' must be a whole number, was 1.5"),
        ({"families": ["bosting"]}, "unknown model family 'bosting'; known: random_walk"),
        ({"parameters": {"forest": {"trees": [9]}}}, "parameters name 'forest', which is not among the families"),
        ({"parameters": {"linear": {"penalty": "ridge"}}}, "parameters.linear.penalty must be a list of values"),
        ({"parameters": {"linear": {"penalty": []}}}, "parameters.linear.penalty must be a list of values"),
        ({"parameters": {"linear": {"pca_components": [3, 3]}}}, "parameters.linear.pca_components name 3 twice"),
        ({"parameters": {"linear": [3]}}, r"parameters.linear must be a mapping, was \[3\]"),
        ({"parameters": {"linear": {"caution": [float("inf")]}}}, "must be a finite number, was inf"),
        ({"familys": ["linear"]}, "unknown setting 'familys'; did you mean 'families'"),
        ({"walk_forward": {"folds": 1}}, "walk_forward.folds must lie in 2 to 100, was 1"),
        ({"seed": -1}, "seed must lie in 0 to 2147483647"),
        ({"seed": 2**32}, "seed must lie in 0 to 2147483647"),
        ({"most_members": 6000}, "most_members in 1 to 5000"),
        ({"horizons": [[n] for n in range(1, 150)]}, "has 298 members, more than most_members 200: name fewer values"),
    ],
)
def test_what_is_no_campaign_is_refused_by_name(change: dict[str, object], text: str) -> None:
    with pytest.raises(ForexGPTError, match=text) as caught:
        campaign_of({**SMALL.to_document(), **change})
    assert isinstance(caught.value, BadInput | UnknownName)
    assert "\n" not in str(caught.value)


def test_a_huge_grid_is_refused_without_being_made() -> None:
    wide = {family: {name: list(range(1, 2000)) for name in options} for family, options in OPTIONS.items()}
    with pytest.raises(BadInput, match="members, more than most_members 5000"):
        replace(SMALL, families=tuple(FAMILIES), parameters=wide, most_members=5000)


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        ({"alpha": [1]}, "parameters of linear: linear has no option 'alpha'; known: penalty"),
        ({"penalty": ["ridge", "none"]}, "parameters of linear: penalty must be one of .* was 'none'"),
        ({"pca_components": ["many"]}, "parameters of linear: pca_components=many has a value of a wrong type"),
    ],
)
def test_options_that_a_family_does_not_take_are_refused_before_anything_is_fitted(
    grid: dict[str, list[object]], text: str
) -> None:
    with pytest.raises(BadInput, match=text):
        replace(SMALL, parameters={"linear": grid}).require_buildable()


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ({"indicators": {"rsj": {}}}, "the campaign's recipe: unknown indicator 'rsj'; did you mean 'rsi'"),
        ({"indicator": {}}, "the campaign's recipe: unknown recipe setting 'indicator'"),
    ],
)
def test_a_recipe_that_cannot_be_built_is_refused_before_the_campaign_takes_its_name(
    recipe: dict[str, object], text: str
) -> None:
    with pytest.raises(BadInput, match=text):
        replace(SMALL, recipe=recipe).require_buildable()
    replace(SMALL, recipe={"indicators": {"rsi": ["H1"]}}).require_buildable()
