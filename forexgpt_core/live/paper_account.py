"""How bars happen to a paper account, as in `backtest.kernels` step by step.

Swap first, then orders, then what lies inside the bar, the mark at its close, and the trailing stop. Prices come from
the same quotes and money from the same functions as there; what is kept is Decimal, which is why it is counted in
account currency here to the tenth decimal.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

import polars as pl

from forexgpt_core.backtest.fills import QuotedBar, closing_price, opening_price, protective_exit, quoted_bar
from forexgpt_core.domain import money
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import Fill, OrderState, Position, Side, exact_money, exact_price
from forexgpt_core.errors import BadInput
from forexgpt_core.live.quoting import quotes_from
from forexgpt_core.strategy import rules


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperAccount:
    """The venue's book of one account. Money is in account currency.

    Attributes:
        balance: without what the open position has gained.
        equity: at the close of the newest bar, the position marked at what closing it would bring before slippage and
            commission; 0 where that is less.
        margin: what the position ties up, as it was at its entry.
        swap: booked on the position so far.
        last_bar_utc: open of the newest bar the venue has seen.
        deals: number of fills so far; fills are numbered by it.
        opened_by: client order id that opened the position.
    """

    account: str
    symbol: str
    balance: Decimal
    equity: Decimal
    margin: Decimal = Decimal(0)
    swap: Decimal = Decimal(0)
    last_bar_utc: datetime | None = None
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
    trail_distance: float | None = None
    state: OrderState = OrderState.ACKED
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Everything one change of an account reads and writes."""

    account: PaperAccount
    orders: Sequence[PaperOrder] = ()
    fills: Sequence[Fill] = ()


def fill_id(account: str, number: int) -> str:
    """Return the id of an account's n-th fill; ids sort as the fills followed each other."""
    return f"{account}/{number:08d}"


def live_through(books: Books, bars: pl.DataFrame, costs: Costs, rates: Mapping[str, pl.DataFrame]) -> Books:
    """Return the books after every bar that the account has not seen."""
    account = books.account
    first = 0 if account.last_bar_utc is None else int(bars["ts_utc"].search_sorted(account.last_bar_utc, side="right"))
    unseen = bars["ts_utc"].slice(first)
    if unseen.is_empty():
        return books
    life = _Life(account=account, costs=costs, orders={o.client_order_id: o for o in books.orders})
    if life.busy():
        if first == 0:
            raise BadInput(
                f"the candles of {account.symbol} begin at {unseen[0]}, after {account.last_bar_utc}, up to which"
                f" {account.account} has lived: hand over those between"
            )
        quotes, start = quotes_from(bars, first, costs, symbol=account.symbol, rates=rates)
        life.lot_units, life.base_is_account = quotes.lot_units, quotes.base_is_account
        for place, moment in enumerate(unseen, start):
            life.live(quoted_bar(quotes, place), moment)
            if not life.busy():
                break  # nothing can happen in the rest
    return Books(
        account=replace(life.account, last_bar_utc=unseen[-1]),
        orders=tuple(life.orders.values()),
        fills=tuple(life.fills),
    )


