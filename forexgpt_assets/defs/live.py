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
from forexgpt_core.service import LiveSession, active_sessions, replaced_sessions


class LiveConfig(dg.Config):
    """`replay` trades, on paper, every bar the source has beyond the lake, as if each had just closed."""

    replay: bool = False
    symbols: list[str] = pydantic.Field(default_factory=list)


@dg.op(pool="live", description="newest closed bar → forecast → decide → limits → journal → paper broker")
def live_tick(context: dg.OpExecutionContext, config: LiveConfig, platform: dg.ResourceParam[Platform]) -> None:
    """Tick every active deployment once, each on its own: what fails for one pair keeps no other from its exits.

    Has no retries: a repeat is harmless, but a person should see a failure.
    """
    wanted = set(config.symbols)
    sessions = [s for s in active_sessions(platform) if not wanted or s.deployment.symbol in wanted]
    replaced = [s for s in replaced_sessions(platform) if not wanted or s.deployment.symbol in wanted]
    if not sessions:
        context.log.info("nothing is deployed; approve a configuration in deployed_strategy")
    shown: dict[str, dg.MetadataValue] = {}
    failed: dict[str, str] = {}
    for session in (*replaced, *sessions):
        try:
            shown |= _ticked(context, session, replay=config.replay)
        except Exception as error:
            failed[session.deployment.symbol] = " ".join(str(error).split()) or type(error).__name__
            context.log.error(f"{session.deployment.symbol}: {failed[session.deployment.symbol]}")
    context.add_output_metadata(shown)
    if failed:
        told = "; ".join(f"{symbol} did not tick: {why}" for symbol, why in failed.items())
        raise dg.Failure(told, allow_retries=False)


def _ticked(context: dg.OpExecutionContext, session: LiveSession, *, replay: bool) -> dict[str, dg.MetadataValue]:
    """Tick one deployment and return what to show of it; a replaced one only closes what it holds."""
    deployment, now = session.deployment, datetime.now(UTC)
    if not deployment.active:
        report = session.wind_down(now)
        done = "halted, so left as it is" if report is None else f"{report.decision}, {report.reason}"
        context.log.info(f"{deployment.symbol}: the replaced {deployment.deployment_id}: {done}")
        return {}
    reports = session.replay() if replay else [session.tick(now)]
    done = f"the last: {reports[-1].decision}, {reports[-1].reason}" if reports else "the source has no newer bar"
    context.log.info(f"{deployment.symbol}: {len(reports)} ticks, {done}")
    shown = {f"{deployment.symbol} {name}": value for name, value in figures(session.counts()).items()}
    return {**shown, f"{deployment.symbol} trades": picture(session.picture(), "paper trading")}


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
