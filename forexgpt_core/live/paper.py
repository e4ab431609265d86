"""A paper venue: market orders fill at the open of the next bar, protective levels inside bars, all of it repeatable.

It shares prices and costs of an execution with the backtest, and keeps its books in a ledger of its own, apart from the
journal, as a real venue would. The same orders and bars always give the same deals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import polars as pl

from forexgpt_core.backtest.fills import Bar, commission, entry_price, exit_price, protective_exit
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import Fill, OrderIntent, OrderState, Position, Side
from forexgpt_core.live.broker import AccountView, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperAccount:
    """The venue's book of one account.

    Attributes:
        balance: realised equity in quote currency.
        last_bar_utc, last_close: newest bar the venue has seen.
        deals: number of fills so far; fills are numbered by it.
        opened_by: client order id that opened the position.
    """

    account: str
    symbol: str
    balance: Decimal
    last_bar_utc: datetime | None = None
    last_close: float | None = None
    deals: int = 0
    position: Position | None = None
    opened_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOrder:
    """A market order at the venue; it fills at the open of the first bar after `after_bar_utc`."""

    client_order_id: str
    action: str
    side: Side
    lots: Decimal
    stop_price: Decimal | None
    take_profit_price: Decimal | None
    after_bar_utc: datetime
    state: OrderState = OrderState.ACKED
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Everything one change of an account reads and writes."""

    account: PaperAccount
    orders: Sequence[PaperOrder] = ()
    fills: Sequence[Fill] = ()


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
        self._opening = PaperAccount(account=self._account, symbol=symbol, balance=Decimal(str(cash)))

    @property
    def account(self) -> str:
        """Return the account's name."""
        return self._account

    def advance(self, bars: pl.DataFrame, *, after_fill_id: str | None, ask_about: Sequence[str] = ()) -> AccountView:
        """Live through the bars not seen yet and return the account after them."""
        books = self._ledger.change(
            self._account, self._opening, ask_about, lambda before: live_through(before, bars, self._costs)
        )
        newest = None if books.account.deals == 0 else fill_id(self._account, books.account.deals)
        unseen = newest is not None and newest != after_fill_id
        return AccountView(
            equity=equity(books.account, self._costs),
            position=books.account.position,
            last_bar_utc=books.account.last_bar_utc,
            fills=self._ledger.fills(self._account, after_fill_id) if unseen else (),
            orders={o.client_order_id: Submission(state=o.state, reason=o.reason) for o in books.orders},
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


def live_through(books: Books, bars: pl.DataFrame, costs: Costs) -> Books:
    """Return the books after every bar that the account has not seen."""
    account, orders = books.account, {o.client_order_id: o for o in books.orders}
    first = 0 if account.last_bar_utc is None else int(bars["ts_utc"].search_sorted(account.last_bar_utc, side="right"))
    unseen = bars.slice(first)
    if unseen.is_empty():
        return books
    fills: list[Fill] = []
    for row in unseen.select("ts_utc", "open", "high", "low", "close").iter_rows(named=True):
        working = [o for o in orders.values() if o.state is OrderState.ACKED]
        if account.position is None and not working:
            break  # nothing can happen in the rest
        bar = Bar(**row)
        for order in working:
            if order.after_bar_utc < bar.ts_utc:
                account, settled, fill = _execute(account, order, bar, costs)
                orders[order.client_order_id] = settled
                fills += [] if fill is None else [fill]
        account, fill = _protect(account, bar, costs)
        fills += [] if fill is None else [fill]
    newest = unseen.row(-1, named=True)
    account = replace(account, last_bar_utc=newest["ts_utc"], last_close=newest["close"])
    return Books(account=account, orders=tuple(orders.values()), fills=tuple(fills))


def equity(account: PaperAccount, costs: Costs) -> Decimal:
    """Return the balance plus what closing at the last close would bring before slippage and commission."""
    held = account.position
    if held is None or account.last_close is None:
        return account.balance
    mark = _exact(exit_price(account.last_close, held.side, replace(costs, slippage_pips=0.0), account.symbol))
    return account.balance + _profit(held, mark, account.symbol)


def fill_id(account: str, number: int) -> str:
    """Return the id of an account's n-th fill; ids sort as the fills followed each other."""
    return f"{account}/{number:08d}"


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
        after_bar_utc=books.account.last_bar_utc,
    )
    return replace(books, orders=(*books.orders, order))


