"""Deployments, and what the account may do now."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.live_tables import trading_state_table as state_table
from forexgpt_core.adapters.database.tables import deployment_table as table
from forexgpt_core.adapters.database.tables import strategy_config_table as config_table
from forexgpt_core.deployment.records import Deployment, DeploymentRequest, Skill
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import TradingState
from forexgpt_core.strategy.config import StrategyConfig

EVERYTHING = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """One change of what may be traded: of a pair, or of "all"."""

    scope: str
    state: TradingState
    reason: str
    changed_by: str
    changed_utc: datetime


class DeploymentRepository:
    """Who deployed what. A pair has at most one active deployment; earlier ones stay as history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Make the request the active deployment of its pair; what is active already is returned unchanged."""
        with self._database.write() as connection:
            self._database.serialise(connection, f"deployment {request.symbol}")
            row = connection.execute(_select().where(table.c.symbol == request.symbol, table.c.active)).one_or_none()
            if row is not None and request.same_as(_deployment(row)):
                return _deployment(row)
            now = now_utc()
            connection.execute(
                sa.update(table)
                .where(table.c.symbol == request.symbol, table.c.active)
                .values(active=False, ended_utc=now)
            )
            config = {
                "hash12": request.config.hash12,
                "document": asdict(request.config),
                "first_seen_utc": now,
            }
            self._database.insert_new(connection, config_table, [config])
            identity = request.identity(now)
            connection.execute(sa.insert(table).values(**_values(request, identity, now)))
            return _deployment(connection.execute(_select().where(table.c.deployment_id == identity)).one())

    def retire(self, symbol: str) -> bool:
        """End the active deployment of a pair without a new one, and return whether there was one."""
        with self._database.write() as connection:
            ended = connection.execute(
                sa.update(table)
                .where(table.c.symbol == symbol, table.c.active)
                .values(active=False, ended_utc=now_utc())
            )
            return bool(ended.rowcount)

    def active(self, symbol: str, timeframe: str | None = None) -> Deployment | None:
        """Return the active deployment of a pair, None where there is none (on that timeframe)."""
        query = _select().where(table.c.symbol == symbol, table.c.active)
        if timeframe is not None:
            query = query.where(table.c.timeframe == timeframe)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _deployment(row)

    def all_active(self) -> list[Deployment]:
        """Return every active deployment, by pair."""
        with self._database.read() as connection:
            rows = connection.execute(_select().where(table.c.active).order_by(table.c.symbol)).all()
        return [_deployment(row) for row in rows]

    def history(self, symbol: str | None = None) -> list[Deployment]:
        """Return deployments, the newest first."""
        query = _select().order_by(table.c.approved_utc.desc())
        if symbol is not None:
            query = query.where(table.c.symbol == symbol)
        with self._database.read() as connection:
            return [_deployment(row) for row in connection.execute(query)]

    def protected_bundles(self) -> set[str]:
        """Return every bundle that a deployment ever named; they are kept for ever."""
        with self._database.read() as connection:
            return set(connection.execute(sa.select(table.c.bundle_hash).distinct()).scalars())


class TradingStateRepository:
    """What may be traded now, of a pair and of everything; the stricter one holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, state: TradingState, *, reason: str, by: str, scope: str = EVERYTHING) -> None:
        """Change the state of a pair or of "all"; it holds from the next tick and survives a restart."""
        with self._database.write() as connection:
            connection.execute(
                sa.insert(state_table).values(
                    scope=scope, state=state.value, reason=reason, changed_by=by, changed_utc=now_utc()
                )
            )

    def get(self, symbol: str | None = None) -> StateChange | None:
        """Return the change that holds for a pair (or for all), None where nobody ever changed anything."""
        scopes = [EVERYTHING] if symbol is None else [EVERYTHING, symbol]
        with self._database.read() as connection:
            return strictest(connection, scopes)

    def history(self) -> list[StateChange]:
        """Return every change, the newest first."""
        with self._database.read() as connection:
            return [
                _change(row) for row in connection.execute(sa.select(state_table).order_by(state_table.c.id.desc()))
            ]


def strictest(connection: sa.Connection, scopes: list[str]) -> StateChange | None:
    """Return the strictest of the newest changes of some scopes."""
    newest = (
        sa.select(sa.func.max(state_table.c.id)).where(state_table.c.scope.in_(scopes)).group_by(state_table.c.scope)
    )
    rows = connection.execute(sa.select(state_table).where(state_table.c.id.in_(newest))).all()
    order = list(TradingState)
    return max((_change(row) for row in rows), key=lambda change: order.index(change.state), default=None)


def _change(row: Any) -> StateChange:
    return StateChange(
        scope=row.scope,
        state=TradingState(row.state),
        reason=row.reason,
        changed_by=row.changed_by,
        changed_utc=row.changed_utc,
    )


def _select() -> sa.Select[Any]:
    return sa.select(table, config_table.c.document).join(config_table, config_table.c.hash12 == table.c.config_hash)


def _values(request: DeploymentRequest, identity: str, now: datetime) -> Mapping[str, Any]:
    return {
        "deployment_id": identity,
        "symbol": request.symbol,
        "timeframe": request.timeframe,
        "bundle_hash": request.bundle_hash,
        "config_hash": request.config.hash12,
        "costs": asdict(request.costs),
        "approved_by": request.approved_by,
        "approved_utc": now,
        "reason": request.reason,
        "allow_no_skill": request.allow_no_skill,
        "skill": None if request.skill is None else asdict(request.skill),
        "active": True,
    }


def _deployment(row: Any) -> Deployment:
    return Deployment(
        deployment_id=row.deployment_id,
        symbol=row.symbol,
        timeframe=row.timeframe,
        bundle_hash=row.bundle_hash,
        config=StrategyConfig(**row.document),
        costs=Costs(**row.costs),
        approved_by=row.approved_by,
        approved_utc=row.approved_utc,
        reason=row.reason,
        allow_no_skill=row.allow_no_skill,
        skill=None if row.skill is None else Skill(**row.skill),
        active=row.active,
    )
