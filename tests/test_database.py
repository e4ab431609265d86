"""What the repositories promise, on SQLite and on PostgreSQL alike."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa

from forexgpt_core.adapters.database import engine as engine_module
from forexgpt_core.adapters.database.columns import Exact, UtcTime
from forexgpt_core.adapters.database.deployments import DeploymentRepository, TradingStateRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.scores import ScoresRepository
from forexgpt_core.adapters.database.settings import SettingsRepository
from forexgpt_core.adapters.database.studies import StudiesRepository, Trial
from forexgpt_core.adapters.database.training import TrainingRepository
from forexgpt_core.deployment.records import DeploymentRequest, Skill
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import TradingState
from forexgpt_core.errors import BadInput, NotReady, StoreError, UnknownName
from forexgpt_core.strategy.config import StrategyConfig


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


def request_for(symbol: str = "EURUSD", **changes: object) -> DeploymentRequest:
    skill = Skill(horizon_bars=24, n=900, skill=0.02, skill_low=0.01, skill_high=0.03, dm_p=0.01)
    request = DeploymentRequest(
        symbol=symbol,
        timeframe="H1",
        bundle_hash="aaaa",
        config=StrategyConfig(),
        costs=Costs(),
        approved_by="ann",
        reason="shown skill",
        allow_no_skill=False,
        skill=skill,
    )
    return replace(request, **changes)


# ---- the engine


def test_an_unreachable_server_is_one_line_without_the_password() -> None:
    database = open_database("postgresql://ann:s3cret-canary@127.0.0.1:9/none?sslpassword=c4nary")
    with pytest.raises(StoreError) as caught, database.read():
        pass
    text = str(caught.value)
    assert "127.0.0.1" in text
    assert "\n" not in text
    assert "s3cret-canary" not in text
    assert "c4nary" not in text
    assert caught.value.__cause__ is None


def test_a_locked_sqlite_file_is_a_store_error(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade(sqlite_url)
    monkeypatch.setattr(engine_module, "BUSY_SECONDS", 0.1)
    first, second = open_database(sqlite_url), open_database(sqlite_url)
    with first.write():
        with pytest.raises(StoreError, match="another process holds its lock"), second.write():
            pass
        with second.read() as connection:  # a reader is not held up
            assert connection.execute(sa.text("SELECT count(*) FROM deployment")).scalar_one() == 0


def test_an_exception_undoes_a_transaction(database: Database) -> None:
    def halfway() -> None:
        with database.write() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO strategy_config (hash12, document, first_seen_utc) VALUES ('x', '{}', '2018-01-01')"
                )
            )
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        halfway()
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM strategy_config")).scalar_one() == 0


def test_a_reader_sees_one_state_while_others_write(database: Database) -> None:
    states = TradingStateRepository(database)
    count = sa.text("SELECT count(*) FROM trading_state")
    with database.read() as connection:
        before = connection.execute(count).scalar_one()
        states.set(TradingState.HALTED, reason="meanwhile", by="bob")
        assert connection.execute(count).scalar_one() == before
    assert len(states.history()) == before + 1


def test_a_database_without_tables_says_so(database_url: str) -> None:
    with pytest.raises(StoreError, match="has not been set up"):
        SettingsRepository(open_database(database_url)).load("EURUSD")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://root@x/y", "nonsense", ""])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(BadInput):
        open_database(url)


def test_times_and_money_come_back_as_they_were(database: Database) -> None:
    table = sa.Table("probe", sa.MetaData(), sa.Column("moment", UtcTime), sa.Column("money", Exact))
    tokyo = timezone(timedelta(hours=9))
    moment = datetime(2018, 7, 2, 3, 4, 5, 678901, tzinfo=tokyo)
    with database.write() as connection:
        table.create(connection)
        connection.execute(sa.insert(table).values(moment=moment, money=Decimal("123456789.0123456789")))
        connection.execute(sa.insert(table).values(moment=None, money=Decimal("1000")))
    with database.read() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.moment.is_(None))).all()
    assert rows[0].moment == moment
    assert rows[0].moment.tzinfo == UTC
    assert rows[0].money == Decimal("123456789.0123456789")
    assert str(rows[1].money) == "1000"
    with pytest.raises((BadInput, StoreError)), database.write() as connection:
        connection.execute(sa.insert(table).values(moment=datetime(2018, 7, 2), money=Decimal(1)))


# ---- settings


def test_settings_are_versions_and_equal_ones_are_not_stored_twice(database: Database) -> None:
    repository = SettingsRepository(database)
    first = default_settings("EURUSD")
    assert repository.load("eur/usd") == first
    assert repository.save(first, by="ann") == 1
    assert repository.save(first, by="bob") == 1
    recipe = {"indicators": {"rsi": {"bars": 9}}, "timeframes": ["H1", "H4"]}
    second = replace(first, cash=5_000.0, recipe=recipe, costs=Costs(spread_pips=0.3))
    assert repository.save(second, by="bob") == 2
    assert repository.load("EURUSD") == second
    assert [(saved.version, saved.saved_by, saved.settings) for saved in repository.history("EURUSD")] == [
        (1, "ann", first),
        (2, "bob", second),
    ]
    assert repository.symbols() == ["EURUSD"]
    with pytest.raises(UnknownName):
        repository.load("EURXXX")


def test_savers_at_once_get_different_versions(database: Database) -> None:
    repository = SettingsRepository(database)
    versions: list[int] = []

    def save(seed: int) -> None:
        versions.append(repository.save(replace(default_settings("EURUSD"), seed=seed), by="crowd"))

    crowd = [threading.Thread(target=save, args=(seed,)) for seed in range(100, 108)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert sorted(versions) == list(range(1, 9))


# ---- training and scores


def test_a_run_ends_once_and_its_bundle_is_recorded_once(database: Database) -> None:
    repository = TrainingRepository(database)
    common = {"symbol": "EURUSD", "timeframe": "H1", "family": "boosting", "data_version": "v3", "seed": 7}
    good = repository.start(**common, hyperparameters={"depth": 4}, run_key="dagster-1")
    bad = repository.start(**common)
    stopped = repository.start(**common)
    repository.complete(good, hyperparameters={"depth": 6})
    repository.fail(bad, "too few rows")
    repository.interrupted(stopped)
    repository.fail(good, "late")  # a finished run stays as it ended
    runs = {run.run_id: run for run in repository.runs("EURUSD", "H1")}
    assert [runs[i].state for i in (good, bad, stopped)] == ["completed", "failed", "interrupted"]
    assert runs[good].hyperparameters == {"depth": 6}
    assert runs[good].error is None
    assert runs[bad].error == "too few rows"
    version = {"symbol": "EURUSD", "timeframe": "H1", "family": "boosting", "kind": "model", "data_version": "v3"}
    assert repository.record_version(**version, bundle_hash="b1", training_run_id=good)
    assert not repository.record_version(**version, bundle_hash="b1", training_run_id=good)
    assert repository.record_version(**version, bundle_hash="b2")
    assert [v.bundle_hash for v in repository.versions("EURUSD", "H1", "boosting")] == ["b2", "b1"]
    assert repository.versions("EURUSD", "H1", "linear") == []
    with pytest.raises(UnknownName):
        repository.complete(999)


def test_scores_of_a_bundle_are_replaced_and_the_newest_bundle_is_shown(database: Database) -> None:
    repository = ScoresRepository(database)
    rows = [
        {"horizon_bars": 1, "n": np.int64(10), "crps": np.float64(0.5), "skill": float("nan"), "pit_p": 0.2},
        {"horizon_bars": 4, "n": 10, "crps": 0.7, "skill_low": float("inf")},
        {"horizon_bars": 1, "n": 5, "crps": 0.4, "day": date(2018, 1, 2)},
    ]
    repository.replace_evaluation("EURUSD", "H1", "linear", "old", rows)
    repository.replace_evaluation("EURUSD", "H1", "linear", "new", rows[:2])
    repository.replace_evaluation("EURUSD", "H1", "linear", "new", rows)
    repository.replace_evaluation("EURUSD", "H1", "forest", "f", rows[:1])
    latest = repository.latest("EURUSD", "H1")
    assert [(r["family"], r["bundle_hash"], r["horizon_bars"]) for r in latest] == [
        ("forest", "f", 1),
        ("linear", "new", 1),
        ("linear", "new", 4),
    ]
    assert latest[1]["skill"] is None
    assert latest[1]["pit_p"] == 0.2
    assert latest[2]["skill_low"] is None
    assert [r["day"] for r in repository.latest("EURUSD", "H1", by_day=True)] == [date(2018, 1, 2)]
    assert len(repository.of_bundle("old")) == 3
    with pytest.raises(BadInput, match="horizon_bars"):
        repository.replace_evaluation("EURUSD", "H1", "linear", "new", [{"n": 3}])
    assert len(repository.of_bundle("new")) == 3


def test_live_scores_of_a_day_are_replaced_alone(database: Database) -> None:
    repository = ScoresRepository(database)
    row = {"family": "ensemble", "bundle_hash": "e", "horizon_bars": 1, "n": 3, "crps": 1.0, "day": date(2018, 1, 2)}
    repository.merge_live("EURUSD", "H1", [row, row | {"day": date(2018, 1, 3)}])
    repository.merge_live("EURUSD", "H1", [row | {"n": 4, "crps": 2.0}])
    stored = repository.latest("EURUSD", "H1", "live", by_day=True)
    assert [(r["day"].day, r["n"], r["crps"]) for r in stored] == [(2, 4, 2.0), (3, 3, 1.0)]


def test_weights_come_back_by_horizon(database: Database) -> None:
    repository = ScoresRepository(database)
    weights = {1: {"random_walk": 0.25, "linear": 0.75}, 24: {"random_walk": 1.0}}
    repository.record_weights("EURUSD", "H1", "e", weights)
    repository.record_weights("EURUSD", "H1", "e", weights)
    assert repository.weights("EURUSD", "H1", "e") == weights


# ---- searches and deployments


def test_a_search_keeps_every_trial_and_its_front(database: Database) -> None:
    repository = StudiesRepository(database)
    with pytest.raises(NotReady, match="pareto_configs"):
        repository.candidates("EURUSD", "H1")
    configs = [StrategyConfig(), StrategyConfig(stop_scales=1.5), StrategyConfig(horizon_bars=4)]
    trials = [
        Trial(config=c, in_sample={"sharpe": np.float64(n), "bad": float("nan")}, on_front=n != 1)
        for n, c in enumerate(configs)
    ]
    common = {"symbol": "EURUSD", "timeframe": "H1", "method": "grid+nsga2", "data_version": "v3", "seed": 7}
    repository.record(**common, bundle_hash="old", costs=Costs(), trials=trials[:1])
    repository.record(**common, bundle_hash="new", costs=Costs(spread_pips=0.5), trials=trials, details={"n": 3})
    study = repository.newest("EURUSD", "H1")
    assert study is not None
    assert [trial.config for trial in study.trials] == configs
    assert study.trials[2].in_sample == {"sharpe": 2.0, "bad": None}
    candidates = repository.candidates("EURUSD", "H1")
    assert candidates.front == [configs[0], configs[2]]
    assert (candidates.bundle_hash, candidates.costs) == ("new", Costs(spread_pips=0.5))


def test_a_pair_has_one_active_deployment_and_remembers_the_others(database: Database) -> None:
    repository = DeploymentRepository(database)
    assert repository.active("EURUSD") is None
    first = repository.deploy(request_for())
    assert repository.deploy(request_for(reason="again")) == first
    second = repository.deploy(request_for(bundle_hash="bbbb", skill=None, allow_no_skill=True))
    other = repository.deploy(request_for("USDJPY"))
    assert repository.active("EURUSD") == second
    assert repository.active("EURUSD", "H4") is None
    assert (first.skill_shown, second.skill_shown) == (True, False)
    assert repository.all_active() == [second, other]
    assert [(d.deployment_id, d.active) for d in repository.history("EURUSD")] == [
        (second.deployment_id, True),
        (first.deployment_id, False),
    ]
    assert repository.protected_bundles() == {"aaaa", "bbbb"}
    assert repository.retire("EURUSD")
    assert not repository.retire("EURUSD")
    assert repository.active("EURUSD") is None


def test_deployers_at_once_leave_one_active_deployment(database: Database) -> None:
    repository = DeploymentRepository(database)
    errors: list[Exception] = []

    def deploy(n: int) -> None:
        try:
            repository.deploy(request_for(bundle_hash=f"b{n}"))
        except Exception as error:
            errors.append(error)

    crowd = [threading.Thread(target=deploy, args=(n,)) for n in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert errors == []
    assert len(repository.history("EURUSD")) == 6
    assert len(repository.all_active()) == 1


def test_the_stricter_trading_state_holds(database: Database) -> None:
    repository = TradingStateRepository(database)
    assert repository.get("EURUSD") is None
    repository.set(TradingState.HALTED, reason="news", by="ann", scope="EURUSD")
    repository.set(TradingState.REDUCING, reason="evening", by="bob")
    found = repository.get("EURUSD")
    assert found is not None
    assert (found.state, found.reason, found.changed_by) == (TradingState.HALTED, "news", "ann")
    other = repository.get("USDJPY")
    assert other is not None
    assert other.state is TradingState.REDUCING
    repository.set(TradingState.ACTIVE, reason="over", by="ann", scope="EURUSD")
    repository.set(TradingState.ACTIVE, reason="morning", by="bob")
    found = repository.get("EURUSD")
    assert found is not None
    assert found.state is TradingState.ACTIVE
    assert len(repository.history()) == 4
