"""Several processes starting at once on a fresh home all come up, and find it whole the second time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forexgpt_core.composition import Platform
from forexgpt_core.settings import load_settings

PROCESSES = 8


def doctors(home: Path) -> list[tuple[int, str, str]]:
    environment = {**os.environ, "FOREXGPT_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    started = [
        subprocess.Popen(
            [Path(sys.executable).parent / "forexgpt", "doctor", "--json"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    return [(p.wait(timeout=300), *(p.stdout.read(), p.stderr.read())) for p in started if p.stdout and p.stderr]


@pytest.mark.slow
def test_eight_processes_on_a_fresh_home_all_come_up(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for _ in ("fresh", "again"):
        results = doctors(home)
        assert len(results) == PROCESSES
        for code, out, err in results:
            assert code == 0, err + out
            assert err == ""
            assert all(row["ok"] for row in json.loads(out))
    platform = Platform(load_settings({"FOREXGPT_HOME": str(home)}))
    assert platform.pairs.symbols() == []
    assert platform.registry.aliases("EURUSD", "H1") == {}
