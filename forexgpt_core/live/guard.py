"""Limits between a decision and an order. Every veto has a reason code, and is stored with the decision."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import numpy as np
import polars as pl

from forexgpt_core.domain.clock import Times, to_utc
from forexgpt_core.domain.orders import Position, Protection, TradingState
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.event_guard import EventGuard, HeldBack, held_back


class Veto(StrEnum):
    """Why an order may not be sent."""

    HALTED = "HALTED"
    REDUCING = "REDUCING"
    STALE_BAR = "STALE_BAR"
    ORDER_PENDING = "ORDER_PENDING"
    POSITION_MISMATCH = "POSITION_MISMATCH"
    MAX_POSITIONS = "MAX_POSITIONS"
    NO_POSITION = "NO_POSITION"
    NO_LOTS = "NO_LOTS"
    MAX_LOTS = "MAX_LOTS"
    BAD_LEVELS = "BAD_LEVELS"
    SPREAD = "SPREAD"
    MAX_ORDERS_PER_DAY = "MAX_ORDERS_PER_DAY"
    EVENT = "EVENT"
    EVENTS_UNKNOWN = "EVENTS_UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """Hard limits of the live loop; nothing at run time overrides them.

    Attributes:
        max_lots: largest single order.
        max_orders_per_day: entries and exits of one account on one UTC day; exits are never held back by it.
        max_spread_pips: widest spread at which a position is opened.
        grace_seconds: how much later than one bar after its close the newest bar may still be acted on.
    """

    max_lots: Decimal = Decimal(10)
    max_orders_per_day: int = 50
    max_spread_pips: float = 10.0
    grace_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not (self.max_lots > 0 and self.max_orders_per_day > 0 and self.max_spread_pips > 0):
            raise BadInput("live limits must be above 0")
        if not 0 <= self.grace_seconds < math.inf:
            raise BadInput(f"grace_seconds must be 0 or more, was {self.grace_seconds}")

    def expiry(self, bar_close_utc: datetime, bar_seconds: float) -> datetime:
        """Return when a decision at this bar's close is too old to be sent."""
        return bar_close_utc + timedelta(seconds=bar_seconds + self.grace_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the guard judges an order by.

    Attributes:
        expires_utc: see `LiveLimits.expiry`.
        pending: an earlier order of the account has no known end yet.
        matched: journal and venue agree on the position.
        event: a release of the economic calendar is near.
        events_unknown: the guard is on and the calendar says nothing of the coming week.
    """

    now_utc: datetime
    expires_utc: datetime
    trading_state: TradingState
    pending: bool
    matched: bool
    position: Position | None
    spread_pips: float
    orders_today: int
    event: bool = False
    events_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventWatch:
    """The economic calendar of one pair, and when it holds entries back.

    Attributes:
        events: revisions of `domain.events.EVENT_SCHEMA` around the moments that will be asked about.
        currencies: base and quote of the pair.
    """

    guard: EventGuard
    events: pl.DataFrame
    currencies: tuple[str, str]

    def held_back(self, moments_utc: Times) -> HeldBack:
        """Return where no position may be opened, and why."""
        return held_back(moments_utc, self.events, self.currencies, self.guard)

    def vetoes(self, *moments: datetime) -> tuple[Veto, ...]:
        """Return what holds an entry back at any of these moments."""
        found = self.held_back(np.array([to_utc(moment) for moment in moments]))
        checks = {Veto.EVENT: found.event.any(), Veto.EVENTS_UNKNOWN: found.unknown.any()}
        return tuple(veto for veto, holds in checks.items() if holds)


def entry_vetoes(lots: Decimal, protection: Protection, situation: Situation, limits: LiveLimits) -> tuple[Veto, ...]:
    """Return every reason not to open a position of `lots`, guarded like this."""
    levels, trail = (protection.stop_price, protection.take_profit_price), protection.trail_distance
    sound = all(level is not None and level.is_finite() and level > 0 for level in levels)
    checks = {
        Veto.HALTED: situation.trading_state is TradingState.HALTED,
        Veto.REDUCING: situation.trading_state is TradingState.REDUCING,
        Veto.STALE_BAR: situation.now_utc >= situation.expires_utc,
        Veto.ORDER_PENDING: situation.pending,
        Veto.POSITION_MISMATCH: not situation.matched,
        Veto.MAX_POSITIONS: situation.position is not None,
        Veto.NO_LOTS: not (lots.is_finite() and lots > 0),
        Veto.MAX_LOTS: lots.is_finite() and lots > limits.max_lots,
        Veto.BAD_LEVELS: not sound or not (trail is None or 0 < trail < math.inf),
        Veto.SPREAD: not situation.spread_pips <= limits.max_spread_pips,
        Veto.MAX_ORDERS_PER_DAY: situation.orders_today >= limits.max_orders_per_day,
        Veto.EVENT: situation.event,
        Veto.EVENTS_UNKNOWN: situation.events_unknown,
    }
    return tuple(veto for veto, holds in checks.items() if holds)


def exit_vetoes(situation: Situation) -> tuple[Veto, ...]:
    """Return every reason not to close the position. What reduces risk is held back by as little as possible."""
    checks = {
        Veto.HALTED: situation.trading_state is TradingState.HALTED,
        Veto.ORDER_PENDING: situation.pending,
        Veto.POSITION_MISMATCH: not situation.matched,
        Veto.NO_POSITION: situation.position is None,
    }
    return tuple(veto for veto, holds in checks.items() if holds)
