"""Features of one pair, row for row the bars they were computed from."""

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from forexgpt_assets.defs.candles import candles
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.features.build import build_features
from forexgpt_core.features.leaks import recipe_leaks
from forexgpt_core.features.quality import judge_features, summarise_features
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.table import KIND, Basis, well_covered

NO_LEAK = "features_never_see_the_future"
LAWFUL = "features_are_lawful"


class FeaturesConfig(dg.Config):
    """Overrides for one run.

    Attributes:
        recipe: in place of the pair's own, such as `{indicators: {rsi: [H1, D1], macd: {fast: 5}}, timeframes: [H1]}`.
            Later stages train on it, and say so, until a run without it builds the pair's own again.
    """

    recipe: dict[str, Any] = Field(default_factory=dict)


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
    context: dg.AssetExecutionContext, config: FeaturesConfig, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Indicators of the pair's recipe on its timeframes; a higher bar is used only after it has closed.

    Rows before the first bar that changed still stand; the others are built and put in their place.
    """
    started = perf_counter()
    symbol = context.partition_key
    settings = platform.pair(symbol)
    timeframe, recipe = Timeframe.parse(settings.timeframe), _recipe(config)
    basis = platform.feature_basis(settings, recipe)
    bars = platform.lake.candles(symbol, timeframe, version=basis.candles)
    inputs = platform.feature_inputs(symbol, timeframe, basis)
    stored = platform.feature_table(settings)
    plan = stored.plan(basis, bars)
    leaks = recipe_leaks(build_features, bars, timeframe, basis.recipe, inputs)
    yield _check(NO_LEAK, [leak.line for leak in leaks], "no column changed when the future did")
    since = None if plan is None else plan.since_utc
    built = build_features(bars if plan else bars.head(0), timeframe, basis.recipe, inputs=inputs, since_utc=since)
    broken = judge_features(built, may_lack=basis.recipe.may_lack) if plan else ()
    yield _check(LAWFUL, broken, f"{built.width - 1} columns are lawful")
    wrong = [*(leak.line for leak in leaks), *broken]
    if wrong:
        raise dg.Failure(f"features of {symbol} refused, nothing was stored: {'; '.join(wrong)}", allow_retries=False)
    if plan is not None:
        kept = well_covered(built, summarise_features(built), basis.recipe.min_coverage)[0] if since is None else built
        version = stored.save(kept, plan, basis)
    else:
        version = platform.lake.version(KIND, symbol, timeframe)
    table_ = platform.lake.read(KIND, symbol, timeframe, version=version)
    summary = summarise_features(table_)
    left_out = [name for name in basis.recipe.columns if name not in table_.columns]
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(_data_version(basis)),
        metadata={
            "dagster/row_count": table_.height,
            "dagster/column_schema": _schema(basis.recipe, table_.columns),
            **figures(
                {
                    "columns": summary.height,
                    "left_out": len(left_out),
                    "recipe": basis.recipe.hash12,
                    "candles_version": basis.candles,
                    "lake_version": version,
                    "built_rows": built.height,
                    "built_because": "nothing changed" if plan is None else plan.why,
                    "first_utc": table_["ts_utc"][0],
                    "last_utc": table_["ts_utc"][-1],
                    "least_coverage": float(summary["finite_share"].min()),
                    "seconds": perf_counter() - started,
                }
            ),
            "left_out_columns": _left_out(left_out, basis.recipe.min_coverage),
            "coverage_by_column": table(summary.to_dicts()),
            "coverage": picture(_coverage(table_, f"{symbol} {timeframe}"), "feature coverage"),
        },
    )


def _recipe(config: FeaturesConfig) -> Recipe | None:
    return Recipe.from_document(config.recipe) if config.recipe else None


def _data_version(basis: Basis) -> str:
    beside = "".join(f".{pair}{version}" for pair, version in sorted(basis.pairs.items()))
    return f"{basis.candles}.{basis.recipe.hash12}{beside}{basis.events and f'.{basis.events}'}"


def _schema(recipe: Recipe, stored: Sequence[str]) -> dg.TableSchema:
    about = recipe.about()
    columns = [dg.TableColumn("ts_utc", "timestamp", description="Open of the bar, UTC.")]
    columns += [dg.TableColumn(name, "float", description=about[name]) for name in stored if name in about]
    return dg.TableSchema(columns=columns)


def _left_out(names: Sequence[str], least: float) -> dg.MetadataValue:
    if not names:
        return dg.MetadataValue.text(f"none: every column has a value in {least:.0%} of the rows or more")
    return dg.MetadataValue.text(f"fewer than {least:.0%} of the rows have a value: {', '.join(names)}")


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
