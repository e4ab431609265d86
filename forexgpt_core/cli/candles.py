"""`forexgpt candles info|gaps`: what the lake holds."""

from typing import Annotated

import typer

from forexgpt_core.candles.gaps import find_gaps
from forexgpt_core.cli.output import JsonFlag, SymbolArgument, group, print_json, print_table, show
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import instrument

TimeframeOption = Annotated[str, typer.Option("--timeframe", help="M1 M5 M15 M30 H1 H4 D1 or W1.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    candles = group(app, "candles", "Candles in the lake.")

    @candles.command(epilog="Example: forexgpt candles info EURUSD --json")
    def info(symbol: SymbolArgument, timeframe: TimeframeOption = "H1", as_json: JsonFlag = False) -> None:
        """Show rows, range and version of a pair's candles."""
        platform, frame = Platform.prepared(), Timeframe.parse(timeframe)
        key = instrument(symbol).symbol
        bars = platform.lake.candles(key, frame)
        show(
            {
                "symbol": key,
                "timeframe": frame.value,
                "bars": bars.height,
                "first_utc": bars["ts_utc"][0],
                "last_utc": bars["ts_utc"][-1],
                "lake_version": platform.lake.candles_version(key, frame),
                "missing_bars": int(find_gaps(bars, frame)["missing_bars"].sum()),
            },
            as_json=as_json,
        )

    @candles.command(epilog="Example: forexgpt candles gaps EURUSD")
    def gaps(symbol: SymbolArgument, timeframe: TimeframeOption = "H1", as_json: JsonFlag = False) -> None:
        """List holes inside the FX week, the longest first."""
        platform, frame = Platform.prepared(), Timeframe.parse(timeframe)
        bars = platform.lake.candles(instrument(symbol).symbol, frame)
        rows = find_gaps(bars, frame).sort("missing_bars", descending=True).to_dicts()
        print_json(rows) if as_json else print_table(rows[:50], f"{len(rows)} gaps")
