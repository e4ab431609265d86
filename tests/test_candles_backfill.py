"""All 28 pairs in one backfill: a run each, by Dagster's own daemon code; a bad pair fails alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context, environ, instance_for_test
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon import get_default_daemon_logger
from dagster._daemon.backfill import execute_backfill_iteration

from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import Source, default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.instruments import INSTRUMENTS
from forexgpt_core.settings import load_settings

pytestmark = pytest.mark.slow
PAIRS = sorted(pair for pair in INSTRUMENTS if pair != "XAUUSD")
BAD, OTHER = "NZDCHF", "XAUUSD"
CANDLES = dg.AssetKey("candles")
IN_PROCESS = {  # each run as it is, but one after the other in this process
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
}


def write_bars(file: Path, pair: str, seed: int, *, broken: bool = False) -> None:
    opens = expected_opens(np.datetime64("2018-06-03T21"), np.datetime64("2018-06-29T20"), Timeframe.H1)
    usual = {"XAU": 1200.0}.get(pair[:3], 120.0 if pair.endswith("JPY") else 1.2)  # another price is not believed
    close = usual * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 5e-4, opens.size)))
    prices = {"open": close, "high": close * (0.9 if broken else 1.001), "low": close * 0.999, "close": close}
    pl.DataFrame({"ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), **prices}).write_parquet(file)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A home whose pairs have a file each, one of them a bad one; gold has candles already."""
    home = str(tmp_path / "home")
    with environ({"FOREXGPT_HOME": home}):
        platform = Platform(load_settings({"FOREXGPT_HOME": home}))
        platform.prepare()
        for seed, pair in enumerate([*PAIRS, OTHER]):
            file = tmp_path / f"{pair}.parquet"
            write_bars(file, pair, seed, broken=pair == BAD)
            source = Source(kind="file", path=str(file))
            platform.pairs.save(replace(default_settings(pair), source=source), by="test")
        platform.ingest(platform.pair(OTHER))
        yield platform


def test_28_pairs_are_backfilled_by_a_run_each_and_a_bad_one_fails_alone(platform: Platform, tmp_path: Path) -> None:
    folder = tmp_path / "dagster"
    folder.mkdir()
    target = ModuleTarget("forexgpt_assets.definitions", None, str(Path(__file__).parents[1]), "forexgpt_assets")
    before = platform.lake.candles_version(OTHER, Timeframe.H1)
    with (
        instance_for_test(overrides=IN_PROCESS, temp_dir=str(folder)) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        instance.add_dynamic_partitions("symbol", [*PAIRS, OTHER])
        graph = workspace.create_request_context().asset_graph
        instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                backfill_id="all-pairs",
                asset_graph=graph,
                partition_names=PAIRS,
                asset_selection=[CANDLES],
                backfill_timestamp=0.0,
                tags={},
                dynamic_partitions_store=instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config={"execution": {"config": {"in_process": {}}}},
            )
        )
        for _ in range(40):
            list(execute_backfill_iteration(workspace, get_default_daemon_logger("BackfillDaemon")))
            found = instance.get_backfill("all-pairs")
            assert found is not None
            if found.status not in (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING):
                break
        runs = instance.get_runs()
        assert sorted(run.tags["dagster/partition"] for run in runs) == PAIRS, "a run for each pair, none for another"
        failed = [run.tags["dagster/partition"] for run in runs if run.status is dg.DagsterRunStatus.FAILURE]
        assert failed == [BAD]
        assert found.status is BulkActionStatus.COMPLETED_FAILED
        assert instance.get_materialized_partitions(CANDLES) == set(PAIRS) - {BAD}
    assert platform.lake.symbols("candles") == sorted({*PAIRS, OTHER} - {BAD})
    assert {platform.lake.candles(pair, Timeframe.H1).height for pair in PAIRS if pair != BAD} == {480}
    assert platform.lake.candles_version(OTHER, Timeframe.H1) == before
