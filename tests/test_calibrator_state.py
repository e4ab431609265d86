"""States of adaptive calibrators in the database: a version per step, none overwritten, two processes one step."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa

from forexgpt_core.adapters.database import calibrators
from forexgpt_core.adapters.database.calibrators import CalibratorRepository
from forexgpt_core.adapters.database.deployments import DeploymentRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.forecasts import ForecastRepository
from forexgpt_core.adapters.database.journal import DatabaseJournal
from forexgpt_core.adapters.database.schema import downgrade, upgrade
from forexgpt_core.calibration.adaptive import AdaptiveCalibrator, AdaptiveSettings
from forexgpt_core.deployment.records import DeploymentRequest
from forexgpt_core.domain.clock import from_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.orders import OrderIntent, Side
from forexgpt_core.errors import BadInput, StoreError
from forexgpt_core.live.calibrating import CalibratorKey
from forexgpt_core.live.journal import ForecastRecord
from forexgpt_core.strategy.config import StrategyConfig

KEY = CalibratorKey(symbol="EURUSD", timeframe="H1", bundle_hash="e")
FEW = AdaptiveSettings(gammas=(0.0, 0.05), window_scores=20)
START = np.datetime64("2018-01-01T22", "us")


def batch(first: int, n: int) -> ForecastBatch:
    scale = np.full((n, 2), 1e-3)
    return ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="ensemble",
        origin_utc=START + np.arange(first, first + n) * np.timedelta64(1, "h"),
        horizons_bars=(1, 4),
        quantiles=scale[..., None] * SCORES,
        scale=scale,
    )


def states(n: int) -> list[AdaptiveCalibrator]:
    """Return the states after each of n steps."""
    returns = 1e-3 * np.random.default_rng(1).normal(size=(30, 2))
    made = [AdaptiveCalibrator.start(batch(0, 30), returns, np.arange(30), settings=FEW)]
    for step in range(n):
        made.append(made[-1].apply(batch(30 + step, 1), 30 + step)[1])
    return made[1:]


def same(a: AdaptiveCalibrator | None, b: AdaptiveCalibrator) -> bool:
    return a is not None and json.dumps(a.to_document()) == json.dumps(b.to_document())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


def test_the_newest_state_is_read_back_to_the_last_bit(database: Database) -> None:
    store = CalibratorRepository(database)
    one, two, three = states(3)
    assert store.newest(KEY) is None
    assert store.advance(KEY, one, after=None)
    assert store.advance(KEY, two, after=1)
    assert same(store.newest(KEY), two)
    assert same(store.at(KEY, one.as_of_utc), one)
    assert store.at(KEY, three.as_of_utc) is None
    for other in (replace(KEY, bundle_hash="f"), replace(KEY, timeframe="H4"), replace(KEY, symbol="GBPUSD")):
        assert store.newest(other) is None
    assert store.advance(replace(KEY, symbol="GBPUSD"), one, after=None)


def test_a_version_is_never_overwritten_and_the_loser_is_told(database: Database) -> None:
    store = CalibratorRepository(database)
    one, two, three = states(3)
    assert store.advance(KEY, one, after=None)
    assert not store.advance(KEY, one, after=None)
    assert not store.advance(KEY, three, after=2)
    assert store.advance(KEY, two, after=1)
    assert not store.advance(KEY, replace(two, as_of_utc=three.as_of_utc), after=1)
    assert same(store.newest(KEY), two)
    with pytest.raises(StoreError):  # the same bar under another version
        store.advance(KEY, replace(two, version=3), after=2)
    assert same(store.newest(KEY), two)


def test_of_eight_writers_at_once_one_wins_each_step(database: Database) -> None:
    store = CalibratorRepository(database)
    made = states(4)
    with ThreadPoolExecutor(8) as crowd:
        for before, state in zip([None, *made], made):
            after = None if before is None else before.version
            won = list(crowd.map(lambda _, s=state, a=after: store.advance(KEY, s, after=a), range(8)))
            assert sum(won) == 1
    assert same(store.newest(KEY), made[-1])


def test_what_cannot_be_understood_is_refused_by_name(database: Database) -> None:
    store = CalibratorRepository(database)
    assert store.advance(KEY, states(1)[0], after=None)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE calibrator_state SET document = '{}'"))
    with pytest.raises(BadInput, match="no adaptive state"):
        store.newest(KEY)


def deploy(database: Database, horizon_bars: int = 24) -> str:
    request = DeploymentRequest(
        symbol="EURUSD",
        timeframe="H1",
        bundle_hash="e",
        config=StrategyConfig(horizon_bars=horizon_bars),
        costs=Costs(),
        approved_by="ann",
        reason="test",
        allow_no_skill=True,
        skill=None,
    )
    return DeploymentRepository(database).deploy(request).deployment_id


def order(deployment: str, origin: np.datetime64) -> OrderIntent:
    close = from_utc(origin) + timedelta(hours=1)
    return OrderIntent(
        client_order_id=f"c{close:%d%H}",
        deployment_id=deployment,
        symbol="EURUSD",
        bar_close_utc=close,
        action="enter",
        side=Side.BUY,
        lots=Decimal("0.1"),
        stop_price=None,
        take_profit_price=None,
        expires_utc=close + timedelta(hours=1),
        reason="test",
    )


def test_old_versions_are_forgotten_but_for_those_behind_an_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrators, "_AT_ONCE", 4)
    store, deployment = CalibratorRepository(database), deploy(database)
    made = states(10)
    other = replace(KEY, bundle_hash="f")
    for before, state in zip([None, *made], made):
        after = None if before is None else before.version
        assert store.advance(KEY, state, after=after)
        assert store.advance(other, state, after=after)
        forecast = replace(batch(29 + state.version, 1), calibrator=f"adaptive v{state.version}")
        ForecastRepository(database).record(
            ForecastRecord(deployment_id=deployment, bundle_hash="e", batch=forecast, latency_ms=1.0, input_hash="x")
        )
    again = deploy(database, horizon_bars=4)  # the same bundle, whose forecasts are stored already
    intent = order(again, made[1].as_of_utc)
    assert DatabaseJournal(database).commit_intent(intent, account="a", intended_price=Decimal("1.2"))
    assert store.forget(keep=3) == 6 + 7
    assert store.forget(keep=3) == 0
    with database.read() as connection:
        kept = connection.execute(
            sa.text("SELECT bundle_hash, version FROM calibrator_state ORDER BY bundle_hash, version")
        ).all()
    assert [tuple(row) for row in kept] == [("e", 2), ("e", 8), ("e", 9), ("e", 10), ("f", 8), ("f", 9), ("f", 10)]
    assert same(store.newest(KEY), made[-1])


def test_a_forecast_row_names_its_calibrator_and_version(database: Database) -> None:
    reason = "split normalised, for want of the adaptive state: " + "x" * 80
    for place, label in enumerate(("adaptive v12", "split normalised", "", reason)):
        record = ForecastRecord(
            deployment_id=None,
            bundle_hash="e",
            batch=replace(batch(place, 1), calibrator=label),
            latency_ms=1.0,
            input_hash="x",
        )
        assert ForecastRepository(database).record(record) == 2
    with database.read() as connection:
        rows = connection.execute(
            sa.text("SELECT calibrator, calibrator_version FROM forecast WHERE horizon_bars = 1 ORDER BY origin_utc")
        ).all()
    assert [tuple(row) for row in rows] == [
        ("adaptive", 12), ("split normalised", None), (None, None), (reason[:80], None)
    ]  # fmt: skip


def test_forecasts_of_earlier_releases_survive_the_migration_both_ways(database_url: str) -> None:
    upgrade(database_url)
    database = open_database(database_url)
    record = ForecastRecord(deployment_id=None, bundle_hash="e", batch=batch(0, 1), latency_ms=1.0, input_hash="x")
    ForecastRepository(database).record(replace(record, batch=replace(record.batch, calibrator="adaptive v3")))
    downgrade(database_url, "0003")
    with database.read() as connection:
        names = {column["name"] for column in sa.inspect(connection).get_columns("forecast")}
        assert not names & {"calibrator", "calibrator_version"}
        assert "calibrator_state" not in sa.inspect(connection).get_table_names()
    upgrade(database_url)
    with database.read() as connection:
        row = connection.execute(sa.text("SELECT q05, calibrator, calibrator_version FROM forecast LIMIT 1")).one()
    assert tuple(row) == (pytest.approx(record.batch.quantiles[0, 0, 1]), None, None)
    database.close()
