"""The books of the paper venue, apart from the journal."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.live_tables import paper_account_table, paper_deal_table, paper_order_table
from forexgpt_core.domain.orders import Fill, OrderState, Position, Side
from forexgpt_core.live.paper import Books, PaperAccount, PaperOrder

_HELD = ("side", "lots", "entry_price", "opened_utc", "stop_price", "take_profit_price", "trail_distance")


class DatabaseLedger:
    """The ledger of `live.paper`: one change of an account at a time, stored whole or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def change(
        self, account: str, opening: PaperAccount, ask_about: Sequence[str], change: Callable[[Books], Books]
    ) -> Books:
        """Run `change` on the account's working orders and those asked about, alone, and store what it returns."""
        with self._database.write() as connection:
            before = self._load(connection, account, opening, ask_about)
            after = change(before)
            self._store(connection, before, after)
            return after

    def fills(self, account: str, after_fill_id: str | None) -> list[Fill]:
        """Return the account's fills after one of them, in order."""
        t = paper_deal_table
        query = sa.select(t).where(t.c.account == account).order_by(t.c.fill_id)
        if after_fill_id is not None:
            query = query.where(t.c.fill_id > after_fill_id)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        names = [f.name for f in fields(Fill)]
        return [Fill(**{name: row[name] for name in names} | {"side": Side(row["side"])}) for row in rows]

    def _load(self, connection: Connection, account: str, opening: PaperAccount, ask_about: Sequence[str]) -> Books:
        t, o = paper_account_table, paper_order_table
        query = sa.select(t).where(t.c.account == account).with_for_update()
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            self._database.insert_new(connection, t, [_account_row(opening)])
            row = connection.execute(query).mappings().one()
        working = sa.and_(o.c.account == account, o.c.state == OrderState.ACKED.value)
        wanted = sa.or_(working, o.c.client_order_id.in_(list(ask_about))) if ask_about else working
        orders = connection.execute(
            sa.select(o).where(wanted).order_by(o.c.after_bar_utc, o.c.client_order_id)
        ).mappings()
        return Books(account=_account(row), orders=tuple(_order(order) for order in orders))

    @staticmethod
    def _store(connection: Connection, before: Books, after: Books) -> None:
        t, o = paper_account_table, paper_order_table
        if after.account != before.account:
            row = _account_row(after.account)
            connection.execute(sa.update(t).where(t.c.account == after.account.account).values(**row))
        known = {order.client_order_id: order for order in before.orders}
        for order in after.orders:
            values = {f.name: getattr(order, f.name) for f in fields(PaperOrder)}
            values |= {"side": order.side.value, "state": order.state.value, "account": after.account.account}
            if order.client_order_id not in known:
                connection.execute(sa.insert(o).values(**values))
            elif order != known[order.client_order_id]:
                connection.execute(sa.update(o).where(o.c.client_order_id == order.client_order_id).values(**values))
        for fill in after.fills:
            values = {f.name: getattr(fill, f.name) for f in fields(Fill)}
            values |= {"side": fill.side.value, "account": after.account.account}
            connection.execute(sa.insert(paper_deal_table).values(**values))


def _account_row(account: PaperAccount) -> dict[str, Any]:
    held = account.position
    row: dict[str, Any] = {f.name: getattr(account, f.name) for f in fields(PaperAccount) if f.name != "position"}
    row |= {name: None if held is None else getattr(held, name) for name in _HELD}
    return row | {"side": None if held is None else held.side.value}


def _account(row: Any) -> PaperAccount:
    held = None
    if row["side"] is not None:
        held = Position(symbol=row["symbol"], **{n: row[n] for n in _HELD} | {"side": Side(row["side"])})
    values = {f.name: row[f.name] for f in fields(PaperAccount) if f.name != "position"}
    return PaperAccount(**values, position=held)


def _order(row: Any) -> PaperOrder:
    values = {f.name: row[f.name] for f in fields(PaperOrder)}
    return PaperOrder(**values | {"side": Side(row["side"]), "state": OrderState(row["state"])})
