"""Strategy searches: every trial, and the front a person chooses from."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database
from forexgpt_core.adapters.database.tables import optimisation_study_table as study_table
from forexgpt_core.adapters.database.tables import optimisation_trial_table as trial_table
from forexgpt_core.adapters.database.tables import strategy_config_table as config_table
from forexgpt_core.backtest.performance import periods_per_year
from forexgpt_core.deployment.gates import Candidates
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import NotReady
from forexgpt_core.evaluation.overfitting import TrialRegistry
from forexgpt_core.strategy.config import StrategyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration that a search tried, with its figures on the part searched, and on the later part if scored."""

    config: StrategyConfig
    in_sample: Mapping[str, Any]
    out_of_sample: Mapping[str, Any] | None = None
    on_front: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One search: on which bundle, data and costs, how many trials, and its front."""

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
    trials: Sequence[Trial]

    @property
    def front(self) -> list[Trial]:
        """Return the trials on the Pareto front, in the order they were recorded."""
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


class StudiesRepository:
    """Searches by pair; the newest one is what may be deployed from."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        with self._database.write() as connection:
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
                )
            ).inserted_primary_key
            assert inserted is not None
            configs = {trial.config.hash12: trial.config for trial in trials}
            rows = [
                {"hash12": hash12, "document": asdict(config), "first_seen_utc": now}
                for hash12, config in sorted(configs.items())
            ]
            self._database.insert_new(connection, config_table, rows)
            numbered = [
                {
                    "study_id": inserted[0],
                    "number": number,
                    "config_hash": trial.config.hash12,
                    "in_sample": clean_json(trial.in_sample),
                    "out_of_sample": None if trial.out_of_sample is None else clean_json(trial.out_of_sample),
                    "on_front": trial.on_front,
                }
                for number, trial in enumerate(trials)
            ]
            if numbered:
                connection.execute(sa.insert(trial_table), numbered)
            return int(inserted[0])

    def newest(self, symbol: str, timeframe: str) -> Study | None:
        """Return the newest search of a pair, None where there is none."""
        t = study_table
        query = sa.select(t).where(t.c.symbol == symbol, t.c.timeframe == timeframe).order_by(t.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            trials = connection.execute(
                sa.select(trial_table, config_table.c.document)
                .join(config_table, config_table.c.hash12 == trial_table.c.config_hash)
                .where(trial_table.c.study_id == row.id)
                .order_by(trial_table.c.number)
            ).all()
        return Study(
            study_id=row.id,
            symbol=row.symbol,
            timeframe=row.timeframe,
            bundle_hash=row.bundle_hash,
            method=row.method,
            data_version=row.data_version,
            seed=row.seed,
            costs=Costs(**row.costs),
            details=row.details,
            recorded_utc=row.recorded_utc,
            trials=[
                Trial(
                    config=StrategyConfig(**trial.document),
                    in_sample=trial.in_sample,
                    out_of_sample=trial.out_of_sample,
                    on_front=trial.on_front,
                )
                for trial in trials
            ],
        )

    def trial_registry(self, symbol: str, timeframe: str) -> TrialRegistry:
        """Return every configuration that any search of the pair has tried, each once, with its newest figure.

        Stored Sharpe ratios are annualised: of daily returns by sqrt(260), of W1 bars by sqrt(52). They are divided by
        that. Where a search tried more than it stored, as those did that kept their front alone, the rest is counted.
        """
        study, trial = study_table.c, trial_table.c
        here = (study.symbol == symbol, study.timeframe == timeframe)
        trials = (
            sa.select(trial.study_id, trial.config_hash, trial.in_sample["sharpe"].as_float().label("sharpe"))
            .join(study_table, study.id == trial.study_id)
            .where(*here)
            .order_by(trial.study_id, trial.number)
        )
        with self._database.read() as connection:
            rows = connection.execute(trials).all()
            told = connection.execute(sa.select(study.id, study.details).where(*here)).all()
        yearly = math.sqrt(periods_per_year(Timeframe.parse(timeframe)))
        stored = Counter(row.study_id for row in rows)
        return TrialRegistry(
            sharpes={row.config_hash: None if row.sharpe is None else float(row.sharpe) / yearly for row in rows},
            unrecorded=sum(max(int(row.details.get("trials", 0)) - stored[row.id], 0) for row in told),
        )

    def protected_bundles(self) -> set[str]:
        """Return the ensembles of the newest search of every pair; a person may still approve them."""
        t = study_table
        newest = sa.select(sa.func.max(t.c.id)).group_by(t.c.symbol, t.c.timeframe)
        with self._database.read() as connection:
            return set(connection.execute(sa.select(t.c.bundle_hash).where(t.c.id.in_(newest))).scalars())

    def candidates(self, symbol: str, timeframe: str) -> Candidates:
        """Return the newest front of a pair as the gate reads it.

        Raises:
            NotReady: no search of the pair has been recorded.
        """
        study = self.newest(symbol, timeframe)
        if study is None:
            raise NotReady(f"{symbol} {timeframe} has no Pareto front yet: materialize pareto_configs first")
        return study.candidates


def clean_json(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON carries them: numpy numbers as plain ones, a number that is not finite as null."""
    text = json.dumps(figures, default=lambda value: value.item() if hasattr(value, "item") else str(value))
    cleaned: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return cleaned
