"""Live forecasts, and what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.live_tables import QUANTILE_COLUMNS, order_intent_table
from forexgpt_core.adapters.database.live_tables import forecast_table as table
from forexgpt_core.adapters.database.tables import deployment_table
from forexgpt_core.domain.clock import Timeframe, from_utc
from forexgpt_core.live.journal import ForecastRecord
from forexgpt_core.live.maturing import StoredForecast

_NAME_LENGTH: int = table.c.calibrator.type.length  # type: ignore[attr-defined]  # a reason may be attached to the name

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ForecastRepository:
    """Forecasts of live origins, one row per horizon; a bundle's forecast of an origin is stored once."""

    database: Database

    def record(self, forecast: ForecastRecord) -> int:
        """Store a forecast made outside a tick and return how many rows were new."""
        with self.database.write() as connection:
            return self.database.insert_new(connection, table, forecast_rows(forecast, now_utc()))

    def unmatured(self, symbol: str, timeframe: str) -> list[StoredForecast]:
        """Return forecasts whose realised return is not known yet, by origin and horizon."""
        return self._select(table.c.symbol == symbol, table.c.timeframe == timeframe, table.c.matured_utc.is_(None))

    def matured(self, symbol: str, timeframe: str, since_utc: datetime | None = None) -> list[StoredForecast]:
        """Return forecasts whose realised return is known, of origins from `since_utc` on."""
        conditions = [table.c.symbol == symbol, table.c.timeframe == timeframe, table.c.matured_utc.is_not(None)]
        if since_utc is not None:
            conditions.append(table.c.origin_utc >= since_utc)
        return self._select(*conditions)

    def fill_realised(self, realised: Mapping[int, float]) -> int:
        """Store realised returns by forecast id, once each, and return how many were new."""
        now = now_utc()
        with self.database.write() as connection:
            return sum(
                connection.execute(
                    sa.update(table)
                    .where(table.c.id == forecast_id, table.c.matured_utc.is_(None))
                    .values(realised_return=value, matured_utc=now)
                ).rowcount
                for forecast_id, value in realised.items()
            )

    def forget(self, older_than_days: int = 30) -> int:
        """Delete forecasts older than this, but those of origins at which an order was decided; return how many."""
        limit = now_utc() - timedelta(days=older_than_days)
        origin = (table.c.symbol, table.c.timeframe, table.c.bundle_hash, table.c.origin_utc)
        with self.database.read() as connection:
            traded = traded_origins(connection)
            old = connection.execute(sa.select(*origin, table.c.id).where(table.c.recorded_utc < limit)).all()
        gone = [row.id for row in old if tuple(row[:4]) not in traded]
        for start in range(0, len(gone), _AT_ONCE):
            with self.database.write() as connection:  # short, because SQLite lets nobody else write meanwhile
                connection.execute(sa.delete(table).where(table.c.id.in_(gone[start : start + _AT_ONCE])))
        return len(gone)

    def _select(self, *conditions: sa.ColumnElement[bool]) -> list[StoredForecast]:
        query = sa.select(table).where(*conditions).order_by(table.c.origin_utc, table.c.horizon_bars)
        with self.database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_stored(row) for row in rows]


def traded_origins(connection: Connection) -> set[tuple[Any, ...]]:
    """Return (symbol, timeframe, bundle, origin) of every bar at which an order was decided.

    A forecast is a bundle's and is stored once, so it belongs to the orders of all deployments of that bundle.
    """
    d, i = deployment_table, order_intent_table
    ordered = sa.select(d.c.symbol, d.c.timeframe, d.c.bundle_hash, i.c.bar_close_utc).join_from(d, i).distinct()
    return {
        (symbol, timeframe, bundle, close - timedelta(seconds=Timeframe(timeframe).seconds))
        for symbol, timeframe, bundle, close in connection.execute(ordered)
    }


def forecast_rows(forecast: ForecastRecord, recorded_utc: datetime) -> Sequence[dict[str, Any]]:
    """Return the rows of a forecast of one origin, one per horizon."""
    batch = forecast.batch
    return [
        {
            "deployment_id": forecast.deployment_id,
            "bundle_hash": forecast.bundle_hash,
            "family": batch.family,
            "symbol": batch.symbol,
            "timeframe": str(batch.timeframe),
            "origin_utc": from_utc(batch.origin_utc[row]),
            "horizon_bars": int(horizon),
            **dict(zip(QUANTILE_COLUMNS, map(float, batch.quantiles[row, column]))),
            "scale": float(batch.scale[row, column]),
            "latency_ms": forecast.latency_ms,
            "input_hash": forecast.input_hash,
            "calibrator": None if forecast.calibrator is None else forecast.calibrator[:_NAME_LENGTH],
            "calibrator_version": forecast.calibrator_version,
            "recorded_utc": recorded_utc,
        }
        for row in range(len(batch))
        for column, horizon in enumerate(batch.horizons_bars)
    ]


def _stored(row: Any) -> StoredForecast:
    return StoredForecast(
        forecast_id=row["id"],
        family=row["family"],
        bundle_hash=row["bundle_hash"],
        origin_utc=row["origin_utc"],
        horizon_bars=row["horizon_bars"],
        quantiles=np.array([row[name] for name in QUANTILE_COLUMNS]),
        scale=row["scale"],
        realised_return=row["realised_return"],
    )
