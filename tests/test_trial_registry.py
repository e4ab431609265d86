"""Every trial of every search is kept and counted once, on SQLite and on PostgreSQL alike."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.studies import StudiesRepository, Trial
from forexgpt_core.backtest.performance import curve_stats, day_ends, day_returns, periods_per_year
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.evaluation.overfitting import TrialRegistry, sharpe_evidence
from forexgpt_core.strategy.config import StrategyConfig

CONFIGS = [StrategyConfig(entry_probability=0.4 + n / 100) for n in range(6)]
HASHES = [config.hash12 for config in CONFIGS]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


def record(database: Database, sharpes: dict[int, float | None], pair: tuple[str, str] = ("EURUSD", "H1")) -> None:
    """Record a search that tried some of CONFIGS, the first of them its front."""
    StudiesRepository(database).record(
        symbol=pair[0],
        timeframe=pair[1],
        bundle_hash="b",
        method="nsga2",
        data_version="1",
        seed=0,
        costs=Costs(),
        trials=[
            Trial(
                config=CONFIGS[number],
                in_sample={"sharpe": sharpe, "trades": 5},
                out_of_sample={"sharpe": 0.5} if place == 0 else None,
                on_front=place == 0,
            )
            for place, (number, sharpe) in enumerate(sharpes.items())
        ],
        details={"trials": len(sharpes)},
    )


def test_what_was_tried_is_counted_once_over_all_searches_of_the_pair(database: Database) -> None:
    repository = StudiesRepository(database)
    assert repository.trial_registry("EURUSD", "H1") == TrialRegistry(sharpes={})
    record(database, {0: 1.0, 1: -2.0, 2: None})
    record(database, {1: -1.0, 3: 2.5})
    record(database, {4: 9.0}, ("EURUSD", "H4"))
    record(database, {5: 9.0}, ("GBPUSD", "H1"))
    found = repository.trial_registry("EURUSD", "H1")
    daily = math.sqrt(260)
    assert found.sharpes == {
        HASHES[0]: pytest.approx(1 / daily),
        HASHES[1]: pytest.approx(-1 / daily),  # the newest figure
        HASHES[2]: None,
        HASHES[3]: pytest.approx(2.5 / daily),
    }
    assert (found.count, found.unrecorded) == (4, 0)
    assert found.sharpe_std == pytest.approx(np.std([1, -1, 2.5], ddof=1) / daily)
    record(database, {0: 1.0, 1: -1.0, 2: None, 3: 2.5})
    assert repository.trial_registry("EURUSD", "H1") == found, "a repeat adds nothing"


def test_a_front_stays_a_front_among_all_trials(database: Database) -> None:
    record(database, {2: 1.0, 0: 3.0, 1: None})
    study = StudiesRepository(database).newest("EURUSD", "H1")
    assert study is not None
    assert [trial.config for trial in study.trials] == [CONFIGS[n] for n in (2, 0, 1)]
    assert [trial.config for trial in study.front] == study.candidates.front == [CONFIGS[2]]
    assert [trial.out_of_sample is None for trial in study.trials] == [False, True, True]


def test_trials_of_searches_that_kept_their_front_alone_still_count(database: Database) -> None:
    repository = StudiesRepository(database)
    trials = [Trial(config=CONFIGS[0], in_sample={"sharpe": 1.0}, on_front=True)]
    common = {"symbol": "EURUSD", "timeframe": "H1", "bundle_hash": "b", "method": "nsga2", "data_version": "1"}
    repository.record(**common, seed=0, costs=Costs(), trials=trials, details={"trials": 96})
    repository.record(**common, seed=0, costs=Costs(), trials=trials)
    found = repository.trial_registry("EURUSD", "H1")
    assert (len(found.sharpes), found.unrecorded, found.count) == (1, 95, 96)
    assert math.isnan(found.sharpe_std)


def test_weekly_bars_are_annualised_by_weeks(database: Database) -> None:
    record(database, {0: 2.0}, ("EURUSD", "W1"))
    assert StudiesRepository(database).trial_registry("EURUSD", "W1").sharpes == {
        HASHES[0]: pytest.approx(2 / math.sqrt(52))
    }


@pytest.mark.parametrize("timeframe", ["M15", "H1", "H4", "D1", "W1"])
def test_the_ratio_per_period_is_that_of_the_returns(timeframe: str) -> None:
    frame = Timeframe(timeframe)
    opens = expected_opens(np.datetime64("2018-01-02T00:00"), np.datetime64("2018-12-01"), frame)
    equity = 1e5 * np.exp(np.cumsum(np.random.default_rng(0).normal(1e-4, 1e-3, opens.size)))
    ends, periods = day_ends(opens.astype("datetime64[us]"))
    assert periods == periods_per_year(frame)
    annual = curve_stats(equity, 1e5, ends, periods)["sharpe"]
    assert isinstance(annual, float)
    assert annual / math.sqrt(periods) == pytest.approx(sharpe_evidence(day_returns(equity, 1e5, ends)).sharpe)


def test_registries_join_without_counting_twice() -> None:
    one = TrialRegistry(sharpes={"a": 0.1, "b": None}, unrecorded=3)
    both = one.including({"b": 0.2, "c": -0.1})
    assert both == TrialRegistry(sharpes={"a": 0.1, "b": 0.2, "c": -0.1}, unrecorded=3)
    assert both.count == 6
    assert both.including({"c": -0.1}) == both
