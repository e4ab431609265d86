"""Dagster and MLflow on loopback, as child processes that end with this one."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from forexgpt_assets.runs import ROOT, prepare_home
from forexgpt_core.cli.output import say
from forexgpt_core.composition import Platform
from forexgpt_core.errors import BadInput, ForexGPTError
from forexgpt_core.settings import Settings

HOST = "127.0.0.1"
GRACE_SECONDS = 15.0
# MLflow's server would otherwise report its use, and start a queue of background jobs that nothing here needs.
_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
Servers = dict[str, subprocess.Popen[bytes]]


class ServerEnded(ForexGPTError):
    """A server stopped by itself, and the others were stopped with it."""


def serve(port: int, mlflow_port: int) -> None:
    """Serve until interrupted or terminated.

    Raises:
        BadInput: a port is taken.
        ServerEnded: one of the servers ended by itself.
    """
    platform = Platform.prepared()
    prepare_home(platform.settings)
    commands = _commands(platform.settings, port, mlflow_port)
    _require_free(port, "--port")
    if "mlflow" in commands:
        _require_free(mlflow_port, "--mlflow-port")
    environment = {
        **os.environ,
        **_MLFLOW,
        "FOREXGPT_HOME": str(platform.settings.home),
        # Not on the command line: every user of the machine can read that, and the address may hold a password.
        "MLFLOW_BACKEND_STORE_URI": platform.settings.mlflow_tracking_uri,
    }
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda *_: sys.exit(0))
    children: Servers = {}
    try:
        for name, command in commands.items():
            # Each in a session of its own, so that what it starts in turn can be stopped with it.
            children[name] = subprocess.Popen(
                command, env=environment, cwd=platform.settings.home, start_new_session=True
            )
        shown = f"   MLflow: http://{HOST}:{mlflow_port}" if "mlflow" in commands else ""
        say(f"Dagster: http://{HOST}:{port}{shown}   stop with Ctrl-C")
        _wait(children)
    except KeyboardInterrupt:
        pass
    finally:
        _stop(children)


def _commands(settings: Settings, port: int, mlflow_port: int) -> dict[str, list[str]]:
    bin_, workspace = Path(sys.executable).parent, str(ROOT / "workspace.yaml")
    commands = {
        "dagster-webserver": [f"{bin_}/dagster-webserver", "-h", HOST, "-p", str(port), "-w", workspace],
        "dagster-daemon": [f"{bin_}/dagster-daemon", "run", "-w", workspace],
    }
    if settings.mlflow_tracking_uri.startswith(("http://", "https://")):
        return commands  # somebody else's MLflow server is in use
    commands["mlflow"] = [
        f"{bin_}/mlflow", "server", "--host", HOST, "--port", str(mlflow_port),
        "--artifacts-destination", str(settings.mlflow_artifacts), "--workers", "1",
    ]  # fmt: skip
    return commands


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BadInput(
                f"port {port} of {HOST} cannot be used ({error.strerror}); stop what uses it, or choose another"
                f" with {option}"
            ) from None


def _wait(children: Servers) -> None:
    while True:
        for name, child in children.items():
            if child.poll() is not None:
                raise ServerEnded(f"{name} ended with exit code {child.returncode}; what it printed above says why")
        sleep(0.2)


def _stop(children: Servers) -> None:
    """Ask every server and all it started to end, and end what does not."""
    for stop in (signal.SIGTERM, signal.SIGKILL):
        for child in children.values():
            with suppress(ProcessLookupError):
                os.killpg(child.pid, stop)
        deadline = monotonic() + GRACE_SECONDS
        while monotonic() < deadline and any(_lives(child) for child in children.values()):
            sleep(0.1)


def _lives(child: subprocess.Popen[bytes]) -> bool:
    """Return whether anything is left of the server's process group."""
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True
