"""A study is known by all that its result depends on, goes on where it stopped, and answers at once when finished."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_worker import candidates, figures_of, identity

from forexgpt_core.adapters.database.engine import open_database
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.studies import StudiesRepository, StudyHandle, Trial
from forexgpt_core.adapters.database.trials import StudyTrials
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import BadInput, NotReady, UnknownName
from forexgpt_core.optimisation.trials import try_all

CONFIGS = candidates(6)
HASHES = [config.hash12 for config in CONFIGS]


@pytest.fixture
def studies(database_url: str) -> Iterator[StudiesRepository]:
    upgrade(database_url)
    database = open_database(database_url)
    yield StudiesRepository(database)
    database.close()


def tried(study: StudyHandle, count: int = len(CONFIGS)) -> StudyHandle:
    """Try the first candidates of a study."""
    with study.working() as trials:
        try_all(dict(enumerate(CONFIGS[:count])), lambda configs: [figures_of(one) for one in configs], trials)
    return study


def never(_: object) -> Any:
    raise AssertionError("evaluated again")


# ---- what makes a study


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "GBPUSD"},
        {"timeframe": "H4"},
        {"data_version": "c4f5"},
        {"first_bar_utc": datetime(2018, 1, 1, 23, tzinfo=UTC)},
        {"last_bar_utc": datetime(2019, 6, 28, 19, tzinfo=UTC)},
        {"bundle_hash": "c"},
        {"space": {"entry_probability": [0.5, 0.71], "horizons_bars": (1, 24)}},
        {"method": "tpe"},
        {"settings": {"population": 51}},
        {"costs": Costs(spread_pips=0.5)},
        {"seed": 8},
    ],
)
def test_whatever_a_result_depends_on_makes_another_study(change: dict[str, Any]) -> None:
    assert identity(**change).key != identity().key


def test_the_same_search_written_otherwise_is_the_same_study() -> None:
    tokyo = timezone(timedelta(hours=9))
    same = identity(
        space={"horizons_bars": [1.0, 24], "entry_probability": (0.5, 0.7)},
        settings={"population": 50.0},
        costs=Costs(spread_pips=1),
        first_bar_utc=datetime(2018, 1, 2, 7, tzinfo=tokyo),
    )
    assert same.key == identity().key
    assert same.document() == identity().document()


@given(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()))
def test_no_order_of_settings_changes_the_key(settings: dict[str, Any]) -> None:
    backwards = dict(reversed(settings.items()))
    assert identity(settings=backwards).key == identity(settings=settings).key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": math.nan}, "study's seed must be"),
        ({"space": {"stop": [1.0, math.inf]}}, r"study's space\.stop\[1\] must be"),
        ({"settings": {"when": datetime(2018, 1, 1)}}, r"study's settings\.when must be"),
        ({"data_version": ""}, "data_version must be a name"),
        ({"first_bar_utc": datetime(2018, 1, 1)}, "first_bar_utc must be UTC"),
        ({"first_bar_utc": datetime(2020, 1, 1, tzinfo=UTC)}, "begin before it ends"),
    ],
)
def test_what_cannot_be_an_identity_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        identity(**change)


# ---- the life of a study


def test_a_finished_study_answers_at_once_and_keeps_its_first_result(studies: StudiesRepository) -> None:
    study = studies.open(identity())
    assert (study.state, study.result, study.trials) == ("running", None, 0)
    assert studies.newest("EURUSD", "H1") is None
    with pytest.raises(NotReady):
        studies.candidates("EURUSD", "H1")
    tried(study)
    result = {"hypervolume": [0.1, 1 / 3], "picks": {"knee": HASHES[4]}, "undefined": math.nan}
    stored = study.finish(result, {HASHES[4]: {"sharpe": 0.1}, HASHES[1]: None})
    assert stored == {**result, "undefined": None}
    again = studies.open(identity())
    assert (again.study_id, again.state, again.result, again.trials) == (study.study_id, "finished", stored, 6)
    assert again.finish({"other": 1}, {}) == stored
    with again.working() as trials:
        assert try_all(dict(enumerate(CONFIGS)), never, trials) == {c.hash12: figures_of(c) for c in CONFIGS}
    newest = studies.newest("EURUSD", "H1")
    assert newest == studies.load(study.study_id)
    assert newest is not None
    assert (newest.details, newest.state) == (stored, "finished")
    assert [trial.config.hash12 for trial in newest.front] == [HASHES[4], HASHES[1]], "best first"
    assert [trial.out_of_sample for trial in newest.front] == [{"sharpe": 0.1}, None]
    assert [t.config.hash12 for t in newest.trials[2:]] == [HASHES[n] for n in (0, 2, 3, 5)], "in the order tried"
    assert studies.candidates("EURUSD", "H1").front == [CONFIGS[4], CONFIGS[1]]


def test_the_finished_search_that_was_asked_for_last_is_the_newest(studies: StudiesRepository) -> None:
    for seed in (1, 2):
        tried(studies.open(identity(seed=seed))).finish({}, {HASHES[seed]: None})
    assert studies.candidates("EURUSD", "H1").front == [CONFIGS[2]]
    studies.open(identity(seed=1))
    tried(studies.open(identity(seed=3)))
    assert studies.candidates("EURUSD", "H1").front == [CONFIGS[1]], "what runs is not shown"
    trial = Trial(config=CONFIGS[5], in_sample={"sharpe": 1.0}, on_front=True)
    common = {"symbol": "EURUSD", "timeframe": "H1", "bundle_hash": "b", "method": "nsga2", "data_version": "1"}
    studies.record(**common, seed=0, costs=Costs(), trials=[trial])
    assert studies.candidates("EURUSD", "H1").front == [CONFIGS[5]]


def test_workers_that_open_a_study_at_once_open_the_same(studies: StudiesRepository) -> None:
    with ThreadPoolExecutor(6) as crowd:
        found = list(crowd.map(lambda _: studies.open(identity()).study_id, range(6)))
    assert len(set(found)) == 1
    assert len(studies.list("EURUSD")) == 1


class Interrupted(BaseException):
    """As an orchestrator stops a run."""


def test_a_worker_that_ends_early_says_how_and_lets_its_claims_go(studies: StudiesRepository) -> None:
    ends = [
        (ValueError("ruin"), "failed", "ruin"),
        (KeyError(), "failed", "KeyError()"),
        (Interrupted(), "stopped", None),
    ]
    for seed, (error, state, told) in enumerate(ends):
        study = tried(studies.open(identity(seed=seed)), 2)
        with pytest.raises(type(error)), study.working() as trials:  # noqa: PT012
            trials.claim(dict(enumerate(CONFIGS)), seconds=60)
            raise error
        row = studies.list("EURUSD")[0]
        assert (row.study_id, row.state, row.error, row.trials, row.claimed) == (study.study_id, state, told, 2, 4)
        again = studies.open(identity(seed=seed))
        assert (again.study_id, again.state, again.trials) == (study.study_id, "running", 2)
        tried(again)  # without waiting for the lease
        attempts = StudyTrials(studies.database, again.study_id).attempts()
        assert attempts == {name: 1 if name in HASHES[:2] else 2 for name in HASHES}


def test_a_finished_study_stays_finished_whatever_becomes_of_other_workers(studies: StudiesRepository) -> None:
    study = tried(studies.open(identity()))
    study.finish({}, {})
    study.stop()
    with pytest.raises(ValueError, match="too late"), study.working():
        raise ValueError("too late")
    (row,) = studies.list("EURUSD")
    assert (row.state, row.error) == ("finished", None)


def test_a_front_is_of_trials_that_have_figures(studies: StudiesRepository) -> None:
    study = tried(studies.open(identity()), 2)
    with study.working() as trials:
        trials.claim(dict(enumerate(CONFIGS)), seconds=60)
    for name in (HASHES[3], "nowhere"):
        with pytest.raises(BadInput, match=f"names {name}, which it has not tried"):
            study.finish({}, {HASHES[0]: None, name: None})
    assert studies.newest("EURUSD", "H1") is None
    for missing in (lambda: studies.load(99), lambda: studies.finish(99, {}, {})):
        with pytest.raises(UnknownName, match="no study 99"):
            missing()


# ---- what others read


def test_a_list_tells_each_study_in_a_line(studies: StudiesRepository) -> None:
    first = tried(studies.open(identity()), 2)
    other = studies.open(identity(timeframe="H4", method="tpe"))
    with other.working() as trials:
        trials.claim(dict(enumerate(CONFIGS)), seconds=60)
        figures = [{"sharpe": s, "max_drawdown_pct": d, "return_pct": None} for s, d in ((1.5, 30.0), (-1.0, 4.0))]
        trials.finish(dict(zip(HASHES, figures)))
    studies.open(identity(symbol="GBPUSD"))
    newest, oldest = studies.list("EURUSD")
    assert (newest.study_id, newest.timeframe, newest.method, newest.state) == (other.study_id, "H4", "tpe", "running")
    assert (newest.trials, newest.claimed, newest.finished_utc) == (2, 4, None)
    nothing = {"return_pct": None, "win_rate_pct": None}
    assert newest.best == nothing | {"sharpe": 1.5, "max_drawdown_pct": 4.0}
    assert (oldest.trials, oldest.claimed) == (2, 0)
    other.finish({}, {HASHES[1]: None})
    finished = studies.list("EURUSD", "H4")[0]
    assert finished.best == nothing | {"sharpe": -1.0, "max_drawdown_pct": 4.0}, "of the front alone"
    assert finished.started_utc is not None
    assert finished.finished_utc is not None
    assert finished.started_utc < finished.finished_utc
    assert [row.study_id for row in studies.list("EURUSD", "H1")] == [first.study_id]


def test_every_trial_with_figures_counts_once_whatever_became_of_its_study(studies: StudiesRepository) -> None:
    tried(studies.open(identity()), 2).finish({"trials": 2}, {})
    tried(studies.open(identity(seed=2)), 3).stop()
    with studies.open(identity(seed=3)).working() as trials:
        trials.claim(dict(enumerate(CONFIGS)), seconds=60)
        trials.finish({HASHES[5]: {"sharpe": None}})
    registry = studies.trial_registry("EURUSD", "H1")
    assert registry.sharpes.keys() == {HASHES[n] for n in (0, 1, 2, 5)}
    assert (registry.sharpes[HASHES[5]], registry.unrecorded, registry.count) == (None, 0, 4)
    assert registry.sharpes[HASHES[0]] == pytest.approx(figures_of(CONFIGS[0])["sharpe"] / math.sqrt(260))


def test_what_may_be_approved_or_gone_on_with_keeps_its_bundle(studies: StudiesRepository) -> None:
    for bundle in ("a", "b"):
        studies.open(replace(identity(), bundle_hash=bundle)).finish({}, {})
    studies.open(identity(bundle_hash="c"))
    studies.open(identity(bundle_hash="d", symbol="GBPUSD")).stop()
    assert studies.protected_bundles() == {"b", "c", "d"}
    studies.open(identity(bundle_hash="a"))
    assert studies.protected_bundles() == {"a", "c", "d"}
