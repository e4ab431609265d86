"""One tick of the live loop: newest closed bar, forecast, decision, limits, intent committed, order sent.

May run twice, in two processes, or be killed anywhere: the decision of a bar is unique in the journal, an order's id
follows from what was decided, and every tick first settles what an earlier one left open.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl

from forexgpt_core.deployment.records import Deployment
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import NotReady
from forexgpt_core.live.broker import Broker
from forexgpt_core.live.deciding import commit, decide_now, forecast_now, guarded
from forexgpt_core.live.feeds import BarFeed, ForecastSource
from forexgpt_core.live.guard import EventWatch, LiveLimits
from forexgpt_core.live.journal import Journal, Lease
from forexgpt_core.live.settling import facts_of, send, settle
from forexgpt_core.live.tick import TickReport, intended_price, new_intent, new_tick, nothing

__all__ = ["TickReport", "flatten", "replay", "step"]

LEASE_SECONDS = 30.0


def step(
    deployment: Deployment,
    now_utc: datetime,
    *,
    feed: BarFeed,
    forecaster: ForecastSource,
    journal: Journal,
    broker: Broker,
    limits: LiveLimits | None = None,
    watch: EventWatch | None = None,
    lease: Lease | None = None,
) -> TickReport:
    """Run one tick of a deployment and say what it did.

    Args:
        now_utc: the moment the tick stands for; the clock on the wall in earnest, the bar's close in a replay.
        watch: the economic calendar around the tick; None where it holds nothing back.
        lease: right to send, held by the caller; without one the tick takes it for its own duration.

    Raises:
        StoreError: the journal cannot be read or written; nothing was sent that is not in it.
        BadInput: the feed handed over a bar that is not complete or not lawful, or has no candles that turn money into
            the account's currency; nothing was sent.
    """
    started = time.perf_counter()
    held = lease or journal.acquire_lease(broker.account, uuid.uuid4().hex, LEASE_SECONDS)
    if held is None:
        report = nothing(deployment, "another process is trading this account")
    else:
        try:
            bars = feed.closed_bars(deployment.symbol, Timeframe(deployment.timeframe), now_utc)
            limits = limits or LiveLimits()
            report = _tick(deployment, now_utc, bars, feed, forecaster, journal, broker, limits, held, watch)
        finally:
            if lease is None:
                journal.release_lease(held)
    return replace(report, latency_ms=1e3 * (time.perf_counter() - started))


def replay(
    deployment: Deployment,
    moments: Iterable[datetime],
    *,
    feed: BarFeed,
    forecaster: ForecastSource,
    journal: Journal,
    broker: Broker,
    limits: LiveLimits | None = None,
    watch: EventWatch | None = None,
) -> list[TickReport]:
    """Run a tick at every moment, holding the lease throughout, and return their reports.

    Raises:
        NotReady: another process is trading the account.
    """
    owner, reports = uuid.uuid4().hex, []
    lease = journal.acquire_lease(broker.account, owner, LEASE_SECONDS)
    try:
        for moment in moments:
            if lease is not None and lease.expires_utc - datetime.now(UTC) < timedelta(seconds=LEASE_SECONDS / 2):
                lease = journal.acquire_lease(broker.account, owner, LEASE_SECONDS)
            if lease is None:
                raise NotReady(f"another process is trading {broker.account}; stop it or wait until it is done")
            ports = {"feed": feed, "forecaster": forecaster, "journal": journal, "broker": broker}
            reports.append(step(deployment, moment, **ports, limits=limits, watch=watch, lease=lease))  # type: ignore[arg-type]
    finally:
        if lease is not None:
            journal.release_lease(lease)
    return reports


def flatten(
    deployment: Deployment, now_utc: datetime, *, feed: BarFeed, journal: Journal, broker: Broker, reason: str
) -> TickReport:
    """Close the position at the next open because a person said so; works in every trading state."""
    lease = journal.acquire_lease(broker.account, uuid.uuid4().hex, LEASE_SECONDS)
    if lease is None:
        return nothing(deployment, "another process is trading this account")
    try:
        bars = feed.closed_bars(deployment.symbol, Timeframe(deployment.timeframe), now_utc)
        if bars.is_empty():
            return nothing(deployment, "no closed bar")
        tick = new_tick(deployment, now_utc, bars, feed, journal, broker, LiveLimits(), lease)
        settled = settle(tick)
        held, facts = settled.account.position, facts_of(settled)
        if held is None or settled.pending:
            why = "nothing to close" if held is None else "an order is pending"
            return tick.report(reason=why, **facts)
        intent = new_intent(tick, "flatten", held.side.opposite, held.lots, reason)
        price = intended_price(tick, held.side, "exit")
        if journal.commit_intent(intent, account=broker.account, intended_price=price):
            facts["orders"] = (*settled.sent, *send(tick, [intent]))
        return tick.report(decision="exit", side=held.side, reason=reason, **facts)
    finally:
        journal.release_lease(lease)


def _tick(
    deployment: Deployment,
    now_utc: datetime,
    bars: pl.DataFrame,
    feed: BarFeed,
    forecaster: ForecastSource,
    journal: Journal,
    broker: Broker,
    limits: LiveLimits,
    lease: Lease,
    watch: EventWatch | None,
) -> TickReport:
    if bars.is_empty():
        return nothing(deployment, "no closed bar")
    tick = new_tick(deployment, now_utc, bars, feed, journal, broker, limits, lease, watch)
    settled = settle(tick)
    facts = facts_of(settled)
    if settled.view.decided:
        return tick.report(reason="this bar was decided before", duplicates=1, **facts)
    if settled.account.last_bar_utc is not None and settled.account.last_bar_utc > bars["ts_utc"][-1]:
        return tick.report(reason="the account has lived through later bars than the feed shows", **facts)
    started = time.perf_counter()
    batch, failure = forecast_now(tick, forecaster)
    forecast_ms = 1e3 * (time.perf_counter() - started)
    decision = decide_now(tick, settled.account.position, batch, failure)
    vetoes, intent = guarded(tick, settled, decision, batch)
    is_new = commit(tick, settled, decision, vetoes, intent, batch, forecast_ms)
    facts |= {"forecast_ms": forecast_ms}
    if batch is not None:
        facts |= {"family": batch.family, "calibrator": batch.calibrator}
    if not is_new:
        return tick.report(reason="another process decided this bar first", duplicates=1, **facts)
    if intent is not None:
        facts["orders"] = (*settled.sent, *send(tick, [intent]))
    return tick.report(
        decision=decision.action,
        side=decision.side,
        probability=decision.probability,
        reason=decision.reason,
        vetoes=tuple(vetoes),
        **facts,
    )
