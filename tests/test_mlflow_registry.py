"""MLflow: one run per training, one version per bundle, aliases that move, a store that eight processes may open."""

import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from forexgpt_core.adapters.mlflow_registry import Registry
from forexgpt_core.errors import BadInput, NotReady, StoreError

FIRST, SECOND = "a" * 12, "b" * 12


def registry_in(home: Path) -> Registry:
    return Registry(
        f"sqlite:///{home / 'mlflow' / 'mlflow.sqlite'}",
        artifacts=home / "mlflow" / "artifacts",
        lock_folder=home / "work",
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def registry(home: Path) -> Registry:
    made = registry_in(home)
    made.prepare()
    return made


def train(registry: Registry, symbol: str = "EURUSD", **changes: object) -> str:
    facts: dict[str, object] = {
        "timeframe": "H1",
        "family": "linear",
        "params": {"alpha": 0.5, "horizons_bars": (1, 4, 24)},
        "metrics": {"seconds": 1.25},
        "tags": {"data_version": "candles 3, features 2"},
        "artifacts": {"training.png": b"\x89PNG", "pages/loss.html": b"<p>loss</p>"},
    }
    return registry.record_training(symbol=symbol, **{**facts, **changes})


def run_of(registry: Registry, run_id: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=registry.tracking_uri, registry_uri=registry.tracking_uri).get_run(run_id)


# --- the store


def test_a_prepared_store_is_recognised_without_importing_mlflow(registry: Registry, home: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from forexgpt_core.adapters.mlflow_registry import Registry\n"
        f"r = Registry({registry.tracking_uri!r}, Path({str(home / 'a')!r}), Path({str(home / 'work')!r}))\n"
        "r.prepare(); print('mlflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_store_and_its_folder_are_private(registry: Registry, home: Path) -> None:
    assert (home / "mlflow" / "mlflow.sqlite").stat().st_mode & 0o077 == 0
    assert (home / "mlflow").stat().st_mode & 0o077 == 0


def test_a_store_that_was_removed_is_created_again(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    registry.prepare()
    (tmp_path / "mlflow" / "mlflow.sqlite").unlink()
    registry.prepare()
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM experiments").fetchone() == (1,)


def test_a_set_up_that_was_killed_half_way_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.sqlite.new") as half:
        half.execute("CREATE TABLE experiments (half TEXT)")
    half.close()
    registry = registry_in(tmp_path)
    registry.prepare()
    assert registry.aliases("EURUSD", "H1") == {}


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mlflow" / "mlflow.sqlite"
    file.parent.mkdir()
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=r"mlflow\.sqlite cannot be read") as caught:
        registry_in(tmp_path).prepare()
    assert "\n" not in str(caught.value)


def test_an_error_hides_the_credentials_of_the_store(tmp_path: Path) -> None:
    registry = Registry("gopher://desk:s3cret@nowhere/mlflow", artifacts=tmp_path, lock_folder=tmp_path / "work")
    with pytest.raises(StoreError) as caught:
        registry.prepare()
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_postgresql_store_is_created_and_takes_the_same_calls(tmp_path: Path, postgres_url: str) -> None:
    import sqlalchemy as sa

    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    registry = Registry(url, artifacts=tmp_path / "artifacts", lock_folder=tmp_path / "work")
    registry.prepare()
    run_id = train(registry)
    assert registry.register("EURUSD", "H1", "linear", tmp_path / "bundle", FIRST, run_id, {}) == 1
    assert registry.register("EURUSD", "H1", "linear", tmp_path / "bundle", FIRST, run_id, {}) == 1
    registry.set_alias("EURUSD", "H1", "champion", FIRST)
    assert registry.aliases("EURUSD", "H1") == {"champion": FIRST}
    assert (tmp_path / "artifacts" / "EURUSD" / run_id / "artifacts" / "training.png").exists()


WORKER = """
import sys
from pathlib import Path
from forexgpt_core.adapters.mlflow_registry import Registry

home, number = Path(sys.argv[1]), int(sys.argv[2])
registry = Registry(f"sqlite:///{home}/mlflow/mlflow.sqlite", home / "mlflow" / "artifacts", home / "work")
run = registry.record_training(
    symbol="EURUSD", timeframe="H1", family="linear", params={"n": number}, metrics={"x": 1.0}, tags={}, artifacts={}
)
print(registry.register("EURUSD", "H1", "linear", home / "bundle", "c" * 12, run, {}))
"""


def all_come_up(home: Path, processes: int) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(home), str(n)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=home,
        )
        for n in range(processes)
    ]
    ends = [(process.communicate(timeout=120), process.returncode) for process in started]
    assert [code for _, code in ends] == [0] * processes, [text for text, _ in ends]
    assert {out.strip() for (out, _), _ in ends} == {"1"}
    assert {error for (_, error), _ in ends} == {""}
    with sqlite3.connect(home / "mlflow" / "mlflow.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (processes,)
        assert connection.execute("SELECT count(*) FROM model_versions").fetchone() == (1,)
    assert sorted(path.name for path in home.iterdir()) == ["mlflow", "work"]


@pytest.mark.slow
def test_three_processes_on_a_fresh_home_all_come_up_and_make_one_version(tmp_path: Path) -> None:
    all_come_up(tmp_path, 3)


@pytest.mark.slow
def test_eight_processes_on_a_fresh_home_all_come_up_and_make_one_version(tmp_path: Path) -> None:
    all_come_up(tmp_path, 8)


# --- runs


def test_a_training_is_one_finished_run_of_its_symbols_experiment(registry: Registry, home: Path) -> None:
    run = run_of(registry, train(registry))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "linear H1"
    assert run.data.params == {"alpha": "0.5", "horizons_bars": "(1, 4, 24)"}
    assert run.data.metrics == {"seconds": 1.25}
    assert run.data.tags["data_version"] == "candles 3, features 2"
    assert (run.data.tags["symbol"], run.data.tags["family"]) == ("EURUSD", "linear")
    folder = home / "mlflow" / "artifacts" / "EURUSD" / run.info.run_id / "artifacts"
    assert (folder / "pages" / "loss.html").read_bytes() == b"<p>loss</p>"


def test_symbols_have_experiments_of_their_own(registry: Registry) -> None:
    euro, euro_again, pound = train(registry), train(registry), train(registry, "GBPUSD")
    experiments = [run_of(registry, run).info.experiment_id for run in (euro, euro_again, pound)]
    assert experiments[0] == experiments[1] != experiments[2]


def test_an_experiment_thrown_away_in_the_ui_comes_back(registry: Registry) -> None:
    from mlflow import MlflowClient

    first = run_of(registry, train(registry, "USDCHF")).info.experiment_id
    MlflowClient(tracking_uri=registry.tracking_uri).delete_experiment(first)
    assert run_of(registry, train(registry, "USDCHF")).info.experiment_id == first


def test_figures_that_are_not_finite_are_left_out_and_named(registry: Registry) -> None:
    run_id = train(registry, metrics={"crps": 0.5, "skill": float("nan"), "sharpe": float("inf")})
    registry.add_evaluation(run_id, {"crps_h1": 0.25, "dm_p_h1": float("nan")}, {"skill.png": b"x"})
    data = run_of(registry, run_id).data
    assert data.metrics == {"crps": 0.5, "crps_h1": 0.25}
    assert data.tags["metrics_not_finite"] == "sharpe, skill"
    assert data.tags["evaluation_metrics_not_finite"] == "dm_p_h1"


def test_a_long_parameter_is_shortened_openly_and_kept_whole_beside_the_run(registry: Registry, home: Path) -> None:
    run = run_of(registry, train(registry, params={"columns": "x" * 9000}))
    assert len(run.data.params["columns"]) == 6000
    assert run.data.tags["params_shortened"] == "columns"
    kept = home / "mlflow" / "artifacts" / "EURUSD" / run.info.run_id / "artifacts" / "params.json"
    assert json.loads(kept.read_text()) == {"columns": "x" * 9000}


def test_a_run_that_could_not_be_written_whole_is_marked_failed(registry: Registry) -> None:
    with pytest.raises(BadInput, match="artifact name"):
        train(registry, "AUDUSD", artifacts={"../outside.txt": b"x"})
    with sqlite3.connect(registry.tracking_uri.removeprefix("sqlite:///")) as connection:
        rows = connection.execute(
            "SELECT status FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name = 'forexgpt/AUDUSD'"
        ).fetchall()
    assert rows == [("FAILED",)]


def test_a_failed_training_is_recorded_as_such(registry: Registry) -> None:
    assert run_of(registry, train(registry, outcome="FAILED")).info.status == "FAILED"


def test_an_evaluation_of_an_unknown_run_is_one_clear_line(registry: Registry) -> None:
    with pytest.raises(StoreError, match="could not add an evaluation to run 0123") as caught:
        registry.add_evaluation("0123456789abcdef0123456789abcdef", {"crps": 1.0}, {})
    assert "\n" not in str(caught.value)


def test_nothing_is_printed_and_no_folder_appears_where_it_runs(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train(registry)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_mlflow_sends_no_usage_reports(registry: Registry) -> None:
    # A process of its own: MLflow switches its reports off under pytest anyway.
    code = (
        "from pathlib import Path\n"
        "from forexgpt_core.adapters.mlflow_registry import Registry\n"
        f"r = Registry({registry.tracking_uri!r}, Path('unused'), Path({str(registry.lock_folder)!r}))\n"
        "r.aliases('EURUSD', 'H1')\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "import mlflow, threading\n"
        "print(get_telemetry_client(), threading.active_count(), mlflow.active_run())"
    )
    told = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MLFLOW", "CI", "DO_"))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told)
    assert (result.stdout.strip(), result.stderr) == ("None 1 None", "")


def test_other_loggers_are_left_alone(tmp_path: Path) -> None:
    ours, root = logging.getLogger("forexgpt.canary"), logging.getLogger()
    before = (root.level, list(root.handlers), ours.disabled, ours.propagate)
    registry_in(tmp_path).prepare()  # runs MLflow's migrations, and those of Alembic often reset every logger
    assert (root.level, list(root.handlers), ours.disabled, ours.propagate) == before


# --- versions and aliases


def test_registering_a_bundle_again_returns_its_version(registry: Registry, tmp_path: Path) -> None:
    run_id = train(registry)
    first = registry.register("EURCHF", "H1", "linear", tmp_path / "one", FIRST, run_id, {"evidence_hash": SECOND})
    second = registry.register("EURCHF", "H1", "forest", tmp_path / "two", SECOND, run_id, {})
    assert (first, second) == (1, 2)
    assert registry.register("EURCHF", "H1", "linear", tmp_path / "one", FIRST, run_id, {}) == 1
    assert registry.register("EURCHF", "H4", "linear", tmp_path / "one", FIRST, run_id, {}) == 1


def test_a_version_points_at_its_bundle(registry: Registry, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run_id = train(registry)
    number = registry.register("EURJPY", "H1", "linear", tmp_path / "bundle", FIRST, run_id, {"evidence_hash": SECOND})
    version = MlflowClient(tracking_uri=registry.tracking_uri).get_model_version("EURJPY-H1", str(number))
    assert version.source == (tmp_path / "bundle").as_uri()
    assert version.run_id == run_id
    assert version.tags == {"family": "linear", "bundle_hash": FIRST, "evidence_hash": SECOND}


def test_an_alias_moves_and_is_cleared(registry: Registry, tmp_path: Path) -> None:
    run_id = train(registry)
    assert registry.aliases("EURGBP", "H1") == {}
    registry.clear_alias("EURGBP", "H1", "champion")
    for name, bundle_hash in (("one", FIRST), ("two", SECOND)):
        registry.register("EURGBP", "H1", "linear", tmp_path / name, bundle_hash, run_id, {})
    registry.set_alias("EURGBP", "H1", "champion", FIRST)
    registry.set_alias("EURGBP", "H1", "challenger", SECOND)
    assert registry.aliases("EURGBP", "H1") == {"champion": FIRST, "challenger": SECOND}
    registry.set_alias("EURGBP", "H1", "champion", SECOND)
    assert registry.aliases("EURGBP", "H1") == {"champion": SECOND, "challenger": SECOND}
    registry.clear_alias("EURGBP", "H1", "challenger")
    registry.clear_alias("EURGBP", "H1", "challenger")
    assert registry.aliases("EURGBP", "H1") == {"champion": SECOND}


def test_an_alias_needs_a_registered_bundle(registry: Registry) -> None:
    with pytest.raises(NotReady, match="no registered version of bundle ffffffffffff"):
        registry.set_alias("EURUSD", "H1", "champion", "f" * 12)


@pytest.mark.parametrize("bundle_hash", ["", "xyz", "' or name = 'x", "A" * 12])
def test_a_hash_that_is_none_is_refused(registry: Registry, bundle_hash: str) -> None:
    with pytest.raises(BadInput, match="is no bundle hash"):
        registry.set_alias("EURUSD", "H1", "champion", bundle_hash)


# --- pages


def test_links_lead_to_the_run_on_loopback(registry: Registry) -> None:
    run_id = train(registry)
    experiment = run_of(registry, run_id).info.experiment_id
    page = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run_id}"
    assert registry.run_url(run_id) == page
    assert registry.artifact_url(run_id, "pages/loss 1.html") == f"{page}/artifacts/pages/loss%201.html"


@pytest.fixture
def server(registry: Registry, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", registry.tracking_uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--artifacts-destination", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_the_server_shows_what_was_recorded_and_takes_the_same_calls(
    registry: Registry, server: str, tmp_path: Path
) -> None:
    run_id = train(registry)
    page = urllib.request.urlopen(f"{server}/get-artifact?path=pages/loss.html&run_uuid={run_id}", timeout=20).read()
    assert page == b"<p>loss</p>"

    remote = Registry(server, artifacts=tmp_path / "unused", lock_folder=tmp_path / "locks")
    remote.prepare()
    over_http = train(remote, "NZDUSD")
    path = tmp_path / "bundles" / "NZDUSD" / "H1" / "linear_model" / FIRST
    assert remote.register("NZDUSD", "H1", "linear", path, FIRST, over_http, {}) == 1
    remote.set_alias("NZDUSD", "H1", "champion", FIRST)
    assert registry.aliases("NZDUSD", "H1") == {"champion": FIRST}
    assert remote.run_url(over_http).startswith(f"{server}/#/experiments/")


# --- reports


def test_a_report_is_a_run_of_its_own_in_the_experiment_of_its_pair(registry: Registry) -> None:
    trained = run_of(registry, train(registry))
    facts = {
        "metrics": {"linear_skill_h1": 0.01, "linear_skill_h4": float("nan")},
        "tags": {"data_version": "c3.f2"},
        "artifacts": {"report_card.html": b"<p>verdict</p>"},
    }
    run_id = registry.record_report(symbol="EUR/USD", timeframe="H1", name="report card", **facts)
    run = run_of(registry, run_id)
    assert run.info.experiment_id == trained.info.experiment_id
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"linear_skill_h1": 0.01}
    told = {"symbol": "EURUSD", "timeframe": "H1", "report": "report card", "data_version": "c3.f2"}
    assert told.items() <= run.data.tags.items()
    assert run.data.tags["metrics_not_finite"] == "linear_skill_h4"
    assert "family" not in run.data.tags
    assert registry.artifact_url(run_id, "report_card.html").endswith(f"{run_id}/artifacts/report_card.html")
    again = registry.record_report(symbol="EURUSD", timeframe="H1", name="report card", **facts)
    assert again != run_id


def test_a_report_that_cannot_be_stored_whole_is_marked_failed(registry: Registry) -> None:
    from mlflow import MlflowClient

    with pytest.raises(BadInput, match="is no artifact name"):
        registry.record_report(
            symbol="USDJPY", timeframe="H1", name="report card", metrics={}, tags={}, artifacts={"../x": b""}
        )
    client = MlflowClient(tracking_uri=registry.tracking_uri)
    experiment = client.get_experiment_by_name("forexgpt/USDJPY")
    runs = client.search_runs([experiment.experiment_id], filter_string="tags.report = 'report card'")
    assert [run.info.status for run in runs] == ["FAILED"]
