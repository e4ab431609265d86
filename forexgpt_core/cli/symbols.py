"""`forexgpt symbols`: pairs and their settings."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from forexgpt_core.cli.output import JsonFlag, SymbolArgument, group, print_json, print_table
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.instruments import INSTRUMENTS
from forexgpt_core.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    symbols = group(app, "symbols", "Pairs and their settings.")

    @symbols.command("list", epilog="Example: forexgpt symbols list --json")
    def list_(as_json: JsonFlag = False) -> None:
        """List the known pairs, and which have candles or saved settings."""
        platform = Platform.prepared()
        stored, saved = set(platform.lake.symbols("candles")), set(platform.pairs.symbols())
        rows = [
            {**asdict(pair), "candles": name in stored, "settings": name in saved} for name, pair in INSTRUMENTS.items()
        ]
        print_json(rows) if as_json else print_table(rows)

    @symbols.command("export", epilog="Example: forexgpt symbols export EURUSD > eurusd.yaml")
    def export(symbol: SymbolArgument) -> None:
        """Print a pair's settings as YAML."""
        print(Platform.prepared().pair(symbol).to_yaml(), end="")

    @symbols.command("import", epilog="Example: forexgpt symbols import eurusd.yaml")
    def import_(
        file: Annotated[Path, typer.Argument(help="YAML written by `symbols export`.")],
        by: Annotated[str, typer.Option(help="Who saves them.")] = "command line",
    ) -> None:
        """Save a pair's settings; every later run, schedule and sensor uses them."""
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read settings from {file}: {getattr(error, 'strerror', None) or error}") from None
        settings = SymbolSettings.from_yaml(text)
        version = Platform.prepared().pairs.save(settings, by=by)
        print(f"{settings.symbol} settings {settings.hash12} saved as version {version}")
