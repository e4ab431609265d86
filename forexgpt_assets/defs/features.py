"""Features of one pair, row for row the bars they were computed from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from forexgpt_assets.defs.candles import candles
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import StaleVersion
from forexgpt_core.features.build import build_features
from forexgpt_core.features.leaks import recipe_leaks
from forexgpt_core.features.quality import judge_features, summarise_features
from forexgpt_core.features.recipe import Recipe
from forexgpt_core.features.table import KIND, Basis, Built

NO_LEAK = "features_never_see_the_future"
LAWFUL = "features_are_lawful"
_ATTEMPTS = 3  # two runs of one pair at once are rare, and each attempt takes as long as a run


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
    made = _made(platform, settings, _recipe(config))
    yield _check(NO_LEAK, made.leaks, "no column changed when the future did")
    yield _check(LAWFUL, made.broken, f"{made.whole.width - 1} columns are lawful")
    if made.version is None:
        wrong = "; ".join([*made.leaks, *made.broken])
        raise dg.Failure(f"features of {symbol} refused, nothing was stored: {wrong}", allow_retries=False)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(_data_version(made.basis)),
        metadata={
            **_metadata(made, f"{symbol} {settings.timeframe}"),
            **figures({"seconds": perf_counter() - started}),
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a run made; `built` is None where there was nothing to do, `version` None where it was refused."""

    basis: Basis
    built: Built | None
    whole: pl.DataFrame
    leaks: Sequence[str]
    broken: Sequence[str]
    version: int | None


def _made(platform: Platform, settings: SymbolSettings, recipe: Recipe | None) -> _Made:
    """Build, judge and store; overtaken by another run, begin again with what that one left behind."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return _made_once(platform, settings, recipe)
        except StaleVersion:
            continue
    return _made_once(platform, settings, recipe)


def _made_once(platform: Platform, settings: SymbolSettings, recipe: Recipe | None) -> _Made:
    basis = platform.feature_basis(settings, recipe)
    timeframe, stored = Timeframe.parse(settings.timeframe), platform.feature_table(settings)
    bars = platform.lake.candles(settings.symbol, timeframe, version=basis.candles)
    inputs = platform.feature_inputs(settings.symbol, timeframe, basis)
    plan = stored.plan(basis, bars)
    leaks = [leak.line for leak in recipe_leaks(build_features, bars, timeframe, basis.recipe, inputs)]
    if plan is None:
        version = platform.lake.version(KIND, settings.symbol, timeframe)
        whole = platform.lake.read(KIND, settings.symbol, timeframe, version=version)
        return _Made(basis=basis, built=None, whole=whole, leaks=leaks, broken=(), version=None if leaks else version)
    rows = partial(build_features, bars, timeframe, basis.recipe, inputs=inputs)
    built = stored.build(plan, basis.recipe, bars.height, lambda since: rows(since_utc=since))
    whole = stored.whole(built)  # a few undefined rows are lawful in a history and would be many in one day of it
    broken = judge_features(whole, may_lack=basis.recipe.may_lack)
    version = None if leaks or broken else stored.save(built, basis)
    return _Made(basis=basis, built=built, whole=whole, leaks=leaks, broken=broken, version=version)


def _metadata(made: _Made, title: str) -> dict[str, Any]:
    recipe, summary = made.basis.recipe, summarise_features(made.whole)
    left_out = [name for name in recipe.columns if name not in made.whole.columns]
    facts = {
        "columns": summary.height,
        "left_out": len(left_out),
        "recipe": recipe.hash12,
        "candles_version": made.basis.candles,
        "lake_version": made.version,
        "built_rows": made.built.rows.height if made.built else 0,
        "built_because": made.built.plan.why if made.built else "nothing changed",
        "first_utc": made.whole["ts_utc"][0],
        "last_utc": made.whole["ts_utc"][-1],
        "least_coverage": float(summary["finite_share"].min()),
    }
    return {
        "dagster/row_count": made.whole.height,
        "dagster/column_schema": _schema(recipe, made.whole.columns),
        "coverage": picture(_coverage(made.whole, title), "feature coverage"),
        **figures(facts),
        "left_out_columns": _left_out(left_out, recipe.min_coverage),
        "coverage_by_column": table(summary.to_dicts()),
    }


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
