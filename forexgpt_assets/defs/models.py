"""Three assets per model family, made by one factory: a new family is one entry in the catalogue."""

from collections.abc import Mapping
from time import perf_counter

import dagster as dg
import polars as pl

from forexgpt_assets.defs.features import features
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import REFERENCE, DataPin, Platform
from forexgpt_core.deployment.symbol_settings import SymbolSettings
from forexgpt_core.domain.clock import Timeframe, from_utc
from forexgpt_core.domain.forecast_table import from_table, to_table, with_part
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import NotReady
from forexgpt_core.features.splits import Parts, SplitShares, deployment_parts, evidence_parts
from forexgpt_core.features.windows import Windows, usable
from forexgpt_core.models.catalogue import FAMILIES, new_forecaster
from forexgpt_core.models.forecaster import FitRun

SHARES = SplitShares()


class TrainingConfig(dg.Config):
    """Overrides for one run; the pair's settings stand where nothing is given."""

    seed: int | None = None


def model_asset(family: str) -> dg.AssetsDefinition:
    """Return the asset that trains `family` twice: as evidence, and up to now for deployment."""

    @dg.asset(
        name=f"{family}_model",
        deps=[features],
        partitions_def=symbols,
        group_name="models",
        kinds={"mlflow"},
        pool="training",
        description=f"{family} of one pair as immutable bundles: the evidence fit on the oldest 60 % of the rows, which"
        " calibration and evaluation judge, and the deployment fit up to now minus a calibration block.",
    )
    def model(
        context: dg.AssetExecutionContext, config: TrainingConfig, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        from forexgpt_core.models.bundled import write_model_bundle
        from forexgpt_core.reporting.models import training_picture

        started = perf_counter()
        settings = platform.pair(context.partition_key)
        symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
        if family not in settings.families:
            return _switched_off(family, symbol)
        seed = settings.seed if config.seed is None else config.seed
        options = dict(settings.family_options.get(family, {}))
        pin = platform.pin(settings)
        windows = usable(platform.arrays(symbol, timeframe, pin, settings.horizons_bars), matured=True)
        recipe = platform.recipe(settings)
        run = FitRun(
            seed=seed,
            folder=platform.working_folder(context.run.run_id, family),
            progress=lambda share, message: context.log.debug(f"{family} {share:.0%} {message}"),
        )
        training_id = platform.training.start(
            symbol=symbol,
            timeframe=str(timeframe),
            family=family,
            seed=seed,
            hyperparameters=options,
            data_version=str(pin),
            run_key=context.run.run_id,
        )
        bundles, fitted = {}, {}
        try:
            for kind, parts in (
                ("evidence_model", evidence_parts(windows, SHARES)),
                ("model", deployment_parts(windows, SHARES)),
            ):
                fitted[kind] = new_forecaster(family, options).fit(parts.train, parts.valid, run=run)
                bundles[kind] = write_model_bundle(
                    platform.bundles,
                    fitted[kind],
                    parts.train,
                    recipe_json=recipe.to_json(),
                    kind=f"{family}_{kind}",
                    metadata={"data_version": str(pin), "seed": seed, "parts": _ranges(parts), **platform.provenance()},
                )
        except Exception as error:
            platform.training.fail(training_id, str(error))
            raise
        platform.training.complete(training_id)
        deployment = bundles["model"]
        seconds = perf_counter() - started
        drawing = training_picture(fitted["model"], f"{symbol} {timeframe} {family}")
        mlflow_run = platform.registry.record_training(
            symbol=symbol,
            timeframe=str(timeframe),
            family=family,
            params={**options, "seed": seed, "horizons_bars": settings.horizons_bars, "recipe": recipe.hash12},
            metrics={"seconds": seconds, "rows": float(len(windows))},
            tags={
                "dagster_run_id": context.run.run_id,
                "data_version": str(pin),
                "bundle_hash": deployment.hash12,
                "evidence_hash": bundles["evidence_model"].hash12,
            },
            artifacts={"training.png": drawing},
        )
        version = platform.registry.register(
            symbol, str(timeframe), family, deployment.path, deployment.hash12, mlflow_run, {}
        )
        for kind, bundle in bundles.items():
            platform.training.record_version(
                symbol=symbol,
                timeframe=str(timeframe),
                family=family,
                kind=kind,
                bundle_hash=bundle.hash12,
                data_version=str(pin),
                training_run_id=training_id,
                mlflow_run_id=mlflow_run,
            )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(deployment.hash12),
            metadata={
                "dagster/row_count": len(windows),
                **figures(
                    {
                        "bundle_hash": deployment.hash12,
                        "evidence_hash": bundles["evidence_model"].hash12,
                        "registry_version": version,
                        "data_version": str(pin),
                        "seed": seed,
                        "first_utc": from_utc(windows.origin_utc[0]),
                        "last_utc": from_utc(windows.origin_utc[-1]),
                        "seconds": seconds,
                    }
                ),
                "mlflow": dg.MetadataValue.url(platform.registry.run_url(mlflow_run)),
                "training": picture(drawing, "training"),
            },
        )

    return model


