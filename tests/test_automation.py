"""What runs by itself deploys nothing, keeps to the settings somebody saved, and retrains once per alarm."""

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import polars as pl
import pytest

from forexgpt_assets.definitions import defs
from forexgpt_assets.defs.automation import COOL_DOWN, failure_alert_sensor
from forexgpt_assets.runs import RunFailed, add_symbol, materialize, run_job, session
from forexgpt_core import evidence
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import DriftSettings, default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.optimisation.pareto import ParetoSettings

pytestmark = pytest.mark.xdist_group("automation")
PAIR, SEED, BARS = "GBPUSD", 11, 1_500
MOMENT = datetime(2024, 3, 6, 12, tzinfo=UTC)
_numbers = itertools.count()


class Home(NamedTuple):
    platform: Platform
    instance: dg.DagsterInstance


def bars(n: int = BARS) -> pl.DataFrame:
    rng = np.random.default_rng(5)
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


def partitioned() -> list[str]:
    graph = defs().resolve_asset_graph()
    return sorted(k.to_user_string() for k in graph.get_all_asset_keys() if graph.get(k).partitions_def is not None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which every asset was materialized, as "materialize all" does it: in one run, without configuration."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        home = Path(folder) / "home"
        environment.setenv("FOREXGPT_HOME", str(home))
        environment.setenv("DAGSTER_HOME", str(home / "dagster"))
        file = Path(folder) / f"{PAIR}.parquet"
        bars().write_parquet(file)
        with session() as (platform, instance):
            platform.pairs.save(
                replace(
                    default_settings(PAIR),
                    families=("random_walk", "linear"),
                    recipe={"timeframes": ["H1"]},
                    horizons_bars=(1, 4),
                    seed=SEED,
                    pareto=ParetoSettings(method="nsga2", later_spans=1, population=4, generations=2, seed=SEED),
                    drift=DriftSettings(reference_bars=1_000, current_bars=300),
                ),
                by="test",
            )
            add_symbol(instance, PAIR)
            materialize(instance, ["candles"], PAIR, {"candles": {"file": str(file)}})
            materialize(instance, partitioned(), PAIR)
            materialize(instance, ["portfolio_backtest"], None)
        yield home


@pytest.fixture
def home(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A copy of the finished home, to be changed at will."""
    copy = finished.with_name(f"copy{next(_numbers)}")  # MLflow keeps its connections by path
    shutil.copytree(finished, copy)
    monkeypatch.setenv("FOREXGPT_HOME", str(copy))
    monkeypatch.setenv("DAGSTER_HOME", str(copy / "dagster"))
    try:
        with session() as (platform, instance):
            yield Home(platform, instance)
    finally:
        shutil.rmtree(copy)


def newest(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[PAIR])
    record = instance.fetch_materializations(wanted, limit=1).records[0]
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def execute(instance: dg.DagsterInstance, job: str, requests: Sequence[dg.RunRequest]) -> None:
    """Run what a schedule or a sensor asked for, exactly as asked."""
    for request in requests:
        assert not request.run_config, "a run that starts by itself brings no configuration of its own"
        result = (
            defs()
            .resolve_job_def(job)
            .execute_in_process(instance=instance, partition_key=request.partition_key, tags=dict(request.tags))
        )
        assert result.success


def evaluate_schedules(instance: dg.DagsterInstance) -> dict[str, Sequence[dg.RunRequest]]:
    repository = defs().get_repository_def()
    asked = {}
    for schedule in repository.schedule_defs:
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=MOMENT, repository_def=repository
        )
        asked[schedule.job_name] = schedule.evaluate_tick(context).run_requests or []
    return asked


def drift_tick(instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[dg.RunRequest], str]:
    repository = defs().get_repository_def()
    context = dg.build_sensor_context(
        instance=instance, instance_ref=instance.get_ref(), cursor=cursor, repository_def=repository
    )
    ticked = repository.get_sensor_def("drift_retraining_sensor").evaluate_tick(context)
    return list(ticked.run_requests or []), ticked.cursor or ""


def report_drift(instance: dg.DagsterInstance, *, drifted: bool) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization("drift_report", partition=PAIR, metadata={"drifted": dg.MetadataValue.bool(drifted)})
    )


def front(platform: Platform) -> list[str]:
    study = platform.studies.newest(PAIR, "H1")
    assert study is not None
    return [trial.config.hash12 for trial in study.front]


def approve(home: Home, config: str) -> None:
    wanted = {"approve": config, "approved_by": "anna", "reason": "least drawdown"}
    materialize(home.instance, ["deployed_strategy"], PAIR, {"deployed_strategy": wanted})


@pytest.mark.slow
def test_all_assets_schedules_and_sensors_together_deploy_nothing(home: Home) -> None:
    platform, instance = home
    assert newest(instance, "deployed_strategy")["deployed"] == "nothing: no configuration has been approved"
    asked = evaluate_schedules(instance)
    assert {job: len(requests) for job, requests in asked.items()} == {
        "candles_job": 1,
        "freshness_job": 1,
        "retrain_job": 1,
        "reweight_job": 1,
        "live_execution_job": 0,  # nothing is deployed, so no bar is waited for
        "maintenance_job": 1,
    }
    assert all(
        request.run_key for job, r in asked.items() for request in r if job not in ("maintenance_job", "freshness_job")
    )
    for job, requests in asked.items():
        execute(instance, job, requests)
    run_job(instance, "live_execution_job")
    report_drift(instance, drifted=True)
    requests, _ = drift_tick(instance, None)
    assert [request.partition_key for request in requests] == [PAIR]
    execute(instance, "retrain_job", requests)
    materialize(instance, partitioned(), PAIR)
    assert front(platform), "there is something that could have been deployed"
    assert platform.deployments.history() == []
    assert platform.deployments.all_active() == []


def test_schedules_keep_to_the_settings_saved_for_the_pair(home: Home) -> None:
    platform, instance = home
    platform.pairs.save(replace(platform.pair(PAIR), families=("random_walk", "forest"), seed=SEED + 1), by="anna")
    execute(instance, "retrain_job", evaluate_schedules(instance)["retrain_job"])
    assert newest(instance, "random_walk_model")["seed"] == newest(instance, "forest_model")["seed"] == SEED + 1
    off = set(FAMILIES) - {"random_walk", "forest"}
    for family in off:
        for stage in ("model", "calibration", "evaluation"):
            assert newest(instance, f"{family}_{stage}")["switched_off"] == f"{family} is off in the settings of {PAIR}"
    board = newest(instance, "leaderboard")
    assert set(board["absent"].split(", ")) == off
    assert {row.data["family"] for row in board["scores"].records} == {"random_walk", "forest"}


def test_a_wrong_approval_is_refused_with_the_hashes_that_exist(home: Home) -> None:
    platform, instance = home
    with pytest.raises(RunFailed, match="not a configuration of the newest Pareto front") as refusal:
        approve(home, "0123456789ab")
    assert all(config in str(refusal.value) for config in front(platform))
    with pytest.raises(RunFailed, match="approved_by and reason"):
        materialize(instance, ["deployed_strategy"], PAIR, {"deployed_strategy": {"approve": front(platform)[0]}})
    assert platform.deployments.history() == []


def test_what_shows_no_skill_is_not_promoted_unless_a_person_allows_it(home: Home) -> None:
    platform, _ = home
    assert not any(skill.shown for skill in evidence.ensemble_skills(platform, platform.pair(PAIR)).values())
    with pytest.raises(RunFailed, match="without shown skill is not promoted"):
        approve(home, front(platform)[0])
    assert platform.deployments.history() == []


def test_an_approval_deploys_once_and_nothing_that_follows_changes_it(home: Home) -> None:
    platform, instance = home
    settings = platform.pair(PAIR)
    allowed = replace(settings, deployment=replace(settings.deployment, allow_no_skill=True))
    platform.pairs.save(allowed, by="anna")
    approve(home, front(platform)[0])
    [deployed] = platform.deployments.history()
    assert (deployed.config.hash12, deployed.approved_by, deployed.skill_shown) == (front(platform)[0], "anna", False)
    approve(home, front(platform)[0])
    assert platform.deployments.history() == [deployed]

    platform.pairs.save(replace(allowed, families=("random_walk",)), by="anna")  # so the next ensemble is another one
    materialize(instance, partitioned(), PAIR)
    for job, requests in evaluate_schedules(instance).items():
        execute(instance, job, requests)
    assert platform.version(allowed, "ensemble", "ensemble").bundle_hash != deployed.bundle_hash
    assert platform.deployments.history() == [deployed]
    assert newest(instance, "deployed_strategy")["deployed"] == deployed.deployment_id
    assert platform.bundles.find(deployed.bundle_hash).path.is_dir(), "the maintenance keeps what is deployed"


def test_an_alarm_asks_for_one_retraining_and_then_waits(home: Home) -> None:
    _, instance = home
    report_drift(instance, drifted=False)
    requests, cursor = drift_tick(instance, None)
    assert requests == []

    report_drift(instance, drifted=True)
    [request], cursor = drift_tick(instance, cursor)
    assert request.partition_key == PAIR
    assert request.tags["forexgpt/reason"] == "drift"
    assert drift_tick(instance, cursor)[0] == [], "the same report again"

    report_drift(instance, drifted=True)
    requests, cursor = drift_tick(instance, cursor)
    assert requests == [], "another alarm within the cool-down"
    seen = json.loads(cursor)
    seen[PAIR]["requested_utc"] = (datetime.now(UTC) - COOL_DOWN - timedelta(minutes=1)).isoformat()
    [again], _ = drift_tick(instance, json.dumps(seen))
    assert again.run_key != request.run_key

    report_drift(instance, drifted=False)
    assert drift_tick(instance, None)[0] == [], "the newest report is calm"


def test_a_pair_without_a_report_is_left_alone(home: Home) -> None:
    _, instance = home
    add_symbol(instance, "USDJPY")
    report_drift(instance, drifted=True)
    requests, _ = drift_tick(instance, None)
    assert [request.partition_key for request in requests] == [PAIR]


def test_a_failed_run_is_written_down_with_its_reason(home: Home) -> None:
    platform, instance = home
    result = (
        defs()
        .resolve_job_def("candles_job")
        .execute_in_process(
            instance=instance,
            partition_key=PAIR,
            run_config={"ops": {"candles": {"config": {"file": "/nowhere/GBPUSD.csv"}}}},
            raise_on_error=False,
        )
    )
    assert not result.success
    context = dg.build_run_status_sensor_context(
        sensor_name="failure_alert_sensor",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    )
    failure_alert_sensor(context.for_run_failure())
    [line] = (platform.settings.home / "alerts.jsonl").read_text().splitlines()
    alert = json.loads(line)
    assert (alert["job"], alert["partition"], alert["steps"]) == ("candles_job", PAIR, ["candles"])
    assert alert["run_id"] == result.run_id
    assert datetime.fromisoformat(alert["at_utc"]) > datetime.now(UTC) - timedelta(minutes=5)
    assert "/nowhere/GBPUSD.csv" in alert["message"]


def test_the_live_job_is_never_repeated_by_itself(home: Home) -> None:
    _, instance = home
    run_job(instance, "live_execution_job")
    [run] = instance.get_runs(dg.RunsFilter(job_name="live_execution_job"))
    assert run.tags["dagster/max_retries"] == "0"


def test_the_live_schedule_follows_the_bars_of_what_is_deployed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deployed:
        def __init__(self, timeframe: str) -> None:
            self.timeframe = timeframe

    def asked(minute: int, *timeframes: str) -> bool:
        monkeypatch.setattr(
            "forexgpt_core.adapters.database.deployments.DeploymentRepository.all_active",
            lambda self: [Deployed(timeframe) for timeframe in timeframes],
        )
        moment = datetime(2018, 7, 4, 10, minute, tzinfo=UTC)  # a Wednesday
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_schedule_context(instance=instance, scheduled_execution_time=moment)
            schedule = defs().get_repository_def().get_schedule_def("live_execution_schedule")
            return bool(schedule.evaluate_tick(context).run_requests)

    assert asked(1, "H1")
    assert not asked(16, "H1")
    assert asked(16, "H1", "M15")
    assert not asked(1, "D1")
    assert not asked(1)
