"""Claims, leases and figures of a study's trials, on SQLite and on PostgreSQL alike."""

import itertools
import math
import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_worker import candidates, figures_of, identity

from forexgpt_core.adapters.database import trials as trials_module
from forexgpt_core.adapters.database.columns import now_utc
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.studies import StudiesRepository
from forexgpt_core.adapters.database.tables import optimisation_trial_table as trial_table
from forexgpt_core.adapters.database.trials import StudyTrials
from forexgpt_core.errors import BadInput, StoreError
from forexgpt_core.optimisation.trials import try_all

CONFIGS = candidates(4)
HASHES = [config.hash12 for config in CONFIGS]
_seeds = itertools.count()

shared_database = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)  # every example has a study of its own in it


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


def new_study(database: Database) -> int:
    return StudiesRepository(database).open(identity(seed=next(_seeds))).study_id


def some(numbers: Any) -> dict[int, Any]:
    return {n: CONFIGS[n] for n in numbers}


def expire(database: Database, study_id: int, name: str) -> None:
    """Let the lease of a trial end, as if its worker had died long ago."""
    t = trial_table
    over = sa.update(t).where(t.c.study_id == study_id, t.c.config_hash == name, t.c.leased_until_utc.is_not(None))
    with database.write() as connection:
        connection.execute(over.values(leased_until_utc=now_utc() - timedelta(seconds=1)))


numbers = st.lists(st.integers(0, len(CONFIGS) - 1), min_size=1, unique=True)
steps = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "finish", "finished", "expire", "release"]), st.integers(0, 1), numbers
    ),
    max_size=20,
)


@shared_database
@given(steps=steps)
def test_two_workers_in_any_order_agree_with_what_the_rules_say(database: Database, steps: list[Any]) -> None:
    study = new_study(database)
    workers = [StudyTrials(database, study) for _ in range(2)]
    finished: dict[str, Any] = {}
    holder: dict[str, int] = {}  # whose lease runs
    ever: dict[str, set[int]] = {name: set() for name in HASHES}
    attempts: dict[str, int] = {}
    for step, (what, who, which) in enumerate(steps):
        names = [HASHES[n] for n in which]
        if what == "claim":
            free = [name for name in names if name not in finished and holder.get(name, who) == who]
            assert workers[who].claim(some(which), seconds=60) == free
            for name in free:
                holder[name] = who
                ever[name].add(who)
                attempts[name] = attempts.get(name, 0) + 1
        elif what == "finish":
            done = {name: {"sharpe": step / 7, "by": who} for name in names if who in ever[name]}
            workers[who].finish(done)
            finished = done | finished
        elif what == "finished":
            assert workers[who].finished(names) == {name: finished[name] for name in names if name in finished}
        elif what == "expire":
            expire(database, study, names[0])
            holder.pop(names[0], None)
        else:
            given_up = [name for name, one in holder.items() if one == who and name not in finished]
            assert workers[who].release() >= len(given_up)  # those whose lease is over are given up as well
            for name in given_up:
                del holder[name]
    assert workers[0].finished(HASHES) == workers[1].finished(HASHES) == finished
    assert workers[0].attempts() == attempts


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)


@shared_database
@given(stats=st.dictionaries(st.text(), plain | st.lists(plain, max_size=40), max_size=12))
def test_figures_come_back_bit_for_bit(database: Database, stats: dict[str, Any]) -> None:
    trials = StudyTrials(database, new_study(database))
    trials.claim(some([0]), seconds=60)
    stats |= {"smallest": 5e-324, "minus": -0.0, "third": np.float64(1) / 3, "none": None}
    trials.finish({HASHES[0]: stats})
    found = StudyTrials(database, trials._study_id).finished(HASHES)[HASHES[0]]
    assert repr(found) == repr({name: float(v) if isinstance(v, np.floating) else v for name, v in stats.items()})


