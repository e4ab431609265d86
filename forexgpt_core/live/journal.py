"""The order journal as the live loop needs it: nothing is sent that is not written here first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.domain.orders import Fill, OrderIntent, OrderState, Position, Protection, TradingState

_VERSIONED = re.compile(r"(?P<name>.+) v(?P<version>\d+)")  # "adaptive v12"
_S = OrderState
ALLOWED: dict[OrderState, frozenset[OrderState]] = {
    _S.INTENT: frozenset({_S.SENDING, _S.EXPIRED, _S.CANCELLED}),
    _S.SENDING: frozenset({_S.ACKED, _S.PARTIAL, _S.FILLED, _S.CANCELLED, _S.REJECTED, _S.UNKNOWN}),
    _S.ACKED: frozenset({_S.PARTIAL, _S.FILLED, _S.CANCELLED, _S.REJECTED, _S.EXPIRED, _S.UNKNOWN}),
    _S.PARTIAL: frozenset({_S.FILLED, _S.CANCELLED, _S.UNKNOWN}),
    _S.UNKNOWN: frozenset(
        {_S.ACKED, _S.PARTIAL, _S.FILLED, _S.CANCELLED, _S.REJECTED, _S.EXPIRED, _S.NEVER_ARRIVED}
    ),  # by the venue's evidence only, never by a timer
    _S.FILLED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.NEVER_ARRIVED: frozenset(),
}
OPEN_STATES = tuple(state for state, following in ALLOWED.items() if following)


def after_fill(held: Position | None, fill: Fill, protection: Protection) -> Position | None:
    """Return the position after a fill: opened, enlarged at the mean price, reduced, closed or turned around.

    Args:
        protection: what the fill's order carried, for a position it opens.
    """
    if held is not None and held.side is not fill.side:
        rest = held.lots - fill.lots
        if rest > 0:
            return replace(held, lots=rest)
        if rest == 0:
            return None
        fill = replace(fill, lots=-rest)
    elif held is not None:
        lots = held.lots + fill.lots
        mean = (held.entry_price * held.lots + fill.price * fill.lots) / lots
        return replace(held, lots=lots, entry_price=mean)
    return Position(
        symbol=fill.symbol,
        side=fill.side,
        lots=fill.lots,
        entry_price=fill.price,
        opened_utc=fill.filled_utc,
        **protection._asdict(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to send orders for one account, until it expires or another owner takes a higher epoch."""

    account: str
    owner: str
    epoch: int
    expires_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIntent:
    """An intent whose end the journal does not know yet."""

    intent: OrderIntent
    state: OrderState


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalView:
    """What the journal knows at the start of a tick.

    Attributes:
        decided: this deployment has decided at this bar before.
        open_intents: intents of the account that are not at their end, the oldest first.
        last_fill_id: newest fill booked, None before the first.
        orders_today: intents of the account on the UTC day of the bar's close.
        position: what the booked fills leave open.
    """

    trading_state: TradingState
    state_reason: str
    decided: bool
    open_intents: Sequence[OpenIntent]
    last_fill_id: str | None
    orders_today: int
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One decision at one bar, with what forbade it where something did."""

    deployment_id: str
    account: str
    symbol: str
    bar_close_utc: datetime
    action: str
    side: str | None
    probability: float | None
    reason: str
    vetoes: tuple[str, ...]
    family: str | None
    equity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRecord:
    """A live forecast of one origin, as it is stored until it matures."""

    deployment_id: str | None
    bundle_hash: str
    batch: ForecastBatch
    latency_ms: float
    input_hash: str

    @property
    def calibrator(self) -> str | None:
        """Return the name of what calibrated it, such as "split normalised" or "adaptive"; None for nothing."""
        return self._calibrator[0] or None

    @property
    def calibrator_version(self) -> int | None:
        """Return the version of the calibrator's state, None for one without state."""
        version = self._calibrator[1]
        return int(version) if version else None

    @property
    def _calibrator(self) -> tuple[str, str]:
        found = _VERSIONED.fullmatch(self.batch.calibrator)
        return (found["name"], found["version"]) if found else (self.batch.calibrator, "")


class Journal(Protocol):
    """Written before anything leaves; every method is one transaction and raises StoreError when it cannot be."""

    def acquire_lease(self, account: str, owner: str, ttl_seconds: float) -> Lease | None:
        """Take or renew the lease; None while another owner holds it. A change of owner raises the epoch."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give the lease back, unless somebody else has it by now."""
        ...

    def look(self, *, deployment_id: str, account: str, symbol: str, bar_close_utc: datetime) -> JournalView:
        """Return what the journal knows."""
        ...

    def commit_decision(
        self,
        decision: DecisionRecord,
        *,
        forecast: ForecastRecord | None = None,
        intent: OrderIntent | None = None,
        intended_price: Decimal | None = None,
    ) -> bool:
        """Store a decision with its forecast and intent, all or nothing.

        Returns:
            False, with nothing stored, when this deployment has decided at this bar already.
        """
        ...

    def commit_intent(self, intent: OrderIntent, *, account: str, intended_price: Decimal) -> bool:
        """Store an intent that no decision led to (flattening) and return whether it is new."""
        ...

    def begin_sending(self, client_order_id: str, lease: Lease) -> bool:
        """Move INTENT to SENDING if the lease still holds in this very transaction; False where it may not be sent."""
        ...

    def mark(self, client_order_id: str, state: OrderState, reason: str, lease: Lease | None = None) -> bool:
        """Move an intent to `state` where ALLOWED permits, and return whether it moved."""
        ...

    def book_fills(self, account: str, fills: Sequence[Fill]) -> Position | None:
        """Book each fill once, move its intent to FILLED, and return the open position after them."""
        ...

    def move_stop(self, account: str, stop_price: Decimal) -> None:
        """Note where the venue's trailing stop stands now; nothing where no position is open."""
        ...

    def halt(self, symbol: str, reason: str) -> None:
        """Set a pair HALTED, by the guard."""
        ...
