"""Optuna's studies in our own database, SQLite or PostgreSQL.

Optuna makes its tables itself and numbers its migrations in `alembic_version`; ours are numbered elsewhere (see
`database.engine.VERSION_TABLE`). It makes them without a lock, and processes that open a fresh database together crash
in it, so they take turns here, and with our own set-up. Only finished trials are written, each in one transaction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from forexgpt_core.adapters.database.engine import BUSY_SECONDS, Database, open_database, reason
from forexgpt_core.adapters.database.schema import setting_up, upgrade
from forexgpt_core.errors import StoreError
from forexgpt_core.optimisation.optuna_study import Direction, quiet_optuna


class OptunaStudies:
    """Keeps finished trials in the database at a URL; nothing is opened before its first use."""

    def __init__(self, url: str) -> None:
        """Remember the URL of our database; see `database.engine.open_database`."""
        self._url = url
        self._studies: dict[str, Any] = {}  # each reads from the database what it has not seen yet alone

    def read(self, name: str, directions: Sequence[Direction]) -> list[Any]:
        """Return the finished trials of a study in the order tried; a new study is made.

        Raises:
            StoreError: the database cannot be used, or the study has other objectives.
        """
        with self._errors("read"):
            return self._finished(self._study(name, directions))

    def append(self, name: str, directions: Sequence[Direction], trials: Sequence[Any], *, first: int) -> None:
        """Keep trials number `first` and on; those kept already stay as they are.

        Raises:
            StoreError: the database cannot be written, or an earlier trial is absent from it.
        """
        with self._errors("write"):
            study = self._study(name, directions)  # which may have to set up, and one process sets up at a time
            with setting_up(self._database):
                kept = len(self._finished(study))
                if kept < first:
                    raise StoreError(
                        f"the study {name} has {kept} trials in the database, {first} were kept: somebody deleted"
                        " them; begin a new study"
                    )
                study.add_trials(trials[kept - first :])

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
        self._storage.engine.dispose()

    @cached_property
    def _database(self) -> Database:
        return open_database(self._url)

    @cached_property
    def _storage(self) -> Any:
        """Return Optuna's storage, its tables and ours created first where they are missing."""
        upgrade(self._url)
        storage = quiet_optuna().storages.RDBStorage
        url = self._database.engine.url.render_as_string(hide_password=False)
        with setting_up(self._database):
            return storage(url, engine_kwargs=_engine_options(self._database))

    def _study(self, name: str, directions: Sequence[Direction]) -> Any:
        if name not in self._studies:
            self._studies[name] = quiet_optuna().create_study(
                study_name=name, storage=self._storage, directions=list(directions), load_if_exists=True
            )
        found = [direction.name.lower() for direction in self._studies[name].directions]
        if found != list(directions):
            raise StoreError(f"the study {name} has the objectives {found}, asked for {list(directions)}")
        return self._studies[name]

    def _finished(self, study: Any) -> list[Any]:
        return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Turn what Optuna or the driver refuses into one line without secrets."""
        optuna = quiet_optuna()
        try:
            yield
        except (sa.exc.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, sa.exc.SQLAlchemyError) else error
            told = reason(cause, self._database.engine.url)
            raise StoreError(f"could not {verb} Optuna's study in {self._database.where}: {told}") from None


def _engine_options(database: Database) -> dict[str, Any]:
    shared: dict[str, Any] = {"hide_parameters": True}
    if database.is_sqlite:
        return shared | {"connect_args": {"timeout": BUSY_SECONDS}}
    return shared | {"pool_pre_ping": True, "connect_args": {"connect_timeout": BUSY_SECONDS}}
