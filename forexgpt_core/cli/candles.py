"""`forexgpt candles info|gaps|health|quarantine|compare|freshness`: what the lake holds, and how good it is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from forexgpt_core.candles.causes import CAUSES, explain_gaps, missing_by_cause
from forexgpt_core.candles.comparison import Comparison, compare
from forexgpt_core.candles.freshness import table as worst_first
from forexgpt_core.candles.health import HealthReport, health
from forexgpt_core.candles.spread import spread_figures
from forexgpt_core.cli.output import JsonFlag, SymbolArgument, group, print_json, print_table, show
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import UnknownName

TimeframeOption = Annotated[
    str, typer.Option("--timeframe", help="M1 M5 M15 M30 H1 H4 D1 or W1; the pair's own where not given.")
]
_SHOWN = 50


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    candles = group(app, "candles", "Candles in the lake.")
    _register_content(candles)
    _register_quality(candles)


def _register_content(candles: typer.Typer) -> None:
    @candles.command(epilog="Example: forexgpt candles info EURUSD --json")
    def info(symbol: SymbolArgument, timeframe: TimeframeOption = "", as_json: JsonFlag = False) -> None:
        """Show rows, range, version and spread of a pair's candles."""
        platform, settings, frame = _opened(symbol, timeframe)
        key, bars = settings.symbol, platform.lake.candles(settings.symbol, frame)
        causes = missing_by_cause(explain_gaps(bars, frame))
        show(
            {
                "symbol": key,
                "timeframe": frame.value,
                "bars": bars.height,
                "first_utc": bars["ts_utc"][0],
                "last_utc": bars["ts_utc"][-1],
                "lake_version": platform.lake.candles_version(key, frame),
                "missing_bars": sum(causes.values()),
                **{f"missing_{cause}": count for cause, count in causes.items()},
                "quarantined_rows": platform.lake.quarantined(key, frame).height,
                **spread_figures(bars, instrument(key).pip),
            },
            as_json=as_json,
        )

    @candles.command(epilog="Example: forexgpt candles gaps EURUSD --cause provider")
    def gaps(
        symbol: SymbolArgument,
        timeframe: TimeframeOption = "",
        cause: Annotated[str, typer.Option(help=f"Only holes of this cause: {', '.join(CAUSES)}.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """List holes inside the FX week with their cause, the longest first."""
        if cause and cause not in CAUSES:
            raise UnknownName(f"unknown cause '{cause}'; known: {', '.join(CAUSES)}")
        platform, settings, frame = _opened(symbol, timeframe)
        holes = explain_gaps(platform.lake.candles(settings.symbol, frame), frame)
        found = holes.filter(pl.col("cause") == cause) if cause else holes
        rows = found.sort("missing_bars", descending=True, maintain_order=True).to_dicts()
        if as_json:
            print_json(rows)
            return
        counts = ", ".join(f"{name} {count}" for name, count in missing_by_cause(found).items() if count)
        print_table(rows[:_SHOWN], f"{len(rows)} gaps; missing bars: {counts or 'none'}")

    @candles.command(epilog="Example: forexgpt candles quarantine EURUSD --json")
    def quarantine(symbol: SymbolArgument, timeframe: TimeframeOption = "", as_json: JsonFlag = False) -> None:
        """List the rows that did not become candles, with the reason, as the source gave them."""
        platform, settings, frame = _opened(symbol, timeframe)
        found = platform.lake.quarantined(settings.symbol, frame)
        if as_json:
            print_json(found.to_dicts())
            return
        known = [name for name in found.columns if found[name].null_count() < found.height or name == "ts_utc"]
        print_table(found.select(known).head(_SHOWN).to_dicts(), f"{found.height} rows in quarantine")


def _register_quality(candles: typer.Typer) -> None:
    @candles.command("health", epilog="Example: forexgpt candles health EURUSD --json")
    def health_(symbol: SymbolArgument, timeframe: TimeframeOption = "", as_json: JsonFlag = False) -> None:
        """Show what is odd: holes by cause, repeats, spikes, jumps, stub bars, flat runs, stale tail, spread."""
        platform, settings, frame = _opened(symbol, timeframe)
        key = settings.symbol
        bars, aside = platform.lake.candles(key, frame), platform.lake.quarantined(key, frame)
        _show_health(health(bars, frame, instrument(key).pip, aside=aside), as_json=as_json)

    @candles.command(
        "compare", epilog="Example: forexgpt candles compare GBPUSD --with other.csv --timezone UTC --json"
    )
    def compare_(
        symbol: SymbolArgument,
        file: Annotated[Path, typer.Option("--with", help="CSV or Parquet file of the other source.")],
        timezone: Annotated[str, typer.Option(help="IANA zone of the file's times, where they carry none.")] = "",
        file_timeframe: Annotated[str, typer.Option(help="Of the file; the same as the pair's where not given.")] = "",
        timeframe: TimeframeOption = "",
        as_json: JsonFlag = False,
    ) -> None:
        """Compare a pair's candles with another source: difference in pips, coverage, and time lag week by week."""
        platform, settings, frame = _opened(symbol, timeframe)
        other_frame = Timeframe.parse(file_timeframe) if file_timeframe else frame
        bars = platform.lake.candles(settings.symbol, frame)
        theirs = platform.pair(settings.symbol, file=str(file), timezone=timezone)
        other = platform.candles_of_file(theirs, other_frame)
        _show_comparison(compare(bars, frame, other, other_frame, instrument(settings.symbol).pip), as_json=as_json)

    @candles.command(epilog="Example: forexgpt candles freshness --json")
    def freshness(as_json: JsonFlag = False) -> None:
        """Show how up to date each pair with candles or saved settings is, the stale ones first."""
        platform = Platform.prepared()
        keys = {*platform.lake.symbols("candles"), *platform.pairs.symbols()}
        states = (
            worst_first([platform.freshness(platform.pair(key)) for key in sorted(keys)]).to_dicts() if keys else []
        )
        print_json(states) if as_json else print_table(states)


def _opened(symbol: str, timeframe: str) -> tuple[Platform, SymbolSettings, Timeframe]:
    """Return the platform, the pair's settings, and the timeframe asked for or else its own."""
    platform = Platform.prepared()
    settings = platform.pair(symbol)
    return platform, settings, Timeframe.parse(timeframe or settings.timeframe)


def _show_health(report: HealthReport, *, as_json: bool) -> None:
    if as_json:
        print_json({**report.figures, "examples": report.examples.to_dicts()})
        return
    show(report.figures, as_json=False)
    print_table(report.examples.to_dicts(), "examples, the largest of each kind")


def _show_comparison(found: Comparison, *, as_json: bool) -> None:
    facts = {k: v for k, v in asdict(found).items() if k not in ("worst", "weeks")}
    facts |= {"weeks": found.weeks.height, "weeks_at_lag_0": found.weeks_at_lag_0}
    moved = found.weeks.filter(pl.col("lag_minutes") != 0)
    if as_json:
        print_json({**facts, "worst": found.worst.to_dicts(), "weeks_with_another_lag": moved.to_dicts()})
        return
    show(facts, as_json=False)
    print_table(found.worst.to_dicts(), "largest differences")
    print_table(moved.head(_SHOWN).to_dicts(), "weeks whose clock differs")
