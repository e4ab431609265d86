"""The UI as a person uses it: real servers on loopback, a pair added and backfilled through the UI's own GraphQL."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import psutil
import pytest

from forexgpt_assets.definitions import defs
from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core import evidence
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.models.catalogue import FAMILIES
from forexgpt_core.optimisation.pareto import ParetoSettings
from forexgpt_core.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ui")]
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "fx" / "GBPUSD_H1.parquet"
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": "forexgpt_assets"}
SENSOR = "failure_alert_sensor"
PATIENCE_SECONDS = 420


class Ui(NamedTuple):
    process: subprocess.Popen[bytes]
    port: int
    mlflow_port: int
    home: Path
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(found: Callable[[], Any], what: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.5)
    raise AssertionError(f"no {what} within {seconds} s")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where EURUSD has candles and features, and GBPUSD nothing but settings."""
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FOREXGPT_HOME", str(folder))
        environment.setenv("DAGSTER_HOME", str(folder / "dagster"))
        with session() as (platform, instance):
            add_symbol(instance, "EURUSD")
            materialize(instance, ["candles", "features"], "EURUSD")
            quick = replace(
                default_settings("GBPUSD"),
                families=("random_walk", "linear"),
                pareto=ParetoSettings(method="nsga2", later_spans=1, population=4, generations=2, min_trades=1),
            )
            platform.pairs.save(quick, by="test")
    return folder


@pytest.fixture(scope="module")
def ui(home: Path) -> Iterator[Ui]:
    port, mlflow_port, log = free_port(), free_port(), home / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "forexgpt", "ui", "--port", str(port), "--mlflow-port", str(mlflow_port)],
            env={**os.environ, "FOREXGPT_HOME": str(home)}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/server_info"), "Dagster", 90)
            served = Ui(process, port, mlflow_port, home, log)
            start_sensor(served)
            yield served
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def platform(home: Path) -> Platform:
    return Platform(load_settings({"FOREXGPT_HOME": str(home)}))


def ask(ui: Ui, query: str, **variables: object) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{ui.port}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    assert "errors" not in answer, answer["errors"]
    [result] = answer["data"].values()
    return dict(result)


def add_partition(ui: Ui, key: str) -> str:
    added = ask(
        ui,
        """mutation ($repo: RepositorySelector!, $key: String!) {
          addDynamicPartition(repositorySelector: $repo, partitionsDefName: "symbol", partitionKey: $key) {
            __typename ... on PythonError { message } } }""",
        repo=SELECTOR,
        key=key,
    )
    return str(added["__typename"])


