"""The account as a venue sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import polars as pl

from forexgpt_core.domain.orders import Fill, OrderIntent, OrderState, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What the venue says about one order; UNKNOWN where it said nothing."""

    state: OrderState
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """The account after the venue has seen the newest bars.

    Attributes:
        equity: balance and unrealised profit, in account currency.
        last_bar_utc: OPEN of the newest bar the venue has seen; None for a venue with its own clock.
        fills: fills after the one asked for, in order.
        orders: what became of the orders asked about; one that never arrived is absent.
        used_margin: of the equity, what the position ties up.
    """

    equity: Decimal
    position: Position | None
    last_bar_utc: datetime | None
    fills: Sequence[Fill]
    orders: Mapping[str, Submission]
    used_margin: Decimal = Decimal(0)


class Broker(Protocol):
    """A venue with one account. Positions and equity come from it and never from memory."""

    @property
    def account(self) -> str:
        """Return the account's name in the journal."""
        ...

    def advance(
        self,
        bars: pl.DataFrame,
        *,
        after_fill_id: str | None,
        ask_about: Sequence[str] = (),
        rates: Mapping[str, pl.DataFrame] | None = None,
    ) -> AccountView:
        """Let a simulated venue live through bars it has not seen, and return the account.

        Args:
            bars: closed candles, oldest first.
            after_fill_id: report fills after this one; None reports all.
            ask_about: client order ids whose state is wanted.
            rates: closed candles, by symbol, of the pairs that convert into the account's currency; a venue that keeps
                its own books does not read them.
        """
        ...

    def submit(self, intent: OrderIntent) -> Submission:
        """Place an order once per client_order_id; a repeat returns what became of the first."""
        ...