def test_a_figure_that_is_no_finite_json_is_refused_by_name_and_nothing_of_the_batch_is_stored(
    database: Database,
) -> None:
    trials = StudyTrials(database, new_study(database))
    trials.claim(some([0, 1]), seconds=60)
    for value in (math.nan, math.inf, np.int64(3), {1, 2}, [0.1, math.nan]):
        with pytest.raises(BadInput, match=rf"figures of trial {HASHES[1]} cannot be stored: sharpe is"):
            trials.finish({HASHES[0]: {"sharpe": 1.0}, HASHES[1]: {"trades": 3, "sharpe": value}})
    assert trials.finished(HASHES) == {}


def test_what_was_not_claimed_is_not_finished(database: Database) -> None:
    study = new_study(database)
    StudyTrials(database, study).claim(some([0]), seconds=60)
    with pytest.raises(BadInput, match="not claimed by this worker"):
        StudyTrials(database, study).finish({HASHES[0]: {"sharpe": 1.0}})
    with pytest.raises(BadInput, match="longer than 0 s"):
        StudyTrials(database, study).claim(some([0]), seconds=0)
    with pytest.raises(StoreError):
        StudyTrials(database, 10**6).claim(some([0]), seconds=60)


def test_a_late_worker_changes_nothing(database: Database) -> None:
    study = new_study(database)
    late, other = StudyTrials(database, study), StudyTrials(database, study)
    assert late.claim(some([0, 1]), seconds=60) == HASHES[:2]
    assert other.claim(some([0, 1]), seconds=60) == []
    expire(database, study, HASHES[0])
    assert other.claim(some([0, 1]), seconds=60) == [HASHES[0]]
    other.finish({HASHES[0]: {"sharpe": 1.0}})
    late.finish({HASHES[0]: {"sharpe": 2.0}, HASHES[1]: {"sharpe": 3.0}})
    assert other.finished(HASHES) == {HASHES[0]: {"sharpe": 1.0}, HASHES[1]: {"sharpe": 3.0}}
    assert other.attempts() == {HASHES[0]: 2, HASHES[1]: 1}


def test_studies_do_not_share_trials(database: Database) -> None:
    one, other = (StudyTrials(database, new_study(database)) for _ in range(2))
    one.claim(some([0]), seconds=60)
    one.finish({HASHES[0]: {"sharpe": 1.0}})
    assert other.finished(HASHES) == {}
    assert other.claim(some([0]), seconds=60) == [HASHES[0]]


def test_more_than_fits_in_one_query_is_stored_in_parts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_module, "_AT_ONCE", 100)
    trials = StudyTrials(database, new_study(database))
    many = dict(enumerate(candidates(1_200)))  # SQLAlchemy inserts a thousand at once
    figures = try_all(many, lambda configs: [figures_of(config) for config in configs], trials)
    assert figures == {config.hash12: figures_of(config) for config in many.values()}
    assert set(trials.attempts().values()) == {1}
    assert trials.claim(many, seconds=60) == []


def test_crowds_that_ask_for_the_same_candidates_in_any_order_get_each_once(database: Database) -> None:
    study, pool = new_study(database), candidates(120)
    won: list[str] = []
    errors: list[Exception] = []

    def ask(seed: int) -> None:
        draw, trials = random.Random(seed), StudyTrials(database, study)
        try:
            for _ in range(6):
                mine = trials.claim({n: pool[n] for n in draw.sample(range(120), 60)}, seconds=60)
                fresh = [name for name in mine if name not in trials.finished(mine)]
                won.extend(fresh)
                trials.finish({name: {"sharpe": seed / 3} for name in fresh})
        except Exception as error:
            errors.append(error)

    crowd = [threading.Thread(target=ask, args=(seed,)) for seed in range(5)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert errors == []
    assert len(won) == len(set(won))
    trials = StudyTrials(database, study)
    assert trials.attempts() == dict.fromkeys(won, 1)
    assert trials.finished([config.hash12 for config in pool]).keys() == set(won)