@dataclass(slots=True, kw_only=True)
class _Life:
    """An account while bars happen to it."""

    account: PaperAccount
    costs: Costs
    orders: dict[str, PaperOrder]
    fills: list[Fill] = field(default_factory=list)
    lot_units: float = 0.0
    base_is_account: bool = False

    def busy(self) -> bool:
        """Return whether anything can happen: a position is open, or an order waits."""
        return self.account.position is not None or any(o.state is OrderState.ACKED for o in self.orders.values())

    def live(self, bar: QuotedBar, moment: datetime) -> None:
        """Let a bar happen, in the order of `backtest.kernels`."""
        self._book_swap(bar)
        for order in list(self.orders.values()):
            if order.state is OrderState.ACKED and order.after_bar_utc < moment:
                self._execute(order, bar, moment)
        self._protect(bar, moment)
        self._mark(bar, moment)
        self._trail(bar.bid_close)

    def _book_swap(self, bar: QuotedBar) -> None:
        held, account = self.account.position, self.account
        if held is None:
            return
        per_unit = bar.swap_long if held.side is Side.BUY else bar.swap_short
        if per_unit == 0:
            return
        paid = exact_money(
            money.swap_in_account(self._units(held.lots), per_unit, bar.bid_open, bar.rate_open, self.base_is_account)
        )
        self.account = replace(account, balance=account.balance + paid, swap=account.swap + paid)

    def _execute(self, order: PaperOrder, bar: QuotedBar, moment: datetime) -> None:
        held = self.account.position
        price = opening_price(order.side, bar)
        if order.action == "enter":
            refused = self._open(order, price, bar.rate_open, moment)
            self._settle(order, OrderState.REJECTED if refused else OrderState.FILLED, refused)
        elif held is None or held.side is order.side:
            self._settle(order, OrderState.CANCELLED, "no position to close")
        else:
            self._close(held, price, bar.rate_open, moment, "market", order.client_order_id)
            self._settle(order, OrderState.FILLED)

    def _settle(self, order: PaperOrder, state: OrderState, reason: str = "") -> None:
        self.orders[order.client_order_id] = replace(order, state=state, reason=reason or order.reason)

    def _open(self, order: PaperOrder, price: float, rate: float, moment: datetime) -> str:
        """Open a position, or return why not."""
        account, costs = self.account, self.costs
        if account.position is not None:
            return "a position is open"
        margin = money.margin(self._units(order.lots), price, rate, costs.leverage, self.base_is_account)
        fee = self._fee(order.lots, price, rate)
        if margin + fee > float(account.balance):
            return "not enough money"
        self.account = replace(
            account,
            balance=account.balance - exact_money(fee),
            margin=exact_money(margin),
            swap=Decimal(0),
            position=Position(
                symbol=account.symbol,
                side=order.side,
                lots=order.lots,
                entry_price=exact_price(price),
                opened_utc=moment,
                stop_price=order.stop_price,
                take_profit_price=order.take_profit_price,
                trail_distance=order.trail_distance,
            ),
            opened_by=order.client_order_id,
        )
        self._fill(order.client_order_id, order.side, order.lots, price, fee, moment, "market")
        return ""

    def _protect(self, bar: QuotedBar, moment: datetime) -> None:
        held = self.account.position
        if held is None:
            return
        stop, target = (None if p is None else float(p) for p in (held.stop_price, held.take_profit_price))
        hit = protective_exit(held.side, stop, target, bar, stop_out_price=self._stop_out_price(held, bar))
        if hit is not None:
            self._close(held, hit[0], bar.rate_open, moment, hit[1], self.account.opened_by or "")

    def _stop_out_price(self, held: Position, bar: QuotedBar) -> float | None:
        """Return where the broker closes the position, None where the bar does not bring it there."""
        worst = bar.bid_low if held.side is Side.BUY else bar.ask_high
        margin, balance, ratio = float(self.account.margin), float(self.account.balance), self.costs.stop_out
        if ratio == 0 or balance + self._profit(held, worst, bar.rate_open) > ratio * margin:
            return None
        return money.liquidation_price(
            balance,
            held.side.sign,
            self._units(held.lots),
            float(held.entry_price),
            margin,
            ratio,
            bar.rate_open,
            self.base_is_account,
        )

    def _mark(self, bar: QuotedBar, moment: datetime) -> None:
        """Reckon the equity at the close; a position that has eaten it all up is closed there."""
        held, equity = self.account.position, self.account.balance
        if held is not None:
            mark = bar.bid_close if held.side is Side.BUY else bar.ask_close
            equity += exact_money(self._profit(held, mark, bar.rate_close))
            if equity <= 0:
                price = closing_price(held.side.opposite, bar)
                self._close(held, price, bar.rate_close, moment, "ruin", self.account.opened_by or "")
        self.account = replace(self.account, equity=max(equity, Decimal(0)))

    def _trail(self, close: float) -> None:
        held = self.account.position
        if held is None or held.trail_distance is None:
            return
        sign = held.side.sign
        stop = -sign * math.inf if held.stop_price is None else float(held.stop_price)
        moved = exact_price(rules.trailed(stop, sign, close, held.trail_distance))
        self.account = replace(self.account, position=replace(held, stop_price=moved))

    def _close(
        self, held: Position, price: float, rate: float, moment: datetime, reason: str, client_order_id: str
    ) -> None:
        account, fee = self.account, self._fee(held.lots, price, rate)
        profit = exact_money(self._profit(held, price, rate))
        self.account = replace(
            account,
            balance=account.balance + profit - exact_money(fee),
            margin=Decimal(0),
            swap=Decimal(0),
            position=None,
            opened_by=None,
        )
        side, swap = held.side.opposite, account.swap
        self._fill(client_order_id, side, held.lots, price, fee, moment, reason, profit=profit, swap=swap)

    def _fill(
        self,
        client_order_id: str,
        side: Side,
        lots: Decimal,
        price: float,
        fee: float,
        moment: datetime,
        reason: str,
        *,
        profit: Decimal | None = None,
        swap: Decimal | None = None,
    ) -> None:
        self.account = replace(self.account, deals=self.account.deals + 1)
        self.fills.append(
            Fill(
                fill_id=fill_id(self.account.account, self.account.deals),
                client_order_id=client_order_id,
                symbol=self.account.symbol,
                side=side,
                lots=lots,
                price=exact_price(price),
                commission=exact_money(fee),
                filled_utc=moment,
                reason=reason,
                profit=profit,
                swap=swap,
            )
        )

    def _units(self, lots: Decimal) -> float:
        return float(lots) * self.lot_units

    def _fee(self, lots: Decimal, price: float, rate: float) -> float:
        per_lot, percent = self.costs.commission_per_lot, self.costs.commission_percent
        return money.commission_of(float(lots), self._units(lots), price, rate, per_lot, percent, self.base_is_account)

    def _profit(self, held: Position, price: float, rate: float) -> float:
        units, entry = self._units(held.lots), float(held.entry_price)
        return money.profit_in_account(held.side.sign, units, entry, price, rate, self.base_is_account)