def calibration_asset(family: str, model: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Return the asset that calibrates both fits of `family` on the block that follows their training rows."""

    @dg.asset(
        name=f"{family}_calibration",
        deps=[model],
        partitions_def=symbols,
        group_name="calibration",
        description=f"Split-conformal radii of {family}, on volatility-normalised scores with the exact rank; a bundle"
        " that names its parent.",
    )
    def calibration(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        from forexgpt_core.calibration.conformal import ConformalCalibrator, write_calibration_bundle
        from forexgpt_core.models.bundled import load_model
        from forexgpt_core.reporting.evaluation import reliability_and_pit_picture

        started = perf_counter()
        settings = platform.pair(context.partition_key)
        symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
        if family not in settings.families:
            return _switched_off(family, symbol)
        bundles, rows, uncalibrated, drawing = {}, 0, 0, b""
        for prefix, split in (("evidence_", evidence_parts), ("", deployment_parts)):
            trained = platform.version(settings, family, f"{prefix}model")
            loaded = load_model(
                platform.bundles, symbol, str(timeframe), f"{family}_{prefix}model", trained.bundle_hash
            )
            pin, horizons = DataPin.parse(trained.data_version), loaded.forecaster.horizons_bars
            block = split(usable(platform.arrays(symbol, timeframe, pin, horizons), matured=True), SHARES).calibration
            forecasts = loaded.forecaster.forecast(block)
            calibrator = ConformalCalibrator.fit(forecasts, block.returns)
            bundle = bundles[f"{prefix}calibration"] = write_calibration_bundle(
                platform.bundles,
                calibrator,
                symbol=symbol,
                timeframe=str(timeframe),
                kind=f"{family}_{prefix}calibration",
                parent=loaded.bundle,
                metadata={"data_version": str(pin), "calibration": _range(block), **platform.provenance()},
            )
            platform.training.record_version(
                symbol=symbol,
                timeframe=str(timeframe),
                family=family,
                kind=f"{prefix}calibration",
                bundle_hash=bundle.hash12,
                parent_hash=trained.bundle_hash,
                data_version=trained.data_version,
                training_run_id=trained.training_run_id,
                mlflow_run_id=trained.mlflow_run_id,
            )
            rows, uncalibrated = len(block), len(calibrator.uncalibrated)
            drawing = reliability_and_pit_picture(
                forecasts, block.returns, f"{symbol} {timeframe} {family}, before calibration"
            )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(bundles["calibration"].hash12),
            metadata={
                "dagster/row_count": rows,
                **figures(
                    {
                        "bundle_hash": bundles["calibration"].hash12,
                        "evidence_hash": bundles["evidence_calibration"].hash12,
                        "parent": trained.bundle_hash,
                        "data_version": trained.data_version,
                        "uncalibrated_intervals": uncalibrated,
                        "seconds": perf_counter() - started,
                    }
                ),
                "reliability": picture(drawing, "reliability and PIT before calibration"),
            },
        )

    return calibration


def evaluation_asset(
    family: str, calibration: dg.AssetsDefinition, reference: dg.AssetsDefinition | None
) -> dg.AssetsDefinition:
    """Return the asset that scores the evidence fit on the newest 20 %, which nothing fitted has seen."""

    @dg.asset(
        name=f"{family}_evaluation",
        deps=[calibration] if reference is None else [calibration, reference],
        partitions_def=symbols,
        group_name="evaluation",
        description=f"{family} beside the random walk on the test part: CRPS, skill with its interval, Diebold-Mariano,"
        " coverage, direction.",
    )
    def evaluation(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        from forexgpt_core.calibration.conformal import load_calibrated
        from forexgpt_core.evaluation.references import SECOND_REFERENCES, second_references
        from forexgpt_core.evaluation.report_card import score_family
        from forexgpt_core.reporting.evaluation import reliability_and_pit_picture, skill_picture

        started = perf_counter()
        settings = platform.pair(context.partition_key)
        symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
        if family not in settings.families:
            return _switched_off(family, symbol)
        trained = platform.version(settings, family, "evidence_calibration")
        calibrated = load_calibrated(
            platform.bundles, symbol, str(timeframe), f"{family}_evidence_calibration", trained.bundle_hash
        )
        pin, horizons = DataPin.parse(trained.data_version), calibrated.model.forecaster.horizons_bars
        parts = evidence_parts(usable(platform.arrays(symbol, timeframe, pin, horizons), matured=True), SHARES)
        test, forecasts = parts.test, calibrated.forecast(parts.test)
        against = forecasts if family == REFERENCE else _reference_forecasts(platform, settings, trained.data_version)
        scores = score_family(forecasts, test.returns, against, seed=settings.seed)
        if family == REFERENCE:
            run = FitRun(seed=settings.seed, folder=platform.working_folder(context.run_id, family))
            plainer = second_references(parts, run)
            beside = [
                s for walk in plainer.values() for s in score_family(walk, test.returns, against, seed=settings.seed)
            ]
        else:
            beside = []
        before = calibrated.forecast(parts.calibration)  # starts the ensemble's weights; never scored
        rows = [
            with_part(to_table(before, parts.calibration.returns), "calibration"),
            with_part(to_table(forecasts, test.returns), "test"),
        ]
        version = platform.lake.replace(f"forecasts_{family}", symbol, timeframe, pl.concat(rows))
        platform.scores.replace_evaluation(
            symbol, str(timeframe), family, trained.bundle_hash, [score.to_dict() for score in scores]
        )
        for name in SECOND_REFERENCES if beside else ():
            rows_ = [score.to_dict() for score in beside if score.family == name]
            platform.scores.replace_evaluation(symbol, str(timeframe), name, trained.bundle_hash, rows_)
        platform.training.record_version(
            symbol=symbol,
            timeframe=str(timeframe),
            family=family,
            kind="evaluation",
            bundle_hash=trained.bundle_hash,
            data_version=trained.data_version,
            mlflow_run_id=trained.mlflow_run_id,
        )
        title = f"{symbol} {timeframe} {family}"
        skill, reliability = (
            skill_picture([*scores, *beside], title),
            reliability_and_pit_picture(forecasts, test.returns, title),
        )
        platform.registry.add_evaluation(
            trained.mlflow_run_id or "",
            {f"{name}_h{s.horizon_bars}": value for s in scores for name, value in _numbers(s.to_dict()).items()},
            {"skill.png": skill, "reliability.png": reliability},
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{trained.bundle_hash}.{version}"),
            metadata={
                "dagster/row_count": len(test),
                **figures({f"crps_h{s.horizon_bars}": s.crps for s in scores}),
                **figures({f"skill_h{s.horizon_bars}": s.skill for s in scores}),
                **figures({f"coverage_90_h{s.horizon_bars}": s.coverage_90 for s in scores}),
                **figures(
                    {
                        "first_utc": from_utc(test.origin_utc[0]),
                        "last_utc": from_utc(test.origin_utc[-1]),
                        "lake_version": version,
                        "bundle_hash": trained.bundle_hash,
                        "seconds": perf_counter() - started,
                    }
                ),
                "scores": table([s.to_dict() for s in (*scores, *beside)]),
                "skill": picture(skill, "skill over the random walk"),
                "reliability": picture(reliability, "reliability and PIT"),
                "mlflow": dg.MetadataValue.url(platform.registry.run_url(trained.mlflow_run_id or "")),
            },
        )

    return evaluation


def _reference_forecasts(platform: Platform, settings: SymbolSettings, data_version: str) -> ForecastBatch:
    judged = platform.version(settings, REFERENCE, "evaluation")
    if judged.data_version != data_version:
        raise NotReady(
            f"{settings.symbol}: the random walk was evaluated on data {judged.data_version}, this family on"
            f" {data_version}; materialize random_walk_model to random_walk_evaluation first"
        )
    stored = platform.lake.read(f"forecasts_{REFERENCE}", settings.symbol, Timeframe.parse(settings.timeframe))
    tested = stored.filter(pl.col("part") == "test")
    return from_table(tested, symbol=settings.symbol, timeframe=settings.timeframe, family=REFERENCE)[0]


def _switched_off(family: str, symbol: str) -> dg.MaterializeResult:
    """Return an empty result that says so, because a failed step would keep the other families from being ranked."""
    return dg.MaterializeResult(
        metadata={"dagster/row_count": 0, **figures({"switched_off": f"{family} is off in the settings of {symbol}"})}
    )


def _ranges(parts: Parts) -> dict[str, dict[str, object]]:
    named = {"train": parts.train, "valid": parts.valid, "calibration": parts.calibration, "test": parts.test}
    return {name: _range(part) for name, part in named.items() if len(part)}


def _range(part: Windows) -> dict[str, object]:
    return {"rows": len(part), "first_utc": str(part.origin_utc[0]), "last_utc": str(part.origin_utc[-1])}


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def families() -> dict[str, tuple[dg.AssetsDefinition, dg.AssetsDefinition, dg.AssetsDefinition]]:
    """Return model, calibration and evaluation of every family; the reference comes first."""
    trios: dict[str, tuple[dg.AssetsDefinition, dg.AssetsDefinition, dg.AssetsDefinition]] = {}
    for family in sorted(FAMILIES, key=lambda name: name != REFERENCE):
        model = model_asset(family)
        calibration = calibration_asset(family, model)
        reference = None if family == REFERENCE else trios[REFERENCE][2]
        trios[family] = (model, calibration, evaluation_asset(family, calibration, reference))
    return trios


@dg.definitions
def model_assets() -> dg.Definitions:
    """Return the assets of every family."""
    return dg.Definitions(assets=[asset for trio in families().values() for asset in trio])
