"""What is watched after a tick: forecasts that mature, orders that follow decisions, a picture of it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from forexgpt_core.adapters.database.adherence import AdherenceRepository
from forexgpt_core.adapters.database.deployments import DeploymentRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.forecasts import ForecastRepository
from forexgpt_core.adapters.database.journal import DatabaseJournal
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.adapters.database.scores import ScoresRepository
from forexgpt_core.deployment.records import DeploymentRequest
from forexgpt_core.domain.clock import Timeframe, expected_opens, from_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.orders import Fill, OrderIntent, OrderState, Side
from forexgpt_core.evaluation.scores import crps
from forexgpt_core.live.adherence import OrderOutcome, measure_adherence
from forexgpt_core.live.journal import ForecastRecord
from forexgpt_core.live.maturing import mature_forecasts
from forexgpt_core.reporting.live import EquityPoint, live_picture
from forexgpt_core.strategy.config import StrategyConfig

BARS = 60
OPENS = expected_opens(np.datetime64("2018-01-04T18"), np.datetime64("2018-01-12"), Timeframe.H1)[:BARS]
CLOSE = 1.2 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.001, BARS)))


def candles(n: int = BARS) -> pl.DataFrame:
    ts = pl.Series(OPENS[:n]).dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    return pl.DataFrame({"ts_utc": ts, **dict.fromkeys(("open", "high", "low", "close"), CLOSE[:n])})


def forecast_at(bar: int, median: float = 0.0) -> ForecastRecord:
    scale = np.array([[0.001, 0.002]])
    batch = ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="ensemble",
        origin_utc=OPENS[bar : bar + 1].astype("datetime64[us]"),
        horizons_bars=(1, 4),
        quantiles=scale[..., None] * (median + SCORES),
        scale=scale,
    )
    return ForecastRecord(deployment_id=None, bundle_hash="e", batch=batch, latency_ms=2.0, input_hash="x")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    database = open_database(database_url)
    yield database
    database.close()


def deploy(database: Database, config: StrategyConfig | None = None) -> str:
    request = DeploymentRequest(
        symbol="EURUSD",
        timeframe="H1",
        bundle_hash="e",
        config=config or StrategyConfig(),
        costs=Costs(),
        approved_by="ann",
        reason="test",
        allow_no_skill=True,
        skill=None,
    )
    return DeploymentRepository(database).deploy(request).deployment_id


# ---- maturing


def test_forecasts_mature_when_their_bars_exist_and_only_once(database: Database) -> None:
    store = ForecastRepository(database)
    for bar in (10, 11, 12):
        store.record(forecast_at(bar))
    assert store.record(forecast_at(10)) == 0
    assert mature_forecasts(store, "EURUSD", "H1", candles(11)) == []
    rows = mature_forecasts(store, "EURUSD", "H1", candles(15))
    assert {(r["horizon_bars"], r["n"]) for r in rows} == {(1, 3), (4, 1)}
    stored = {(f.origin_utc, f.horizon_bars): f.realised_return for f in store.matured("EURUSD", "H1")}
    assert stored[(from_utc(OPENS[10]), 4)] == pytest.approx(np.log(CLOSE[14] / CLOSE[10]))
    assert mature_forecasts(store, "EURUSD", "H1", candles(15)) == []
    later = mature_forecasts(store, "EURUSD", "H1", candles(BARS))
    assert {(r["horizon_bars"], r["n"]) for r in later} == {(1, 3), (4, 3)}  # the whole day, scored again
    assert store.unmatured("EURUSD", "H1") == []


def test_scores_per_day_are_those_of_the_evaluation(database: Database) -> None:
    store = ForecastRepository(database)
    for bar in range(40):
        store.record(forecast_at(bar, median=0.4))
    rows = mature_forecasts(store, "EURUSD", "H1", candles())
    first = [r for r in rows if r["horizon_bars"] == 1]
    assert [r["day"] for r in first] == sorted({from_utc(t).date() for t in OPENS[:40]})
    assert sum(r["n"] for r in first) == 40
    whole = crps(np.repeat(0.001 * (0.4 + SCORES)[None, :], 40, axis=0), np.log(CLOSE[1:41] / CLOSE[:40])).mean()
    assert sum(r["n"] * r["crps"] for r in first) / 40 == pytest.approx(whole)
    assert all(r["skill"] < 1 and 0 <= r["coverage_90"] <= 1 and r["rmse"] >= 0 for r in rows)
    scores = ScoresRepository(database)
    assert scores.merge_live("EURUSD", "H1", rows) == len(rows)
    stored = scores.latest("EURUSD", "H1", "live", by_day=True)
    assert [(r["horizon_bars"], r["day"], r["n"]) for r in stored] == [
        (r["horizon_bars"], r["day"], r["n"]) for r in rows
    ]


def test_the_reference_itself_has_no_skill(database: Database) -> None:
    store = ForecastRepository(database)
    for bar in range(30):
        store.record(forecast_at(bar))
    assert all(r["skill"] == pytest.approx(0, abs=1e-12) for r in mature_forecasts(store, "EURUSD", "H1", candles()))


def test_an_origin_that_the_candles_lack_stays_open(database: Database) -> None:
    store = ForecastRepository(database)
    store.record(forecast_at(10))
    assert mature_forecasts(store, "EURUSD", "H1", candles().filter(pl.col("ts_utc") != from_utc(OPENS[10]))) == []
    assert mature_forecasts(store, "EURUSD", "H1", candles(0)) == []
    assert len(store.unmatured("EURUSD", "H1")) == 2


def test_old_forecasts_are_forgotten_unless_an_order_came_of_them(database: Database) -> None:
    store, deployment = ForecastRepository(database), deploy(database)
    for bar in (10, 11):
        store.record(replace(forecast_at(bar), deployment_id=deployment))
    journal = DatabaseJournal(database)
    intent = order_of(deployment, "c1", from_utc(OPENS[10]) + timedelta(hours=1))
    assert journal.commit_intent(intent, account="a", intended_price=Decimal("1.2"))
    with database.write() as connection:
        connection.execute(sa.text("UPDATE forecast SET recorded_utc = '2018-01-05 00:00:00'"))
    store.record(replace(forecast_at(12), deployment_id=deployment))
    assert store.forget(older_than_days=30) == 2
    left = {f.origin_utc for f in store.unmatured("EURUSD", "H1")}
    assert left == {from_utc(OPENS[10]), from_utc(OPENS[12])}


def test_a_later_order_keeps_no_earlier_forecast(database: Database) -> None:
    store, deployment = ForecastRepository(database), deploy(database)
    for bar in (10, 11):
        store.record(replace(forecast_at(bar), deployment_id=deployment))
    intent = order_of(deployment, "c1", from_utc(OPENS[11]) + timedelta(hours=1))
    assert DatabaseJournal(database).commit_intent(intent, account="a", intended_price=Decimal("1.2"))
    assert store.forget(older_than_days=-1) == 2
    assert {f.origin_utc for f in store.unmatured("EURUSD", "H1")} == {from_utc(OPENS[11])}


def test_a_forecast_behind_an_order_is_kept_whichever_deployment_of_its_bundle_made_it(database: Database) -> None:
    """A bundle deployed again within the bar finds its forecast stored, under the deployment before."""
    store, replaced = ForecastRepository(database), deploy(database)
    store.record(replace(forecast_at(10), deployment_id=replaced))
    again = deploy(database, StrategyConfig(horizon_bars=4))
    assert again != replaced
    assert store.record(replace(forecast_at(10), deployment_id=again)) == 0
    intent = order_of(again, "c1", from_utc(OPENS[10]) + timedelta(hours=1))
    assert DatabaseJournal(database).commit_intent(intent, account="a", intended_price=Decimal("1.2"))
    assert store.forget(older_than_days=-1) == 0


# ---- adherence


def order_of(
    deployment: str, order_id: str, close: datetime, action: str = "enter", side: Side = Side.BUY
) -> OrderIntent:
    return OrderIntent(
        client_order_id=order_id,
        deployment_id=deployment,
        symbol="EURUSD",
        bar_close_utc=close,
        action=action,
        side=side,
        lots=Decimal("0.1"),
        stop_price=None,
        take_profit_price=None,
        expires_utc=close + timedelta(hours=1),
        reason="test",
    )


def test_adherence_is_read_from_intents_and_fills(database: Database) -> None:
    deployment, journal = deploy(database), DatabaseJournal(database)
    start = datetime(2018, 1, 5, tzinfo=UTC)
    for n in range(4):
        intent = order_of(deployment, f"c{n}", start + timedelta(hours=n))
        journal.commit_intent(intent, account="a", intended_price=Decimal("1.2000"))
    lease = journal.acquire_lease("a", "me", 30)
    assert lease is not None
    for n in range(3):
        assert journal.begin_sending(f"c{n}", lease)
        assert not journal.begin_sending(f"c{n}", lease)
    journal.mark("c2", OrderState.REJECTED, "no money")
    journal.mark("c3", OrderState.EXPIRED, "late")
    prices = {"c0": "1.2001", "c1": "1.2004"}
    fills = [
        Fill(
            fill_id=f"a/{n}",
            client_order_id=order_id,
            symbol="EURUSD",
            side=Side.BUY,
            lots=Decimal("0.1"),
            price=Decimal(price),
            commission=Decimal(0),
            filled_utc=start,
            reason="market",
        )
        for n, (order_id, price) in enumerate(prices.items())
    ]
    stop = replace(fills[0], fill_id="a/9", side=Side.SELL, price=Decimal("1.1"), reason="stop")
    journal.book_fills("a", [*fills, stop])
    journal.book_fills("a", [*fills, stop])
    assert len(journal.fills("a")) == 3
    assert not journal.mark("c0", OrderState.CANCELLED, "a late event")
    repository = AdherenceRepository(database)
    figures = measure_adherence(repository.outcomes(deployment))
    assert (figures.intents, figures.filled, figures.rejected, figures.expired) == (4, 2, 1, 1)
    assert (figures.fill_ratio, figures.rejection_rate) == (0.5, 0.25)
    assert figures.slippage_mean_pips == pytest.approx(2.5)
    assert figures.slippage_std_pips == pytest.approx(np.std([1, 4], ddof=1))
    assert figures.slippage_max_pips == pytest.approx(4.0)
    repository.record(deployment, figures)
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT fill_ratio FROM adherence_metric")).scalar_one() == 0.5


def test_slippage_of_a_sale_is_adverse_downwards_and_nothing_gives_none() -> None:
    sale = OrderOutcome(
        symbol="USDJPY",
        side=Side.SELL,
        state=OrderState.FILLED,
        lots=Decimal(1),
        filled_lots=Decimal(1),
        intended_price=Decimal("110.00"),
        fill_price=Decimal("109.97"),
    )
    assert measure_adherence([sale]).slippage_mean_pips == pytest.approx(3.0)
    empty = measure_adherence([])
    assert (empty.intents, empty.fill_ratio, empty.slippage_mean_pips) == (0, None, None)


# ---- the picture


@pytest.mark.parametrize("empty", [True, False])
def test_the_picture_is_a_png(empty: bool) -> None:
    fill = Fill(
        fill_id="a/1",
        client_order_id="c",
        symbol="EURUSD",
        side=Side.BUY,
        lots=Decimal("0.1"),
        price=Decimal("1.2"),
        commission=Decimal(0),
        filled_utc=from_utc(OPENS[5]),
        reason="market",
    )
    fills = [] if empty else [fill, replace(fill, side=Side.SELL, reason="stop", filled_utc=from_utc(OPENS[9]))]
    equity = [] if empty else [EquityPoint(ts_utc=from_utc(t), equity=1e4 - n) for n, t in enumerate(OPENS)]
    png = live_picture(equity, fills, candles(), "EURUSD")
    assert png.startswith(b"\x89PNG")
    assert len(png) > 5_000
