"""`forexgpt report`: the newest report card of a pair."""

import typer

from forexgpt_core import cards
from forexgpt_core.cli.output import JsonFlag, SymbolArgument, print_json, print_table
from forexgpt_core.composition import Platform


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command(epilog="Example: forexgpt report EURUSD --json")
    def report(symbol: SymbolArgument, as_json: JsonFlag = False) -> None:
        """Show the newest report card: every family and horizon, what is worth what, and a verdict in one sentence."""
        card = cards.newest_card(Platform.prepared(), symbol)
        if as_json:
            print_json(card)
            return
        print(card["verdict"])
        for warning in card["warnings"]:
            print(f"WARNING: {warning}")
        print_table(cards.card_rows(card), f"{card['symbol']} {card['timeframe']}, {card['recorded_utc']}")
        for family in card["families"]:
            for flag in family["flags"]:
                print(f"{family['family']}: {flag}")
        for line in card["unsaid"]:
            print(f"not said: {line}")
