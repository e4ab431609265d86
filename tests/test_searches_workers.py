"""Who works on a search, who has died, and how those who work leave each other a share."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from study_worker import candidates, figures_of, identity

from forexgpt_core.adapters.database import workers
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.studies import StudiesRepository
from forexgpt_core.adapters.database.trials import StudyTrials
from forexgpt_core.adapters.database.workers import hired, is_gone, retired
from forexgpt_core.optimisation.trials import try_all
from forexgpt_core.strategy.config import StrategyConfig

POOL = dict(enumerate(candidates(50)))
NAMES = [one.hash12 for one in POOL.values()]
HIRE = """
import sys
from forexgpt_core.adapters.database.workers import hired
print(hired(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def elsewhere() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with a worker, and the worker's name."""
    process = subprocess.Popen([sys.executable, "-c", HIRE], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate(timeout=60)


def test_a_worker_is_gone_when_it_ends_and_not_before() -> None:
    one, other = hired(), hired()
    assert one != other
    assert max(len(one), len(other)) <= 80
    assert not is_gone(one)
    retired(one)
    assert is_gone(one)
    assert not is_gone(other)
    retired(other)


def test_a_killed_process_is_gone_before_anybody_asked_for_its_end(elsewhere: tuple[Any, str]) -> None:
    process, name = elsewhere
    assert not is_gone(name)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    assert is_gone(name)
    process.wait()
    assert is_gone(name)


def test_another_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    name = hired()
    host, here, process, began, token = name.rsplit(":", 4)
    assert is_gone(":".join([host, here, process, str(int(began) - 1), token]))
    retired(name)


def test_of_workers_elsewhere_or_without_a_name_of_ours_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    name = hired()
    retired(name)
    host, here, *rest = name.rsplit(":", 4)
    assert not is_gone(":".join([host, "0" * 8 if here != "0" * 8 else "1" * 8, *rest]))
    assert not any(map(is_gone, ("", "me", "host:1:2", name + "0")))
    monkeypatch.setattr(workers, "_PROC", workers._PROC / "no such folder")
    assert not is_gone(name)
    unknown = hired()
    assert not is_gone(unknown)
    retired(unknown)
    assert not is_gone(unknown)  # its lease tells


def test_what_a_dead_worker_held_is_claimed_at_once(database: Database, elsewhere: tuple[Any, str]) -> None:
    process, name = elsewhere
    study = StudiesRepository(database).open(identity()).study_id
    assert StudyTrials(database, study, name).claim(POOL, seconds=3600) == NAMES
    mine = StudyTrials(database, study)
    assert mine.claim(POOL, seconds=60) == []
    process.kill()
    process.wait()
    assert mine.claim(POOL, seconds=60)
    assert StudyTrials(database, study).claim(POOL, seconds=60) != NAMES


def test_what_a_worker_could_not_give_up_is_claimed_by_the_next_one_of_its_process(database: Database) -> None:
    study = StudiesRepository(database).open(identity()).study_id
    first, second = StudyTrials(database, study), StudyTrials(database, study)
    assert first.claim(POOL, seconds=3600) == NAMES
    assert second.claim(POOL, seconds=60) == []
    first.close()
    assert second.claim(POOL, seconds=60)


def test_workers_that_met_leave_each_other_a_share_and_one_alone_takes_all_again(database: Database) -> None:
    study = StudiesRepository(database).open(identity()).study_id
    one, other = StudyTrials(database, study), StudyTrials(database, study)
    rest = dict(enumerate(candidates(700)[50:], 50))
    some = [{n: rest[n] for n in range(start, start + 50)} for start in range(50, 700, 50)]
    assert len(one.claim(POOL, seconds=60)) == 50
    assert other.claim(POOL, seconds=60) == []  # they meet
    first = other.claim(some[0], seconds=60)
    assert len(first) == 25
    assert len(one.claim(some[0], seconds=60)) == 25
    sizes = [len(one.claim(part, seconds=60)) for part in some[1:]]
    assert sizes[0] == 25  # it has met the other one
    alone = StudyTrials(database, StudiesRepository(database).open(identity(seed=8)).study_id)
    sizes = [len(alone.claim(part, seconds=60)) for part in [POOL, *some]]
    assert sizes == [50] * 14


def test_somebody_who_comes_later_gets_a_share_in_time(database: Database) -> None:
    study = StudiesRepository(database).open(identity()).study_id
    first, visitor = StudyTrials(database, study), StudyTrials(database, study)
    for start in range(0, 15 * 4, 4):
        part = dict(enumerate(candidates(100)[start : start + 4], start))
        assert len(first.claim(part, seconds=60)) == 4
    left = dict(enumerate(candidates(150)[100:], 100))
    mine = first.claim(left, seconds=60)
    assert len(mine) == 25
    theirs = visitor.claim(left, seconds=60)
    assert len(theirs) == 25
    assert not set(mine) & set(theirs)


def test_two_who_work_at_once_evaluate_everything_once_and_both_a_part(database: Database) -> None:
    study = StudiesRepository(database).open(identity()).study_id
    numbered = dict(enumerate(candidates(200)))
    tried: dict[int, list[str]] = {0: [], 1: []}
    met = threading.Barrier(2)
    results = []

    def work(who: int) -> None:
        trials = StudyTrials(database, study)

        def evaluate(configs: Sequence[StrategyConfig]) -> list[dict[str, Any]]:
            if not tried[who]:
                met.wait(30)  # both hold something now
            tried[who] += [config.hash12 for config in configs]
            return [figures_of(config) for config in configs]

        batches = [{n: numbered[n] for n in range(start, start + 50)} for start in range(0, 200, 50)]
        for batch in batches[::-1] if who else batches:  # so that each gets something to begin with
            results.append(try_all(batch, evaluate, trials))

    crew = [threading.Thread(target=work, args=(who,)) for who in tried]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(60)
    assert len(results) == 8
    assert Counter(tried[0] + tried[1]) == Counter(one.hash12 for one in numbered.values())
    assert all(tried.values())
