"""Three assets per model family, made by one factory: a new family is one entry in the catalogue."""

from collections.abc import Iterator

import dagster as dg

from forexgpt_assets.checks import COVERAGE, coverage_spec
from forexgpt_assets.defs.features import features
from forexgpt_assets.family.calibrate import calibrate
from forexgpt_assets.family.evaluate import fit_fold, plan, score
from forexgpt_assets.family.train import train
from forexgpt_assets.family.work import Work
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import REFERENCE, Platform
from forexgpt_core.models.catalogue import FAMILIES

FOLD = {"forexgpt/step": "fold"}  # the executor runs no more of these at once than memory allows
Trio = tuple[dg.AssetsDefinition, dg.AssetsDefinition, dg.AssetsDefinition]


class TrainingConfig(dg.Config):
    """Overrides for one run; the pair's settings stand where nothing is given."""

    seed: int | None = None


def model_asset(family: str) -> dg.AssetsDefinition:
    """Return the asset that trains `family`."""

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
        work = Work.begin(context, platform, family)
        return work.switched_off or train(work, config.seed, context.log.debug)

    return model


def calibration_asset(family: str, model: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Return the asset that calibrates both fits of `family`."""

    @dg.asset(
        name=f"{family}_calibration",
        deps=[model],
        partitions_def=symbols,
        group_name="calibration",
        description=f"Split-conformal radii of {family}, on volatility-normalised scores with the exact rank; bundles"
        " that name their parents.",
    )
    def calibration(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        work = Work.begin(context, platform, family)
        return work.switched_off or calibrate(work)

    return calibration


def evaluation_asset(
    family: str, calibration: dg.AssetsDefinition, reference: dg.AssetsDefinition | None
) -> dg.AssetsDefinition:
    """Return the asset that validates `family`, one step per fold: folds run side by side, and resume one by one."""

    @dg.op(name=f"{family}_folds", ins={"ready": dg.In(dg.Nothing)}, out=dg.DynamicOut(dict))
    def folds(
        context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.DynamicOutput[dict[str, object]]]:
        for number, one in enumerate(plan(Work.begin(context, platform, family))):
            yield dg.DynamicOutput(one, mapping_key=f"fold_{number}")

    @dg.op(name=f"{family}_fold", tags=FOLD)
    def fold(
        context: dg.OpExecutionContext, one: dict[str, object], platform: dg.ResourceParam[Platform]
    ) -> dict[str, object]:
        return fit_fold(Work.begin(context, platform, family), one, context.log.debug)

    @dg.op(name=f"{family}_scores", out={"result": dg.Out(dg.Nothing), "coverage": dg.Out(dg.AssetCheckResult)})
    def scores(
        context: dg.OpExecutionContext, fitted: list[dict[str, object]], platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.Output[object]]:
        found = score(Work.begin(context, platform, family), fitted)
        context.set_data_version(dg.AssetKey(f"{family}_evaluation"), dg.DataVersion(found.version))
        yield dg.Output(found.coverage, output_name="coverage")
        yield dg.Output(None, output_name="result", metadata=found.shown)

    @dg.graph_asset(
        name=f"{family}_evaluation",
        ins={"ready": dg.AssetIn(calibration.key, dagster_type=dg.Nothing)}
        | ({} if reference is None else {"reference": dg.AssetIn(reference.key, dagster_type=dg.Nothing)}),
        partitions_def=symbols,
        group_name="evaluation",
        check_specs=[coverage_spec(f"{family}_evaluation")],
        description=f"Walk-forward of {family}: fitted again at every fold on the bars before it, judged beside the"
        " random walk on the bars that followed: CRPS, skill with its interval, Diebold-Mariano, coverage, direction.",
    )
    def evaluation(**upstream: object) -> object:
        result, coverage = scores(folds(list(upstream.values())).map(fold).collect())
        return {"result": result, f"{family}_evaluation_{COVERAGE}": coverage}

    return evaluation


def families() -> dict[str, Trio]:
    """Return model, calibration and evaluation of every family; the reference comes first."""
    trios: dict[str, Trio] = {}
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
