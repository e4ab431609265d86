"""The strategy in force: an immutable record that only a person's approval changes."""

from dataclasses import asdict
from time import perf_counter

import dagster as dg

from forexgpt_assets.defs.optimisation import pareto_configs
from forexgpt_assets.metadata import figures, table
from forexgpt_assets.partitions import symbols
from forexgpt_core import evidence
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.gates import judge_promotion


class DeploymentConfig(dg.Config):
    """`approve` names the configuration to deploy; without it the asset re-records what is deployed already."""

    approve: str = ""
    approved_by: str = ""
    reason: str = ""


@dg.asset(deps=[pareto_configs], partitions_def=symbols, group_name="deployment")
def deployed_strategy(
    context: dg.AssetExecutionContext, config: DeploymentConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """What trades: bundle, configuration, approval. Changes nothing without `approve: <configuration hash>`."""
    from forexgpt_core.ensemble.inference import EnsembleForecaster

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    symbol, timeframe = settings.symbol, settings.timeframe
    if config.approve.strip():
        candidates = platform.studies.candidates(symbol, timeframe)
        request = judge_promotion(
            candidates,
            approve=config.approve,
            skills=evidence.ensemble_skills(platform, settings, candidates.bundle_hash),
            approved_by=config.approved_by,
            reason=config.reason,
            allow_no_skill=settings.deployment.allow_no_skill,
        )
        if request is not None:
            EnsembleForecaster.load(platform.bundles, symbol, timeframe, request.bundle_hash)  # intact, or refused
            platform.deployments.deploy(request)
    deployment = platform.deployments.active(symbol, timeframe)
    if deployment is None:
        return dg.MaterializeResult(
            metadata=figures(
                {"deployed": "nothing: no configuration has been approved", "seconds": perf_counter() - started}
            )
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(deployment.deployment_id),
        metadata={
            "dagster/row_count": 1,
            **figures(
                {
                    "deployed": deployment.deployment_id,
                    "bundle_hash": deployment.bundle_hash,
                    "config": deployment.config.hash12,
                    "approved_by": deployment.approved_by,
                    "approved_utc": deployment.approved_utc,
                    "reason": deployment.reason,
                    "skill_shown": deployment.skill_shown,
                    "allow_no_skill": deployment.allow_no_skill,
                    "seconds": perf_counter() - started,
                }
            ),
            "configuration": table([asdict(deployment.config)]),
            "costs": table([asdict(deployment.costs)]),
        },
    )
