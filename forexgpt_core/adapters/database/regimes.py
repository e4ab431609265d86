"""The regime at each origin, with the thresholds that made it one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import sqlalchemy as sa

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.tables import regime_table as table
from forexgpt_core.ensemble.regimes import REGIMES
from forexgpt_core.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeRecord:
    """One origin's regime.

    Attributes:
        origin_utc: open of the origin bar; the regime is known at its close.
        regime: one of REGIMES.
        volatility_low, volatility_high, trend_band: the thresholds in force, see `RegimeModel`.
    """

    origin_utc: datetime
    regime: str
    volatility_low: float
    volatility_high: float
    trend_band: float


_NAMES = tuple(field.name for field in fields(RegimeRecord))


class RegimeRepository:
    """Regimes by pair, timeframe and ensemble bundle; one that was recorded never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, symbol: str, timeframe: str, bundle_hash: str, records: Sequence[RegimeRecord]) -> int:
        """Store regimes by origin, leave those that are stored already, and return how many were new.

        Raises:
            BadInput: there is no such regime.
        """
        for one in records:
            if one.regime not in REGIMES:
                raise BadInput(f"'{one.regime}' is no regime; expected one of {', '.join(REGIMES)}")
        shared = {"symbol": symbol, "timeframe": timeframe, "bundle_hash": bundle_hash, "recorded_utc": now_utc()}
        rows = [shared | {name: getattr(one, name) for name in _NAMES} for one in records]
        with self._database.write() as connection:
            return self._database.insert_new(connection, table, rows)

    def between(
        self,
        symbol: str,
        timeframe: str,
        bundle_hash: str,
        *,
        since_utc: datetime | None = None,
        until_utc: datetime | None = None,
    ) -> list[RegimeRecord]:
        """Return a bundle's regimes in time order, both ends included."""
        query = self._of(symbol, timeframe).where(table.c.bundle_hash == bundle_hash).order_by(table.c.origin_utc)
        if since_utc is not None:
            query = query.where(table.c.origin_utc >= since_utc)
        if until_utc is not None:
            query = query.where(table.c.origin_utc <= until_utc)
        with self._database.read() as connection:
            return [RegimeRecord(**row) for row in connection.execute(query).mappings()]

    def newest(self, symbol: str, timeframe: str) -> RegimeRecord | None:
        """Return the newest regime of a pair, by whichever bundle; None where there is none."""
        query = self._of(symbol, timeframe).order_by(table.c.origin_utc.desc(), table.c.recorded_utc.desc()).limit(1)
        with self._database.read() as connection:
            found = connection.execute(query).mappings().one_or_none()
        return None if found is None else RegimeRecord(**found)

    @staticmethod
    def _of(symbol: str, timeframe: str) -> sa.Select[tuple[object, ...]]:
        columns = [table.c[name] for name in _NAMES]
        return sa.select(*columns).where(table.c.symbol == symbol, table.c.timeframe == timeframe)
