"""The lake on real Delta tables: merges, versions, concurrency and what it refuses."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.lake import Lake
from forexgpt_core.domain.bars import SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput, NotReady, StoreError, UnknownName

H1 = Timeframe.H1


def walk(bars: int, first: str = "2018-06-27", seed: int = 0) -> pl.DataFrame:
    """Return lawful H1 bars across the end of a month."""
    rng = np.random.default_rng(seed)
    start = np.datetime64(first, "us")
    opens = expected_opens(start, start + np.timedelta64(2 * bars + 100, "h"), H1)[:bars]
    close = 1.1 + rng.normal(0, 1e-3, bars)
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": close,
            "high": close + 0.01,
            "low": close - 0.01,
            "close": close,
            "volume": pl.Series(rng.integers(1, 9, bars)).cast(pl.Float64),
        },
        schema=SCHEMA,
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_bars_come_back_as_they_went_in_sorted_and_typed(lake: Lake) -> None:
    bars = walk(200).with_columns(volume=pl.when(pl.int_range(pl.len()) % 2 == 0).then("volume"))
    assert lake.merge_candles("EURUSD", H1, bars) == 0
    assert_frame_equal(lake.candles("EURUSD", H1), bars)
    assert lake.newest_candle("EURUSD", H1) == bars["ts_utc"][-1]
    months = {folder.name for folder in Path(lake.root, "candles", "EURUSD", "H1").glob("month=*")}
    assert months == {"month=2018-06", "month=2018-07"}


def test_merging_the_same_bars_again_makes_no_version(lake: Lake) -> None:
    bars = walk(100)
    versions = [lake.merge_candles("EURUSD", H1, part) for part in (bars, bars, bars.head(10), empty_bars())]
    assert versions == [0, 0, 0, 0]
    assert lake.candles_version("EURUSD", H1) == 0


def test_a_merge_updates_what_changed_inserts_what_is_new_and_keeps_the_rest(lake: Lake) -> None:
    bars = walk(150)
    revised = bars[90:110].with_columns(pl.col("high") + 0.001)
    lake.merge_candles("EURUSD", H1, bars.head(100))
    assert lake.merge_candles("EURUSD", H1, revised) == 1
    assert_frame_equal(lake.candles("EURUSD", H1), pl.concat([bars.head(90), revised]))
    assert_frame_equal(lake.candles("EURUSD", H1, version=0), bars.head(100))


def test_a_volume_that_becomes_known_or_unknown_is_a_change(lake: Lake) -> None:
    bars = walk(5)
    silent = bars.with_columns(volume=pl.lit(None, dtype=pl.Float64))
    assert [lake.merge_candles("EURUSD", H1, part) for part in (silent, silent, bars, silent)] == [0, 0, 1, 2]
    assert lake.candles("EURUSD", H1)["volume"].null_count() == 5


def test_ask_prices_may_come_later_and_stay_beside_the_bid_they_came_with(lake: Lake) -> None:
    bars = walk(20)
    asked = bars.tail(5).with_columns(
        ask_open=pl.col("open"), ask_high=pl.col("high"), ask_low=pl.col("low"), ask_close=pl.col("close")
    )
    lake.merge_candles("EURUSD", H1, bars)
    lake.merge_candles("EURUSD", H1, asked)
    lake.merge_candles("EURUSD", H1, bars.tail(3).with_columns(pl.col("volume") + 1))
    stored = lake.candles("EURUSD", H1)
    assert stored.columns == [*SCHEMA, "ask_open", "ask_high", "ask_low", "ask_close"]
    assert stored["ask_close"].null_count() == 15
    assert stored["ask_close"].tail(5).equals(bars["close"].tail(5).alias("ask_close"))
    lake.merge_candles("EURUSD", H1, bars.tail(2).with_columns(pl.col("high") + 0.001))
    stored = lake.candles("EURUSD", H1)
    assert [stored[name].null_count() for name in stored.columns[6:]] == [17] * 4
    assert_frame_equal(stored.select(list(SCHEMA))[18:], bars.tail(2).with_columns(pl.col("high") + 0.001))


def test_until_leaves_out_bars_that_close_later(lake: Lake) -> None:
    bars = walk(50)
    lake.merge_candles("EURUSD", H1, bars)
    until = bars["ts_utc"][10] + timedelta(minutes=59)
    assert_frame_equal(lake.candles("EURUSD", H1, until_utc=until), bars.head(10))
    assert_frame_equal(lake.candles("EURUSD", H1, until_utc=until + timedelta(minutes=1)), bars.head(11))
    with pytest.raises(BadInput, match="no time zone"):
        lake.candles("EURUSD", H1, until_utc=datetime(2018, 7, 2))


def test_unlawful_bars_never_reach_the_lake(lake: Lake) -> None:
    with pytest.raises(BadInput, match="not sorted"):
        lake.merge_candles("EURUSD", H1, walk(10).reverse())
    with pytest.raises(BadInput, match="would be empty"):
        lake.merge_candles("EURUSD", H1, empty_bars())
    assert not lake.exists("candles", "EURUSD", H1)


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=5)
def test_the_lake_is_a_dictionary_from_time_to_the_last_merged_bar(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng, lake = np.random.default_rng(seed), Lake(str(tmp_path_factory.mktemp("lake")))
    truth: dict[datetime, tuple[object, ...]] = {}
    for number in range(4):
        first = int(rng.integers(0, 100))
        part = walk(200, seed=number)[first : first + int(rng.integers(1, 100))]
        lake.merge_candles("EURUSD", H1, part)
        truth |= {row[0]: row for row in part.rows()}
        assert lake.candles("EURUSD", H1).rows() == [truth[moment] for moment in sorted(truth)]


def test_replacing_is_one_version_columns_and_all_and_old_versions_remain(lake: Lake) -> None:
    bars = walk(200)
    first, second = bars.with_columns(a=1.0), bars.select("ts_utc", b=pl.col("close").log())
    assert lake.replace("features", "EURUSD", H1, first, metadata={"recipe": "abc"}) == 0
    assert lake.replace("features", "EURUSD", H1, second) == 1
    assert_frame_equal(lake.read("features", "EURUSD", H1), second)
    assert_frame_equal(lake.read("features", "EURUSD", H1, version=0), first)
    assert lake.version("features", "EURUSD", H1) == 1
    assert lake.notes("features", "EURUSD", H1, 0)["recipe"] == "abc"
    assert "recipe" not in lake.notes("features", "EURUSD", H1, 1)
    with pytest.raises(StoreError, match="lacks version 2; the newest is 1"):
        lake.notes("features", "EURUSD", H1, 2)


def test_other_tables_keep_their_types_and_their_metadata(lake: Lake) -> None:
    table = pl.DataFrame(
        {
            "family": ["boosting", None],
            "passed": [True, None],
            "rows": [1, 2],
            "share": [0.5, float("nan")],
            "when_utc": [datetime(2018, 7, 2, tzinfo=UTC), None],
            "path": [[1.0, 2.0], []],
        },
        schema_overrides={"when_utc": pl.Datetime("us", "UTC")},
    )
    lake.replace("leaderboard", "EURUSD", H1, table, metadata={"hash": "abc"})
    assert_frame_equal(lake.read("leaderboard", "EURUSD", H1), table, check_row_order=False)
    lake.replace("leaderboard", "EURUSD", H1, table.head(0))
    assert lake.read("leaderboard", "EURUSD", H1).schema == table.schema
    from deltalake import DeltaTable

    assert DeltaTable(str(Path(lake.root, "leaderboard", "EURUSD", "H1"))).history()[-1]["hash"] == "abc"


def test_compacting_joins_files_and_keeps_content_and_versions(lake: Lake) -> None:
    bars = walk(12)
    for n in range(12):
        lake.merge_candles("EURUSD", H1, bars[n : n + 1])
    assert lake.compact("candles", "EURUSD", H1) == 12
    assert_frame_equal(lake.candles("EURUSD", H1), bars)
    assert_frame_equal(lake.candles("EURUSD", H1, version=5), bars.head(6))
    from deltalake import DeltaTable

    assert len(DeltaTable(str(Path(lake.root, "candles", "EURUSD", "H1"))).file_uris()) == 1
    assert lake.compact("candles", "EURUSD", H1) == 12  # nothing left to join


def test_what_is_missing_says_how_to_make_it(lake: Lake) -> None:
    with pytest.raises(NotReady, match=r"^no candles for EURUSD H1 yet: run 'forexgpt candles import"):
        lake.candles("EURUSD", H1)
    with pytest.raises(NotReady, match=r"^no features for EURUSD H1 yet: run "):
        lake.version("features", "EURUSD", H1)
    assert lake.newest_candle("EURUSD", H1) is None
    assert lake.symbols("candles") == []


def test_symbols_are_listed_per_kind_in_folders_and_behind_addresses(lake: Lake) -> None:
    for symbol in ("USDJPY", "EURUSD"):
        lake.merge_candles(symbol, H1, walk(3))
    lake.replace("features", "EURUSD", H1, walk(3))
    assert lake.symbols("candles") == ["EURUSD", "USDJPY"]
    assert lake.symbols("features") == ["EURUSD"]
    remote = Lake(f"file://{lake.root}")
    assert remote.symbols("candles") == ["EURUSD", "USDJPY"]
    assert remote.symbols("nothing") == []
    assert remote.candles("EURUSD", H1).height == 3


@pytest.mark.parametrize(
    ("kind", "symbol"),
    [("../candles", "EURUSD"), ("Candles", "EURUSD"), ("", "EURUSD"), ("candles", "../../x"), ("candles", "EUR/US;")],
)
def test_no_name_leaves_the_root(lake: Lake, kind: str, symbol: str) -> None:
    for attempt in (
        lambda: lake.replace(kind, symbol, H1, walk(3)),
        lambda: lake.read(kind, symbol, H1),
        lambda: lake.exists(kind, symbol, H1),
    ):
        with pytest.raises(UnknownName):
            attempt()
    assert not Path(lake.root).exists()


def test_a_damaged_store_is_one_clear_line(lake: Lake) -> None:
    lake.merge_candles("EURUSD", H1, walk(200))
    with pytest.raises(StoreError, match=r"no version 7; the newest is 0$"):
        lake.candles("EURUSD", H1, version=7)
    table = Path(lake.root, "candles", "EURUSD", "H1")
    next(table.glob("month=2018-06/*.parquet")).unlink()
    with pytest.raises(StoreError, match=r"^cannot read candles of EURUSD H1: [^\n]+$"):
        lake.candles("EURUSD", H1)
    next(table.glob("_delta_log/*.json")).write_text("not a log")
    with pytest.raises(StoreError, match=r"^cannot open candles of EURUSD H1: [^\n]+$"):
        lake.candles("EURUSD", H1)
    (Path(lake.root) / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"^cannot merge EURUSD H1: [^\n]+$"):
        Lake(f"{lake.root}/file").merge_candles("EURUSD", H1, walk(3))


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import polars as pl
from forexgpt_core.adapters.lake import Lake
from forexgpt_core.domain.clock import Timeframe

root, number, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
bars = pl.read_parquet(Path(root) / "bars.parquet")
lake = Lake(str(Path(root) / "lake"))
print("ready", flush=True)
sys.stdin.readline()  # both start writing when both are here
for n in range(rounds):
    shared = bars[n : n + 1]  # both insert it
    own = bars[100 + 2 * n + number : 101 + 2 * n + number]
    lake.merge_candles("EURUSD", Timeframe.H1, pl.concat([shared, own]))
"""


