"""From the newest bar to a guarded decision: forecast, decide, limits, and the record of all three."""

from decimal import Decimal

from forexgpt_core.domain import money
from forexgpt_core.domain.clock import Timeframe, to_utc
from forexgpt_core.domain.forecasts import ForecastBatch, interval_width
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import OrderIntent, Position, Protection, exact_price
from forexgpt_core.live.feeds import ForecastSource
from forexgpt_core.live.guard import Situation, Veto, entry_vetoes, exit_vetoes
from forexgpt_core.live.journal import DecisionRecord, ForecastRecord
from forexgpt_core.live.settling import Settled
from forexgpt_core.live.tick import Tick, input_hash, intended_price, new_intent
from forexgpt_core.strategy.decide import Decision, HeldPosition, MarketView, decide
from forexgpt_core.strategy.sizing import Outlook, lots_for


def forecast_now(tick: Tick, forecaster: ForecastSource) -> tuple[ForecastBatch | None, str]:
    """Return the forecast of the newest bar, or None and why there is none."""
    try:
        batch = forecaster.forecast(tick.bars)
    except Exception as error:  # whatever a model does, the tick goes on without it
        text = str(error).strip().split("\n")[0]
        return None, f"forecast failed: {type(error).__name__}: {text[:200]}"
    newest = to_utc(tick.bars["ts_utc"][-1])
    if len(batch) != 1 or batch.origin_utc[0] != newest or batch.symbol != tick.deployment.symbol:
        return None, f"forecast refused: it is not of {tick.deployment.symbol} at {newest}"
    if tick.deployment.config.horizon_bars not in batch.horizons_bars:
        return None, f"forecast refused: it lacks the horizon {tick.deployment.config.horizon_bars}"
    return batch, ""


def decide_now(tick: Tick, position: Position | None, batch: ForecastBatch | None, failure: str) -> Decision:
    """Return the decision at the newest bar; without a forecast only the holding limit can close a position."""
    held = None
    if position is not None:
        first = int(tick.bars["ts_utc"].search_sorted(position.opened_utc, side="left"))
        held = HeldPosition(side=position.side, bars_held=tick.bars.height - first)
    config = tick.deployment.config
    if batch is None:
        timed_out = held is not None and held.bars_held >= config.holding_limit_bars
        return Decision(
            action="exit" if timed_out else "hold",
            side=held.side if held is not None and timed_out else None,
            probability=0.0,
            reason=f"holding limit; {failure}" if timed_out else f"no new entries: {failure}",
        )
    column = batch.horizons_bars.index(config.horizon_bars)
    view = MarketView(
        close=tick.close,
        quantiles=batch.quantiles[0, column],
        scale=float(batch.scale[0, column]),
        cost_return=float(tick.quotes.cost_return[-1]),
    )
    return decide(view, held, config)


def guarded(
    tick: Tick, settled: Settled, decision: Decision, batch: ForecastBatch | None
) -> tuple[tuple[Veto, ...], OrderIntent | None]:
    """Return what forbids the decision's order, or the order itself; both are empty for a decision to hold."""
    watched = () if tick.watch is None else tick.watch.vetoes(tick.bar_close_utc, tick.now_utc)
    situation = Situation(
        now_utc=tick.now_utc,
        expires_utc=tick.expires_utc,
        trading_state=settled.view.trading_state,
        pending=settled.pending,
        matched=settled.matched,
        position=settled.account.position,
        spread_pips=_spread_pips(tick),
        orders_today=settled.view.orders_today,
        event=Veto.EVENT in watched,
        events_unknown=Veto.EVENTS_UNKNOWN in watched,
    )
    position = settled.account.position
    if decision.action == "enter" and decision.side is not None:
        protection = Protection(
            _level(decision.stop_price), _level(decision.take_profit_price), decision.trail_distance
        )
        lots = _lots(tick, settled, decision, batch)
        vetoes = entry_vetoes(lots, protection, situation, tick.limits)
        if vetoes:
            return vetoes, None
        return (), new_intent(tick, "enter", decision.side, lots, decision.reason, protection)
    if decision.action == "exit":
        vetoes = exit_vetoes(situation)
        if vetoes or position is None:
            return vetoes, None
        return (), new_intent(tick, "exit", position.side.opposite, position.lots, decision.reason)
    return (), None


def commit(
    tick: Tick,
    settled: Settled,
    decision: Decision,
    vetoes: tuple[Veto, ...],
    intent: OrderIntent | None,
    batch: ForecastBatch | None,
    forecast_ms: float,
) -> bool:
    """Write forecast, decision, vetoes and intent to the journal at once; False where this bar was decided before."""
    deployment = tick.deployment
    record = DecisionRecord(
        deployment_id=deployment.deployment_id,
        account=tick.broker.account,
        symbol=deployment.symbol,
        bar_close_utc=tick.bar_close_utc,
        action=decision.action,
        side=None if decision.side is None else decision.side.value,
        probability=decision.probability,
        reason=decision.reason,
        vetoes=tuple(veto.value for veto in vetoes),
        family=None if batch is None else batch.family,
        equity=settled.account.equity,
    )
    forecast = None
    if batch is not None:
        forecast = ForecastRecord(
            deployment_id=deployment.deployment_id,
            bundle_hash=deployment.bundle_hash,
            batch=batch,
            latency_ms=forecast_ms,
            input_hash=input_hash(tick.bars),
        )
    price = None if intent is None or decision.side is None else intended_price(tick, decision.side, decision.action)
    return tick.journal.commit_decision(record, forecast=forecast, intent=intent, intended_price=price)


def _level(price: float | None) -> Decimal | None:
    return None if price is None else exact_price(price)


def _lots(tick: Tick, settled: Settled, decision: Decision, batch: ForecastBatch | None) -> Decimal:
    """Return the lots of the entry; only a forecast decides one."""
    assert batch is not None
    assert decision.side is not None
    deployment, quotes = tick.deployment, tick.quotes
    column = batch.horizons_bars.index(deployment.config.horizon_bars)
    law = batch.quantiles[0, column]
    outlook = Outlook(
        equity=float(settled.account.equity),
        used_margin=float(settled.account.used_margin),
        one_lot=money.notional_in_account(
            quotes.lot_units, tick.close, float(quotes.rate_close[-1]), quotes.base_is_account
        ),
        cost_return=float(quotes.cost_return[-1]),
        side=decision.side.sign,
        probability=decision.probability,
        scale=float(batch.scale[0, column]),
        width=float(interval_width(law)),
        bars_per_year=float(Timeframe.parse(deployment.timeframe).per_year),
    )
    return Decimal(str(lots_for(outlook, deployment.config, deployment.costs)))


def _spread_pips(tick: Tick) -> float:
    """Return the spread at the newest close: the candle's own where it carries an ask, whatever the costs reckon."""
    ask = float(tick.quotes.ask_close[-1])
    if "ask_close" in tick.bars.columns and tick.bars["ask_close"][-1] is not None:
        ask = float(tick.bars["ask_close"][-1])
    return (ask - tick.close) / instrument(tick.deployment.symbol).pip
