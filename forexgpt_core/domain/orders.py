"""Orders as the journal and a broker see them. Money and lots are Decimal here, and only here."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from enum import StrEnum
from typing import NamedTuple

_WIDE = Context(prec=60)  # the usual 28 digits are not enough for a large number with sixteen decimals
PRICE_DECIMALS, MONEY_DECIMALS = 16, 10


class Side(StrEnum):
    """Direction of an order or a position."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """Return +1 for a purchase, -1 for a sale."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> "Side":
        """Return the other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderState(StrEnum):
    """States of an intent in the journal; FILLED and the other terminal ones are never left."""

    INTENT = "INTENT"
    SENDING = "SENDING"
    ACKED = "ACKED"
    PARTIAL = "PARTIAL"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"
    NEVER_ARRIVED = "NEVER_ARRIVED"


class TradingState(StrEnum):
    """What the account may do now."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


def client_order_id(deployment_id: str, symbol: str, bar_close_utc: datetime, action: str, leg: int = 0) -> str:
    """Return the id that makes a repeat of the same decision the same order.

    Depends on nothing but what was decided, never on a run or a clock, so any second run finds the first one's row.
    """
    text = f"{deployment_id}|{symbol}|{bar_close_utc.isoformat()}|{action}|{leg}"
    return "f1" + base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:26]


def exact_price(value: float) -> Decimal:
    """Return a simulated price as a ledger keeps it: from 0.5 on, the very number."""
    return _rounded(value, PRICE_DECIMALS)


def exact_money(value: float) -> Decimal:
    """Return simulated money as a ledger keeps it, to ten decimals."""
    return _rounded(value, MONEY_DECIMALS)


def _rounded(value: float, decimals: int) -> Decimal:
    return Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), context=_WIDE)


class Protection(NamedTuple):
    """What guards a position.

    Attributes:
        stop_price, take_profit_price: levels in quote currency, None where there is none.
        trail_distance: log return at which the venue lets the stop follow the closes of bars, see
            `strategy.rules.trailed`; None where it stays.
    """

    stop_price: Decimal | None = None
    take_profit_price: Decimal | None = None
    trail_distance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntent:
    """An order decided at a bar's close, committed to the journal before it is sent.

    Attributes:
        client_order_id: see `client_order_id`; unique in the journal.
        action: "enter", "exit" or "flatten".
        stop_price, take_profit_price, trail_distance: see `Protection`.
        expires_utc: never sent at or after this time.
    """

    client_order_id: str
    deployment_id: str
    symbol: str
    bar_close_utc: datetime
    action: str
    side: Side
    lots: Decimal
    stop_price: Decimal | None
    take_profit_price: Decimal | None
    expires_utc: datetime
    reason: str
    trail_distance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution as the venue reports it.

    Attributes:
        commission: in account currency.
        reason: "market", or what the venue closed a position for: "stop", "take_profit", "stop_out" (too little equity
            for the margin) or "ruin" (no equity left).
        profit: realised, in account currency, before commissions and swap; None where nothing was closed.
        swap: booked over the life of the position that was closed, likewise.
    """

    fill_id: str
    client_order_id: str
    symbol: str
    side: Side
    lots: Decimal
    price: Decimal
    commission: Decimal
    filled_utc: datetime
    reason: str
    profit: Decimal | None = None
    swap: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """An open position of one symbol; what guards it, see `Protection`. A trailing stop stands where it is now."""

    symbol: str
    side: Side
    lots: Decimal
    entry_price: Decimal
    opened_utc: datetime
    stop_price: Decimal | None
    take_profit_price: Decimal | None
    trail_distance: float | None = None
