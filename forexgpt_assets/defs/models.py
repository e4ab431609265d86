"""Three assets per model family, made by one factory: a new family is one entry in the catalogue."""

import dagster as dg

from forexgpt_assets.defs.features import features
from forexgpt_assets.family.calibrate import calibrate
from forexgpt_assets.family.evaluate import evaluate
from forexgpt_assets.family.train import train
from forexgpt_assets.family.work import Work
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import REFERENCE, Platform
from forexgpt_core.models.catalogue import FAMILIES

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
    """Return the asset that scores the evidence fit of `family`."""

    @dg.asset(
        name=f"{family}_evaluation",
        deps=[calibration] if reference is None else [calibration, reference],
        partitions_def=symbols,
        group_name="evaluation",
        description=f"{family} beside the random walk on the test part: CRPS, skill with its interval, Diebold-Mariano,"
        " coverage, direction.",
    )
    def evaluation(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        work = Work.begin(context, platform, family)
        return work.switched_off or evaluate(work)

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
