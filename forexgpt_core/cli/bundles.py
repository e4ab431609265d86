"""`forexgpt bundle list|verify`: immutable folders, checked byte for byte."""

from typing import Annotated

import typer

from forexgpt_core.cli.output import JsonFlag, group, print_json, print_table, show
from forexgpt_core.composition import Platform


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    bundle = group(app, "bundle", "Immutable bundles of models, calibrations and ensembles.")

    @bundle.command("list", epilog="Example: forexgpt bundle list --json")
    def list_(as_json: JsonFlag = False) -> None:
        """List every bundle of the home."""
        rows = [bundle.reference for bundle in Platform.prepared().bundles.all()]
        print_json(rows) if as_json else print_table(rows)

    @bundle.command(epilog="Example: forexgpt bundle verify 0123456789ab")
    def verify(
        hash12: Annotated[str, typer.Argument(help="First 12 digits of the bundle's hash.")], as_json: JsonFlag = False
    ) -> None:
        """Compare a bundle's files with its manifest; exit 1 when one is missing, added or changed."""
        found = Platform.prepared().bundles.find(hash12)
        show(
            {
                "bundle": found.hash12,
                "kind": found.kind,
                "symbol": found.symbol,
                "timeframe": found.timeframe,
                "intact": True,
            },
            as_json=as_json,
        )
