"""The gates of the graph: a bad pair stops with a reason and changes nothing, while another goes through."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
)

from forexgpt_assets.runs import RunFailed, add_symbol, materialize, session
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.features.build import build_features

CANDLES_CHECK = AssetCheckKey(AssetKey("candles"), "candles_are_lawful")
FEATURES_CHECK = AssetCheckKey(AssetKey("features"), "features_never_see_the_future")
BARS = 1_000


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Platform, DagsterInstance]]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder:
        monkeypatch.setenv("FOREXGPT_HOME", folder)
        monkeypatch.setenv("DAGSTER_HOME", str(Path(folder) / "dagster"))
        with session() as (platform, instance):
            for symbol in ("EURUSD", "GBPUSD"):
                add_symbol(instance, symbol)
            yield platform, instance


def bars(n: int = BARS, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    opens = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-31T20", "us"), Timeframe.H1)[:n]
    close = 1.3 * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    open_ = np.concatenate([[1.3], close[:-1]])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.0002,
            "low": np.minimum(open_, close) * 0.9998,
            "close": close,
        }
    )


def with_impossible_bars(table: pl.DataFrame, share: float = 0.05) -> pl.DataFrame:
    """High and low change places in some bars."""
    swapped = np.random.default_rng(2).random(table.height) < share
    return table.with_columns(
        high=pl.when(pl.Series(swapped)).then("low").otherwise("high"),
        low=pl.when(pl.Series(swapped)).then("high").otherwise("low"),
    )


def written(table: pl.DataFrame, folder: Path, name: str) -> dict[str, dict[str, object]]:
    file = folder / f"{name}.parquet"
    table.write_parquet(file)
    return {"candles": {"file": str(file)}}


def evaluations(instance: DagsterInstance, key: AssetCheckKey, partition: str) -> list[AssetCheckEvaluation]:
    """Return what the check said about a pair, the newest first."""
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
    events = [r.event.dagster_event for r in records if r.event is not None]
    found = [e.asset_check_evaluation_data for e in events if e.event_type is DagsterEventType.ASSET_CHECK_EVALUATION]
    return [evaluation for evaluation in found if evaluation.partition == partition]


def materializations(instance: DagsterInstance, asset: str, partition: str) -> int:
    wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[partition])
    return len(instance.fetch_materializations(wanted, limit=20).records)


def test_a_bad_pair_stops_with_its_reason_while_another_goes_through(
    home: tuple[Platform, DagsterInstance], tmp_path: Path
) -> None:
    platform, instance = home
    both = ["candles", "features"]
    older, whole = bars().head(700), bars()
    materialize(instance, both, "GBPUSD", written(older, tmp_path, "older"))
    before = platform.lake.candles("GBPUSD", Timeframe.H1)
    versions = platform.lake.candles_version("GBPUSD", Timeframe.H1), platform.lake.version("features", "GBPUSD", "H1")

    with pytest.raises(RunFailed) as refusal:
        materialize(instance, both, "GBPUSD", written(with_impossible_bars(whole), tmp_path, "bad"))
    materialize(instance, both, "EURUSD", written(bars(seed=3), tmp_path, "good"))

    assert "candles of GBPUSD refused, nothing was merged: bar must satisfy low <= open, close <= high" in str(
        refusal.value
    )
    evaluation = evaluations(instance, CANDLES_CHECK, "GBPUSD")[0]
    assert not evaluation.passed
    assert evaluation.blocking
    assert "low <= open, close <= high" in evaluation.description
    assert "of 1000 do not" in evaluation.description
    [failure] = evaluation.metadata["failures"].records
    assert failure.data["expectation"] == "ohlc_ordered"
    assert 30 <= failure.data["unexpected"] <= 70
    assert "UTC" in failure.data["examples"] or "2018" in failure.data["examples"]

    assert platform.lake.candles("GBPUSD", Timeframe.H1).equals(before)
    assert versions == (
        platform.lake.candles_version("GBPUSD", Timeframe.H1),
        platform.lake.version("features", "GBPUSD", "H1"),
    )
    assert materializations(instance, "candles", "GBPUSD") == materializations(instance, "features", "GBPUSD") == 1
    assert materializations(instance, "candles", "EURUSD") == materializations(instance, "features", "EURUSD") == 1
    assert evaluations(instance, CANDLES_CHECK, "EURUSD")[0].passed
    assert evaluations(instance, FEATURES_CHECK, "EURUSD")[0].passed
    assert platform.lake.candles("EURUSD", Timeframe.H1).height == BARS

    materialize(instance, both, "GBPUSD", written(whole, tmp_path, "mended"))
    assert evaluations(instance, CANDLES_CHECK, "GBPUSD")[0].passed
    assert platform.lake.candles("GBPUSD", Timeframe.H1).height == BARS
    assert [e.passed for e in evaluations(instance, CANDLES_CHECK, "GBPUSD")] == [True, False, True]


def test_a_new_pair_with_bad_data_leaves_no_table(home: tuple[Platform, DagsterInstance], tmp_path: Path) -> None:
    platform, instance = home
    with pytest.raises(RunFailed, match="nothing was merged"):
        materialize(instance, ["candles", "features"], "GBPUSD", written(with_impossible_bars(bars()), tmp_path, "bad"))
    assert platform.lake.symbols("candles") == platform.lake.symbols("features") == []
    assert not evaluations(instance, CANDLES_CHECK, "GBPUSD")[0].passed
    assert evaluations(instance, FEATURES_CHECK, "GBPUSD") == []


def with_tomorrow(candles: pl.DataFrame, *arguments: object, **options: object) -> pl.DataFrame:
    """The real features and one more, which is what the models are asked to forecast."""
    built = build_features(candles, *arguments, **options)
    future = (candles["close"].shift(-1) / candles["close"]).log()
    return built.with_columns(tomorrow=future.tail(built.height))


def test_a_leak_canary_is_caught_by_name_and_nothing_is_written(
    home: tuple[Platform, DagsterInstance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, instance = home
    materialize(instance, ["candles", "features"], "GBPUSD", written(bars(), tmp_path, "good"))
    honest = platform.lake.read("features", "GBPUSD", Timeframe.H1)
    version = platform.lake.version("features", "GBPUSD", "H1")

    with monkeypatch.context() as canary:
        canary.setattr("forexgpt_assets.defs.features.build_features", with_tomorrow)
        with pytest.raises(RunFailed, match="tomorrow reads the future"):
            materialize(instance, ["features", "random_walk_model"], "GBPUSD")

    evaluation = evaluations(instance, FEATURES_CHECK, "GBPUSD")[0]
    assert not evaluation.passed
    assert "tomorrow reads the future: its row of" in evaluation.description
    assert evaluation.description.count(" reads the future") == evaluation.description.count("tomorrow")
    assert platform.lake.version("features", "GBPUSD", "H1") == version
    assert platform.lake.read("features", "GBPUSD", Timeframe.H1).equals(honest)
    assert materializations(instance, "features", "GBPUSD") == 1
    assert materializations(instance, "random_walk_model", "GBPUSD") == 0

    materialize(instance, ["features"], "GBPUSD")
    assert evaluations(instance, FEATURES_CHECK, "GBPUSD")[0].passed
