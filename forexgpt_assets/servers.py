"""Dagster and MLflow on loopback, as child processes that end with this one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from forexgpt_assets.runs import ROOT, prepare_home
from forexgpt_core.cli.output import say
from forexgpt_core.composition import Platform


def serve(port: int, mlflow_port: int) -> None:
    """Serve until interrupted, or until one of the servers ends."""
    platform = Platform.from_environment()
    platform.prepare()
    prepare_home(platform.settings)
    environment = {**os.environ, "FOREXGPT_HOME": str(platform.settings.home)}
    bin_ = Path(sys.executable).parent
    commands = {
        "dagster-webserver": [
            bin_ / "dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(ROOT / "workspace.yaml"),
        ],
        "dagster-daemon": [bin_ / "dagster-daemon", "run", "-w", str(ROOT / "workspace.yaml")],
        "mlflow": [
            bin_ / "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port),
            "--backend-store-uri", platform.settings.mlflow_tracking_uri,
            "--artifacts-destination", str(platform.settings.mlflow_artifacts), "--workers", "1",
        ],
    }  # fmt: skip
    children = {
        name: subprocess.Popen([str(part) for part in command], env=environment, cwd=platform.settings.home)
        for name, command in commands.items()
    }
    say(f"Dagster: http://127.0.0.1:{port}   MLflow: http://127.0.0.1:{mlflow_port}   stop with Ctrl-C")
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.waitpid(-1, 0)  # any child that ends takes the others with it
    except KeyboardInterrupt:
        pass
    finally:
        _stop(children)


def _stop(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for child in children.values():
        if child.poll() is None:
            child.terminate()
    for child in children.values():
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
