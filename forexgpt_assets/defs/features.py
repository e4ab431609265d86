"""Features of one pair, row for row the bars they were computed from."""

from collections.abc import Iterator
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

CHECK = "features_never_see_the_future"


@dg.asset(
    deps=[candles],
    partitions_def=symbols,
    group_name="features",
    kinds={"deltalake", "polars", "talib"},
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="features",
            blocking=True,
            partitions_def=symbols,
            description="The future is cut off and disturbed; no earlier row may change by a bit.",
        )
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
    yield dg.AssetCheckResult(
        check_name=CHECK,
        passed=not leaks,
        description="; ".join(leak.line for leak in leaks) or "no column changed when the future did",
    )
    if leaks:
        raise dg.Failure(f"features of {symbol} refused: {'; '.join(leak.line for leak in leaks)}", allow_retries=False)
    built = build_features(bars, timeframe, recipe)
    version = platform.lake.replace("features", symbol, timeframe, built)
    names = [name for name in built.columns if name != "ts_utc"]
    finite = {name: float(built[name].is_finite().mean() or 0.0) for name in names}
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(f"{candles_version}.{recipe.hash12}"),
        metadata={
            "dagster/row_count": built.height,
            **figures(
                {
                    "columns": len(names),
                    "recipe": recipe.hash12,
                    "candles_version": candles_version,
                    "lake_version": version,
                    "first_utc": built["ts_utc"][0],
                    "last_utc": built["ts_utc"][-1],
                    "least_coverage": min(finite.values(), default=1.0),
                    "seconds": perf_counter() - started,
                }
            ),
            "coverage_by_column": table([{"feature": name, "finite_share": share} for name, share in finite.items()]),
            "coverage": picture(_coverage(built, f"{symbol} {timeframe}"), "feature coverage"),
        },
    )


def _coverage(built: pl.DataFrame, title: str) -> bytes:
    from forexgpt_core.reporting.features import coverage_picture

    return coverage_picture(built, title)
