"""The order journal in the database: unique ids, guarded transitions, leases with epochs."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.deployments import EVERYTHING, strictest
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.forecasts import forecast_rows
from forexgpt_core.adapters.database.live_tables import (
    fill_table,
    forecast_table,
    live_decision_table,
    live_lease_table,
    order_event_table,
    order_intent_table,
    position_table,
    trading_state_table,
)
from forexgpt_core.domain.orders import Fill, OrderIntent, OrderState, Position, Protection, Side, TradingState
from forexgpt_core.live.journal import (
    ALLOWED,
    OPEN_STATES,
    DecisionRecord,
    ForecastRecord,
    JournalView,
    Lease,
    OpenIntent,
    after_fill,
)

_INTENT_FIELDS = tuple(OrderIntent.__dataclass_fields__)
_FILL_FIELDS = tuple(Fill.__dataclass_fields__)
_POSITION_FIELDS = tuple(Position.__dataclass_fields__)


class DatabaseJournal:
    """The journal of `live.journal`. Every method is one transaction.

    Args:
        clock: tells leases whether they have expired; the clock on the wall but in tests.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now_utc) -> None:
        self._database, self._clock = database, clock

    # ---- leases

    def acquire_lease(self, account: str, owner: str, ttl_seconds: float) -> Lease | None:
        """Take or renew the lease; None while another owner holds it. A change of owner raises the epoch."""
        t, now = live_lease_table, self._clock()
        until = now + timedelta(seconds=ttl_seconds)
        with self._database.write() as connection:
            first = {"account": account, "owner": owner, "epoch": 1, "expires_utc": until}
            if self._database.insert_new(connection, t, [first]):
                return Lease(account=account, owner=owner, epoch=1, expires_utc=until)
            row = connection.execute(sa.select(t).where(t.c.account == account).with_for_update()).one()
            if row.owner != owner and row.expires_utc > now:
                return None
            epoch = row.epoch if row.owner == owner else row.epoch + 1
            connection.execute(
                sa.update(t).where(t.c.account == account).values(owner=owner, epoch=epoch, expires_utc=until)
            )
            return Lease(account=account, owner=owner, epoch=epoch, expires_utc=until)

    def release_lease(self, lease: Lease) -> None:
        """Give the lease back, unless somebody else has it by now."""
        t = live_lease_table
        with self._database.write() as connection:
            connection.execute(
                sa.update(t)
                .where(t.c.account == lease.account, t.c.epoch == lease.epoch)
                .values(expires_utc=self._clock())
            )

    # ---- reading

    def look(self, *, deployment_id: str, account: str, symbol: str, bar_close_utc: datetime) -> JournalView:
        """Return what the journal knows."""
        day = bar_close_utc.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        t, d = order_intent_table, live_decision_table
        with self._database.read() as connection:
            state = strictest(connection, [EVERYTHING, symbol])
            decided = connection.execute(
                sa.select(sa.literal(1)).where(d.c.deployment_id == deployment_id, d.c.bar_close_utc == bar_close_utc)
            ).scalar_one_or_none()
            open_rows = connection.execute(
                sa.select(t)
                .where(t.c.account == account, t.c.state.in_([s.value for s in OPEN_STATES]))
                .order_by(t.c.bar_close_utc, t.c.client_order_id)
            ).all()
            last_fill = connection.execute(
                sa.select(sa.func.max(fill_table.c.fill_id)).where(fill_table.c.account == account)
            ).scalar_one()
            today = connection.execute(
                sa.select(sa.func.count())
                .select_from(t)
                .where(t.c.account == account, t.c.bar_close_utc >= day, t.c.bar_close_utc < day + timedelta(days=1))
            ).scalar_one()
            position = _position(connection, account)
        return JournalView(
            trading_state=TradingState.ACTIVE if state is None else state.state,
            state_reason="" if state is None else state.reason,
            decided=decided is not None,
            open_intents=[OpenIntent(intent=_intent(row), state=OrderState(row.state)) for row in open_rows],
            last_fill_id=last_fill,
            orders_today=int(today),
            position=position,
        )

    def position(self, account: str) -> Position | None:
        """Return what the booked fills leave open."""
        with self._database.read() as connection:
            return _position(connection, account)

    def fills(self, account: str) -> list[Fill]:
        """Return every booked fill of an account, in order."""
        t = fill_table
        with self._database.read() as connection:
            rows = connection.execute(sa.select(t).where(t.c.account == account).order_by(t.c.fill_id)).all()
        return [_fill(row) for row in rows]

    def decisions(self, deployment_id: str) -> list[DecisionRecord]:
        """Return every decision of a deployment, the oldest first."""
        t = live_decision_table
        query = sa.select(t).where(t.c.deployment_id == deployment_id).order_by(t.c.bar_close_utc)
        names = DecisionRecord.__dataclass_fields__
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [DecisionRecord(**{n: row[n] for n in names} | {"vetoes": tuple(row["vetoes"])}) for row in rows]

    def intents(self, account: str) -> list[OpenIntent]:
        """Return every intent of an account with its state, open or not, the oldest first."""
        t = order_intent_table
        query = sa.select(t).where(t.c.account == account).order_by(t.c.bar_close_utc, t.c.client_order_id)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [OpenIntent(intent=_intent(row), state=OrderState(row.state)) for row in rows]

    def events(self, client_order_id: str) -> list[tuple[OrderState, str]]:
        """Return the states an order went through, with reasons."""
        t = order_event_table
        query = sa.select(t.c.state, t.c.reason).where(t.c.client_order_id == client_order_id).order_by(t.c.id)
        with self._database.read() as connection:
            return [(OrderState(row.state), row.reason) for row in connection.execute(query)]

    # ---- writing

    def commit_decision(
        self,
        decision: DecisionRecord,
        *,
        forecast: ForecastRecord | None = None,
        intent: OrderIntent | None = None,
        intended_price: Decimal | None = None,
    ) -> bool:
        """Store a decision with its forecast and intent, all or nothing; False when the bar was decided before."""
        now = self._clock()
        row = {name: getattr(decision, name) for name in DecisionRecord.__dataclass_fields__}
        row |= {"vetoes": list(decision.vetoes), "recorded_utc": now}
        with self._database.write() as connection:
            if not self._database.insert_new(connection, live_decision_table, [row]):
                return False
            if forecast is not None:
                self._database.insert_new(connection, forecast_table, forecast_rows(forecast, now))
            if intent is not None:
                assert intended_price is not None
                self._insert_intent(connection, intent, decision.account, intended_price)
            return True

    def commit_intent(self, intent: OrderIntent, *, account: str, intended_price: Decimal) -> bool:
        """Store an intent and return whether it is new."""
        with self._database.write() as connection:
            return self._insert_intent(connection, intent, account, intended_price)

    def begin_sending(self, client_order_id: str, lease: Lease) -> bool:
        """Move INTENT to SENDING if the lease still holds in this very transaction; False where it may not be sent."""
        t = live_lease_table
        with self._database.write() as connection:
            holds = connection.execute(
                sa.select(sa.literal(1))
                .where(t.c.account == lease.account, t.c.epoch == lease.epoch, t.c.expires_utc > self._clock())
                .with_for_update()
            ).scalar_one_or_none()
            if holds is None:
                return False
            return self._move(connection, client_order_id, OrderState.SENDING, "", lease.epoch)

    def mark(self, client_order_id: str, state: OrderState, reason: str, lease: Lease | None = None) -> bool:
        """Move an intent to `state` where ALLOWED permits, and return whether it moved."""
        with self._database.write() as connection:
            return self._move(connection, client_order_id, state, reason, None if lease is None else lease.epoch)

    def book_fills(self, account: str, fills: Sequence[Fill]) -> Position | None:
        """Book each fill once, move its intent to FILLED, and return the open position after them."""
        now = self._clock()
        with self._database.write() as connection:
            self._database.serialise(connection, f"position {account}")
            held = _position(connection, account)
            for fill in fills:
                row = {name: getattr(fill, name) for name in _FILL_FIELDS} | {"account": account, "recorded_utc": now}
                row["side"] = fill.side.value
                if not self._database.insert_new(connection, fill_table, [row]):
                    continue
                held = after_fill(held, fill, self._protection(connection, fill.client_order_id))
                self._settle_filled(connection, fill)
            _store_position(connection, account, held)
            return held

    def move_stop(self, account: str, stop_price: Decimal) -> None:
        """Note where the venue's trailing stop stands now; nothing where no position is open."""
        t = position_table
        with self._database.write() as connection:
            connection.execute(sa.update(t).where(t.c.account == account).values(stop_price=stop_price))

    def halt(self, symbol: str, reason: str) -> None:
        """Set a pair HALTED, by the guard."""
        with self._database.write() as connection:
            connection.execute(
                sa.insert(trading_state_table).values(
                    scope=symbol,
                    state=TradingState.HALTED.value,
                    reason=reason,
                    changed_by="guard",
                    changed_utc=self._clock(),
                )
            )

    # ---- inside a transaction

    def _insert_intent(self, connection: Connection, intent: OrderIntent, account: str, price: Decimal) -> bool:
        row = {name: getattr(intent, name) for name in _INTENT_FIELDS}
        row |= {
            "side": intent.side.value,
            "account": account,
            "intended_price": price,
            "state": OrderState.INTENT.value,
            "recorded_utc": self._clock(),
        }
        if not self._database.insert_new(connection, order_intent_table, [row]):
            return False
        self._event(connection, intent.client_order_id, OrderState.INTENT, intent.reason, None)
        return True

    def _move(
        self, connection: Connection, client_order_id: str, state: OrderState, reason: str, epoch: int | None
    ) -> bool:
        before = [known.value for known, following in ALLOWED.items() if state in following]
        t = order_intent_table
        moved = connection.execute(
            sa.update(t).where(t.c.client_order_id == client_order_id, t.c.state.in_(before)).values(state=state.value)
        ).rowcount
        if moved:
            self._event(connection, client_order_id, state, reason, epoch)
        return bool(moved)

    def _event(
        self, connection: Connection, client_order_id: str, state: OrderState, reason: str, epoch: int | None
    ) -> None:
        connection.execute(
            sa.insert(order_event_table).values(
                client_order_id=client_order_id,
                state=state.value,
                reason=reason,
                lease_epoch=epoch,
                recorded_utc=self._clock(),
            )
        )

    def _settle_filled(self, connection: Connection, fill: Fill) -> None:
        """Move the fill's order to FILLED or PARTIAL; a protective exit belongs to an order at its end already."""
        booked = connection.execute(
            sa.select(fill_table.c.lots).where(
                fill_table.c.client_order_id == fill.client_order_id, fill_table.c.side == fill.side.value
            )
        ).scalars()
        ordered = connection.execute(
            sa.select(order_intent_table.c.side, order_intent_table.c.lots).where(
                order_intent_table.c.client_order_id == fill.client_order_id
            )
        ).one()
        if ordered.side == fill.side.value:
            whole = sum(booked, Decimal(0)) >= ordered.lots
            state = OrderState.FILLED if whole else OrderState.PARTIAL
            self._move(connection, fill.client_order_id, state, fill.reason, None)

    @staticmethod
    def _protection(connection: Connection, client_order_id: str) -> Protection:
        t = order_intent_table
        row = connection.execute(
            sa.select(t.c.stop_price, t.c.take_profit_price, t.c.trail_distance).where(
                t.c.client_order_id == client_order_id
            )
        ).one_or_none()
        return Protection() if row is None else Protection(*row)


def _position(connection: Connection, account: str) -> Position | None:
    row = connection.execute(sa.select(position_table).where(position_table.c.account == account)).one_or_none()
    if row is None:
        return None
    values = {name: getattr(row, name) for name in _POSITION_FIELDS}
    return Position(**values | {"side": Side(row.side)})


def _store_position(connection: Connection, account: str, held: Position | None) -> None:
    connection.execute(sa.delete(position_table).where(position_table.c.account == account))
    if held is not None:
        row = {name: getattr(held, name) for name in _POSITION_FIELDS} | {"account": account, "side": held.side.value}
        connection.execute(sa.insert(position_table).values(**row))


def _intent(row: Any) -> OrderIntent:
    return OrderIntent(**{name: getattr(row, name) for name in _INTENT_FIELDS} | {"side": Side(row.side)})


def _fill(row: Any) -> Fill:
    return Fill(**{name: getattr(row, name) for name in _FILL_FIELDS} | {"side": Side(row.side)})
