"""Does a family's skill hang on one order of events? Combinatorial purged cross-validation, when somebody asks."""

from time import perf_counter

import dagster as dg
import polars as pl

from forexgpt_assets.defs.features import features
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.features.windows import usable
from forexgpt_core.models.forecaster import FitRun

KIND = "cross_validation"


class CrossValidationConfig(dg.Config):
    """What is validated, and how finely."""

    family: str = "linear"
    groups: int = 6
    test_groups: int = 2
    embargo_bars: int = 24


@dg.asset(deps=[features], partitions_def=symbols, group_name="evaluation", pool="training")
def cross_validation(
    context: dg.AssetExecutionContext, config: CrossValidationConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Skill of one family over the random walk on every backtest path of combinatorial purged cross-validation.

    Finished splits are kept, so an interrupted run goes on. Most fits have seen what came after the rows they forecast:
    this shows how much of a skill is luck, never what would have been earned, and feeds nothing else.
    """
    from forexgpt_core.evaluation.combinatorial_splits import CombinatorialSettings
    from forexgpt_core.evaluation.cross_validation import cross_validate
    from forexgpt_core.reporting.validation import path_rows, paths_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    wanted = CombinatorialSettings(
        groups=config.groups,
        test_groups=config.test_groups,
        embargo_bars=config.embargo_bars,
        method=settings.calibration.method,
    )
    pin = platform.pin(settings)
    found = cross_validate(
        usable(platform.arrays(symbol, timeframe, pin, settings.horizons_bars), matured=True),
        config.family,
        settings.family_options.get(config.family, {}),
        wanted,
        FitRun(
            seed=settings.seed,
            folder=platform.working_folder(context.run.run_id, KIND),
            progress=lambda share, message: context.log.debug(f"{share:.0%} {message}"),
        ),
        store=platform.splits,
    )
    rows = path_rows(found)
    version = platform.lake.replace(KIND, symbol, timeframe, rows.with_columns(data_version=pl.lit(str(pin))))
    told, horizons = found.distribution, settings.horizons_bars
    shown = {
        **{f"skill_h{h}": float(told.mean[n]) for n, h in enumerate(horizons)},
        **{f"share_of_paths_below_zero_h{h}": float(told.below_zero[n]) for n, h in enumerate(horizons)},
        "family": config.family,
        "splits": wanted.splits,
        "paths": wanted.paths,
        "data_version": str(pin),
        "lake_version": version,
        "seconds": perf_counter() - started,
    }
    title = f"{symbol} {timeframe} {config.family}"
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(found.windows),
            **figures(shown),
            "paths_skill": table(rows.to_dicts()),
            "distribution": picture(paths_picture(found, title), "skill of every backtest path"),
        }
    )
