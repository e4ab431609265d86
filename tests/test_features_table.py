"""The stored feature table: built in full once, then from the first bar that changed on, and the same either way."""

import shutil
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.adapters.lake import Lake
from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.errors import BadInput, NotReady, StaleVersion
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.table import KIND, Basis, Built, FeatureTable, Plan, first_change

H1 = Timeframe.H1
RECIPE = Recipe.from_document(
    {
        "timeframes": ["H1", "H4"],
        "pairs": ["GBPUSD"],
        "indicators": {"ohlc": {}, "rsi": {"bars": 5}, "sma": {"bars": 8}, "cross_return": {}},
    }
)

EDITED = Recipe.from_document(
    {
        "timeframes": ["H1", "H4"],
        "pairs": ["GBPUSD"],
        "min_coverage": 0,
        "indicators": {
            "ohlc": {},
            "reopening": {},
            "ema": {"bars": 2},
            "force_index": {"bars": 2},
            "spread": {},
            "cross_return": {},
        },
    }
)


def market(bars: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    opens = next_opens(week_opens()[1490:1491] - np.timedelta64(1, "s"), H1, bars)[0]
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, bars)))
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "open": close,
            "high": close * 1.001,
            "low": close / 1.001,
            "close": close,
            "volume": pl.Series([None] * bars, dtype=pl.Float64),
        }
    )