def launch(ui: Ui, asset: str, partition: str, config: dict[str, object]) -> str:
    """Materialize one asset from the launchpad and return the run's id."""
    launched = ask(
        ui,
        """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
          __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
          ... on RunConfigValidationInvalid { errors { message } } } }""",
        params={
            "selector": {**SELECTOR, "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": [asset]}]},
            "mode": "default",
            "runConfigData": {"ops": {asset: {"config": config}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
        },
    )
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def finished(ui: Ui, run_id: str) -> str:
    def status() -> str | None:
        run = ask(ui, "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        return run["status"] if run["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    return str(until(status, f"end of run {run_id}", PATIENCE_SECONDS))


def backfill(ui: Ui, assets: list[str], partition: str) -> str:
    launched = ask(
        ui,
        """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
          __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
        params={"assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": [partition]},
    )
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    query = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
      ... on PartitionBackfill { status error { message } } } }"""

    def status() -> str | None:
        found = str(ask(ui, query, id=launched["backfillId"])["status"])
        return None if found in ("REQUESTED", "CANCELING", "COMPLETED", "FAILING") else found

    return str(until(status, "end of the backfill", PATIENCE_SECONDS))


def partitions(ui: Ui, asset: str) -> tuple[set[str], set[str]]:
    """Return the pairs that are materialized and those that failed."""
    node = ask(
        ui,
        """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetPartitionStatuses
          { ... on DefaultPartitionStatuses { materializedPartitions failedPartitions } } } } }""",
        key={"path": [asset]},
    )["assetPartitionStatuses"]
    return set(node["materializedPartitions"]), set(node["failedPartitions"])


def partitioned() -> list[str]:
    graph = defs().resolve_asset_graph()
    return sorted(k.to_user_string() for k in graph.get_all_asset_keys() if graph.get(k).partitions_def is not None)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real hourly GBP/USD, or a generated history where the shared data are absent."""
    if REAL.is_file():
        return REAL
    rng, n = np.random.default_rng(3), 6_000
    opens = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2019-12-31T20", "us"), Timeframe.H1)[:n]
    close = 1.3 * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    open_ = np.concatenate([[1.3], close[:-1]])
    table = pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.0002,
            "low": np.minimum(open_, close) * 0.9998,
            "close": close,
        }
    )
    made = tmp_path_factory.mktemp("data") / "GBPUSD_H1.parquet"
    table.write_parquet(made)
    return made


def start_sensor(ui: Ui) -> None:
    query = "mutation ($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }"
    assert ask(ui, query, s={**SELECTOR, "sensorName": SENSOR})["__typename"] == "Sensor"


def sensor_ticks(ui: Ui) -> list[dict[str, str]]:
    query = """query ($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor {
      sensorState { ticks(limit: 1) { status } } } } }"""
    return list(ask(ui, query, s={**SELECTOR, "sensorName": SENSOR})["sensorState"]["ticks"])


def test_servers_listen_on_loopback_alone(ui: Ui) -> None:
    until(lambda: answers(f"http://127.0.0.1:{ui.mlflow_port}/health"), "MLflow", 90)
    family = [psutil.Process(ui.process.pid), *psutil.Process(ui.process.pid).children(recursive=True)]
    listening = {
        (c.laddr.ip, c.laddr.port)
        for process in family
        for c in process.net_connections(kind="inet")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", ui.port), ("127.0.0.1", ui.mlflow_port)}


def test_a_pair_is_added_and_backfilled_without_touching_another(ui: Ui, platform: Platform, file: Path) -> None:
    before = {asset: partitions(ui, asset) for asset in partitioned()}
    tables = [platform.lake.candles_version("EURUSD", "H1"), platform.lake.version("features", "EURUSD", "H1")]
    assert add_partition(ui, "GBPUSD") == "AddDynamicPartitionSuccess"
    assert add_partition(ui, "GBPUSD") == "DuplicateDynamicPartitionError"

    assert finished(ui, launch(ui, "candles", "GBPUSD", {"file": str(file)})) == "SUCCESS"
    bars = platform.lake.candles("GBPUSD", Timeframe.H1).height
    assert bars > 5_000

    others = [asset for asset in partitioned() if asset != "candles"]
    assert backfill(ui, [*others, "portfolio_backtest"], "GBPUSD") == "COMPLETED_SUCCESS"
    for asset in partitioned():
        done, failed = partitions(ui, asset)
        assert "GBPUSD" in done, asset
        assert not failed, asset
        assert done - {"GBPUSD"} == before[asset][0], "another pair was touched"
    portfolio = "query ($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode {"
    portfolio += " assetMaterializations(limit: 5) { runId } } } }"
    assert len(ask(ui, portfolio, k={"path": ["portfolio_backtest"]})["assetMaterializations"]) == 1
    assert platform.lake.read("features", "GBPUSD", Timeframe.H1).height == bars
    assert set(evidence.judged_families(platform, platform.pair("GBPUSD"))) == {"random_walk", "linear"}
    assert platform.deployments.history() == [], "a backfill of every asset deploys nothing"
    assert platform.lake.symbols("forecasts_ensemble") == ["GBPUSD"]
    assert tables == [platform.lake.candles_version("EURUSD", "H1"), platform.lake.version("features", "EURUSD", "H1")]


def test_a_failed_run_raises_an_alert(ui: Ui) -> None:
    until(lambda: sensor_ticks(ui), "first evaluation, which only notes where to begin", 90)
    alerts = ui.home / "alerts.jsonl"
    run_id = launch(ui, "candles", "GBPUSD", {"file": "/nowhere/GBPUSD.parquet"})
    assert finished(ui, run_id) == "FAILURE"
    until(alerts.exists, "alert", 120)
    alert = json.loads(alerts.read_text().splitlines()[-1])
    assert (alert["run_id"], alert["partition"], alert["steps"]) == (run_id, "GBPUSD", ["candles"])
    assert "/nowhere/GBPUSD.parquet" in alert["message"]


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    """Return the command of a browser that talks to nobody but the page it is given."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine")
    return [
        found, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--window-size=1800,1200",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip


def test_a_browser_shows_the_graph(ui: Ui, chromium: list[str]) -> None:
    wanted = {
        "asset-groups": {"candles", "features", "models", "calibration", "evaluation", "strategy", "deployment"},
        "locations/forexgpt_assets/asset-groups/evaluation/lineage": {
            "leaderboard",
            "ensemble",
            *(f"{family}_{stage}" for family in FAMILIES for stage in ("calibration", "evaluation")),
        },
    }
    for page, names in wanted.items():
        seen = subprocess.run(
            [*chromium, "--virtual-time-budget=60000", "--dump-dom", f"http://127.0.0.1:{ui.port}/{page}"],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        text = re.sub(r"<(script|style).*?</\1>", "", seen.stdout, flags=re.DOTALL)
        assert {name for name in names if f">{name}<" not in text} == set(), page


def test_a_browser_draws_the_pictures(ui: Ui, chromium: list[str]) -> None:
    """The page of a materialized pair shows the verdict, and its picture once it is asked for."""
    page = f"http://127.0.0.1:{ui.port}/assets/leaderboard?view=partitions&partition=GBPUSD"
    with browser_at(page, chromium) as evaluate:
        text = until(lambda: "Show Markdown" in evaluate("document.body.innerText"), "metadata", 60)
        assert text
        assert "the random walk" in evaluate("document.body.innerText")
        evaluate("[...document.querySelectorAll('a')].find(a => a.innerText.includes('Show Markdown')).click()")
        picture = "[...document.images].filter(i => i.src.startsWith('data:image/png') && i.naturalWidth > 300).length"
        assert until(lambda: evaluate(picture), "picture", 20) == 1


@contextmanager
def browser_at(page: str, chromium: list[str]) -> Iterator[Callable[[str], Any]]:
    """Open a page and yield what evaluates a JavaScript expression in it."""
    sync = pytest.importorskip("websockets.sync.client")
    port = free_port()
    process = subprocess.Popen(
        [*chromium, f"--remote-debugging-port={port}", page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/json/version"), "browser", 30)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as response:
            [tab] = [tab for tab in json.load(response) if tab["type"] == "page"]
        with sync.connect(tab["webSocketDebuggerUrl"], max_size=None) as socket_:

            def evaluate(expression: str) -> Any:
                parameters = {"expression": expression, "returnByValue": True}
                socket_.send(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": parameters}))
                return json.loads(socket_.recv(timeout=30))["result"]["result"].get("value")

            yield evaluate
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_stopping_leaves_no_process_behind(ui: Ui) -> None:
    family = psutil.Process(ui.process.pid).children(recursive=True)
    assert len(family) >= 3
    ui.process.send_signal(signal.SIGTERM)
    assert ui.process.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_a_taken_port_is_refused_in_one_line(home: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        run = subprocess.run(
            [Path(sys.executable).parent / "forexgpt", "ui", "--port", str(taken)],
            capture_output=True, text=True, check=False, env={**os.environ, "FOREXGPT_HOME": str(home)}, timeout=120,
        )  # fmt: skip
    assert run.returncode == 1
    assert str(taken) in run.stderr
    assert "--port" in run.stderr
    assert run.stderr.count("\n") == 1
