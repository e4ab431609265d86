"""Jobs, schedules and sensors. None of them selects `deployed_strategy`: only a person deploys."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from forexgpt_assets.defs.candles import candles
from forexgpt_assets.defs.ensemble import ensemble
from forexgpt_assets.defs.evaluation import leaderboard
from forexgpt_assets.defs.features import features
from forexgpt_assets.defs.freshness import candles_freshness
from forexgpt_assets.defs.live import live_execution_job
from forexgpt_assets.defs.monitoring import drift_report
from forexgpt_assets.failures import reason
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe, closes_at
from forexgpt_core.service import tidy as apply_retention

COOL_DOWN = timedelta(hours=24)  # a fresh model needs new bars before drift means anything again

candles_job = dg.define_asset_job(
    "candles_job", selection=dg.AssetSelection.assets(candles, features), description="Newest bars and their features."
)
freshness_job = dg.define_asset_job(
    "freshness_job",
    selection=dg.AssetSelection.assets(candles_freshness),
    description="How up to date each pair is.",
)
retrain_job = dg.define_asset_job(
    "retrain_job",
    selection=dg.AssetSelection.assets(leaderboard).upstream(),
    description="One pair, candles to leaderboard. Trains, calibrates and ranks; deploys nothing.",
    tags={"stage": "training"},
)

reweight_job = dg.define_asset_job(
    "reweight_job",
    selection=dg.AssetSelection.assets(ensemble),
    description="The same models weighed by their newest errors. Trains and deploys nothing.",
)


@dg.op
def tidy(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Remove what retention allows: old bundles and old forecasts, never what a deployment or an order names."""
    removed = apply_retention(platform)
    context.log.info(", ".join(f"{what}: {count}" for what, count in removed.items()))
    context.add_output_metadata(dict(removed))


@dg.job(description="Retention of bundles and forecasts.")
def maintenance_job() -> None:
    """Run the retention."""
    tidy()


def _per_symbol(context: dg.ScheduleEvaluationContext, stamp: str) -> list[dg.RunRequest]:
    keys = context.instance.get_dynamic_partitions("symbol")
    return [dg.RunRequest(run_key=f"{key}-{stamp}", partition_key=key) for key in sorted(keys)]


@dg.schedule(
    job=candles_job,
    cron_schedule="2 * * * *",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def candles_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Ask for the newest bars of every pair, two minutes past each hour."""
    return _per_symbol(context, f"{context.scheduled_execution_time:%Y%m%dT%H}")


@dg.schedule(
    job=freshness_job,
    cron_schedule="20 * * * *",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def freshness_schedule() -> dg.RunRequest:
    """Look at all pairs once an hour, when the newest bars should have come."""
    return dg.RunRequest()


@dg.schedule(
    job=retrain_job,
    cron_schedule="0 6 * * 6",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def retrain_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Retrain every pair on Saturday, while the market is closed, with the settings saved for it."""
    return _per_symbol(context, f"{context.scheduled_execution_time:%Y%m%d}")


@dg.schedule(
    job=reweight_job,
    cron_schedule="45 17 * * 1-5",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def reweight_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Weigh every pair's models anew after each trading day; what is deployed stays until a person approves."""
    return _per_symbol(context, f"{context.scheduled_execution_time:%Y%m%d}")


@dg.schedule(
    job=live_execution_job,
    cron_schedule="1-59/5 * * * *",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def live_execution_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Tick one minute after a bar of a deployed timeframe has closed; a late tick is harmless, it finds its own bar.

    Runs every five minutes at most: a strategy on M1 would decide one bar in five, and is told so.
    """
    closed = context.scheduled_execution_time - timedelta(minutes=1)
    timeframes = {Timeframe(d.timeframe) for d in Platform.prepared().deployments.all_active()}
    if Timeframe.M1 in timeframes:
        context.log.warning("this schedule ticks every five minutes: a strategy on M1 decides one bar in five")
    if not any(closes_at(closed, timeframe) for timeframe in timeframes):
        return dg.SkipReason(f"no bar of a deployed timeframe closed at {closed:%Y-%m-%d %H:%M %Z}")
    return dg.RunRequest(run_key=f"live-{closed:%Y%m%dT%H%M}")


@dg.schedule(
    job=maintenance_job,
    cron_schedule="30 6 * * 6",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def maintenance_schedule() -> dg.RunRequest:
    """Apply retention once a week."""
    return dg.RunRequest()


@dg.sensor(job=retrain_job, minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.STOPPED)
def drift_retraining_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request one retraining per drift report that raised the alarm, at most one per pair and day."""
    seen: dict[str, dict[str, str]] = json.loads(context.cursor or "{}")
    now = datetime.now(UTC)
    for key in sorted(context.instance.get_dynamic_partitions("symbol")):
        record = _newest_report(context.instance, key)
        if record is None or not _drifted(record):
            continue
        before = seen.get(key, {})
        if before.get("report") == str(record.storage_id):
            continue
        if before and now - datetime.fromisoformat(before["requested_utc"]) < COOL_DOWN:
            context.log.info(f"{key} drifted again within {COOL_DOWN}; waiting")
            continue
        seen[key] = {"report": str(record.storage_id), "requested_utc": now.isoformat()}
        yield dg.RunRequest(
            run_key=f"drift-{key}-{record.storage_id}", partition_key=key, tags={"forexgpt/reason": "drift"}
        )
    context.update_cursor(json.dumps(seen))


def _newest_report(instance: dg.DagsterInstance, key: str) -> dg.EventLogRecord | None:
    filter_ = dg.AssetRecordsFilter(asset_key=drift_report.key, asset_partitions=[key])
    return next(iter(instance.fetch_materializations(filter_, limit=1).records), None)


def _drifted(record: dg.EventLogRecord) -> bool:
    materialization = record.asset_materialization
    value = materialization.metadata.get("drifted") if materialization else None
    return value is not None and value.value is True


@dg.run_failure_sensor(default_status=dg.DefaultSensorStatus.STOPPED)
def failure_alert_sensor(context: dg.RunFailureSensorContext) -> None:
    """Append each failed run to alerts.jsonl in the home: what failed, when, why."""
    failures = context.get_step_failure_events()
    Platform.from_environment().alert(
        {
            "job": context.dagster_run.job_name,
            "run_id": context.dagster_run.run_id,
            "partition": context.dagster_run.tags.get("dagster/partition"),
            "steps": [event.step_key for event in failures],
            "message": "; ".join(reason(event) for event in failures) or context.failure_event.message,
        }
    )


@dg.definitions
def automation() -> dg.Definitions:
    """Return every job, schedule and sensor."""
    return dg.Definitions(
        jobs=[candles_job, freshness_job, retrain_job, reweight_job, live_execution_job, maintenance_job],
        schedules=[
            candles_schedule,
            freshness_schedule,
            retrain_schedule,
            reweight_schedule,
            live_execution_schedule,
            maintenance_schedule,
        ],
        sensors=[drift_retraining_sensor, failure_alert_sensor],
    )