class World:
    """A lake with two pairs, and the feature table of one of them."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(str(folder))
        self.table = FeatureTable(store=self.lake, symbol="EURUSD", timeframe=H1)

    def basis(self, recipe: Recipe = RECIPE, events: str = "") -> Basis:
        pairs = {pair: self.lake.candles_version(pair, H1) for pair in recipe.pairs}
        return Basis(recipe=recipe, candles=self.lake.candles_version("EURUSD", H1), pairs=pairs, events=events)

    def inputs(self, basis: Basis) -> FeatureInputs:
        pairs = {pair: self.lake.candles(pair, H1, version=version) for pair, version in basis.pairs.items()}
        return FeatureInputs(symbol="EURUSD", pairs=pairs)

    def update(self, basis: Basis | None = None) -> tuple[datetime | None, int]:
        """Bring the table up to date; return from when on rows were built and how many."""
        wanted = basis or self.basis()
        bars = self.lake.candles("EURUSD", H1, version=wanted.candles)
        plan = self.table.plan(wanted, bars)
        if plan is None:
            return None, 0
        built = self.build(plan, wanted)
        self.table.save(built, wanted)
        return built.plan.since_utc, built.rows.height

    def build(self, plan: Plan, basis: Basis) -> Built:
        bars = self.lake.candles("EURUSD", H1, version=basis.candles)
        rows = partial(build_features, bars, H1, basis.recipe, inputs=self.inputs(basis))
        return self.table.build(plan, basis.recipe, bars.height, lambda since: rows(since_utc=since))

    def require_whole(self, recipe: Recipe = RECIPE) -> None:
        """Compare the stored table with one built in full."""
        basis = self.basis(recipe)
        whole = build_features(self.lake.candles("EURUSD", H1), H1, basis.recipe, inputs=self.inputs(basis))
        stored = self.lake.read(KIND, "EURUSD", H1)
        assert set(stored.columns) <= set(whole.columns)
        whole = whole.select(stored.columns)
        assert stored["ts_utc"].equals(whole["ts_utc"])
        np.testing.assert_allclose(
            stored.drop("ts_utc").to_numpy(), whole.drop("ts_utc").to_numpy(), rtol=1e-9, atol=1e-12
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.lake.merge_candles("EURUSD", H1, market(400, 1).head(300))
    made.lake.merge_candles("GBPUSD", H1, market(400, 2).head(300))
    return made


def test_new_bars_add_their_rows_and_nothing_else_is_built(world: World) -> None:
    assert world.update() == (None, 300)
    assert world.update() == (None, 0), "nothing changed"
    new = market(400, 1).slice(300, 24)
    world.lake.merge_candles("EURUSD", H1, new)
    world.lake.merge_candles("GBPUSD", H1, market(400, 2).slice(300, 24))
    assert world.update() == (new["ts_utc"][0], 24)
    world.require_whole()


def test_a_bar_that_changed_or_came_late_rebuilds_from_there(world: World) -> None:
    bars = market(400, 1).head(300)
    world.lake.replace("candles", "EURUSD", H1, bars.filter(pl.int_range(pl.len()) != 200))
    world.update()
    world.lake.merge_candles("EURUSD", H1, bars.slice(200, 1))
    assert world.update() == (bars["ts_utc"][200], 100)
    world.require_whole()
    world.lake.merge_candles("EURUSD", H1, bars.slice(250, 1).with_columns(pl.col("close") * 1.0001))
    assert world.update() == (bars["ts_utc"][250], 50)
    world.require_whole()


def test_another_pair_that_changed_rebuilds_from_there(world: World) -> None:
    world.update()
    other = market(400, 2).slice(280, 1).with_columns(pl.col("close") * 1.0001)
    world.lake.merge_candles("GBPUSD", H1, other)
    assert world.update() == (other["ts_utc"][0], 20)
    world.require_whole()


def test_another_recipe_or_calendar_rebuilds_everything(world: World) -> None:
    world.update()
    other = Recipe.from_document({"timeframes": ["H1"], "indicators": {"rsi": {"bars": 6}}})
    assert world.update(world.basis(other)) == (None, 300)
    assert world.lake.read(KIND, "EURUSD", H1).columns == ["ts_utc", "rsi_6_h1"]
    assert world.update(world.basis(other, events="abc")) == (None, 300)
    assert world.update(world.basis(other, events="abc")) == (None, 0)


def test_an_earlier_version_of_the_table_can_still_be_read(world: World) -> None:
    world.update()
    before, version = world.lake.read(KIND, "EURUSD", H1), world.lake.version(KIND, "EURUSD", H1)
    world.lake.merge_candles("EURUSD", H1, market(400, 1).slice(300, 50))
    world.update()
    assert world.lake.read(KIND, "EURUSD", H1, version=version).equals(before)
    assert world.lake.read(KIND, "EURUSD", H1).height == 350


@settings(deadline=None, max_examples=40)
@given(keep=st.lists(st.booleans(), min_size=30, max_size=30), more=st.integers(0, 5), change=st.integers(-1, 29))
def test_the_first_change_is_the_first_row_that_is_not_the_same(keep: list[bool], more: int, change: int) -> None:
    whole = market(35, 3)
    old = whole.head(30).filter(pl.Series(keep))
    row = pl.int_range(pl.len())
    new = whole.head(30 + more).with_columns(close=pl.when(row == change).then(pl.col("close") * 2).otherwise("close"))
    was = dict(zip(old["ts_utc"], old["close"]))
    now = dict(zip(new["ts_utc"], new["close"]))
    differing = [moment for moment in sorted({*was, *now}) if was.get(moment) != now.get(moment)]
    assert first_change(old, new) == min(differing, default=None)
    assert first_change(new, old) == min(differing, default=None)


def test_rows_of_other_columns_or_an_earlier_time_are_refused(world: World) -> None:
    world.update()
    stored = world.lake.read(KIND, "EURUSD", H1)
    late = stored["ts_utc"][200]
    with pytest.raises(BadInput, match="other columns than the table"):
        world.lake.replace_from(KIND, "EURUSD", H1, stored.tail(10).drop("rsi_5_h1"), late)
    with pytest.raises(BadInput, match="100 rows lie before"):
        world.lake.replace_from(KIND, "EURUSD", H1, stored.slice(100), late)
    assert world.lake.read(KIND, "EURUSD", H1).equals(stored)


RARE = Recipe.from_document(
    {
        "timeframes": ["H1", "D1"],
        "indicators": {"ohlc": ["H1"], "sma": {"bars": 12, "timeframes": ["D1"]}, "spread": {}},
    }
)


def test_a_column_left_out_is_named_and_comes_in_once_it_has_a_value_in_enough_rows(world: World) -> None:
    def build() -> Built:
        basis = world.basis(RARE)
        plan = world.table.plan(basis, world.lake.candles("EURUSD", H1))
        built = world.build(plan, basis)
        world.table.save(built, basis)
        return built

    first = build()
    assert first.left_out == {"sma_12_d1": 13, "spread_h1": 0, "spread_d1": 0}
    assert first.rows.columns == ["ts_utc", "log_open_h1", "log_high_h1", "log_low_h1", "log_return_h1"]
    world.lake.merge_candles("EURUSD", H1, market(400, 1).slice(300, 30))
    second = build()
    assert (second.rows.height, second.left_out["sma_12_d1"]) == (30, 43)
    world.lake.merge_candles("EURUSD", H1, market(400, 1).slice(330, 70))
    third = build()
    assert third.plan.why == "sma_12_d1 may have a value in enough rows by now"
    assert third.rows.height == 400
    assert "sma_12_d1" in third.rows.columns
    world.lake.merge_candles("EURUSD", H1, market(400, 1).with_columns(ask_close=pl.col("close") * 1.0001))
    fourth = build()
    assert fourth.plan.why == "bars changed from the first one on"
    assert fourth.left_out == {}
    assert set(world.lake.read(KIND, "EURUSD", H1).columns) == {"ts_utc", *RARE.columns}


def test_a_recipe_of_which_nothing_is_known_is_refused_in_one_line(world: World) -> None:
    basis = world.basis(Recipe.from_document({"timeframes": ["D1"], "indicators": {"sma": {"bars": 50}}}))
    plan = world.table.plan(basis, world.lake.candles("EURUSD", H1))
    with pytest.raises(NotReady, match=r"no feature of EURUSD has a value in 15% of its 300 rows: import more candles"):
        world.build(plan, basis)


def test_a_run_that_was_overtaken_stores_nothing_over_newer_rows(world: World) -> None:
    world.update()
    world.lake.merge_candles("EURUSD", H1, market(400, 1).slice(300, 10))
    slow = world.basis()
    plan = world.table.plan(slow, world.lake.candles("EURUSD", H1))
    built = world.build(plan, slow)
    world.lake.merge_candles("EURUSD", H1, market(400, 1).slice(310, 10))
    assert world.update() == (market(400, 1)["ts_utc"][300], 20)
    newest = world.lake.read(KIND, "EURUSD", H1)
    for stale in (
        built,
        replace(built, plan=replace(plan, since_utc=None)),
        replace(built, plan=replace(plan, version=-1)),
    ):
        with pytest.raises(StaleVersion, match=r"at version 1, not at (0|-1) as it was read: another run wrote it"):
            world.table.save(stale, slow)
    assert world.lake.read(KIND, "EURUSD", H1).equals(newest)


@pytest.mark.parametrize(
    "lost", [{"recipe_json"}, {"pairs", "events", "left_out", "recipe_json", "overridden"}, {"recipe"}]
)
def test_a_table_of_an_earlier_release_or_without_notes_is_built_again(world: World, lost: set[str]) -> None:
    basis = world.basis()
    whole = build_features(world.lake.candles("EURUSD", H1), H1, RECIPE, inputs=world.inputs(basis))
    notes = {name: value for name, value in {**basis.notes(), "left_out": "{}"}.items() if name not in lost}
    world.lake.replace(KIND, "EURUSD", H1, whole, metadata=notes)
    assert world.update()[1] in (1, 300)
    assert world.update() == (None, 0)
    world.require_whole()


def test_candles_that_were_removed_and_imported_again_are_a_new_beginning(world: World) -> None:
    world.lake.merge_candles("EURUSD", H1, market(400, 1).slice(300, 20))
    world.update()
    shutil.rmtree(Path(world.lake.root) / "candles" / "EURUSD")
    world.lake.merge_candles("EURUSD", H1, market(400, 9))
    assert world.update() == (None, 400)
    world.require_whole()


edits = st.lists(
    st.tuples(
        st.sampled_from(["EURUSD", "GBPUSD"]),
        st.sampled_from(["add", "drop", "revise", "volume", "ask", "build"]),
        st.integers(0, 119),
        st.integers(1, 25),
    ),
    min_size=2,
    max_size=8,
)


@settings(deadline=None, max_examples=12)
@given(edits=edits)
def test_whatever_is_done_to_candles_the_stored_rows_are_those_of_a_full_build(
    edits: list[tuple[str, str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bars come, go and change anywhere, in both pairs, in any order, with builds in between or not."""
    world = World(tmp_path_factory.mktemp("lake"))
    whole = {"EURUSD": market(120, 1), "GBPUSD": market(120, 2)}
    held = {pair: bars.slice(10, 80) for pair, bars in whole.items()}
    stored: dict[str, pl.DataFrame] = {}

    def update() -> None:
        for pair, bars in held.items():
            if pair not in stored or not bars.equals(stored[pair]):
                world.lake.replace("candles", pair, H1, bars)
        stored.update(held)
        world.update(world.basis(EDITED))

    update()
    for pair, what, start, length in edits:
        inside, bars = pl.int_range(pl.len()).is_between(start, start + length), held[pair]
        if what == "build":
            update()
        elif what == "add":
            missing = whole[pair].filter(inside).join(bars, on="ts_utc", how="anti")
            held[pair] = pl.concat([bars, missing], how="diagonal").sort("ts_utc")
        elif what == "drop" and bars.height > 60:
            held[pair] = bars.filter(~inside)
        elif what == "ask":
            held[pair] = bars.with_columns(ask_close=pl.col("close") * 1.0001)
        elif what in ("volume", "revise"):
            inner = pl.col("low") + (pl.col("high") - pl.col("low")) * length / 30
            name, value = ("volume", pl.lit(float(start))) if what == "volume" else ("close", inner)
            held[pair] = bars.with_columns(pl.when(inside).then(value).otherwise(name).alias(name))
    update()
    world.require_whole(EDITED)