def _execute(
    account: PaperAccount, order: PaperOrder, bar: Bar, costs: Costs
) -> tuple[PaperAccount, PaperOrder, Fill | None]:
    if order.action == "enter":
        return _open(account, order, bar, costs)
    held = account.position
    if held is None or held.side is order.side:
        return account, replace(order, state=OrderState.CANCELLED, reason="no position to close"), None
    price = _exact(exit_price(bar.open, held.side, costs, account.symbol))
    closed, fill = _close(account, held, price, bar.ts_utc, "market", order.client_order_id, costs)
    return closed, replace(order, state=OrderState.FILLED), fill


def _open(
    account: PaperAccount, order: PaperOrder, bar: Bar, costs: Costs
) -> tuple[PaperAccount, PaperOrder, Fill | None]:
    if account.position is not None:
        return account, replace(order, state=OrderState.REJECTED, reason="a position is open"), None
    price = _exact(entry_price(bar.open, order.side, costs, account.symbol))
    fee = _exact(commission(float(order.lots), costs))
    margin = price * order.lots * instrument(account.symbol).lot_units / Decimal(str(costs.leverage))
    if margin + fee > account.balance:
        return account, replace(order, state=OrderState.REJECTED, reason="not enough money"), None
    held = Position(
        symbol=account.symbol,
        side=order.side,
        lots=order.lots,
        entry_price=price,
        opened_utc=bar.ts_utc,
        stop_price=order.stop_price,
        take_profit_price=order.take_profit_price,
    )
    after = replace(
        account,
        balance=account.balance - fee,
        deals=account.deals + 1,
        position=held,
        opened_by=order.client_order_id,
    )
    fill = _fill(after, order.client_order_id, order.side, order.lots, price, fee, bar.ts_utc, "market")
    return after, replace(order, state=OrderState.FILLED), fill


def _protect(account: PaperAccount, bar: Bar, costs: Costs) -> tuple[PaperAccount, Fill | None]:
    held = account.position
    if held is None:
        return account, None
    levels = [None if level is None else float(level) for level in (held.stop_price, held.take_profit_price)]
    hit = protective_exit(held.side, levels[0], levels[1], bar, costs, account.symbol)
    if hit is None:
        return account, None
    return _close(account, held, _exact(hit[0]), bar.ts_utc, hit[1], account.opened_by or "", costs)


def _close(
    account: PaperAccount, held: Position, price: Decimal, at: datetime, reason: str, order_id: str, costs: Costs
) -> tuple[PaperAccount, Fill]:
    fee = _exact(commission(float(held.lots), costs))
    after = replace(
        account,
        balance=account.balance + _profit(held, price, account.symbol) - fee,
        deals=account.deals + 1,
        position=None,
        opened_by=None,
    )
    return after, _fill(after, order_id, held.side.opposite, held.lots, price, fee, at, reason)


def _fill(
    after: PaperAccount,
    order_id: str,
    side: Side,
    lots: Decimal,
    price: Decimal,
    fee: Decimal,
    at: datetime,
    reason: str,
) -> Fill:
    return Fill(
        fill_id=fill_id(after.account, after.deals),
        client_order_id=order_id,
        symbol=after.symbol,
        side=side,
        lots=lots,
        price=price,
        commission=fee,
        filled_utc=at,
        reason=reason,
    )


def _profit(held: Position, price: Decimal, symbol: str) -> Decimal:
    return held.side.sign * (price - held.entry_price) * held.lots * instrument(symbol).lot_units


def _exact(value: float) -> Decimal:
    return Decimal(f"{value:.10f}")


def realised(fills: Sequence[Fill]) -> Mapping[str, Decimal]:
    """Return what fills add up to, by pair: money in minus money out minus commissions, in quote currency."""
    total: dict[str, Decimal] = {}
    for fill in fills:
        cash = -fill.side.sign * fill.price * fill.lots * instrument(fill.symbol).lot_units - fill.commission
        total[fill.symbol] = total.get(fill.symbol, Decimal(0)) + cash
    return total
