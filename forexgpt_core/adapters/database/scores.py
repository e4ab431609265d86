"""Scores of forecasts and strategies: evaluation, live and backtest rows in one table."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.tables import SCORE_COLUMNS, ensemble_weight_table
from forexgpt_core.adapters.database.tables import performance_metric_table as table
from forexgpt_core.errors import BadInput

_KEYS = ("symbol", "timeframe", "family", "bundle_hash", "source", "horizon_bars", "day", "n")


class ScoresRepository:
    """Scores by pair, family and bundle. Replacing is atomic: a reader sees the old rows or the new ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace_evaluation(
        self, symbol: str, timeframe: str, family: str, bundle_hash: str, rows: Sequence[Mapping[str, Any]]
    ) -> int:
        """Store the evaluation of a bundle instead of an earlier one of it, and return the number of rows.

        Args:
            rows: per horizon (`day` absent) and, if wanted, per day: `horizon_bars`, `n` and any of SCORE_COLUMNS.
                Other keys are kept under `details`; a number that is not finite is stored as missing.
        """
        return self._replace(symbol, timeframe, family, bundle_hash, "evaluation", rows)

    def replace_backtest(
        self, symbol: str, timeframe: str, family: str, bundle_hash: str, rows: Sequence[Mapping[str, Any]]
    ) -> int:
        """Store the backtest figures of a bundle instead of earlier ones of it."""
        return self._replace(symbol, timeframe, family, bundle_hash, "backtest", rows)

    def merge_live(self, symbol: str, timeframe: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store live scores, each with `family` and `bundle_hash`, instead of those of the same day and horizon."""
        stored = [_row(symbol, timeframe, str(r["family"]), str(r["bundle_hash"]), "live", r) for r in rows]
        with self._database.write() as connection:
            self._database.serialise(connection, f"performance_metric {symbol} {timeframe}")
            for row in stored:
                same = [table.c[key] == row[key] for key in _KEYS if key != "n" and row[key] is not None]
                connection.execute(sa.delete(table).where(*same))
            self._insert(connection, stored)
        return len(stored)

    def latest(
        self, symbol: str, timeframe: str, source: str = "evaluation", *, by_day: bool = False
    ) -> list[dict[str, Any]]:
        """Return the newest bundle's rows of each family, by family and horizon.

        Args:
            source: "evaluation", "live" or "backtest".
            by_day: return the rows per day instead of those over the whole test range.
        """
        newest = (
            sa.select(table.c.family, sa.func.max(table.c.id).label("id"))
            .where(table.c.symbol == symbol, table.c.timeframe == timeframe, table.c.source == source)
            .group_by(table.c.family)
            .subquery()
        )
        bundles = sa.select(table.c.family, table.c.bundle_hash).join(newest, newest.c.id == table.c.id).subquery()
        query = (
            sa.select(table)
            .join(bundles, sa.and_(bundles.c.family == table.c.family, bundles.c.bundle_hash == table.c.bundle_hash))
            .where(table.c.symbol == symbol, table.c.timeframe == timeframe, table.c.source == source)
            .where(table.c.day.is_not(None) if by_day else table.c.day.is_(None))
            .order_by(table.c.family, table.c.horizon_bars, table.c.day)
        )
        with self._database.read() as connection:
            return [_flat(row) for row in connection.execute(query).mappings()]

    def of_bundle(self, bundle_hash: str, source: str = "evaluation") -> list[dict[str, Any]]:
        """Return every row of one bundle, by horizon and day."""
        query = (
            sa.select(table)
            .where(table.c.bundle_hash == bundle_hash, table.c.source == source)
            .order_by(table.c.horizon_bars, table.c.day)
        )
        with self._database.read() as connection:
            return [_flat(row) for row in connection.execute(query).mappings()]

    def record_weights(
        self,
        symbol: str,
        timeframe: str,
        bundle_hash: str,
        weights: Mapping[int, Mapping[str, float]],
        regime: str = "all",
    ) -> None:
        """Store an ensemble's weights by horizon and family; those of a bundle never change."""
        rows = [
            {
                "bundle_hash": bundle_hash,
                "symbol": symbol,
                "timeframe": timeframe,
                "regime": regime,
                "horizon_bars": horizon,
                "family": family,
                "weight": float(weight),
                "recorded_utc": now_utc(),
            }
            for horizon, members in weights.items()
            for family, weight in members.items()
        ]
        with self._database.write() as connection:
            self._database.insert_new(connection, ensemble_weight_table, rows)

    def weights(
        self, symbol: str, timeframe: str, bundle_hash: str, regime: str = "all"
    ) -> dict[int, dict[str, float]]:
        """Return an ensemble's weights by horizon and family."""
        t = ensemble_weight_table
        query = sa.select(t.c.horizon_bars, t.c.family, t.c.weight).where(
            t.c.symbol == symbol, t.c.timeframe == timeframe, t.c.bundle_hash == bundle_hash, t.c.regime == regime
        )
        found: dict[int, dict[str, float]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(t.c.horizon_bars, t.c.family)):
                found.setdefault(row.horizon_bars, {})[row.family] = row.weight
        return found

    def _replace(
        self, symbol: str, timeframe: str, family: str, bundle_hash: str, source: str, rows: Sequence[Mapping[str, Any]]
    ) -> int:
        stored = [_row(symbol, timeframe, family, bundle_hash, source, row) for row in rows]
        with self._database.write() as connection:
            self._database.serialise(connection, f"performance_metric {symbol} {timeframe}")
            connection.execute(
                sa.delete(table).where(
                    table.c.symbol == symbol,
                    table.c.timeframe == timeframe,
                    table.c.family == family,
                    table.c.bundle_hash == bundle_hash,
                    table.c.source == source,
                )
            )
            self._insert(connection, stored)
        return len(stored)

    @staticmethod
    def _insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            connection.execute(sa.insert(table), [dict(row) for row in rows])


def _row(
    symbol: str, timeframe: str, family: str, bundle_hash: str, source: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    for key in ("horizon_bars", "n"):
        if given.get(key) is None:
            raise BadInput(f"a score of {family} lacks '{key}'; every row names its horizon and its count")
    details = {k: _number(v) for k, v in given.items() if k not in _KEYS and k not in SCORE_COLUMNS}
    day = given.get("day")
    return {
        "symbol": symbol,
        "timeframe": timeframe,
        "family": family,
        "bundle_hash": bundle_hash,
        "source": source,
        "horizon_bars": int(given["horizon_bars"]),
        "day": date.fromisoformat(day) if isinstance(day, str) else day,
        "n": int(given["n"]),
        **{name: _number(given.get(name)) for name in SCORE_COLUMNS},
        "details": details,
        "recorded_utc": now_utc(),
    }


def _number(value: Any) -> Any:
    """Return what a database column or JSON can carry; a number that is not finite is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _flat(row: RowMapping) -> dict[str, Any]:
    return {key: row[key] for key in row if key not in ("id", "details")} | dict(row["details"])
