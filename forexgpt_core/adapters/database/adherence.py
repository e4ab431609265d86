"""How faithfully orders followed decisions, read from intents, events and fills."""

from dataclasses import asdict
from decimal import Decimal

import sqlalchemy as sa

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.live_tables import adherence_metric_table, fill_table, order_intent_table
from forexgpt_core.domain.orders import OrderState, Side
from forexgpt_core.live.adherence import Adherence, OrderOutcome


class AdherenceRepository:
    """Outcomes of a deployment's orders, and the figures computed from them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def outcomes(self, deployment_id: str) -> list[OrderOutcome]:
        """Return what became of every order of a deployment, with the mean price of its fills."""
        i, f = order_intent_table, fill_table
        with self._database.read() as connection:
            intents = connection.execute(
                sa.select(i).where(i.c.deployment_id == deployment_id).order_by(i.c.bar_close_utc)
            ).all()
            fills = connection.execute(
                sa.select(f.c.client_order_id, f.c.side, f.c.lots, f.c.price)
                .join(i, i.c.client_order_id == f.c.client_order_id)
                .where(i.c.deployment_id == deployment_id, f.c.side == i.c.side)
            ).all()
        paid: dict[str, list[tuple[Decimal, Decimal]]] = {}
        for fill in fills:
            paid.setdefault(fill.client_order_id, []).append((fill.lots, fill.price))
        return [
            OrderOutcome(
                symbol=row.symbol,
                side=Side(row.side),
                state=OrderState(row.state),
                lots=row.lots,
                filled_lots=sum((lots for lots, _ in paid.get(row.client_order_id, [])), Decimal(0)),
                intended_price=row.intended_price,
                fill_price=_mean(paid.get(row.client_order_id, [])),
            )
            for row in intents
        ]

    def record(self, deployment_id: str, figures: Adherence) -> None:
        """Store the figures of a deployment as they are now."""
        with self._database.write() as connection:
            connection.execute(
                sa.insert(adherence_metric_table).values(
                    deployment_id=deployment_id, recorded_utc=now_utc(), **asdict(figures)
                )
            )


def _mean(fills: list[tuple[Decimal, Decimal]]) -> Decimal | None:
    lots = sum((lots for lots, _ in fills), Decimal(0))
    return None if lots == 0 else sum((n * price for n, price in fills), Decimal(0)) / lots
