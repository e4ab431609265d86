"""The trials of a study in the database: several workers share them, and each is tried by one of them at a time."""

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import ReturningInsert

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.tables import optimisation_trial_table as table
from forexgpt_core.adapters.database.tables import strategy_config_table as config_table
from forexgpt_core.adapters.database.workers import hired, is_gone, retired
from forexgpt_core.backtest.performance import Stats
from forexgpt_core.errors import BadInput
from forexgpt_core.optimisation.trials import Candidate

_AT_ONCE = 900  # names in one query; older SQLite takes 999
_LEAST_SHARE = 8  # fewer candidates than this are not divided
_ALONE = 16  # claims without a sign of anybody else, until one leaves half to whoever may have come


class StudyTrials:
    """A `TrialStore` as one worker of a study sees it.

    A trial is claimed for a while by a row that says until when, and counts how often that happened. A worker that dies
    thereby loses its claims: at once to workers of the same machine, see `workers`, to others when the time is over. A
    worker that claims again what it holds gets it again. Figures come back bit for bit.

    Workers that meet leave each other a share of what they claim. One that meets nobody claims everything, but for half
    of it now and then: somebody who has come since is waiting and takes the rest.

    Args:
        worker: name of the worker, one of its own for every store; by default one that tells whether it still works.
    """

    def __init__(self, database: Database, study_id: int, worker: str | None = None) -> None:
        self._database = database
        self._study_id = study_id
        self._numbers: dict[str, int] = {}  # of what this worker ever claimed
        self._left: set[str] = set()  # what the last claim left to others
        self._others = 0  # workers met lately
        self._alone = 0  # claims since
        self.worker = worker or hired()

    def finished(self, hashes: Sequence[str]) -> Mapping[str, Stats]:
        """Return the figures of those candidates that somebody has finished."""
        wanted = (table.c.config_hash, table.c.in_sample, table.c.worker)
        with self._database.read() as connection:
            rows = [
                row
                for some in _parts(hashes)
                for row in connection.execute(sa.select(*wanted).where(self._of(some), table.c.in_sample.is_not(None)))
            ]
        self._meet({row.worker for row in rows if row.config_hash in self._left} - {self.worker})
        return {row.config_hash: row.in_sample for row in rows}

    def claim(self, candidates: Mapping[int, Candidate], *, seconds: float) -> list[str]:
        """Reserve a share of the candidates that nobody has finished or holds for so long; see `TrialStore`.

        Raises:
            BadInput: the time is not above 0.
            StoreError: there is no such study, or the database is away.
        """
        if not seconds > 0:
            raise BadInput(f"a claim must last longer than 0 s, was {seconds}")
        named = {one.hash12: (number, one) for number, one in candidates.items()}
        taken, gone = self._taken(list(named))
        free = {name: named[name][1] for name in self._share(list(named), taken)}
        self._left = named.keys() - free.keys()
        if not free:
            return []  # without having waited for the lock of those who write
        with self._database.write() as connection:
            now = self._now(connection)
            self._keep_documents(connection, free, now)
            rows = [
                {
                    "study_id": self._study_id,
                    "config_hash": name,
                    "number": named[name][0],
                    "on_front": False,
                    "attempts": 1,
                    "worker": self.worker,
                    "leased_until_utc": now + timedelta(seconds=seconds),
                }
                for name in sorted(free)  # in one order, so that two workers never wait for each other
            ]
            won = set(connection.execute(self._claiming(now, gone), rows).scalars())
        self._numbers |= {name: named[name][0] for name in won}
        return [name for name in named if name in won]

    def finish(self, figures: Mapping[str, Stats]) -> None:
        """Store the figures of candidates that this worker claimed; where somebody did so before, the first stay.

        Raises:
            BadInput: a figure is not JSON or not finite, or a candidate was never claimed here; nothing is stored.
            StoreError: the database is away; nothing is stored.
        """
        if unknown := sorted(figures.keys() - self._numbers.keys()):
            raise BadInput(f"trial {unknown[0]} of study {self._study_id} was not claimed by this worker")
        _require_json(figures)
        rows = [
            {
                "study_id": self._study_id,
                "config_hash": name,
                "number": self._numbers[name],
                "on_front": False,
                "attempts": 1,
                "worker": self.worker,
                "in_sample": figures[name],
            }
            for name in sorted(figures)
        ]
        if rows:
            with self._database.write() as connection:
                connection.execute(self._finishing(), rows)

    def release(self) -> int:
        """Give up what this worker claimed and did not finish, so that nobody waits for it; return how many."""
        mine = (table.c.study_id == self._study_id, table.c.worker == self.worker, table.c.in_sample.is_(None))
        with self._database.write() as connection:
            given_up = sa.update(table).where(*mine).values(worker=None, leased_until_utc=None)
            return connection.execute(given_up).rowcount

    def attempts(self) -> dict[str, int]:
        """Return how often each candidate was claimed, by its hash."""
        query = sa.select(table.c.config_hash, table.c.attempts).where(table.c.study_id == self._study_id)
        with self._database.read() as connection:
            return {row.config_hash: row.attempts for row in connection.execute(query)}

    def close(self) -> None:
        """Let others know that this worker ends, so that what it still holds is theirs."""
        retired(self.worker)

    def _taken(self, hashes: Sequence[str]) -> tuple[set[str], list[str]]:
        """Return what is finished or in the hands of others, and those whose hands are dead."""
        with self._database.read() as connection:
            closed = sa.not_(self._claimable(self._now(connection), [self.worker]))
            held = sa.case((table.c.in_sample.is_(None), table.c.worker), else_=None)
            rows = [
                (name, holder)
                for some in _parts(hashes)
                for name, holder in connection.execute(
                    sa.select(table.c.config_hash, held).where(self._of(some), closed)
                )
            ]
        holders = {holder for _, holder in rows if holder is not None}
        gone = {holder for holder in holders if is_gone(holder)}
        self._meet(holders - gone)
        return {name for name, holder in rows if holder not in gone}, sorted(gone)

    def _meet(self, others: set[str]) -> None:
        if others:
            self._others, self._alone = max(self._others, len(others)), 0

    def _share(self, asked: Sequence[str], taken: set[str]) -> Sequence[str]:
        """Return this worker's part, which begins elsewhere for everybody, so that two rarely want the same one."""
        free = [name for name in asked if name not in taken]
        self._alone += 1
        anybody = self._alone % _ALONE == 0
        if anybody:
            self._others = 0
        workers = 2 if anybody else 1 + self._others
        if workers == 1 or not free:
            return free
        size = max(math.ceil(len(asked) / workers), _LEAST_SHARE)
        start = zlib.crc32(self.worker.encode()) % len(free)
        return [*free[start:], *free[:start]][:size]

    def _claiming(self, now: datetime, gone: Sequence[str]) -> ReturningInsert[str]:
        insert = self._insert(table)
        return insert.on_conflict_do_update(
            index_elements=["study_id", "config_hash"],
            set_={
                "worker": insert.excluded.worker,
                "leased_until_utc": insert.excluded.leased_until_utc,
                "attempts": table.c.attempts + 1,
            },
            where=self._claimable(now, [self.worker, *gone]),
        ).returning(table.c.config_hash)

    def _finishing(self) -> Insert:
        insert = self._insert(table)
        return insert.on_conflict_do_update(
            index_elements=["study_id", "config_hash"],
            set_={
                "worker": insert.excluded.worker,
                "in_sample": insert.excluded.in_sample,
                "leased_until_utc": None,
            },
            where=table.c.in_sample.is_(None),
        )

    def _claimable(self, now: datetime, workers: Sequence[str]) -> sa.ColumnElement[bool]:
        """Return which trials those workers may claim: unfinished ones that nobody else holds."""
        theirs = [table.c.worker == one for one in workers]  # IN would not go with many rows at once
        free = sa.or_(table.c.leased_until_utc.is_(None), table.c.leased_until_utc <= now, *theirs)
        return sa.and_(table.c.in_sample.is_(None), free)

    def _keep_documents(self, connection: Connection, candidates: Mapping[str, Candidate], now: datetime) -> None:
        rows = [
            {"hash12": name, "document": candidates[name].document(), "first_seen_utc": now}
            for name in sorted(candidates)
        ]
        connection.execute(self._insert(config_table).on_conflict_do_nothing(), rows)

    def _insert(self, into: sa.Table) -> Insert:
        return sqlite.insert(into) if self._database.is_sqlite else postgresql.insert(into)  # type: ignore[return-value]  # used alike

    def _of(self, hashes: Sequence[str]) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.study_id == self._study_id, table.c.config_hash.in_(hashes))

    def _now(self, connection: Connection) -> datetime:
        """Return the time by the one clock that all workers share."""
        if self._database.is_sqlite:
            return now_utc()
        moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return moment


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))


def _require_json(figures: Mapping[str, Stats]) -> None:
    for name, stats in figures.items():
        try:
            json.dumps(stats, allow_nan=False)
        except (TypeError, ValueError):
            wrong = next((figure for figure, value in stats.items() if not _is_json(value)), "a name")
            raise BadInput(
                f"figures of trial {name} cannot be stored: {wrong} is {stats.get(wrong)!r};"
                " expected finite numbers, text or None where it is undefined"
            ) from None


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
