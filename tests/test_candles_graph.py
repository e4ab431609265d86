"""The candles in the graph: what a run reports, which pairs it touches, what becomes stale, and who is up to date."""

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from forexgpt_assets.definitions import defs
from forexgpt_assets.runs import RunFailed, add_symbol, materialize, run_job, session
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import Source, default_settings
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.instruments import INSTRUMENTS

PAIRS, H1 = ("EURUSD", "GBPUSD"), Timeframe.H1


class Home(NamedTuple):
    platform: Platform
    instance: dg.DagsterInstance
    folder: Path

    def file(self, pair: str) -> Path:
        return self.folder / f"{pair}.parquet"


def bars(count: int, seed: int = 5, last: datetime | None = None) -> pl.DataFrame:
    end = datetime(2018, 12, 20, tzinfo=UTC) if last is None else last
    span = np.datetime64(end.replace(tzinfo=None), "us") - np.array([2 * count + 200, 0]) * np.timedelta64(1, "h")
    opens = expected_opens(span[0], span[1], H1)[-count:]
    close = 1.3 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, count)))
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    ask = {f"ask_{name}": values + 0.0002 for name, values in prices.items()}
    return pl.DataFrame(
        {"ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), **prices, "volume": np.full(count, 9.0), **ask}
    )


def work_on(home: Home, pair: str, table: pl.DataFrame) -> None:
    """Make a file the pair's source."""
    table.write_parquet(home.file(pair))
    source = Source(kind="file", path=str(home.file(pair)))
    small = {"timeframes": ["H1"]}
    home.platform.pairs.save(replace(default_settings(pair), source=source, recipe=small), by="test")
    add_symbol(home.instance, pair)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    with session() as (platform, instance):
        yield Home(platform, instance, tmp_path)


def newest(home: Home, asset: str, pair: str | None = "EURUSD") -> dict[str, Any]:
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[pair] if pair else None)
    record = home.instance.fetch_materializations(wanted, limit=1).records[0]
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def broken_bars() -> pl.DataFrame:
    """Return 3,000 bars with one defect of each kind that the gate tolerates and the cleaning puts aside."""
    table = bars(3_000)
    saturday = datetime(2018, 12, 15, 12, tzinfo=UTC)
    hole = pl.col("ts_utc").is_between(datetime(2018, 12, 11, 9, tzinfo=UTC), datetime(2018, 12, 11, 11, tzinfo=UTC))
    stray = table[2_900:2_901].with_columns(ts_utc=pl.lit(saturday).cast(SCHEMA["ts_utc"]))
    other = table[700:701].with_columns(pl.col("high") * 1.001)
    return pl.concat([table.filter(~hole), other, stray]).sort("ts_utc", maintain_order=True)


def test_a_run_reports_holes_by_cause_what_it_put_aside_and_the_spread(home: Home) -> None:
    work_on(home, "EURUSD", broken_bars())
    materialize(home.instance, ["candles"], "EURUSD")
    told = newest(home, "candles")
    assert (told["missing_provider"], told["missing_bars"], told["gaps"]) == (3, 3, 1)
    assert (told["dropped_outside_week"], told["dropped_conflicting_repeat"]) == (1, 1)
    assert told["newly_quarantined_rows"] == told["put_aside_outside_week"] + 2
    assert told["inserted_bars"] == told["dagster/row_count"] == 2_997
    assert told["spread_median_pips"] == pytest.approx(2.0)
    assert {row.data["cause"] for row in told["gaps_by_cause"].records} == {"provider"}
    assert {"outside_week", "conflicting_repeat"} <= {row.data["kind"] for row in told["oddities"].records}
    columns = {column.name: column for column in told["dagster/column_schema"].columns}
    assert list(columns)[:6] == list(SCHEMA)
    assert "ask_close" in columns
    assert "open of the bar in UTC" in (columns["ts_utc"].description or "")
    [png] = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", told["price"])
    assert base64.b64decode(png).startswith(b"\x89PNG")
    assert home.platform.lake.candles("EURUSD", H1).columns[6:] == ["ask_open", "ask_high", "ask_low", "ask_close"]

    materialize(home.instance, ["candles"], "EURUSD")
    again = newest(home, "candles")
    assert (again["inserted_bars"], again["revised_bars"], again["newly_quarantined_rows"]) == (0, 0, 0)
    assert again["lake_version"] == told["lake_version"]


