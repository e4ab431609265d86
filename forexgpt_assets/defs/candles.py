"""Candles of one pair: fetched, judged, cleaned, merged into the lake."""

from collections.abc import Iterator
from datetime import UTC, datetime
from time import perf_counter

import dagster as dg
import polars as pl

from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.quality import QualityLimits, Verdict, find_gaps, judge
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.bars import empty_bars
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import NotReady

CHECK = "candles_are_lawful"


class CandlesConfig(dg.Config):
    """Overrides for one run; the pair's settings stand where nothing is given."""

    file: str = ""
    timezone: str = ""


@dg.asset(
    partitions_def=symbols,
    group_name="candles",
    kinds={"deltalake", "polars"},
    pool="candle_provider",  # one run at a time, so that a backfill of many pairs keeps a provider's limits
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="candles",
            blocking=True,
            partitions_def=symbols,
            description="Great Expectations suite over the new rows, judged before they are merged.",
        )
    ],
)
def candles(
    context: dg.AssetExecutionContext, config: CandlesConfig, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Closed bars of one pair, stamped with their open in UTC. Running it again adds nothing twice."""
    started = perf_counter()
    symbol = context.partition_key
    settings = platform.pair(symbol, file=config.file, timezone=config.timezone)
    timeframe = Timeframe.parse(settings.timeframe)
    stored = platform.lake.exists("candles", symbol, timeframe)
    raw, archive = _fetch(platform, settings, stored=stored)
    limits = QualityLimits(least_rows=0 if stored else 1)  # nothing newer is lawful, an empty beginning is not
    verdict = judge(raw, timeframe, limits=limits, now_utc=None if archive else datetime.now(UTC))
    yield _check(verdict)
    if not verdict.passed:
        reasons = "; ".join(failure.line for failure in verdict.failures)
        raise dg.Failure(f"candles of {symbol} refused, nothing was merged: {reasons}", allow_retries=False)
    cleaned = clean(raw, timeframe)
    version = platform.lake.merge_candles(symbol, timeframe, cleaned.bars)
    bars = platform.lake.candles(symbol, timeframe)
    gaps = find_gaps(bars, timeframe)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(str(version)),
        metadata={
            "dagster/row_count": bars.height,
            **figures(
                {
                    "fetched_rows": raw.height,
                    "first_utc": bars["ts_utc"][0],
                    "last_utc": bars["ts_utc"][-1],
                    "lake_version": version,
                    "gaps": gaps.height,
                    "missing_bars": int(gaps["missing_bars"].sum()),
                    **{f"dropped_{reason}": count for reason, count in cleaned.dropped.items()},
                    "seconds": perf_counter() - started,
                }
            ),
            "price": picture(_price(bars, gaps, f"{symbol} {timeframe}"), "price with gaps"),
        },
    )


def _fetch(platform: Platform, settings: SymbolSettings, *, stored: bool) -> tuple[pl.DataFrame, bool]:
    """Return the source's raw bars that the lake may lack, without those held back for paper trading."""
    timeframe = Timeframe.parse(settings.timeframe)
    if settings.source.kind == "none" and stored:
        return empty_bars(), True  # bars came from a file once; there is nowhere to look for newer ones
    source = platform.source(settings)
    since = platform.lake.newest_candle(settings.symbol, timeframe) if stored and not source.archive else None
    raw = source.fetch(settings.symbol, timeframe, since_utc=since, until_utc=None)
    if settings.hold_back_bars:
        raw = raw.head(-settings.hold_back_bars)
    if raw.is_empty() and not stored:
        raise NotReady(f"the source of {settings.symbol} gave no bars")
    return raw, source.archive


def _check(verdict: Verdict) -> dg.AssetCheckResult:
    failures = [
        {
            "expectation": f.expectation,
            "column": f.column,
            "unexpected": f.unexpected,
            "rows": f.rows,
            "examples": ", ".join(f.examples),
        }
        for f in verdict.failures
    ]
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(f.line for f in verdict.failures) or f"{verdict.rows} new rows are lawful",
        metadata={**figures(verdict.figures), "failures": table(failures)},
    )


def _price(bars: pl.DataFrame, gaps: pl.DataFrame, title: str) -> bytes:
    from forexgpt_core.reporting.candles import price_with_gaps

    return price_with_gaps(bars, gaps, title)
