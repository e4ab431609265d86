"""The code location: its keys, what it imports, and what may run by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from forexgpt_assets.definitions import defs
from forexgpt_core.models.catalogue import FAMILIES

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("torch", "numba", "arch", "statsmodels", "matplotlib", "pymoo", "optuna", "plotly"),
    *("great_expectations", "evidently", "mlflow", "xgboost", "sklearn"),
)
KEYS = {
    "candles",
    "features",
    *(f"{family}_{stage}" for family in FAMILIES for stage in ("model", "calibration", "evaluation")),
    "cross_validation",
    "leaderboard",
    "report_card",
    "ensemble",
    "backtest",
    "portfolio_backtest",
    "pareto_configs",
    "deployed_strategy",
    "drift_report",
    "adherence_report",
    "candles_freshness",
}
OF_ALL_PAIRS = {"portfolio_backtest", "candles_freshness"}


@pytest.fixture(scope="module")
def location() -> dg.Definitions:
    return defs()


def test_the_graph_has_the_agreed_keys(location: dg.Definitions) -> None:
    assert {key.to_user_string() for key in location.resolve_all_asset_keys()} == KEYS


def test_every_asset_but_those_over_all_pairs_is_partitioned_by_symbol(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    partitioned = {k.to_user_string() for k in graph.get_all_asset_keys() if graph.get(k).partitions_def is not None}
    assert partitioned == KEYS - OF_ALL_PAIRS
    names = {graph.get(dg.AssetKey(k)).partitions_def.name for k in partitioned}
    assert names == {"symbol"}


def test_families_come_in_trios_that_follow_features(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    for family in FAMILIES:
        parents = {
            stage: {k.to_user_string() for k in graph.get(dg.AssetKey(f"{family}_{stage}")).parent_keys}
            for stage in ("model", "calibration", "evaluation")
        }
        assert parents["model"] == {"features"}
        assert parents["calibration"] == {f"{family}_model"}
        assert f"{family}_calibration" in parents["evaluation"]


def test_gates_are_partitioned_and_blocking(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    assert all(spec.partitions_def is not None for spec in specs)
    assert {spec.asset_key.to_user_string() for spec in specs if spec.blocking} == {"candles", "features"}
    assert {spec.name for spec in specs if not spec.blocking} == {"candles_are_fresh", "intervals_cover"}
    judged = {spec.asset_key.to_user_string() for spec in specs if spec.name == "intervals_cover"}
    assert judged == {"ensemble", *(f"{family}_evaluation" for family in FAMILIES)}


def test_nothing_that_runs_by_itself_can_deploy(location: dg.Definitions) -> None:
    repository = location.get_repository_def()
    automatic = [*repository.schedule_defs, *repository.sensor_defs]
    names = {target.job_name for one in automatic for target in getattr(one, "targets", [])}
    names |= {schedule.job_name for schedule in repository.schedule_defs}
    assert {"candles_job", "retrain_job", "live_execution_job", "maintenance_job"} <= names
    assert "tuning_job" not in names, "options are searched when somebody asks"
    for name in names:
        layer = location.resolve_job_def(name).asset_layer
        assert dg.AssetKey("deployed_strategy") not in layer.executable_asset_keys


def test_schedules_and_sensors_are_those_agreed_and_start_stopped(location: dg.Definitions) -> None:
    repository = location.get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "candles_schedule",
        "freshness_schedule",
        "retrain_schedule",
        "reweight_schedule",
        "live_execution_schedule",
        "maintenance_schedule",
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {"drift_retraining_sensor", "failure_alert_sensor"}
    assert all(s.default_status is dg.DefaultScheduleStatus.STOPPED for s in repository.schedule_defs)
    assert all(s.default_status is dg.DefaultSensorStatus.STOPPED for s in repository.sensor_defs)


def test_options_are_searched_pair_by_pair_one_run_at_a_time(location: dg.Definitions) -> None:
    job = location.resolve_job_def("tuning_job")
    assert job.partitions_def is not None
    assert job.partitions_def.name == "symbol"
    assert job.tags["stage"] == "training"
    assert not job.asset_layer.executable_asset_keys


def test_loading_needs_no_secret_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import json, sys, warnings\n"
        "from dagster import SupersessionWarning\n"
        "warnings.simplefilter('error', SupersessionWarning)\n"
        "from forexgpt_assets.definitions import defs\n"
        "defs().get_repository_def().load_all_definitions()\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FOREXGPT_HOME": str(tmp_path / "home")}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert json.loads(found.stdout) == []
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_dg_finds_the_definitions_sound(tmp_path: Path) -> None:
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "FOREXGPT_HOME": str(tmp_path / "home")}
    checked = subprocess.run(
        [Path(sys.executable).parent / "dg", "check", "defs"],
        capture_output=True, text=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Supersession" not in checked.stderr
    assert "deprecat" not in checked.stderr.lower()
