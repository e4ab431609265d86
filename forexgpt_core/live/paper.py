"""A paper venue: market orders fill at the open of the next bar, protective levels inside bars, all of it repeatable.

It keeps its books in a ledger of its own, apart from the journal, as a real venue would. The same orders and bars
always give the same deals, and those of a backtest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import polars as pl

from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import Fill, OrderIntent, OrderState
from forexgpt_core.live.broker import AccountView, Submission
from forexgpt_core.live.paper_account import Books, PaperAccount, PaperOrder, fill_id, live_through

__all__ = ["Books", "PaperAccount", "PaperBroker", "PaperLedger", "PaperOrder", "realised"]


class PaperLedger(Protocol):
    """Where the venue keeps its books."""

    def change(
        self, account: str, opening: PaperAccount, ask_about: Sequence[str], change: Callable[[Books], Books]
    ) -> Books:
        """Run `change` on the account's working orders and those asked about, alone, and store what it returns.

        Args:
            opening: the account as it begins, stored where there is none yet.
            ask_about: further orders, working or not, to hand to `change`.
        """
        ...

    def fills(self, account: str, after_fill_id: str | None) -> list[Fill]:
        """Return the account's fills after one of them, in order."""
        ...


class PaperBroker:
    """One paper account of one pair."""

    def __init__(
        self, ledger: PaperLedger, *, symbol: str, costs: Costs, cash: float | Decimal, account: str | None = None
    ) -> None:
        self._ledger, self._symbol, self._costs = ledger, symbol, costs
        self._account = account or f"paper:{symbol}"
        opening = Decimal(str(cash))
        self._opening = PaperAccount(account=self._account, symbol=symbol, balance=opening, equity=opening)

    @property
    def account(self) -> str:
        """Return the account's name."""
        return self._account

    def advance(
        self,
        bars: pl.DataFrame,
        *,
        after_fill_id: str | None,
        ask_about: Sequence[str] = (),
        rates: Mapping[str, pl.DataFrame] | None = None,
    ) -> AccountView:
        """Live through the bars not seen yet and return the account after them.

        Raises:
            BadInput: there is something to live through and the bars are unlawful, do not follow those seen before, or
                cannot be counted in the account's currency with these rates; nothing has changed.
        """
        books = self._ledger.change(
            self._account, self._opening, ask_about, lambda before: live_through(before, bars, self._costs, rates or {})
        )
        newest = None if books.account.deals == 0 else fill_id(self._account, books.account.deals)
        unseen = newest is not None and newest != after_fill_id
        return AccountView(
            equity=books.account.equity,
            position=books.account.position,
            last_bar_utc=books.account.last_bar_utc,
            fills=self._ledger.fills(self._account, after_fill_id) if unseen else (),
            orders={o.client_order_id: Submission(state=o.state, reason=o.reason) for o in books.orders},
            used_margin=books.account.margin,
        )

    def submit(self, intent: OrderIntent) -> Submission:
        """Accept a market order for the next bar; the same client_order_id again is the same order."""
        books = self._ledger.change(
            self._account, self._opening, [intent.client_order_id], lambda before: _accept(before, intent)
        )
        by_id = {order.client_order_id: order for order in books.orders}
        if intent.client_order_id not in by_id:
            return Submission(state=OrderState.REJECTED, reason="the venue has seen no bar yet")
        order = by_id[intent.client_order_id]
        return Submission(state=order.state, reason=order.reason)


def _accept(books: Books, intent: OrderIntent) -> Books:
    if books.account.last_bar_utc is None or any(o.client_order_id == intent.client_order_id for o in books.orders):
        return books
    order = PaperOrder(
        client_order_id=intent.client_order_id,
        action=intent.action,
        side=intent.side,
        lots=intent.lots,
        stop_price=intent.stop_price,
        take_profit_price=intent.take_profit_price,
        trail_distance=intent.trail_distance,
        after_bar_utc=books.account.last_bar_utc,
    )
    return replace(books, orders=(*books.orders, order))


def realised(fills: Sequence[Fill]) -> Mapping[str, Decimal]:
    """Return what fills have brought, by pair, in account currency: profit and swap less commissions."""
    total: dict[str, Decimal] = {}
    for fill in fills:
        brought = (fill.profit or Decimal(0)) + (fill.swap or Decimal(0)) - fill.commission
        total[fill.symbol] = total.get(fill.symbol, Decimal(0)) + brought
    return total
