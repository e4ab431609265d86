"""One tick of every active deployment, and how well orders followed decisions."""

from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter

import dagster as dg
import pydantic

from forexgpt_assets.defs.deployment import deployed_strategy
from forexgpt_assets.metadata import figures, picture
from forexgpt_assets.partitions import symbols
from forexgpt_core.composition import Platform
from forexgpt_core.service import LiveSession, active_sessions


class LiveConfig(dg.Config):
    """`replay` trades, on paper, every bar the source has beyond the lake, as if each had just closed."""

    replay: bool = False
    symbols: list[str] = pydantic.Field(default_factory=list)


@dg.op(pool="live", description="newest closed bar → forecast → decide → limits → journal → paper broker")
def live_tick(context: dg.OpExecutionContext, config: LiveConfig, platform: dg.ResourceParam[Platform]) -> None:
    """Tick every active deployment once. Has no retries: a repeat is harmless, but a person should see a failure."""
    sessions = [s for s in active_sessions(platform) if not config.symbols or s.deployment.symbol in config.symbols]
    if not sessions:
        context.log.info("nothing is deployed; approve a configuration in deployed_strategy")
    shown = {}
    for session in sessions:
        symbol = session.deployment.symbol
        reports = session.replay() if config.replay else [session.tick(datetime.now(UTC))]
        context.log.info(f"{symbol}: {len(reports)} ticks, the last: {reports[-1].decision}, {reports[-1].reason}")
        shown |= {f"{symbol} {name}": value for name, value in figures(session.counts()).items()}
        shown[f"{symbol} trades"] = picture(session.picture(), "paper trading")
    context.add_output_metadata(shown)


@dg.job(
    description="One idempotent tick over the active deployments; a second run of the same bar sends nothing.",
    tags={"dagster/max_retries": "0"},  # the instance repeats runs whose process died; a person should look at this one
)
def live_execution_job() -> None:
    """Run the tick."""
    live_tick()


@dg.asset(deps=[deployed_strategy], partitions_def=symbols, group_name="monitoring")
def adherence_report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """Signal → order → fill of the active deployment: fill ratio, rejections, slippage against the intended price."""
    started = perf_counter()
    deployment = platform.deployments.active(context.partition_key)
    if deployment is None:
        return dg.MaterializeResult(metadata={"dagster/row_count": 0, **figures({"deployed": "nothing"})})
    session = LiveSession(platform, deployment)
    measured = session.adherence()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": measured.intents,
            **figures({**asdict(measured), "deployed": deployment.deployment_id, "seconds": perf_counter() - started}),
            "trades": picture(session.picture(), "paper trading"),
        }
    )
