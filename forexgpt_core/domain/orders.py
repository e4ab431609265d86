"""Orders as the journal and a broker see them. Money and lots are Decimal here, and only here."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


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


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntent:
    """An order decided at a bar's close, committed to the journal before it is sent.

    Attributes:
        client_order_id: see `client_order_id`; unique in the journal.
        action: "enter" or "exit".
        stop_price, take_profit_price: protective levels in quote currency, None where there is none.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution as the venue reports it."""

    fill_id: str
    client_order_id: str
    symbol: str
    side: Side
    lots: Decimal
    price: Decimal
    commission: Decimal
    filled_utc: datetime
    reason: str  # "market", "stop", "take_profit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """An open position of one symbol."""

    symbol: str
    side: Side
    lots: Decimal
    entry_price: Decimal
    opened_utc: datetime
    stop_price: Decimal | None
    take_profit_price: Decimal | None