def status(home: Home, asset: str, pair: str) -> StaleStatus:
    resolver = CachingStaleStatusResolver(
        home.instance, defs().resolve_asset_graph(), LoadingContextForTest(home.instance)
    )
    return resolver.get_status(dg.AssetKey(asset), pair)


def test_new_candles_make_the_features_of_that_pair_stale_and_an_idle_run_does_not(home: Home) -> None:
    for seed, pair in enumerate(PAIRS):
        work_on(home, pair, bars(900, seed)[:800])
        materialize(home.instance, ["candles", "features"], pair)
    assert {status(home, "features", pair) for pair in PAIRS} == {StaleStatus.FRESH}
    assert {status(home, "features", pair) for pair in INSTRUMENTS if pair not in PAIRS} == {StaleStatus.MISSING}

    materialize(home.instance, ["candles"], "EURUSD")  # the file is the same
    assert status(home, "features", "EURUSD") is StaleStatus.FRESH

    bars(900, 0).write_parquet(home.file("EURUSD"))
    materialize(home.instance, ["candles"], "EURUSD")
    assert newest(home, "candles")["inserted_bars"] == 100
    assert status(home, "features", "EURUSD") is StaleStatus.STALE
    assert status(home, "features", "GBPUSD") is StaleStatus.FRESH

    materialize(home.instance, ["features"], "EURUSD")
    assert status(home, "features", "EURUSD") is StaleStatus.FRESH


def freshness_of(home: Home, pair: str) -> dg.AssetCheckEvaluation:
    """Return the newest evaluation of a pair's own freshness check."""
    key = dg.AssetCheckKey(dg.AssetKey("candles"), "candles_are_fresh")
    records = home.instance.event_log_storage.get_asset_check_execution_history(key, limit=50, partition_filter=None)
    for record in records:
        evaluation = record.event.dagster_event.asset_check_evaluation_data if record.event else None
        if evaluation is not None and evaluation.partition == pair:
            return evaluation
    raise AssertionError(f"{pair} was never checked")


def test_each_pair_has_its_own_freshness_and_one_table_shows_them_all(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_on(home, "EURUSD", bars(500))
    materialize(home.instance, ["candles"], "EURUSD")
    archive = freshness_of(home, "EURUSD")
    assert archive.passed
    assert archive.metadata["state"].value == "archive"
    assert archive.severity is dg.AssetCheckSeverity.WARN
    assert not archive.blocking

    # The same file, if it claimed to go on: the question is about a source that ought to be up to date.
    monkeypatch.setattr("forexgpt_core.adapters.providers.files.FileSource.archive", False)
    work_on(home, "GBPUSD", bars(500, last=datetime.now(UTC) - timedelta(minutes=61)))
    home.platform.lake.merge("GBPUSD", H1, pl.read_parquet(home.file("GBPUSD")))
    add_symbol(home.instance, "USDJPY")
    run_job(home.instance, "freshness_job")
    told = newest(home, "candles_freshness", None)
    rows = [(row.data["symbol"], row.data["state"]) for row in told["pairs"].records]
    assert rows == [("EURUSD", "stale"), ("USDJPY", "no candles"), ("GBPUSD", "fresh")]
    assert (told["stale"], told["stale_pairs"], told["pairs_without_candles"]) == ("EURUSD", 1, 1)
    assert {pair: freshness_of(home, pair).passed for pair in (*PAIRS, "USDJPY")} == {
        "EURUSD": False,
        "GBPUSD": True,
        "USDJPY": False,
    }
    assert "closed bars behind, 2 tolerated" in (freshness_of(home, "EURUSD").description or "")


def test_a_refused_file_changes_nothing_and_says_so_in_one_line(home: Home) -> None:
    work_on(home, "EURUSD", bars(500))
    materialize(home.instance, ["candles"], "EURUSD")
    version = home.platform.lake.candles_version("EURUSD", H1)
    bars(600).with_columns(low=pl.col("high") * 2).write_parquet(home.file("EURUSD"))
    with pytest.raises(RunFailed, match=r"candles of EURUSD refused, nothing was merged: bar must satisfy") as refusal:
        materialize(home.instance, ["candles"], "EURUSD")
    assert "\n" not in str(refusal.value)
    assert home.platform.lake.candles_version("EURUSD", H1) == version
