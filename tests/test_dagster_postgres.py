"""The Dagster instance files: the local one on SQLite, the deployed one on a real PostgreSQL; the rest of deploy/."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.errors import StoreError

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "deploy" / "docker-compose.yml"
LOCAL, DEPLOYED = ROOT / "dagster.yaml", ROOT / "deploy" / "dagster.postgres.yaml"


@dg.asset(pool="training")
def trivial() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"dagster/row_count": 3})


def home_with(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = folder / "dagster"
    home.mkdir()
    shutil.copyfile(file, home / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


def assert_common_settings(instance: dg.DagsterInstance) -> None:
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_runtime_seconds == 12 * 3600
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 2
    assert not instance.get_settings("run_retries")["retry_on_asset_or_op_failure"]
    limits = instance.get_concurrency_config()
    assert limits.pool_config.default_pool_limit == 1
    assert limits.pool_config.pool_granularity.value == "run"
    assert {"key": "stage", "value": "training", "limit": 1} in limits.run_queue_config.tag_concurrency_limits


def test_the_local_instance_keeps_everything_under_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = home_with(LOCAL, tmp_path, monkeypatch)
    with dg.DagsterInstance.get() as instance:
        assert_common_settings(instance)
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 2
        assert dg.materialize([trivial], instance=instance).success
        assert len(instance.get_runs()) == 1
    assert list(home.rglob("runs.db"))


def test_a_run_does_not_wait_for_one_whose_process_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With pools per op, a slot claimed by a dead process is never given back and this would not come to an end.
    home_with(LOCAL, tmp_path, monkeypatch)
    with dg.DagsterInstance.get() as instance:
        dead = instance.create_run_for_job(dg.define_asset_job("dead").resolve(asset_graph=_graph()))
        instance.event_log_storage.initialize_concurrency_limit_to_default("training")
        instance.event_log_storage.claim_concurrency_slot("training", dead.run_id, "trivial")
        assert dg.materialize([trivial], instance=instance).success


def _graph() -> object:
    return dg.Definitions(assets=[trivial]).resolve_asset_graph()


def test_the_deployed_file_differs_from_the_local_one_in_storage_and_size_alone() -> None:
    local, deployed = yaml.safe_load(LOCAL.read_text()), yaml.safe_load(DEPLOYED.read_text())
    assert deployed.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_PG_URL"}}}
    for settings in (local, deployed):
        del settings["concurrency"]["runs"]["max_concurrent_runs"]
    assert local == deployed


@pytest.fixture
def our_url(postgres_url: str) -> Iterator[str]:
    """A second database on the same server, because Dagster and ForexGPT number their migrations alike."""
    ours = sa.make_url(postgres_url).set(database=f"{sa.make_url(postgres_url).database}_ours")
    admin = sa.create_engine(
        sa.make_url(postgres_url).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {ours.database}"))
    yield ours.render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {ours.database} WITH (FORCE)"))
    admin.dispose()


def test_the_real_candles_are_recorded_in_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str, our_url: str
) -> None:
    """The sample's candles through the real definitions, Dagster's records and ours on one PostgreSQL server."""
    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg2")  # Dagster's NOTIFY fails with psycopg 3
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path))
    monkeypatch.setenv("FOREXGPT_DATABASE_URL", our_url)
    home = home_with(DEPLOYED, tmp_path, monkeypatch)
    monkeypatch.setenv("DAGSTER_PG_URL", url.render_as_string(hide_password=False))
    with session() as (platform, instance):
        assert_common_settings(instance)
        add_symbol(instance, "EURUSD")
        platform.pairs.save(replace(platform.pair("EURUSD"), hold_back_bars=4_000), by="test")
        result = materialize(instance, ["candles"], "EURUSD")
        bars = platform.lake.candles("EURUSD", "H1").height
        [event] = result.get_asset_materialization_events()
        assert event.materialization.metadata["dagster/row_count"].value == bars > 900
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        events = connection.execute(
            sa.text(
                "SELECT asset_key, partition FROM event_logs"
                " WHERE run_id = :run AND dagster_event_type = 'ASSET_MATERIALIZATION'"
            ),
            {"run": result.run_id},
        ).fetchall()
        checks = connection.execute(
            sa.text("SELECT check_name, execution_status, partition FROM asset_check_executions")
        ).fetchall()
        status = connection.execute(
            sa.text("SELECT status FROM runs WHERE run_id = :run"), {"run": result.run_id}
        ).scalar_one()
    engine.dispose()
    ours = sa.create_engine(sa.make_url(our_url).set(drivername="postgresql+psycopg2"))
    with ours.connect() as connection:
        saved = connection.execute(sa.text("SELECT symbol, saved_by FROM symbol_settings")).fetchall()
    ours.dispose()
    assert [tuple(row) for row in events] == [('["candles"]', "EURUSD")]
    assert {tuple(row) for row in checks} == {
        ("candles_are_lawful", "SUCCEEDED", "EURUSD"),
        ("candles_are_fresh", "SUCCEEDED", "EURUSD"),
    }
    assert status == "SUCCESS"
    assert [tuple(row) for row in saved] == [("EURUSD", "test")]
    assert not list(home.rglob("*.db")), "something was kept in SQLite"
    assert not (tmp_path / "forexgpt.sqlite").exists()
    database = str(url.database).encode()
    assert not [f for f in home.rglob("*") if f.is_file() and database in f.read_bytes()], "the address was stored"


def test_the_database_of_dagster_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    home_with(DEPLOYED, tmp_path, monkeypatch)
    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg2")
    monkeypatch.setenv("DAGSTER_PG_URL", url.render_as_string(hide_password=False))
    with (
        dg.DagsterInstance.get(),
        pytest.raises(StoreError, match=r"another program's tables .* give ForexGPT one of its own"),
    ):
        upgrade(postgres_url)


def test_a_missing_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home_with(DEPLOYED, tmp_path, monkeypatch)
    monkeypatch.delenv("DAGSTER_PG_URL", raising=False)
    with pytest.raises(Exception, match="DAGSTER_PG_URL"):
        dg.DagsterInstance.get()


def test_the_workspace_and_the_project_agree_on_the_location_name() -> None:
    import tomllib

    [entry] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert entry["python_module"]["location_name"] == project["code_location_name"]
    assert entry["python_module"]["module_name"] == f"{project['root_module']}.definitions"


def test_compose_publishes_on_loopback_alone_and_holds_no_secret() -> None:
    text = COMPOSE.read_text()
    services = yaml.safe_load(text)["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    passwords = [line.split("forexgpt:", 1)[1] for line in text.splitlines() if "://forexgpt:" in line]
    assert passwords
    assert all(password.startswith("${POSTGRES_PASSWORD") for password in passwords)
    assert not any("docker.sock" in str(service) for service in services.values())


def test_compose_names_agree_with_the_files_it_uses() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    [server] = yaml.safe_load((ROOT / "deploy" / "workspace.grpc.yaml").read_text())["load_from"]
    address = server["grpc_server"]
    assert address["host"] in services
    command = services[address["host"]]["command"]
    assert command[command.index("-p") + 1] == str(address["port"])
    assert command[command.index("--location-name") + 1] == address["location_name"]
    targets = {s["build"]["target"] for s in services.values() if "build" in s}
    stages = {line.split()[-1] for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines() if "FROM " in line}
    assert targets <= stages
    copied = [
        source
        for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for source in [part for part in line.split()[1:-1] if not part.startswith("--")]
    ]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    created = (ROOT / "deploy" / "create-databases.sql").read_text()
    made = {services["postgres"]["environment"]["POSTGRES_DB"], *re.findall(r"CREATE DATABASE (\w+);", created)}
    assert set(re.findall(r"@postgres:5432/(\w+)", COMPOSE.read_text())) == made


def test_the_entrypoint_makes_private_files_and_runs_its_command(tmp_path: Path) -> None:
    home = tmp_path / "home" / "dagster"
    result = subprocess.run(
        ["sh", ROOT / "deploy" / "entrypoint.sh", "sh", "-c", "umask; echo $1", "sh", "ran"],
        env={**os.environ, "DAGSTER_HOME": str(home), "DAGSTER_YAML": str(DEPLOYED)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["0077", "ran"]
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]
    assert (home / "dagster.yaml").read_text() == DEPLOYED.read_text()
    assert (home / "dagster.yaml").stat().st_mode & 0o077 == 0


def test_the_kubernetes_values_hold_no_secret_and_expose_nothing() -> None:
    values = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "values.yaml").read_text())
    assert values["telemetry"] == {"enabled": False}
    assert values["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    assert "postgresqlPassword" not in values["postgresql"]
    [deployment] = values["dagster-user-deployments"]["deployments"]
    [server] = values["dagsterWebserver"]["workspace"]["servers"]
    assert (server["host"], server["port"]) == (deployment["name"], deployment["port"])
