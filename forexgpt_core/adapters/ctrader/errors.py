"""What can go wrong with cTrader, and what each refusal of the server asks of us.

Codes are open strings: the server sends some that no published list has. The classes of the last two groups, and of the
codes that no observation covers, are our judgement. No text made here may hold a secret: callers pass descriptions of
the server through `Session`, which strikes them out.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from forexgpt_core.adapters.ctrader.messages import RETRY_AFTER, Message, unknown_number
from forexgpt_core.errors import ForexGPTError


class CTraderError(ForexGPTError):
    """cTrader could not be reached, did not answer, or refused."""


class CannotConnect(CTraderError):
    """There is no connection; nothing was sent."""


class Untrusted(CannotConnect):
    """The server's certificate is not valid for its name; nothing was sent."""


class BrokenLine(CTraderError):
    """The connection was lost, or an answer never came."""


class Remedy(StrEnum):
    """What a refusal asks of us."""

    LATER = "later"  # refused for certain; the same request may go later
    AUTHENTICATE = "authenticate"  # prove again who we are
    ALREADY = "already"  # what was asked for is so already
    HALT = "halt"  # a person must look
    SKIP_TRADE = "skip_trade"  # this order cannot be, the next one may
    READ_STATE = "read_state"  # what happened is not said: look at the account before judging
    NOTHING = "nothing"  # a fault of ours, or nothing to be done


_CODES = {
    Remedy.LATER: (
        "CANT_ROUTE_REQUEST", "BLOCKED_PAYLOAD_TYPE", "CH_SERVER_NOT_REACHABLE", "REQUEST_FREQUENCY_EXCEEDED",
        "SERVER_IS_UNDER_MAINTENANCE",
    ),
    Remedy.AUTHENTICATE: (
        "OA_AUTH_TOKEN_EXPIRED", "ACCOUNT_NOT_AUTHORIZED", "CH_CLIENT_NOT_AUTHENTICATED", "CH_ACCESS_TOKEN_INVALID",
    ),
    Remedy.ALREADY: ("ALREADY_LOGGED_IN", "CH_CLIENT_ALREADY_AUTHENTICATED"),
    Remedy.HALT: (
        "CONNECTIONS_LIMIT_EXCEEDED", "CH_CLIENT_AUTH_FAILURE", "CHANNEL_IS_BLOCKED", "TRADING_NOT_ALLOWED",
        "RET_ACCOUNT_DISABLED", "RET_NO_SUCH_LOGIN", "CH_CTID_TRADER_ACCOUNT_NOT_FOUND", "CH_OA_CLIENT_NOT_FOUND",
    ),
    Remedy.SKIP_TRADE: (
        "MARKET_CLOSED", "SYMBOL_HAS_HOLIDAY", "NOT_ENOUGH_MONEY", "MAX_EXPOSURE_REACHED", "TRADING_BAD_VOLUME",
        "TRADING_BAD_STOPS", "TRADING_BAD_PRICES", "TRADING_BAD_STAKE", "PROTECTION_IS_TOO_CLOSE_TO_MARKET",
        "TRADING_BAD_EXPIRATION_DATE", "TRADING_DISABLED", "SHORT_SELLING_NOT_ALLOWED", "NO_QUOTES",
        "TOO_MANY_POSITIONS", "WORSE_GSL_NOT_ALLOWED",
    ),
    Remedy.READ_STATE: (
        "TIMEOUT_ERROR", "CONCURRENT_MODIFICATION", "POSITION_NOT_FOUND", "ORDER_NOT_FOUND", "POSITION_NOT_OPEN",
        "POSITION_LOCKED", "PENDING_EXECUTION", "UNABLE_TO_CANCEL_ORDER", "UNABLE_TO_AMEND_ORDER",
    ),
    Remedy.NOTHING: (
        "UNSUPPORTED_MESSAGE", "INVALID_REQUEST", "ENTITY_NOT_FOUND", "FRAME_TOO_LONG", "INCORRECT_BOUNDARIES",
        "NOT_SUBSCRIBED_TO_SPOTS", "ALREADY_SUBSCRIBED", "SYMBOL_NOT_FOUND", "UNKNOWN_SYMBOL",
        "NOT_SUBSCRIBED_TO_PNL",
    ),
}  # fmt: skip
_REMEDIES = {code: remedy for remedy, codes in _CODES.items() for code in codes}
_CARRIERS = ("ProtoOAErrorRes", "ProtoErrorRes", "ProtoOAOrderErrorEvent", "ProtoOAExecutionEvent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refusal as the server put it.

    Attributes:
        retry_after_s: how long this payload type is blocked, where the server says it.
        maintenance_end_utc: when the server expects to be back, where it says it.
    """

    code: str
    description: str = ""
    retry_after_s: int | None = None
    maintenance_end_utc: datetime | None = None

    @property
    def remedy(self) -> Remedy:
        """Return what it asks of us; a code nobody knows asks to read the state before judging."""
        if self.code == "INVALID_REQUEST" and "not authorized" in self.description.lower():
            return Remedy.AUTHENTICATE
        return _REMEDIES.get(self.code, Remedy.READ_STATE)

    def __str__(self) -> str:
        parts = [self.code]
        if self.description:
            parts.append(f" ({' '.join(self.description.split())})")
        if self.retry_after_s is not None:
            parts.append(f", to be asked again after {self.retry_after_s} s")
        if self.maintenance_end_utc is not None:
            parts.append(f", maintenance until {self.maintenance_end_utc:%Y-%m-%d %H:%M} UTC")
        return "".join(parts)


class Refused(CTraderError):
    """The server refused a request. Nothing of it was done.

    Attributes:
        doing: what was asked for, in words.
        refusal: the server's answer.
        advice: what a person can do about it.
    """

    def __init__(self, doing: str, refusal: Refusal, advice: str = "") -> None:
        super().__init__(doing, refusal, advice)  # kept in .args, so it survives pickling
        self.doing, self.refusal, self.advice = doing, refusal, advice

    def __str__(self) -> str:
        text = f"cTrader refused {self.doing}: {self.refusal}"
        return f"{text}; {self.advice}" if self.advice else text


class NotAuthenticated(Refused):
    """The server refused who we say we are."""


class WrongEnvironment(NotAuthenticated):
    """The account lives in the other environment: demo and live are separate, so no patience helps."""


def refusal_in(message: Message) -> Refusal | None:
    """Return the refusal a message carries; None where it is not one of the four that can."""
    name = str(message.DESCRIPTOR.name)
    if name not in _CARRIERS or not message.errorCode:
        return None
    end = getattr(message, "maintenanceEndTimestamp", 0)
    return Refusal(
        code=str(message.errorCode),
        description=str(getattr(message, "description", "")),
        retry_after_s=unknown_number(message, RETRY_AFTER) if name == "ProtoOAErrorRes" else None,
        maintenance_end_utc=_moment(end / 1000 if name == "ProtoErrorRes" else end) if end else None,
    )


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # not a date; the refusal stands without it
