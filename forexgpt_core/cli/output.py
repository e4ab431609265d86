"""How verbs speak: one JSON document or a table on stdout, progress and remarks on stderr."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
SymbolArgument = Annotated[str, typer.Argument(help="Currency pair, EURUSD or EUR/USD.", metavar="SYMBOL")]


def group(app: typer.Typer, name: str, help_: str) -> typer.Typer:
    """Return the sub-command `name` of `app`, creating it at the first call, so that packages can share one."""
    for existing in app.registered_groups:
        if existing.name == name and existing.typer_instance is not None:
            return existing.typer_instance
    created = typer.Typer(no_args_is_help=True)
    app.add_typer(created, name=name, help=help_)
    return created


def print_json(document: object) -> None:
    """Print one JSON document; what is undefined (NaN, infinite) is null."""
    print(json.dumps(_defined(document), indent=2, default=_plain, allow_nan=False))


def print_table(rows: Sequence[Mapping[str, object]], title: str | None = None) -> None:
    """Print rows as a table; an empty one says so."""
    if not rows:
        print(f"{title}: none" if title else "none")
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)


def show(document: Mapping[str, object], *, as_json: bool) -> None:
    """Print facts as JSON or as `name: value` lines."""
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        print(f"{name}: {_shown(value)}")


def say(message: str) -> None:
    """Print a remark on stderr."""
    print(message, file=sys.stderr, flush=True)


def _defined(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _defined(item) for key, item in value.items()}
    return [_defined(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: object) -> object:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "-" if value is None else str(value)
