"""`forexgpt doctor`: is everything in place?"""

import platform as machine
import sys
from collections.abc import Callable
from importlib.metadata import version

import typer

from forexgpt_core.cli.output import JsonFlag, print_json, print_table
from forexgpt_core.composition import Platform
from forexgpt_core.errors import ForexGPTError


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(epilog="Example: forexgpt doctor --json")
    def doctor(as_json: JsonFlag = False) -> None:
        """Check Python, folders, database, MLflow store and lake; exit 1 when something is broken."""
        platform = Platform.from_environment()
        checks: dict[str, Callable[[], str]] = {
            "python": _python,
            "packages": lambda: ", ".join(f"{name} {version(name)}" for name in ("dagster", "mlflow", "polars")),
            "home": lambda: str(platform.settings.home),
            "stores": lambda: _stores(platform),
            "pairs": lambda: ", ".join(platform.lake.symbols("candles")) or "none yet: run 'forexgpt demo'",
        }
        rows = [_run(name, check) for name, check in checks.items()]
        print_json(rows) if as_json else print_table(rows)
        if any(not row["ok"] for row in rows):
            raise typer.Exit(1)


def _run(name: str, check: Callable[[], str]) -> dict[str, object]:
    try:
        return {"check": name, "ok": True, "found": check()}
    except ForexGPTError as error:
        return {"check": name, "ok": False, "found": str(error)}


def _python() -> str:
    if sys.version_info[:2] != (3, 11):
        raise ForexGPTError(f"Python 3.11 is needed, this is {machine.python_version()}")
    return machine.python_version()


def _stores(platform: Platform) -> str:
    platform.prepare()
    return f"database {platform.database.where}, MLflow and lake ready"
