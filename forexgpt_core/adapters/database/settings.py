"""Versions of the settings of each pair."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.tables import symbol_settings_table as table
from forexgpt_core.deployment.symbol_settings import SymbolSettings, default_settings
from forexgpt_core.domain.instruments import instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSettings:
    """One version of a pair's settings, and who saved it."""

    version: int
    settings: SymbolSettings
    saved_by: str
    saved_utc: datetime


class SettingsRepository:
    """Settings by pair; a version is never changed or removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, settings: SymbolSettings, by: str) -> int:
        """Store the settings and return their version; equal to the newest ones, they stay that version."""
        with self._database.write() as connection:
            self._database.serialise(connection, f"symbol_settings {settings.symbol}")
            newest = connection.execute(
                sa.select(table.c.version, table.c.hash12)
                .where(table.c.symbol == settings.symbol)
                .order_by(table.c.version.desc())
                .limit(1)
            ).one_or_none()
            if newest is not None and newest.hash12 == settings.hash12:
                return int(newest.version)
            version = 1 if newest is None else int(newest.version) + 1
            connection.execute(
                sa.insert(table).values(
                    symbol=settings.symbol,
                    version=version,
                    hash12=settings.hash12,
                    document=settings.to_document(),
                    saved_by=by,
                    saved_utc=now_utc(),
                )
            )
            return version

    def load(self, symbol: str) -> SymbolSettings:
        """Return the newest settings of a pair, the defaults where nobody saved any.

        Raises:
            UnknownName: the pair is not known.
        """
        key = instrument(symbol).symbol
        query = sa.select(table.c.document).where(table.c.symbol == key).order_by(table.c.version.desc()).limit(1)
        with self._database.read() as connection:
            document = connection.execute(query).scalar_one_or_none()
        return default_settings(key) if document is None else SymbolSettings.from_document(document)

    def history(self, symbol: str) -> list[SavedSettings]:
        """Return every version of a pair's settings, the oldest first."""
        query = sa.select(table).where(table.c.symbol == instrument(symbol).symbol).order_by(table.c.version)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            SavedSettings(
                version=row.version,
                settings=SymbolSettings.from_document(row.document),
                saved_by=row.saved_by,
                saved_utc=row.saved_utc,
            )
            for row in rows
        ]

    def symbols(self) -> list[str]:
        """Return the pairs that have saved settings, in order."""
        with self._database.read() as connection:
            return list(connection.execute(sa.select(table.c.symbol).distinct().order_by(table.c.symbol)).scalars())
