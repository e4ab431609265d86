"""The stored feature table: built in full once, then from the first bar that changed on, and the same either way."""

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.adapters.lake import Lake
from forexgpt_core.domain.clock import Timeframe, next_opens, week_opens
from forexgpt_core.errors import BadInput
from forexgpt_core.features.build import build_features
from forexgpt_core.features.inputs import FeatureInputs
from forexgpt_core.features.quality import judge_features, summarise_features
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.table import KIND, Basis, FeatureTable, first_change, well_covered

H1 = Timeframe.H1
RECIPE = Recipe.from_document(
    {
        "timeframes": ["H1", "H4"],
        "pairs": ["GBPUSD"],
        "indicators": {"ohlc": {}, "rsi": {"bars": 5}, "sma": {"bars": 8}, "cross_return": {}},
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
        rows = build_features(bars, H1, wanted.recipe, inputs=self.inputs(wanted), since_utc=plan.since_utc)
        self.table.save(rows, plan, wanted)
        return plan.since_utc, rows.height

    def require_whole(self) -> None:
        """Compare the stored table with one built in full."""
        basis = self.basis()
        whole = build_features(self.lake.candles("EURUSD", H1), H1, basis.recipe, inputs=self.inputs(basis))
        stored = self.lake.read(KIND, "EURUSD", H1)
        assert stored.columns == whole.columns
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


def test_columns_that_are_hardly_ever_known_are_left_out_and_named() -> None:
    table = pl.DataFrame(
        {
            "ts_utc": market(100, 4)["ts_utc"],
            "known": np.arange(100.0),
            "rare": [1.0] * 14 + [float("nan")] * 86,
            "enough": [float("nan")] * 85 + [1.0] * 15,
        }
    )
    kept, left_out = well_covered(table, summarise_features(table), 0.15)
    assert left_out == ("rare",)
    assert kept.columns == ["ts_utc", "known", "enough"]
    assert "rare" in judge_features(table)[0]
    assert judge_features(table, may_lack={"rare"}) == ()
