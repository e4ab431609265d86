"""Strategy searches: resumed and shared while they run, and the front of a finished one a person chooses from."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.tables import optimisation_study_table as study_table
from forexgpt_core.adapters.database.tables import optimisation_trial_table as trial_table
from forexgpt_core.adapters.database.tables import strategy_config_table as config_table
from forexgpt_core.adapters.database.trials import StudyTrials
from forexgpt_core.backtest.performance import periods_per_year
from forexgpt_core.deployment.gates import Candidates
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import BadInput, NotReady, StoreError, UnknownName
from forexgpt_core.evaluation.overfitting import TrialRegistry
from forexgpt_core.optimisation.studies import StudyIdentity
from forexgpt_core.optimisation.trials import shown
from forexgpt_core.strategy.config import StrategyConfig

_HIGHEST, _LOWEST = ("return_pct", "sharpe", "win_rate_pct"), ("max_drawdown_pct",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration that a search tried, with its figures on the part searched, and on the later part if scored."""

    config: StrategyConfig
    in_sample: Mapping[str, Any]
    out_of_sample: Mapping[str, Any] | None = None
    on_front: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One search: on which bundle, data and costs, how many trials, and its front.

    Attributes:
        details: what a finished search found, as it was handed over; empty before.
        identity: all that it depends on, see `StudyIdentity.document`; empty for a search of an earlier release.
        trials: those with figures; the front first, best first, then the others in the order tried.
        recorded_utc: when its result was stored or last asked for.
    """

    study_id: int
    symbol: str
    timeframe: str
    bundle_hash: str
    method: str
    data_version: str
    seed: int
    costs: Costs
    details: Mapping[str, Any]
    recorded_utc: datetime
    state: str
    identity: Mapping[str, Any]
    trials: Sequence[Trial]

    @property
    def front(self) -> list[Trial]:
        """Return the trials on the Pareto front, in the order the search gave them."""
        return [trial for trial in self.trials if trial.on_front]

    @property
    def candidates(self) -> Candidates:
        """Return what the gate may promote."""
        return Candidates(
            symbol=self.symbol,
            timeframe=self.timeframe,
            bundle_hash=self.bundle_hash,
            costs=self.costs,
            front=[trial.config for trial in self.front],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """One line about a study.

    Attributes:
        trials: how many have figures.
        claimed: how many are being tried, or were when their worker died.
        started_utc: None for a search of an earlier release, which did not tell.
        best: the best of each figure by itself, of the front of a finished study, of all trials of another; None where
            none has it.
    """

    study_id: int
    symbol: str
    timeframe: str
    bundle_hash: str
    method: str
    data_version: str
    seed: int
    state: str
    error: str | None
    trials: int
    claimed: int
    started_utc: datetime | None
    finished_utc: datetime | None
    best: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHandle:
    """A study that a search was asked for: to be worked on, or finished already.

    Attributes:
        state: "finished", otherwise "running".
        result: of a finished study, as it was handed to `finish`; None while there is none.
        trials: how many had figures when it was opened.
    """

    repository: "StudiesRepository"
    study_id: int
    identity: StudyIdentity
    state: str
    result: Mapping[str, Any] | None
    trials: int

    @contextmanager
    def working(self, worker: str | None = None) -> Iterator[StudyTrials]:
        """Give the trials to one worker. One that ends with an exception gives up its claims and says how it ended.

        An error leaves the study failed, an interrupt stopped; its trials stay, and opening it again goes on with them.
        """
        trials = StudyTrials(self.repository.database, self.study_id, worker)
        try:
            yield trials
        except BaseException as error:
            with suppress(StoreError):  # of a database that is away the error itself tells
                trials.release()
                failed = isinstance(error, Exception)
                self.repository.leave(self.study_id, error=(str(error) or repr(error)) if failed else None)
            raise
        finally:
            trials.close()

    def finish(self, result: Mapping[str, Any], front: Mapping[str, Mapping[str, Any] | None]) -> Mapping[str, Any]:
        """Store what the search found and return it; where another worker did so before, its result stays.

        Args:
            result: whatever a person or a later stage wants to know about it, as JSON types.
            front: the configurations that may be deployed, best first: their figures out of sample by hash.

        Raises:
            BadInput: the front names a configuration without figures.
        """
        return self.repository.finish(self.study_id, result, front)

    def stop(self) -> None:
        """Leave the study as it is: stopped, to be gone on with."""
        self.repository.leave(self.study_id, error=None)


class StudiesRepository:
    """Searches by pair; the finished one that was asked for last is what may be deployed from."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def open(self, identity: StudyIdentity) -> StudyHandle:
        """Return the study of that identity, begun if there is none.

        A finished one becomes the newest, so what a person asked for last is what may be deployed; another one is
        running again, for every worker that opens it.
        """
        t, now = study_table, now_utc()
        row = {
            **{name: getattr(identity, name) for name in ("symbol", "timeframe", "bundle_hash", "method")},
            "data_version": identity.data_version,
            "seed": identity.seed,
            "costs": asdict(identity.costs),
            "details": {},
            "recorded_utc": now,
            "key": identity.key,
            "identity": identity.document(),
            "state": "running",
            "started_utc": now,
        }
        again = {
            "recorded_utc": sa.case((t.c.state == "finished", now), else_=t.c.recorded_utc),
            "state": sa.case((t.c.state == "finished", "finished"), else_="running"),
            "error": None,
        }
        with self.database.write() as connection:
            self.database.insert_new(connection, t, [row])
            connection.execute(sa.update(t).where(t.c.key == identity.key).values(again))
            found = connection.execute(sa.select(t).where(t.c.key == identity.key)).one()
            trials = connection.execute(
                sa.select(sa.func.count(trial_table.c.in_sample)).where(trial_table.c.study_id == found.id)
            ).scalar_one()
        return StudyHandle(
            repository=self,
            study_id=found.id,
            identity=identity,
            state=found.state,
            result=found.details if found.state == "finished" else None,
            trials=trials,
        )

    def finish(
        self, study_id: int, result: Mapping[str, Any], front: Mapping[str, Mapping[str, Any] | None]
    ) -> Mapping[str, Any]:
        """Store the result of a study; see `StudyHandle.finish`."""
        t, c = study_table, trial_table.c
        with self.database.write() as connection:
            study = self._locked(connection, study_id)
            if study.state == "finished":
                return dict(study.details)
            tried = sa.select(c.config_hash).where(
                c.study_id == study_id, c.config_hash.in_(list(front)), c.in_sample.is_not(None)
            )
            if missing := sorted(front.keys() - set(connection.execute(tried).scalars())):
                raise BadInput(f"the front of study {study_id} names {missing[0]}, which it has not tried")
            found, now = clean_json(result), now_utc()
            ended = {"state": "finished", "error": None, "details": found, "finished_utc": now, "recorded_utc": now}
            connection.execute(sa.update(t).where(t.c.id == study_id).values(ended))
            placed = sa.update(trial_table).where(c.study_id == study_id, c.config_hash == sa.bindparam("member"))
            rows = [
                {"member": name, "out_of_sample": None if later is None else clean_json(later), "front_place": place}
                for place, (name, later) in enumerate(front.items())
            ]
            if rows:
                connection.execute(placed.values(on_front=True), rows)
        return found

    def leave(self, study_id: int, *, error: str | None) -> None:
        """Record that a worker left a study unfinished: failed with an error, else stopped. A finished one stays so."""
        t = study_table
        how = {"state": "stopped", "error": None} if error is None else {"state": "failed", "error": error[:2000]}
        with self.database.write() as connection:
            connection.execute(sa.update(t).where(t.c.id == study_id, t.c.state != "finished").values(how))

    def record(
        self,
        *,
        symbol: str,
        timeframe: str,
        bundle_hash: str,
        method: str,
        data_version: str,
        seed: int,
        costs: Costs,
        trials: Sequence[Trial],
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Store a search with every trial of it, at once or not at all, and return its id."""
        now = now_utc()
        with self.database.write() as connection:
            inserted = connection.execute(
                sa.insert(study_table).values(
                    symbol=symbol,
                    timeframe=timeframe,
                    bundle_hash=bundle_hash,
                    method=method,
                    data_version=data_version,
                    seed=seed,
                    costs=asdict(costs),
                    details=clean_json(details or {}),
                    recorded_utc=now,
                    state="finished",
                    finished_utc=now,
                )
            ).inserted_primary_key
            assert inserted is not None
            configs = {trial.config.hash12: trial.config for trial in trials}
            rows = [
                {"hash12": hash12, "document": asdict(config), "first_seen_utc": now}
                for hash12, config in sorted(configs.items())
            ]
            self.database.insert_new(connection, config_table, rows)
            numbered = [
                {
                    "study_id": inserted[0],
                    "number": number,
                    "config_hash": trial.config.hash12,
                    "in_sample": clean_json(trial.in_sample),
                    "out_of_sample": None if trial.out_of_sample is None else clean_json(trial.out_of_sample),
                    "on_front": trial.on_front,
                    "attempts": 1,
                }
                for number, trial in enumerate(trials)
            ]
            if numbered:
                connection.execute(sa.insert(trial_table), numbered)
            return int(inserted[0])

    def newest(self, symbol: str, timeframe: str) -> Study | None:
        """Return the finished search of a pair that was asked for last, None where there is none."""
        t = study_table
        of_pair = (t.c.symbol == symbol, t.c.timeframe == timeframe, t.c.state == "finished")
        query = sa.select(t).where(*of_pair).order_by(t.c.recorded_utc.desc(), t.c.id.desc()).limit(1)
        with self.database.read() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else _study(connection, row)

    def load(self, study_id: int) -> Study:
        """Return a study of any state with the trials that have figures.

        Raises:
            UnknownName: there is none of that number.
        """
        with self.database.read() as connection:
            row = connection.execute(sa.select(study_table).where(study_table.c.id == study_id)).one_or_none()
            if row is None:
                raise UnknownName(f"there is no study {study_id}")
            return _study(connection, row)

    def trial_registry(self, symbol: str, timeframe: str) -> TrialRegistry:
        """Return every configuration that any search of the pair has tried, each once, with its newest figure.

        Searches that run, failed or were stopped count as well; a trial counts once somebody saw its figures.
        Stored Sharpe ratios are annualised: of daily returns by sqrt(260), of W1 bars by sqrt(52). They are divided by
        that. Where a search tried more than it stored, as those did that kept their front alone, the rest is counted.
        """
        study, trial = study_table.c, trial_table.c
        here = (study.symbol == symbol, study.timeframe == timeframe)
        trials = (
            sa.select(trial.study_id, trial.config_hash, trial.in_sample["sharpe"].as_float().label("sharpe"))
            .join(study_table, study.id == trial.study_id)
            .where(*here, trial.in_sample.is_not(None))
            .order_by(trial.study_id, trial.number, trial.config_hash)  # of equal numbers too: sums depend on it
        )
        with self.database.read() as connection:
            rows = connection.execute(trials).all()
            told = connection.execute(sa.select(study.id, study.details).where(*here)).all()
        yearly = math.sqrt(periods_per_year(Timeframe.parse(timeframe)))
        stored = Counter(row.study_id for row in rows)
        return TrialRegistry(
            sharpes={row.config_hash: None if row.sharpe is None else float(row.sharpe) / yearly for row in rows},
            unrecorded=sum(max(int(row.details.get("trials", 0)) - stored[row.id], 0) for row in told),
        )

    def protected_bundles(self) -> set[str]:
        """Return the ensembles of what a person may still approve, or go on with.

        These are those of the newest finished search of every pair, and of its newest unfinished one.
        """
        t = study_table
        finished = t.c.state == "finished"
        newest = sa.func.row_number().over(
            partition_by=(t.c.symbol, t.c.timeframe, finished), order_by=(t.c.recorded_utc.desc(), t.c.id.desc())
        )
        ranked = sa.select(t.c.bundle_hash, newest.label("place")).subquery()
        with self.database.read() as connection:
            return set(connection.execute(sa.select(ranked.c.bundle_hash).where(ranked.c.place == 1)).scalars())

    def candidates(self, symbol: str, timeframe: str) -> Candidates:
        """Return the newest front of a pair as the gate reads it.

        Raises:
            NotReady: no search of the pair is finished.
        """
        study = self.newest(symbol, timeframe)
        if study is None:
            raise NotReady(f"{symbol} {timeframe} has no Pareto front yet: materialize pareto_configs first")
        return study.candidates

    def _locked(self, connection: Connection, study_id: int) -> Row[Any]:
        row = connection.execute(sa.select(study_table).where(study_table.c.id == study_id).with_for_update())
        if (study := row.one_or_none()) is None:
            raise UnknownName(f"there is no study {study_id}")
        return study

    def list(self, symbol: str, timeframe: str | None = None) -> list[StudySummary]:
        """Return every study of a pair, the newest first."""
        t = study_table.c
        return [*self._summaries(t.symbol == symbol, sa.true() if timeframe is None else t.timeframe == timeframe)]

    def find(self, identity: StudyIdentity) -> StudySummary | None:
        """Return the study of that identity as it is, None where it was never begun."""
        return next(iter(self._summaries(study_table.c.key == identity.key)), None)

    def _summaries(self, *which: sa.ColumnElement[bool]) -> Sequence[StudySummary]:
        t, c = study_table, trial_table.c
        counted = sa.or_(t.c.state != "finished", c.on_front)
        best = [
            *(sa.func.max(c.in_sample[name].as_float()).filter(counted).label(name) for name in _HIGHEST),
            *(sa.func.min(c.in_sample[name].as_float()).filter(counted).label(name) for name in _LOWEST),
        ]
        told = [t.c[name] for name in StudySummary.__slots__ if name in t.c]
        query = (
            sa.select(
                t.c.id,
                *told,
                sa.func.count(c.in_sample).label("trials"),
                (sa.func.count(c.config_hash) - sa.func.count(c.in_sample)).label("claimed"),
                *best,
            )
            .select_from(t)
            .outerjoin(trial_table, c.study_id == t.c.id)
            .where(*which)
            .group_by(t.c.id)
            .order_by(t.c.recorded_utc.desc(), t.c.id.desc())
        )
        with self.database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            StudySummary(
                study_id=row["id"],
                best={name: row[name] for name in (*_HIGHEST, *_LOWEST)},
                trials=row["trials"],
                claimed=row["claimed"],
                **{column.name: row[column.name] for column in told},
            )
            for row in rows
        ]


def _study(connection: Connection, row: Row[Any]) -> Study:
    c = trial_table.c
    trials = connection.execute(
        sa.select(trial_table, config_table.c.document)
        .join(config_table, config_table.c.hash12 == c.config_hash)
        .where(c.study_id == row.id, c.in_sample.is_not(None))
        .order_by(c.front_place.is_(None), c.front_place, c.number, c.config_hash)
    )
    names = ("symbol", "timeframe", "bundle_hash", "method", "data_version", "seed", "details", "recorded_utc", "state")
    return Study(
        study_id=row.id,
        costs=Costs(**row.costs),
        identity=row.identity or {},
        trials=[
            Trial(
                config=StrategyConfig(**trial.document),
                in_sample=shown(trial.in_sample),
                out_of_sample=trial.out_of_sample,
                on_front=trial.on_front,
            )
            for trial in trials
        ],
        **{name: getattr(row, name) for name in names},
    )


def clean_json(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON carries them: numpy numbers as plain ones, a number that is not finite as null."""
    text = json.dumps(figures, default=lambda value: value.item() if hasattr(value, "item") else str(value))
    cleaned: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return cleaned
