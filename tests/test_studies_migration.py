"""Searches of earlier releases keep their rows, and so do those of this one where the earlier release knows them."""

from typing import Any

import sqlalchemy as sa
from study_worker import candidates, figures_of, identity

from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.schema import downgrade, upgrade
from forexgpt_core.adapters.database.studies import StudiesRepository
from forexgpt_core.optimisation.trials import try_all

CONFIGS = candidates(4)
HASHES = [config.hash12 for config in CONFIGS]
OLD_STUDY = ("id", "symbol", "timeframe", "bundle_hash", "method", "data_version", "seed", "details", "recorded_utc")
OLD_TRIAL = ("study_id", "number", "config_hash", "in_sample", "out_of_sample", "on_front")


def record_as_before(database: Database) -> None:
    """Store two searches as 0006 did."""
    with database.write() as connection:
        for number, name in enumerate(HASHES[:3]):
            document = f'{{"entry_probability": {CONFIGS[number].entry_probability}}}'
            connection.execute(
                sa.text("INSERT INTO strategy_config VALUES (:name, :document, '2018-01-01 00:00:00')"),
                {"name": name, "document": document},
            )
        for study, bundle in ((1, "old"), (2, "new")):
            connection.execute(
                sa.text(
                    "INSERT INTO optimisation_study (id, symbol, timeframe, bundle_hash, method, data_version, seed,"
                    " costs, details, recorded_utc) VALUES (:study, 'EURUSD', 'H1', :bundle, 'nsga2', 'c1f1', 7,"
                    """ '{"spread_pips": 0.5}', '{"trials": 3, "picks": {"knee": "x"}}', '2018-01-02 00:00:00')"""
                ),
                {"study": study, "bundle": bundle},
            )
            for number, name in enumerate(HASHES[: study + 1]):
                connection.execute(
                    sa.text(
                        "INSERT INTO optimisation_trial VALUES"
                        """ (:study, :number, :name, '{"sharpe": 0.1, "tiny": 5e-324}', :later, :front)"""
                    ),
                    {"study": study, "number": number, "name": name, "later": "null", "front": number == 1},
                )
        if not database.is_sqlite:
            connection.execute(sa.text("SELECT setval('optimisation_study_id_seq', 2)"))


def rows(database: Database, table: str, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    listed = ", ".join(f"CAST({name} AS TEXT)" for name in names)
    with database.read() as connection:
        found = connection.execute(sa.text(f"SELECT {listed} FROM {table} ORDER BY {', '.join(names[:2])}"))
        return [tuple(row) for row in found]


def test_searches_of_earlier_releases_survive_the_migration_both_ways(database_url: str) -> None:
    upgrade(database_url)
    downgrade(database_url, "0006")
    database = open_database(database_url)
    record_as_before(database)
    studies, trials = rows(database, "optimisation_study", OLD_STUDY), rows(database, "optimisation_trial", OLD_TRIAL)
    assert (len(studies), len(trials)) == (2, 5)
    upgrade(database_url)
    assert rows(database, "optimisation_study", OLD_STUDY) == studies
    assert rows(database, "optimisation_trial", OLD_TRIAL) == trials
    repository = StudiesRepository(database)
    newest = repository.newest("EURUSD", "H1")
    assert newest is not None
    assert (newest.study_id, newest.bundle_hash, newest.costs.spread_pips) == (2, "new", 0.5)
    assert [trial.config for trial in newest.trials] == CONFIGS[:3]
    assert newest.front == [newest.trials[1]]
    assert newest.trials[0].in_sample == {"sharpe": 0.1, "tiny": 5e-324}
    assert newest.trials[0].out_of_sample is None
    assert repository.protected_bundles() == {"new"}
    assert (repository.trial_registry("EURUSD", "H1").count, repository.list("EURUSD")[0].started_utc) == (4, None)
    downgrade(database_url, "0006")
    assert rows(database, "optimisation_study", OLD_STUDY) == studies
    assert rows(database, "optimisation_trial", OLD_TRIAL) == trials
    upgrade(database_url)
    assert repository.newest("EURUSD", "H1") == newest
    database.close()


def test_a_downgrade_keeps_what_the_earlier_release_can_read_and_no_more(database_url: str) -> None:
    upgrade(database_url)
    database = open_database(database_url)
    repository = StudiesRepository(database)
    finished, running = repository.open(identity(seed=1)), repository.open(identity(seed=2))
    for study in (finished, running):
        with study.working() as trials:
            try_all(dict(enumerate(CONFIGS)), lambda configs: [figures_of(one) for one in configs], trials)
    finished.finish({"note": "x"}, {HASHES[2]: {"sharpe": 1.0}, HASHES[0]: None})
    downgrade(database_url, "0006")
    kept = rows(database, "optimisation_trial", ("study_id", "number", "config_hash"))
    order = [HASHES[n] for n in (2, 0, 1, 3)]
    assert kept == [(str(finished.study_id), str(place), name) for place, name in enumerate(order)]
    assert [row[0] for row in rows(database, "optimisation_study", ("id",))] == [str(finished.study_id)]
    upgrade(database_url)
    newest = repository.newest("EURUSD", "H1")
    assert newest is not None
    assert [trial.config.hash12 for trial in newest.front] == order[:2]
    assert newest.details == {"note": "x"}
    database.close()