def test_two_processes_merging_at_once_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    rounds = 12
    bars = walk(200)
    bars.write_parquet(tmp_path / "bars.parquet")
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, str(n), str(rounds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    stored = Lake(str(tmp_path / "lake")).candles("EURUSD", H1)
    assert_frame_equal(stored, pl.concat([bars[:rounds], bars[100 : 100 + 2 * rounds]]))


@pytest.fixture(params=["folder", "object store"])
def removing(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    root = tmp_path / "lake"
    return Lake(str(root) if request.param == "folder" else root.as_uri())


def test_a_removed_table_is_gone_with_its_versions_and_others_stay(removing: Lake) -> None:
    table, h4 = pl.DataFrame({"a": [1.0, 2.0]}), Timeframe.H4
    for symbol, timeframe in (("EURUSD", H1), ("EURUSD", h4), ("GBPUSD", H1)):
        removing.replace("campaign_x_1", symbol, timeframe, table)
    removing.replace("campaign_x_1", "EURUSD", H1, table.head(1))
    assert removing.remove("campaign_x_1", "EURUSD", H1)
    assert not removing.exists("campaign_x_1", "EURUSD", H1)
    with pytest.raises(NotReady):
        removing.read("campaign_x_1", "EURUSD", H1, version=0)
    assert not removing.remove("campaign_x_1", "EURUSD", H1), "a second time there is none"
    for symbol, timeframe in (("EURUSD", h4), ("GBPUSD", H1)):
        assert_frame_equal(removing.read("campaign_x_1", symbol, timeframe), table)
    assert removing.replace("campaign_x_1", "EURUSD", H1, table) == 0, "the next table begins anew"


def test_nothing_is_left_of_a_kind_whose_tables_are_all_removed(lake: Lake) -> None:
    lake.replace("campaign_x_1", "EURUSD", H1, pl.DataFrame({"a": [1.0]}))
    stopped = Path(lake.root, "campaign_x_1", "EURUSD", ".removed_H1_0123")  # by a removal that was killed half-way
    (stopped / "_delta_log").mkdir(parents=True)
    assert lake.remove("campaign_x_1", "EURUSD", H1)
    assert not Path(lake.root, "campaign_x_1").exists()
    assert lake.symbols("campaign_x_1") == []


@pytest.mark.parametrize("kind", ["candles", "features", "forecasts_linear", "quarantine"])
def test_what_runs_and_deployments_name_cannot_be_removed(kind: str, lake: Lake) -> None:
    lake.replace(kind, "EURUSD", H1, pl.DataFrame({"a": [1.0]}))
    with pytest.raises(BadInput, match=f"tables of kind '{kind}' are never removed"):
        lake.remove(kind, "EURUSD", H1)
    assert lake.exists(kind, "EURUSD", H1)
    with pytest.raises(UnknownName):
        lake.remove("campaign_../x", "EURUSD", H1)
