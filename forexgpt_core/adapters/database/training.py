"""Training runs and the model versions they leave."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.tables import model_version_table, training_run_table
from forexgpt_core.errors import UnknownName


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One fit of one family: running, completed, failed or interrupted."""

    run_id: int
    symbol: str
    timeframe: str
    family: str
    state: str
    started_utc: datetime
    finished_utc: datetime | None
    seconds: float | None
    data_version: str
    seed: int
    hyperparameters: Mapping[str, object]
    hardware: Mapping[str, object]
    run_key: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A bundle that a stage produced: "model", "calibration" or "ensemble"."""

    symbol: str
    timeframe: str
    family: str
    kind: str
    bundle_hash: str
    parent_hash: str | None
    data_version: str
    training_run_id: int | None
    mlflow_run_id: str | None
    stage: str
    created_utc: datetime


class TrainingRepository:
    """What was trained when, on what, with what result."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self,
        *,
        symbol: str,
        timeframe: str,
        family: str,
        data_version: str,
        seed: int,
        hyperparameters: Mapping[str, object] | None = None,
        hardware: Mapping[str, object] | None = None,
        run_key: str | None = None,
    ) -> int:
        """Record a run that begins now and return its id; `run_key` is the caller's own, such as Dagster's run id."""
        values = {
            "symbol": symbol,
            "timeframe": timeframe,
            "family": family,
            "state": "running",
            "started_utc": now_utc(),
            "data_version": data_version,
            "seed": seed,
            "hyperparameters": dict(hyperparameters or {}),
            "hardware": dict(hardware or {}),
            "run_key": run_key,
        }
        with self._database.write() as connection:
            inserted = connection.execute(sa.insert(training_run_table).values(**values)).inserted_primary_key
            assert inserted is not None
            return int(inserted[0])

    def complete(self, run_id: int, *, hyperparameters: Mapping[str, object] | None = None) -> None:
        """Record that a run has finished, with the hyperparameters it chose where it chose any."""
        chosen = {} if hyperparameters is None else {"hyperparameters": dict(hyperparameters)}
        self._finish(run_id, "completed", **chosen)

    def fail(self, run_id: int, error: str) -> None:
        """Record that a run has failed; its first 2,000 characters say why."""
        self._finish(run_id, "failed", error=error[:2000])

    def interrupted(self, run_id: int) -> None:
        """Record that a run was stopped and what it had is kept."""
        self._finish(run_id, "interrupted")

    def record_version(
        self,
        *,
        symbol: str,
        timeframe: str,
        family: str,
        kind: str,
        bundle_hash: str,
        data_version: str,
        parent_hash: str | None = None,
        training_run_id: int | None = None,
        mlflow_run_id: str | None = None,
        stage: str = "candidate",
    ) -> bool:
        """Record a bundle and return whether it is new; the same bundle made again becomes the newest one again."""
        row = {
            "symbol": symbol,
            "timeframe": timeframe,
            "family": family,
            "kind": kind,
            "bundle_hash": bundle_hash,
            "parent_hash": parent_hash,
            "data_version": data_version,
            "training_run_id": training_run_id,
            "mlflow_run_id": mlflow_run_id,
            "stage": stage,
            "created_utc": now_utc(),
        }
        t = model_version_table
        same = [t.c[name] == row[name] for name in ("symbol", "timeframe", "family", "kind", "bundle_hash")]
        with self._database.write() as connection:
            known = connection.execute(sa.update(t).where(*same).values(**row)).rowcount
            return known == 0 and self._database.insert_new(connection, t, [row]) == 1

    def versions(
        self, symbol: str, timeframe: str, family: str | None = None, kind: str | None = None
    ) -> list[ModelVersion]:
        """Return recorded bundles, the newest first."""
        t = model_version_table
        query = sa.select(t).where(t.c.symbol == symbol, t.c.timeframe == timeframe)
        query = query.order_by(t.c.created_utc.desc(), t.c.id.desc())
        if family is not None:
            query = query.where(t.c.family == family)
        if kind is not None:
            query = query.where(t.c.kind == kind)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [ModelVersion(**{name: row[name] for name in row if name != "id"}) for row in rows]

    def run(self, run_id: int) -> TrainingRun:
        """Return one run.

        Raises:
            UnknownName: there is none of that id.
        """
        t = training_run_table
        with self._database.read() as connection:
            row = connection.execute(sa.select(t).where(t.c.id == run_id)).mappings().one_or_none()
        if row is None:
            raise UnknownName(f"there is no training run {run_id}")
        return _training_run(row)

    def runs(self, symbol: str, timeframe: str, family: str | None = None) -> list[TrainingRun]:
        """Return runs, the newest first."""
        t = training_run_table
        query = sa.select(t).where(t.c.symbol == symbol, t.c.timeframe == timeframe).order_by(t.c.id.desc())
        if family is not None:
            query = query.where(t.c.family == family)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [_training_run(row) for row in rows]

    def _finish(self, run_id: int, state: str, **values: object) -> None:
        t = training_run_table
        with self._database.write() as connection:
            started = connection.execute(sa.select(t.c.started_utc).where(t.c.id == run_id)).scalar_one_or_none()
            if started is None:
                raise UnknownName(f"there is no training run {run_id}")
            now = now_utc()
            connection.execute(
                sa.update(t)
                .where(t.c.id == run_id, t.c.state == "running")
                .values(state=state, finished_utc=now, seconds=(now - started).total_seconds(), **values)
            )


def _training_run(row: RowMapping) -> TrainingRun:
    return TrainingRun(run_id=row["id"], **{name: row[name] for name in row if name != "id"})
