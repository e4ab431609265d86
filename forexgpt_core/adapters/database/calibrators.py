"""States of adaptive calibrators: a version per step, the newest one steered by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.forecasts import traded_origins
from forexgpt_core.adapters.database.live_tables import calibrator_state_table as table
from forexgpt_core.adapters.database.live_tables import forecast_table
from forexgpt_core.calibration.adaptive import AdaptiveCalibrator
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.live.calibrating import CalibratorKey

KEPT_VERSIONS = 48
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class CalibratorRepository:
    """The calibrator states of deployed bundles; a version is never overwritten."""

    database: Database

    def newest(self, key: CalibratorKey) -> AdaptiveCalibrator | None:
        """Return the newest state of a bundle, None before its first step.

        Raises:
            BadInput: what is stored is no state of this release.
        """
        return self._load(_of(key), sa.true())

    def at(self, key: CalibratorKey, as_of_utc: np.datetime64) -> AdaptiveCalibrator | None:
        """Return the state whose newest origin is this one, None where there is none (any more)."""
        return self._load(_of(key), table.c.as_of_utc == from_utc(as_of_utc))

    def advance(self, key: CalibratorKey, state: AdaptiveCalibrator, *, after: int | None) -> bool:
        """Store a state if `after` is still the newest version stored (None: none is), and return whether it was."""
        with self.database.write() as connection:
            self.database.serialise(connection, f"calibrator_state {key.symbol} {key.timeframe} {key.bundle_hash}")
            newest = connection.execute(sa.select(sa.func.max(table.c.version)).where(_of(key))).scalar_one()
            if newest != after:
                return False
            row = {
                "symbol": key.symbol,
                "timeframe": key.timeframe,
                "bundle_hash": key.bundle_hash,
                "version": state.version,
                "calibrator": state.name,
                "as_of_utc": from_utc(state.as_of_utc),
                "document": state.to_document(),
                "recorded_utc": now_utc(),
            }
            connection.execute(sa.insert(table).values(**row))
            return True

    def forget(self, keep: int = KEPT_VERSIONS) -> int:
        """Delete all but the newest versions of each bundle, and return how many.

        Versions behind the forecast of a bar at which an order was decided stay, as long as that forecast does.
        """
        place = sa.func.row_number().over(
            partition_by=(table.c.symbol, table.c.timeframe, table.c.bundle_hash), order_by=table.c.version.desc()
        )
        names = ("symbol", "timeframe", "bundle_hash", "version")
        ranked = sa.select(*(table.c[name] for name in names), place.label("place")).subquery()
        with self.database.read() as connection:
            old = {tuple(row[:4]) for row in connection.execute(sa.select(ranked).where(ranked.c.place > keep))}
            old -= _traded(connection) if old else set()
        those = (table.c[name] == sa.bindparam(f"gone_{name}") for name in names)
        one, gone = sa.delete(table).where(*those), [{f"gone_{n}": v for n, v in zip(names, key)} for key in old]
        for start in range(0, len(gone), _AT_ONCE):
            with self.database.write() as connection:  # short: half a megabyte each, and ticks wait five seconds
                connection.execute(one, gone[start : start + _AT_ONCE])
        return len(old)

    def _load(self, *conditions: sa.ColumnElement[bool]) -> AdaptiveCalibrator | None:
        query = sa.select(table.c.document).where(*conditions).order_by(table.c.version.desc()).limit(1)
        with self.database.read() as connection:
            document = connection.execute(query).scalar_one_or_none()
        return None if document is None else AdaptiveCalibrator.from_document(document)


def _of(key: CalibratorKey) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.symbol == key.symbol, table.c.timeframe == key.timeframe, table.c.bundle_hash == key.bundle_hash
    )


def _traded(connection: Connection) -> set[tuple[Any, ...]]:
    """Return (symbol, timeframe, bundle, version) of the states behind forecasts that led to an order."""
    f = forecast_table
    made = sa.select(f.c.symbol, f.c.timeframe, f.c.bundle_hash, f.c.origin_utc, f.c.calibrator_version)
    rows = connection.execute(made.where(f.c.calibrator_version.is_not(None)).distinct()).all()
    traded = traded_origins(connection)
    return {(*row[:3], row.calibrator_version) for row in rows if tuple(row[:4]) in traded}
