"""Where MLflow keeps its records: created once, opened quietly, its failures told in one line.

MLflow is imported inside functions, because that takes more than a second, and its global state (tracking URI, active
run) is left alone. Its usage reports are switched off before the import.
"""

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from forexgpt_core.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 120.0

_CREDENTIALS = re.compile(r"(?<=://)[^\s'\"]*@|(?<=password=)[^&\s'\"]+|(?<=token=)[^&\s'\"]+")
_FOREIGN = {"mlflow", "sqlalchemy", "sqlite3", "psycopg2", "requests"}  # packages whose errors are the store's
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # every failure becomes a StoreError; MLflow would print its traceback as well
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True, slots=True)
class MlflowStore:
    """One MLflow backend: an SQLite file, a database, or an MLflow server that somebody else runs.

    Attributes:
        uri: `sqlite:///…`, `postgresql://…` or the address of a server.
        artifacts: folder of artifacts, for a database; a server keeps its own.
        lock_folder: where the lock and the mark of a finished set-up stand, one per machine.
    """

    uri: str
    artifacts: Path
    lock_folder: Path

    @property
    def remote(self) -> bool:
        """Return whether a server stands between us and the database."""
        return self.uri.startswith(("http://", "https://"))

    def client(self) -> "MlflowClient":
        """Return a new client, the store created first where it is missing."""
        self.prepare()
        import_quietly()
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def prepare(self) -> None:
        """Create the store unless it is there. Safe from several processes at once, and quick when nothing is to do.

        MLflow itself crashes when two processes open a fresh store together, so one process creates it under a lock.

        Raises:
            StoreError: the store cannot be read or created.
        """
        if self.remote:
            return
        with self.errors("open the store"):
            if self._is_ready():
                return
            with self.lock("mlflow"):
                if not self._is_ready():
                    self._create()

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock that every process of this machine honours."""
        self.lock_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self.lock_folder / f"{name}.lock", timeout=LOCK_SECONDS):
            yield

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Turn what the store or the disk refuses into one line without credentials."""
        try:
            yield
        except Exception as error:
            # By the package's name: its classes cannot be named here without importing MLflow.
            if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _FOREIGN:
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            text = f"could not {action} in MLflow at {redacted(self.uri)}: {redacted(reason)}"
            raise StoreError(text) from None

    @property
    def _sqlite_file(self) -> Path | None:
        scheme, _, path = self.uri.partition(":///")
        return Path(path.partition("?")[0]) if scheme.startswith("sqlite") else None

    @property
    def _mark(self) -> Path:
        """Return the file that says which MLflow made or checked this store, and its schema revision."""
        return self.lock_folder / f"mlflow-{hashlib.sha256(self.uri.encode()).hexdigest()[:12]}.json"

    def _is_ready(self) -> bool:
        """Return whether the store stands at the schema of the installed MLflow, without importing MLflow."""
        file = self._sqlite_file
        found = None if file is None else _sqlite_revision(file)
        try:
            mark = json.loads(self._mark.read_text())
        except (OSError, ValueError):
            return False
        same_release = mark.get("mlflow") == installed_version("mlflow")
        return same_release and (file is None or (found is not None and found == mark.get("revision")))

    def _create(self) -> None:
        file = self._sqlite_file
        fresh = file is not None and not (file.exists() and file.stat().st_size)
        revision = self._create_sqlite(file) if file is not None and fresh else self._migrate(self.uri)
        mark = self._mark.with_suffix(".new")
        mark.write_text(json.dumps({"mlflow": installed_version("mlflow"), "revision": revision}))
        mark.replace(self._mark)

    def _create_sqlite(self, file: Path) -> str | None:
        """Create the store beside its place and move it there whole, so a killed set-up leaves no half store."""
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = file.with_name(f"{file.name}.new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        revision = self._migrate(f"sqlite:///{new}")
        new.replace(file)
        return revision

    def _migrate(self, uri: str) -> str | None:
        """Open a database with MLflow, which creates missing tables, and return its schema revision."""
        import_quietly()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
        from sqlalchemy import text

        # The default experiment records this folder: without it MLflow would note ./mlruns of wherever this runs.
        store = SqlAlchemyStore(uri, self.artifacts.resolve().as_uri())
        with store.engine.connect() as connection:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        store.engine.dispose()
        return None if revision is None else str(revision)


def import_quietly() -> None:
    """Set what MLflow reads when it is imported: no usage reports, no hints, no traceback beside our errors."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def redacted(text: str) -> str:
    """Return `text` without user names, passwords and tokens of addresses.

    >>> redacted("postgresql://desk:s3cret@db/mlflow?sslmode=require")
    'postgresql://***@db/mlflow?sslmode=require'
    """
    return _CREDENTIALS.sub(lambda match: "***@" if match.group().endswith("@") else "***", text)


def _sqlite_revision(file: Path) -> str | None:
    """Return the schema revision in an SQLite store, None where it has none yet.

    MLflow would retry for 100 seconds on a file that is locked or no database: this says so at once.
    """
    if not file.exists() or file.stat().st_size == 0:
        return None
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=20)
    try:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return None
        mend = "end the process that holds it" if "locked" in str(error) else "move the file away or restore it"
        raise StoreError(f"MLflow's store {file} cannot be read ({error}); {mend}") from None
    finally:
        connection.close()
    return str(rows[0][0]) if rows else None
