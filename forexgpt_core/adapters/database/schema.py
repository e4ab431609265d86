"""Bring a database to the newest schema, however many processes start at once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from forexgpt_core.adapters.database.engine import VERSION_TABLE, Database, open_database, parse, reason, shown
from forexgpt_core.adapters.database.tables import instrument_table
from forexgpt_core.domain.instruments import INSTRUMENTS
from forexgpt_core.errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parents[3] / "migrations"
_LOCK_SECONDS = 120
_LOCK_KEY = 4_739_284_501  # any number that no other program takes advisory locks with
_SHARED_TABLE = "alembic_version"  # Alembic's usual one: ours once, Optuna's now
_OURS, _OPTUNAS = re.compile(r"\d{4}"), re.compile(r"v\d+\.\d+\.\d+\..*")  # 0001; v3.2.0.a


def newest_revision() -> str:
    """Return the revision this code needs: the number of the last file in migrations/versions."""
    files = sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))
    if not files:
        raise StoreError(f"no migrations found in {MIGRATIONS}; ForexGPT must be installed from its checkout (-e)")
    return files[-1].stem.split("_")[0]


def current_revision(database: Database) -> str | None:
    """Return the revision of a database, None when it has never been set up.

    One that an earlier release set up is not told from a new one: its revision stands in Alembic's usual table still.
    """
    with database.read() as connection:
        return _revision(connection, VERSION_TABLE)


def upgrade(url: str) -> None:
    """Bring the database to the newest schema; nothing happens where it has it already.

    Raises:
        StoreError: it cannot be reached or changed, or it was written by a newer ForexGPT.
    """
    database = open_database(url)
    try:
        if current_revision(database) == newest_revision():
            return
        with _alone(database) as connection:
            _adopt(connection, database.where)
            _refuse_newer(connection, database.where)
            _run("upgrade", connection, "head")
            _seed_instruments(database, connection)
    finally:
        database.close()


def downgrade(url: str, revision: str) -> None:
    """Take the database back to `revision` ("base" for empty)."""
    database = open_database(url)
    try:
        with _alone(database) as connection:
            _adopt(connection, database.where)
            _run("downgrade", connection, revision)
    finally:
        database.close()


@contextmanager
def setting_up(database: Database) -> Iterator[None]:
    """Keep every other set-up of this database waiting. Nothing in the database itself is locked meanwhile.

    Raises:
        StoreError: another set-up did not end in time, or the database cannot be reached.
    """
    if database.is_sqlite:
        path = Path(str(database.engine.url.database))
        try:
            with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
                _use_wal(database)
                yield
        except Timeout:
            raise StoreError(f"another process has been setting up {path} for {_LOCK_SECONDS} s") from None
        except OSError as error:
            raise StoreError(f"the database {path} cannot be set up: {error.strerror}") from None
    else:
        with database.write() as connection:
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            yield


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """Give the one write transaction in which the schema may change."""
    with setting_up(database), database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
        yield connection


def _use_wal(database: Database) -> None:
    """Let readers and one writer work side by side; the mode is a property of the file and stays."""
    try:
        raw = database.engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()
    except SQLAlchemyError as error:
        url = parse(str(database.engine.url))
        raise StoreError(f"the database {shown(url)} could not be opened: {reason(error, url)}") from None


def _revision(connection: Connection, table: str) -> str | None:
    if not sa.inspect(connection).has_table(table):
        return None
    found = connection.execute(sa.text(f"SELECT version_num FROM {table}")).scalar_one_or_none()
    return None if found is None else str(found)


def _adopt(connection: Connection, where: str) -> None:
    """Move our revision out of Alembic's usual table, where the first releases kept it, so that Optuna may have that.

    The table is not renamed: its primary key would keep the name that Optuna's own table needs.
    """
    if sa.inspect(connection).has_table(VERSION_TABLE):
        return
    found = _revision(connection, _SHARED_TABLE)
    if found is None or _OPTUNAS.fullmatch(found):
        return
    if not _OURS.fullmatch(found):  # Dagster's and MLflow's are hashes
        raise StoreError(
            f"the database {where} holds another program's tables (schema {found}); give ForexGPT one of its own"
        )
    connection.execute(
        sa.text(
            f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL,"
            f" CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(sa.text(f"INSERT INTO {VERSION_TABLE} SELECT version_num FROM {_SHARED_TABLE}"))
    connection.execute(sa.text(f"DROP TABLE {_SHARED_TABLE}"))


def _refuse_newer(connection: Connection, where: str) -> None:
    found = _revision(connection, VERSION_TABLE)
    if found is not None and found > newest_revision():
        raise StoreError(f"the database {where} has schema {found}, newer than this ForexGPT; update ForexGPT")


def _seed_instruments(database: Database, connection: Connection) -> None:
    names = ("symbol", "base", "quote", "pip", "digits")
    rows = [
        {name: getattr(pair, name) for name in names} | {"lot_units": int(pair.lot_units)}
        for pair in INSTRUMENTS.values()
    ]
    database.insert_new(connection, instrument_table, rows)


def _run(direction: str, connection: Connection, revision: str) -> None:
    from alembic import command

    config = _config(connection)
    (command.upgrade if direction == "upgrade" else command.downgrade)(config, revision)


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
