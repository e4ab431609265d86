"""Dagster's home appears whole or not at all, however its first start ends."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from dagster import DagsterInstance

from forexgpt_assets import runs
from forexgpt_core.composition import Platform
from forexgpt_core.settings import Settings, load_settings

START = """
from forexgpt_assets.runs import prepare_home
from forexgpt_core.settings import load_settings
print("started", flush=True)
prepare_home(load_settings())
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    return load_settings()


def works(settings: Settings) -> bool:
    with runs.open_instance(Platform(settings)) as instance:
        runs.add_symbol(instance, "EURUSD")
        return instance.get_dynamic_partitions("symbol") == ["EURUSD"]


@pytest.mark.slow
def test_a_start_killed_at_any_moment_leaves_a_home_that_works(settings: Settings) -> None:
    for delay in (0.0, 0.1, 0.2, 0.4):
        process = subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        time.sleep(delay)
        process.kill()
        process.communicate()
    assert works(settings)
    assert not settings.dagster_home.with_name("dagster.new").exists()


def test_a_half_made_storage_never_reaches_its_place(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DagsterInstance, "all_instigator_state", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            runs.prepare_home(settings)
    assert not settings.dagster_home.exists()
    assert works(settings)


def test_a_configuration_or_storage_of_ones_own_is_kept(settings: Settings) -> None:
    settings.dagster_home.mkdir(parents=True)
    (settings.dagster_home / "mine").write_text("kept")
    runs.prepare_home(settings)
    assert (settings.dagster_home / "mine").read_text() == "kept"
    configuration = settings.dagster_home / runs.CONFIGURATION
    configuration.write_text("telemetry: {enabled: false}\n")
    runs.prepare_home(settings)
    assert configuration.read_text() == "telemetry: {enabled: false}\n"
    assert works(settings)
