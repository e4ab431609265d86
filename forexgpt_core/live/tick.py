"""The facts and ports of one tick, and what it reports."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl

from forexgpt_core.backtest.fills import entry_price, exit_price
from forexgpt_core.backtest.quotes import Quotes
from forexgpt_core.deployment.records import Deployment
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import (
    Fill,
    OrderIntent,
    Position,
    Protection,
    Side,
    client_order_id,
    exact_price,
)
from forexgpt_core.errors import BadInput
from forexgpt_core.live.broker import Broker
from forexgpt_core.live.feeds import BarFeed
from forexgpt_core.live.guard import EventWatch, LiveLimits
from forexgpt_core.live.journal import Journal, Lease
from forexgpt_core.live.quoting import needs_rates, quotes_from


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one tick did.

    Attributes:
        decision: "enter", "exit", "hold", or "none" where nothing was decided (`reason` says why).
        vetoes: codes of the limits that held a decision back.
        orders: orders sent to the venue in this tick, also those an earlier tick had left unsent.
        fills: fills booked in this tick.
        duplicates: 1 where the bar had been decided before, by whomever.
        family: which family answered, such as "ensemble" or a fallback; None where no forecast came.
        calibrator: what calibrated the forecast, such as "adaptive v12", and why another did than was wanted.
    """

    deployment_id: str
    symbol: str
    timeframe: str
    bar_close_utc: datetime | None
    decision: str
    reason: str
    side: Side | None = None
    probability: float | None = None
    vetoes: tuple[str, ...] = ()
    orders: tuple[OrderIntent, ...] = ()
    fills: tuple[Fill, ...] = ()
    duplicates: int = 0
    position: Position | None = None
    equity: Decimal | None = None
    family: str | None = None
    calibrator: str = ""
    forecast_ms: float | None = None
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The ports and facts of one tick.

    Attributes:
        quotes: of the newest bars, the last of all among them.
        rates: closed candles, by symbol, of the pairs that convert into the account's currency.
    """

    deployment: Deployment
    now_utc: datetime
    bars: pl.DataFrame
    quotes: Quotes
    bar_close_utc: datetime
    journal: Journal
    broker: Broker
    limits: LiveLimits
    lease: Lease
    watch: EventWatch | None = None
    rates: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def expires_utc(self) -> datetime:
        """Return when a decision at this bar is too old to be sent."""
        return self.limits.expiry(self.bar_close_utc, Timeframe(self.deployment.timeframe).seconds)

    @property
    def close(self) -> float:
        """Return the newest close."""
        return float(self.bars["close"][-1])

    def report(self, **facts: object) -> TickReport:
        """Return a report of this tick with these facts."""
        base = TickReport(
            deployment_id=self.deployment.deployment_id,
            symbol=self.deployment.symbol,
            timeframe=self.deployment.timeframe,
            bar_close_utc=self.bar_close_utc,
            decision="none",
            reason="",
        )
        return replace(base, **facts)  # type: ignore[arg-type]  # names and types are TickReport's own


def new_tick(
    deployment: Deployment,
    now_utc: datetime,
    bars: pl.DataFrame,
    feed: BarFeed,
    journal: Journal,
    broker: Broker,
    limits: LiveLimits,
    lease: Lease,
    watch: EventWatch | None = None,
) -> Tick:
    """Return a tick at the newest of `bars`.

    Raises:
        BadInput: that bar is not complete at `now_utc`, the newest bars are unlawful, or there are no candles that turn
            money into the account's currency.
    """
    close_utc = bars["ts_utc"][-1] + timedelta(seconds=Timeframe(deployment.timeframe).seconds)
    if close_utc > now_utc:
        raise BadInput(f"the feed of {deployment.symbol} gave a bar that closes at {close_utc}, after {now_utc}")
    costs, symbol = deployment.costs, deployment.symbol
    wanted = needs_rates(symbol, costs)
    rates = feed.conversion_candles(Timeframe(deployment.timeframe), now_utc) if wanted else {}
    return Tick(
        deployment=deployment,
        now_utc=now_utc,
        bars=bars,
        quotes=quotes_from(bars, bars.height - 1, costs, symbol=symbol, rates=rates)[0],
        bar_close_utc=close_utc,
        journal=journal,
        broker=broker,
        limits=limits,
        lease=lease,
        watch=watch,
        rates=rates,
    )


def new_intent(
    tick: Tick, action: str, side: Side, lots: Decimal, reason: str, protection: Protection | None = None
) -> OrderIntent:
    """Return an order of this tick, with the id that every repeat of the tick would give it."""
    deployment = tick.deployment
    return OrderIntent(
        client_order_id=client_order_id(deployment.deployment_id, deployment.symbol, tick.bar_close_utc, action),
        deployment_id=deployment.deployment_id,
        symbol=deployment.symbol,
        bar_close_utc=tick.bar_close_utc,
        action=action,
        side=side,
        lots=lots,
        expires_utc=tick.expires_utc,
        reason=reason,
        **(protection or Protection())._asdict(),
    )


def intended_price(tick: Tick, side_of_position: Side, action: str) -> Decimal:
    """Return the price the decision reckoned with: the close, costs included."""
    price, symbol = entry_price if action == "enter" else exit_price, tick.deployment.symbol
    moved = float(tick.quotes.bid_high[-1] - tick.quotes.bid_low[-1]) / instrument(symbol).pip
    ask = float(tick.quotes.ask_close[-1])
    return exact_price(price(tick.close, side_of_position, tick.deployment.costs, symbol, ask=ask, range_pips=moved))


def input_hash(bars: pl.DataFrame, newest: int = 512) -> str:
    """Return a hash of the newest bars: times and prices that a forecast was made from."""
    tail = bars.tail(newest)
    digest = hashlib.sha256(np.ascontiguousarray(tail["ts_utc"].to_physical().to_numpy()).tobytes())
    for name in ("open", "high", "low", "close"):
        digest.update(np.ascontiguousarray(tail[name].to_numpy()).tobytes())
    return digest.hexdigest()


def nothing(deployment: Deployment, reason: str) -> TickReport:
    """Return the report of a tick that had no bar, or no right, to act on."""
    return TickReport(
        deployment_id=deployment.deployment_id,
        symbol=deployment.symbol,
        timeframe=deployment.timeframe,
        bar_close_utc=None,
        decision="none",
        reason=reason,
    )
