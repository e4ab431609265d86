"""Open the database: SQLite by default, PostgreSQL in deployment, one way to read and one to write."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from forexgpt_core.errors import BadInput, StoreError

BUSY_SECONDS = 5
VERSION_TABLE = "forexgpt_version"  # of our migrations; Alembic's usual `alembic_version` is Optuna's in this database
_DRIVERS = {"postgres": "postgresql+psycopg2", "postgresql": "postgresql+psycopg2"}
_SECRET = re.compile(r"passw|secret|token|key", re.IGNORECASE)


class Database:
    """One database. Every failure leaves as a StoreError of one line that shows no secret."""

    def __init__(self, engine: Engine, url: URL) -> None:
        self.engine = engine
        self._url = url

    @property
    def is_sqlite(self) -> bool:
        """Return whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @property
    def where(self) -> str:
        """Return the address without its secrets."""
        return shown(self._url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state and writes nothing."""
        with self._translated("read"), self.engine.connect() as connection:
            if not self.is_sqlite:  # where each statement would otherwise see its own state
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction, committed at the end, undone by any exception.

        On SQLite it holds the write lock from its start, so what it reads cannot change before it writes; on
        PostgreSQL the reader of a row it means to change locks that row.
        """
        with self._translated("written"), self.engine.connect() as connection:
            connection.execution_options(forexgpt_write=True)
            with connection.begin():
                yield connection

    def insert_new(self, connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert rows, leave out those whose key exists already, and return how many were new."""
        new = 0
        insert = sqlite.insert if self.is_sqlite else postgresql.insert
        for row in rows:
            new += connection.execute(insert(table).values(**row).on_conflict_do_nothing()).rowcount
        return new

    def serialise(self, connection: Connection, name: str) -> None:
        """Let one writer at a time past this point, by name, until its transaction ends.

        A write transaction on SQLite is alone already; PostgreSQL takes an advisory lock.
        """
        if not self.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StoreError(f"the database {self.where} could not be {verb}: {reason(error, self._url)}") from None


def open_database(url: str) -> Database:
    """Return the database at `url`; nothing is connected before its first use.

    Raises:
        BadInput: not the URL of an SQLite file or a PostgreSQL server.
    """
    parsed = parse(url)
    options: dict[str, Any] = {}
    if parsed.get_backend_name() == "sqlite":
        options = {"connect_args": {"timeout": BUSY_SECONDS}}
        try:
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder of the database {shown(parsed)} cannot be made: {error.strerror}") from None
    else:
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": BUSY_SECONDS}}
    engine = sa.create_engine(parsed, hide_parameters=True, **options)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "do_connect", _Known(Path(str(parsed.database)), shown(parsed)))
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
    return Database(engine, parsed)


def parse(url: str) -> URL:
    """Return the URL with its driver named; SQLAlchemy's default for PostgreSQL is another one than ours."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise BadInput(
            "the database URL cannot be read; expected sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from None
    name = _DRIVERS.get(parsed.drivername, parsed.drivername)
    if name not in ("sqlite", "postgresql+psycopg2"):
        raise BadInput(f"databases of kind '{parsed.drivername}' are not supported; expected sqlite or postgresql")
    if name == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise BadInput("an SQLite database in memory is lost with its connection; give a file: sqlite:///FILE")
    return parsed.set(drivername=name)


def shown(url: URL) -> str:
    """Return the URL without password and query."""
    return url.set(query={}).render_as_string(hide_password=True)


def reason(error: Exception, url: URL) -> str:
    """Return the first line of what the driver said, in our words where they help, without secrets."""
    text = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
    secrets = [url.password, *(v for k, v in url.query.items() if _SECRET.search(k))]
    for secret in secrets:
        if secret:
            text = text.replace(str(secret), "***")
    if "database is locked" in text:
        return f"another process holds its lock for more than {BUSY_SECONDS} s"
    if "no such table" in text or "UndefinedTable" in type(getattr(error, "orig", error)).__name__:
        return f"{text}; it has not been set up: run `forexgpt doctor`"
    return text


def _prepare_sqlite(connection: Any, record: Any) -> None:
    record.info["file"] = _file(connection)
    connection.isolation_level = None  # we emit BEGIN ourselves, so that table changes are transactional too
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")  # an intent that was committed survives a power cut
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    _require_file(connection)
    writes = connection.get_execution_options().get("forexgpt_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class _Known:
    """Makes the file of an SQLite database once at most; where it was and has gone, an empty one would hide that."""

    def __init__(self, file: Path, where: str) -> None:
        self._file, self._where, self._was_there = file, where, False

    def __call__(self, *_: object) -> None:
        if self._was_there and not self._file.exists():
            raise StoreError(_moved(self._where))
        self._was_there = True


def _require_file(connection: Connection) -> None:
    """Refuse to go on in a file that has no name any more: what is written there would be gone with this process."""
    if connection.connection.info["file"] != _file(connection.connection.driver_connection):
        connection.invalidate()
        raise StoreError(_moved(shown(connection.engine.url)))


def _moved(where: str) -> str:
    return f"the database {where} was moved away or replaced while it was in use: put its file back and run again"


def _file(connection: Any) -> tuple[int, int] | None:
    """Return what tells the file of an SQLite connection from any other, None where it has gone."""
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare_postgresql(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("SET TIME ZONE 'UTC'")
    cursor.execute(f"SET lock_timeout = '{2 * BUSY_SECONDS}s'")
    cursor.close()
    connection.commit()
