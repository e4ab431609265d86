"""Features of one pair, row for row the bars they were computed from."""

from collections.abc import Iterator, Sequence
from time import perf_counter

import dagster as dg
import polars as pl

from forexgpt_assets.defs.candles import candles
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.features.build import build_features
from forexgpt_core.features.leaks import find_leaks
from forexgpt_core.features.quality import judge_features, summarise_features

NO_LEAK = "features_never_see_the_future"
LAWFUL = "features_are_lawful"


@dg.asset(
    deps=[candles],
    partitions_def=symbols,
    group_name="features",
    kinds={"deltalake", "polars", "talib"},
    check_specs=[
        dg.AssetCheckSpec(
            NO_LEAK,
            asset="features",
            blocking=True,
            partitions_def=symbols,
            description="The future is cut off and disturbed; no earlier row may change by a bit.",
        ),
        dg.AssetCheckSpec(
            LAWFUL,
            asset="features",
            blocking=True,
            partitions_def=symbols,
            description="Great Expectations suite over times and columns, judged before the table is stored.",
        ),
    ],
)
def features(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Indicators of the pair's recipe on its timeframes; a higher bar is used only after it has closed."""
    started = perf_counter()
    symbol = context.partition_key
    settings = platform.pair(symbol)
    timeframe, recipe = Timeframe.parse(settings.timeframe), platform.recipe(settings)
    candles_version = platform.lake.candles_version(symbol, timeframe)
    bars = platform.lake.candles(symbol, timeframe, version=candles_version)
    leaks = find_leaks(lambda part: build_features(part, timeframe, recipe), bars)
    yield _check(NO_LEAK, [leak.line for leak in leaks], "no column changed when the future did")
    built = build_features(bars, timeframe, recipe)
    broken = judge_features(built)
    yield _check(LAWFUL, broken, f"{built.width - 1} columns are lawful")
    wrong = [*(leak.line for leak in leaks), *broken]
    if wrong:
        raise dg.Failure(f"features of {symbol} refused, nothing was stored: {'; '.join(wrong)}", allow_retries=False)
    version = platform.store_features(settings, built, candles_version)
    summary = summarise_features(built)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(f"{candles_version}.{recipe.hash12}"),
        metadata={
            "dagster/row_count": built.height,
            **figures(
                {
                    "columns": summary.height,
                    "recipe": recipe.hash12,
                    "candles_version": candles_version,
                    "lake_version": version,
                    "first_utc": built["ts_utc"][0],
                    "last_utc": built["ts_utc"][-1],
                    "least_coverage": float(summary["finite_share"].min()),
                    "seconds": perf_counter() - started,
                }
            ),
            "coverage_by_column": table(summary.to_dicts()),
            "coverage": picture(_coverage(built, f"{symbol} {timeframe}"), "feature coverage"),
        },
    )


def _check(name: str, wrong: Sequence[str], otherwise: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(wrong) or otherwise,
        metadata=figures({"problems": len(wrong)}),
    )


def _coverage(built: pl.DataFrame, title: str) -> bytes:
    from forexgpt_core.reporting.features import coverage_picture

    return coverage_picture(built, title)
