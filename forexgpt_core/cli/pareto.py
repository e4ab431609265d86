"""`forexgpt pareto`: the newest front of a pair."""

from dataclasses import asdict

import typer

from forexgpt_core.cli.output import JsonFlag, SymbolArgument, print_json, print_table
from forexgpt_core.composition import Platform
from forexgpt_core.errors import NotReady
from forexgpt_core.readings import strategy_line


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(epilog="Example: forexgpt pareto EURUSD --json")
    def pareto(symbol: SymbolArgument, as_json: JsonFlag = False) -> None:
        """Show the newest Pareto front: each configuration on the part it was found on and on a later one."""
        platform = Platform.prepared()
        settings = platform.pair(symbol)
        study = platform.studies.newest(settings.symbol, settings.timeframe)
        if study is None:
            raise NotReady(f"{settings.symbol} has no Pareto front yet: run 'forexgpt optimise {settings.symbol}'")
        front = [
            {
                "config": asdict(t.config),
                "hash": t.config.hash12,
                "in_sample": t.in_sample,
                "out_of_sample": t.out_of_sample,
            }
            for t in study.front
        ]
        if as_json:
            print_json(front)
            return
        print_table(
            [
                {
                    "configuration": t.config.hash12,
                    "earlier part, searched": strategy_line(t.in_sample),
                    "later part, never seen by the search": strategy_line(t.out_of_sample or {}),
                }
                for t in study.front
            ],
            f"{settings.symbol} {settings.timeframe}, ensemble {study.bundle_hash}",
        )
        for how, hash12 in study.details.get("picks", {}).items():
            print(f"{how.replace('_', ' ')}: {hash12}")
        if note := study.details.get("note"):
            print(note)
        print(f"Deploy one with: forexgpt deploy {settings.symbol} HASH --by NAME --reason WHY")
