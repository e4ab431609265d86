"""Optuna's tables beside ours in one database: neither reads the other's version, and a crowd may open it at once."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from test_optuna_tpe import SHORT, Counted, run

from forexgpt_core.adapters.database import engine, schema
from forexgpt_core.adapters.database.engine import VERSION_TABLE, open_database
from forexgpt_core.adapters.database.schema import current_revision, downgrade, newest_revision, upgrade
from forexgpt_core.adapters.optuna_storage import OptunaStudies
from forexgpt_core.errors import StoreError
from forexgpt_core.optimisation.optuna_study import ResumableStudy, quiet_optuna
from forexgpt_core.optimisation.trials import Memory

OLD_RELEASE = "0006"  # the newest schema whose number stood in Alembic's usual table


def version_in(url: str, table: str) -> str | None:
    database = open_database(url)
    with database.read() as connection:
        found = sa.inspect(connection).has_table(table)
        version = connection.execute(sa.text(f"SELECT version_num FROM {table}")).scalar() if found else None
    database.close()
    return version


def as_an_earlier_release_left_it(url: str, revision: str = OLD_RELEASE) -> None:
    """Run the migrations up to then with the version table of then."""
    database = open_database(url)
    with pytest.MonkeyPatch.context() as patch, database.write() as connection:
        patch.setattr(engine, "VERSION_TABLE", "alembic_version")  # migrations/env.py is read anew every time
        schema._run("upgrade", connection, revision)
        connection.execute(
            sa.text(
                "INSERT INTO trading_state (scope, state, reason, changed_by, changed_utc)"
                " VALUES ('all', 'HALTED', 'test', 'me', '2018-01-01 00:00:00')"
            )
        )
    database.close()
    assert version_in(url, "alembic_version") == revision
    assert version_in(url, VERSION_TABLE) is None


def test_a_database_of_an_earlier_release_keeps_its_rows_and_makes_room_for_optuna(database_url: str) -> None:
    as_an_earlier_release_left_it(database_url)
    upgrade(database_url)
    assert version_in(database_url, VERSION_TABLE) == newest_revision()
    assert version_in(database_url, "alembic_version") is None, "the table is gone, its primary key with it"
    studies = OptunaStudies(database_url)
    assert studies.read("hill", ["maximize"]) == []
    assert version_in(database_url, "alembic_version").startswith("v"), "Optuna's own"
    upgrade(database_url)
    database = open_database(database_url)
    assert current_revision(database) == newest_revision()
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT state FROM trading_state")).scalars().all() == ["HALTED"]
    database.close()
    studies.close()


@pytest.mark.parametrize("first", ["ours", "Optuna's"])
def test_either_may_come_first_and_neither_minds_the_other(database_url: str, first: str) -> None:
    if first == "ours":
        upgrade(database_url)
        studies = OptunaStudies(database_url)
    else:
        url = open_database(database_url).engine.url.render_as_string(hide_password=False)
        quiet_optuna().storages.RDBStorage(url).engine.dispose()
        studies = OptunaStudies(database_url)
    assert studies.read("hill", ["maximize"]) == []
    optunas = version_in(database_url, "alembic_version")
    downgrade(database_url, "0001")
    upgrade(database_url)
    assert version_in(database_url, "alembic_version") == optunas
    assert version_in(database_url, VERSION_TABLE) == newest_revision()
    assert studies.read("hill", ["maximize"]) == []
    studies.close()


def test_an_earlier_release_may_go_down_as_well(database_url: str) -> None:
    as_an_earlier_release_left_it(database_url)
    downgrade(database_url, "0002")
    assert version_in(database_url, VERSION_TABLE) == "0002"
    assert version_in(database_url, "alembic_version") is None


def test_another_programs_database_is_refused(database_url: str) -> None:
    database = open_database(database_url)
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('1b41aecd8eb1')"))
    database.close()
    with pytest.raises(StoreError, match=r"another program's tables \(schema 1b41aecd8eb1\)"):
        OptunaStudies(database_url).read("hill", ["maximize"])
    assert version_in(database_url, VERSION_TABLE) is None


def test_trials_come_back_as_they_were(database_url: str) -> None:
    whole = run(trials=Memory())
    studies, trials = OptunaStudies(database_url), Memory()
    assert run(keeper=studies, trials=trials) == whole
    studies.close()
    evaluate = Counted()
    again = OptunaStudies(database_url)
    assert run(keeper=again, trials=trials, evaluate=evaluate) == whole
    assert evaluate.asked == []
    kept = again.read("hill", ["maximize"])
    assert [trial.number for trial in kept] == list(range(SHORT.proposals))
    hashes = {one.candidate.hash12 for one in whole.tried}
    assert {trial.user_attrs["candidate"] for trial in kept} == hashes
    with pytest.raises(StoreError, match=r"has the objectives \['maximize'\], asked for \['minimize'\]"):
        again.read("hill", ["minimize"])
    again.close()


def test_pruned_trials_and_their_steps_come_back(database_url: str) -> None:
    optuna = quiet_optuna()
    studies = OptunaStudies(database_url)
    session = ResumableStudy("pruned", ["minimize"], seed=1, batch=2, most=2, keeper=studies)
    for place, trial in enumerate(session.ask({"x": optuna.distributions.FloatDistribution(0, 1)})):
        trial.report(1.5, 0)
        session.tell(trial, None if place else [1.25])
    session.keep()
    again = ResumableStudy("pruned", ["minimize"], seed=1, batch=2, most=2, keeper=studies)
    assert again.done
    assert [t.state.name for t in again.finished] == ["COMPLETE", "PRUNED"]
    assert [t.intermediate_values for t in again.finished] == [{0: 1.5}, {0: 1.5}]
    assert [t.params for t in again.finished] == [t.params for t in session.finished]
    studies.close()


def test_two_workers_leave_each_trial_once(postgres_url: str) -> None:
    first, second, trials = OptunaStudies(postgres_url), OptunaStudies(postgres_url), Memory()
    halfway = run(keeper=first, trials=trials, should_stop=iter([False, False, True]).__next__)
    assert halfway.proposals == 16
    assert run(keeper=second, trials=trials) == run()
    assert run(keeper=first, trials=trials) == run()
    assert [trial.number for trial in first.read("hill", ["maximize"])] == list(range(SHORT.proposals))
    first.close()
    second.close()


def test_deleted_trials_are_noticed(sqlite_url: str) -> None:
    studies = OptunaStudies(sqlite_url)
    with pytest.raises(StoreError, match="has 0 trials in the database, 8 were kept: somebody deleted them"):
        studies.append("hill", ["maximize"], [], first=8)
    studies.close()


def test_an_unreachable_database_is_one_line_without_its_password() -> None:
    url = "postgresql://desk:s3cret@127.0.0.1:1/forexgpt"
    with pytest.raises(StoreError) as refused:
        OptunaStudies(url).read("hill", ["maximize"])
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


CROWD = """
import sys, time
from forexgpt_core.adapters.optuna_storage import OptunaStudies
from forexgpt_core.optimisation.optuna_study import quiet_optuna
import alembic.command, optuna.storages._rdb.models
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
OptunaStudies(sys.argv[1]).read("hill", ["maximize"])
"""


@pytest.mark.slow
def test_four_processes_opening_a_fresh_database_at_once_all_come_up(database_url: str) -> None:
    start = str(time.time() + 3)
    crowd = [
        subprocess.Popen([sys.executable, "-c", CROWD, database_url, start], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    errors = [process.communicate(timeout=90)[1] for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 4, errors
    assert errors == [""] * 4


SEARCH = """
import sys, time
sys.path.insert(0, sys.argv[1])
from forexgpt_core.adapters.optuna_storage import OptunaStudies
from forexgpt_core.optimisation.trials import Memory
from test_optuna_tpe import Counted, run

def slowly(configs):
    print("batch", flush=True)
    time.sleep(0.2)
    return Counted()(configs)

run(keeper=OptunaStudies(sys.argv[2]), trials=Memory(), evaluate=slowly)
"""


def test_killed_in_the_middle_a_search_ends_as_an_uninterrupted_one(database_url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SEARCH, str(Path(__file__).parent), database_url], stdout=subprocess.PIPE, text=True
    )
    for _ in range(3):
        assert process.stdout.readline() == "batch\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    studies = OptunaStudies(database_url)
    kept = studies.read("hill", ["maximize"])
    assert 8 <= len(kept) < SHORT.proposals
    resumed, whole = run(keeper=studies, trials=Memory()), run()
    assert resumed == whole
    ends = studies.read("hill", ["maximize"])
    assert [trial.number for trial in ends] == list(range(SHORT.proposals))
    assert json.dumps([t.params for t in ends[: len(kept)]]) == json.dumps([t.params for t in kept])
    studies.close()
