"""Candles of one pair: fetched, judged, cleaned, merged into the lake."""

from collections.abc import Iterator
from datetime import UTC, datetime
from time import perf_counter

import dagster as dg
import polars as pl

from forexgpt_assets.metadata import column_schema, figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_assets.progress import progress_of
from forexgpt_core.candles.health import HealthReport, health
from forexgpt_core.candles.ingest import Ingested
from forexgpt_core.candles.quality import Verdict
from forexgpt_core.candles.ranges import range_end
from forexgpt_core.composition import Platform
from forexgpt_core.domain.bars import MEANINGS, OPTIONAL_SCHEMA, SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import instrument

CHECK = "candles_are_lawful"
_GIVEN = [name for name in SCHEMA if name != "volume"]
_HOLES_SHOWN = 25


class CandlesConfig(dg.Config):
    """Overrides for one run; the pair's settings stand where nothing is given.

    Attributes:
        end: ask a provider for nothing later: a day (to its end at 17:00 New York, or now) or a moment with its zone.
    """

    file: str = ""
    timezone: str = ""
    end: str = ""


@dg.asset(
    partitions_def=symbols,
    group_name="candles",
    kinds={"deltalake", "polars"},
    pool="candle_provider",  # one run at a time, so that a backfill of many pairs keeps a provider's limits
    metadata={"dagster/column_schema": column_schema(SCHEMA | OPTIONAL_SCHEMA, MEANINGS, _GIVEN)},
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
    """Closed bars of one pair, stamped with their open in UTC. Running it again asks only for what is missing."""
    started = perf_counter()
    symbol = context.partition_key
    settings = platform.pair(symbol, file=config.file, timezone=config.timezone)
    timeframe = Timeframe.parse(settings.timeframe)
    now = datetime.now(UTC)
    until = range_end(config.end, now_utc=now) if config.end else now
    done = platform.ingest(settings, now_utc=until, progress=progress_of(context))
    yield _check(done.verdict)
    if done.refusal is not None:
        raise dg.Failure(done.refusal, allow_retries=False)
    bars = platform.lake.candles(symbol, timeframe, version=done.version)
    aside = platform.lake.quarantined(symbol, timeframe)
    report = health(bars, timeframe, instrument(symbol).pip, aside=aside)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(str(done.version)),
        metadata={
            "dagster/row_count": bars.height,
            "dagster/column_schema": column_schema(bars.schema, MEANINGS, _GIVEN),
            "price": picture(_price(bars, report.holes, f"{symbol} {timeframe}"), "price with gaps"),
            **figures(
                {
                    "first_utc": bars["ts_utc"][0],
                    "last_utc": bars["ts_utc"][-1],
                    **_run_figures(done),
                    **_health_figures(report),
                    "seconds": perf_counter() - started,
                }
            ),
            "gaps_by_cause": table(_holes(report.holes)),
            "oddities": table(report.examples.to_dicts()),
        },
    )


def _run_figures(done: Ingested) -> dict[str, object]:
    """Return what this run did."""
    return {
        "lake_version": done.version,
        "requests": done.requests,
        "hole_requests": done.hole_requests,
        "fetched_rows": done.fetched_rows,
        "inserted_bars": done.inserted,
        "revised_bars": done.revised,
        "filled_bars": done.filled,
        "newly_quarantined_rows": done.quarantined,
        **{f"dropped_{reason}": count for reason, count in done.dropped.items()},
        **{f"left_out_{reason}": count for reason, count in done.left_out.items()},
        "warning": "; ".join(done.verdict.warnings) or "none",
    }


def _health_figures(report: HealthReport) -> dict[str, object]:
    """Return what the whole table looks like; the number of bars stands there already."""
    return {"gaps": report.holes.height, **{k: v for k, v in report.figures.items() if k not in ("bars", "holes")}}


def _holes(holes: pl.DataFrame) -> list[dict[str, object]]:
    """Return the longest holes as a table."""
    return holes.sort("missing_bars", descending=True).head(_HOLES_SHOWN).to_dicts()


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
