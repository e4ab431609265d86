"""The live loop: one decision per bar, nothing sent twice, nothing lost, and everything said."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forexgpt_core.adapters.database.deployments import DeploymentRepository, TradingStateRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.journal import DatabaseJournal
from forexgpt_core.adapters.database.paper import DatabaseLedger
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.deployment.records import Deployment, DeploymentRequest
from forexgpt_core.domain.clock import Timeframe, expected_opens, to_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.orders import OrderIntent, OrderState, Side, TradingState
from forexgpt_core.errors import BadInput, NotReady, StoreError
from forexgpt_core.live.broker import Submission
from forexgpt_core.live.guard import LiveLimits
from forexgpt_core.live.history import HistoryFeed
from forexgpt_core.live.paper import PaperBroker, realised
from forexgpt_core.live.step import flatten, replay, step
from forexgpt_core.live.tick import TickReport
from forexgpt_core.strategy.config import StrategyConfig

CASH = 10_000.0
COSTS = Costs(spread_pips=1.0, commission_per_lot=3.5, slippage_pips=0.1)
CONFIG = StrategyConfig(
    horizon_bars=4, entry_probability=0.6, stop_scales=0.8, take_profit_scales=1.2, holding_limit_bars=6
)
TRAILING = replace(CONFIG, trailing_scales=0.8, take_profit_scales=4.0)
HOUR = timedelta(hours=1)


def walk(bars: int, seed: int = 1, start: str = "2018-01-02T00") -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ts = expected_opens(np.datetime64(start), np.datetime64(start) + np.timedelta64(4 * bars, "h"), Timeframe.H1)[:bars]
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, 0.0008, bars)))
    open_ = np.concatenate([[1.2], close[:-1]]) * np.exp(rng.normal(0, 0.0001, bars))
    wick = np.abs(rng.normal(0, 0.0004, (2, bars)))
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(ts).dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.maximum(open_, close) + wick[0],
            "low": np.minimum(open_, close) - wick[1],
            "close": close,
            "volume": np.ones(bars),
        }
    )


@dataclass
class Oracle:
    """Forecasts with an opinion that follows from the bar's time alone, so every process has the same."""

    strength: float = 0.6
    calls: int = 0
    fail: Exception | None = None
    shift: timedelta = timedelta(0)

    def forecast(self, bars: pl.DataFrame) -> ForecastBatch:
        self.calls += 1
        if self.fail is not None:
            raise self.fail
        newest: datetime = bars["ts_utc"][-1]
        turn = 1 if (newest.day * 24 + newest.hour) // 9 % 2 else -1
        scale = np.array([[0.001, 0.002]])
        quantiles = scale[..., None] * (self.strength * turn + SCORES)
        origin = np.array([to_utc(newest + self.shift)])
        return ForecastBatch(
            symbol="EURUSD",
            timeframe="H1",
            family="oracle",
            origin_utc=origin,
            horizons_bars=(1, 4),
            quantiles=quantiles,
            scale=scale,
        )


@dataclass
class Desk:
    """Everything one account needs, on one database."""

    database: Database
    deployment: Deployment
    bars: pl.DataFrame
    oracle: Oracle

    @property
    def journal(self) -> DatabaseJournal:
        return DatabaseJournal(self.database)

    @property
    def broker(self) -> PaperBroker:
        return PaperBroker(DatabaseLedger(self.database), symbol="EURUSD", costs=COSTS, cash=CASH)

    def close_of(self, bar: int) -> datetime:
        return self.bars["ts_utc"][bar] + HOUR

    def tick(self, bar: int, late: timedelta = timedelta(0), **changes: object) -> TickReport:
        ports = {
            "feed": HistoryFeed(bars=self.bars),
            "forecaster": self.oracle,
            "journal": self.journal,
            "broker": self.broker,
        } | changes
        return step(self.deployment, self.close_of(bar) + late, **ports)

    def run(self, bars: Sequence[int], **changes: object) -> list[TickReport]:
        ports = {"feed": HistoryFeed(bars=self.bars), "forecaster": self.oracle, "journal": self.journal}
        moments = [self.close_of(bar) for bar in bars]
        return replay(self.deployment, moments, broker=self.broker, **ports | changes)


def new_desk(url: str, bars: int = 120, seed: int = 1) -> Desk:
    upgrade(url)
    database = open_database(url)
    request = DeploymentRequest(
        symbol="EURUSD",
        timeframe="H1",
        bundle_hash="b0",
        config=CONFIG,
        costs=COSTS,
        approved_by="ann",
        reason="test",
        allow_no_skill=True,
        skill=None,
    )
    deployment = DeploymentRepository(database).deploy(request)
    return Desk(database=database, deployment=deployment, bars=walk(bars, seed), oracle=Oracle())


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    desk = new_desk(database_url)
    yield desk
    desk.database.close()


@pytest.fixture
def small(sqlite_url: str) -> Iterator[Desk]:
    desk = new_desk(sqlite_url)
    yield desk
    desk.database.close()


def account(desk: Desk) -> tuple[Decimal, object]:
    view = desk.broker.advance(desk.bars.head(0), after_fill_id=None)
    return view.equity, view.position


def assert_books_agree(desk: Desk) -> None:
    """I1, I2, I4, I7: an order per intent at most, one position, every deal once, money that adds up."""
    view = desk.broker.advance(desk.bars.head(0), after_fill_id=None)
    fills = desk.journal.fills(desk.broker.account)
    intents = desk.journal.intents(desk.broker.account)
    assert fills == list(view.fills)
    assert desk.journal.position(desk.broker.account) == view.position
    market = [fill.client_order_id for fill in fills if fill.reason == "market"]
    assert len(market) == len(set(market))
    assert set(market) <= {i.intent.client_order_id for i in intents}
    if view.position is None:
        assert view.equity == Decimal(str(CASH)) + realised(fills).get("EURUSD", Decimal(0))


# ---- one tick


def test_a_market_order_fills_at_the_next_open_with_costs(desk: Desk) -> None:
    reports = desk.run(range(10, 40))
    entry = next(n for n, r in enumerate(reports) if r.decision == "enter" and not r.vetoes)
    assert reports[entry].fills == ()
    assert reports[entry].position is None
    (fill, *_) = reports[entry + 1].fills
    following = desk.bars.row(10 + entry + 1, named=True)
    adverse = COSTS.slippage_pips * 1e-4 + (COSTS.spread_pips * 1e-4 if fill.side is Side.BUY else 0.0)
    assert float(fill.price) == pytest.approx(following["open"] + fill.side.sign * adverse, abs=1e-9)
    assert fill.filled_utc == following["ts_utc"]
    assert fill.commission == fill.lots * Decimal("3.5")
    states = [state for state, _ in desk.journal.events(fill.client_order_id)]
    assert states == [OrderState.INTENT, OrderState.SENDING, OrderState.ACKED, OrderState.FILLED]


def test_a_replay_trades_and_its_books_agree(desk: Desk) -> None:
    reports = desk.run(range(10, 80))
    assert sum(len(r.fills) for r in reports) > 10
    assert {f.reason for r in reports for f in r.fills} >= {"market", "stop"}
    assert all(r.duplicates == 0 for r in reports)
    assert_books_agree(desk)


def test_both_databases_and_a_second_home_give_the_same_deals(sqlite_url: str, postgres_url: str) -> None:
    desks = [new_desk(url) for url in (sqlite_url, postgres_url)]
    runs = [desk.run(range(10, 40)) for desk in desks]
    deals = [[(f.fill_id, f.side, f.lots, f.price, f.filled_utc) for r in run for f in r.fills] for run in runs]
    assert deals[0] == deals[1]
    assert [r.equity for r in runs[0]] == [r.equity for r in runs[1]]
    for desk in desks:
        desk.database.close()


def test_the_same_bar_again_is_a_no_op(desk: Desk) -> None:
    for bar in range(10, 25):
        first = desk.tick(bar)
        orders, calls = len(desk.journal.intents(desk.broker.account)), desk.oracle.calls
        again = desk.tick(bar, late=timedelta(minutes=7))
        assert (again.duplicates, again.decision, again.orders, again.fills) == (1, "none", (), ())
        assert again.equity == first.equity
        assert (len(desk.journal.intents(desk.broker.account)), desk.oracle.calls) == (orders, calls)
    assert len(desk.journal.decisions(desk.deployment.deployment_id)) == 15
    assert_books_agree(desk)


def test_an_outage_decides_the_newest_bar_alone_and_protects_in_between(desk: Desk) -> None:
    entry = next(bar for bar in range(10, 60) if desk.tick(bar).orders)
    report = desk.tick(entry + 30)
    reasons = [fill.reason for fill in report.fills]
    assert reasons in (["market"], ["market", "stop"], ["market", "take_profit"])
    decided = [d.bar_close_utc for d in desk.journal.decisions(desk.deployment.deployment_id)]
    assert decided[-2:] == [desk.close_of(entry), desk.close_of(entry + 30)]
    assert_books_agree(desk)


def test_a_failing_forecaster_enters_nothing_and_lets_a_position_go(small: Desk) -> None:
    entry = next(bar for bar in range(10, 60) if small.tick(bar).orders)
    small.oracle.fail = RuntimeError("model is ill\nwith a long story")
    reports = [small.tick(bar) for bar in range(entry + 1, entry + 20)]
    assert not any(r.decision == "enter" for r in reports)
    assert all("model is ill" in r.reason and "long story" not in r.reason for r in reports)
    assert all(r.family is None for r in reports)
    assert sum(len(r.fills) for r in reports) == 2  # in, and out by a level or by the holding limit
    assert reports[-1].position is None


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
def test_a_forecast_of_another_bar_is_refused(small: Desk, shift: timedelta) -> None:
    small.oracle.shift = shift
    report = small.tick(20)
    assert report.decision == "hold"
    assert "forecast refused" in report.reason


def test_forecasts_are_recorded_once_with_what_they_were_made_from(desk: Desk) -> None:
    from forexgpt_core.adapters.database.forecasts import ForecastRepository

    desk.tick(20)
    desk.tick(20)
    stored = ForecastRepository(desk.database).unmatured("EURUSD", "H1")
    assert [(f.origin_utc, f.horizon_bars) for f in stored] == [(desk.bars["ts_utc"][20], h) for h in (1, 4)]
    assert stored[1].quantiles == pytest.approx(desk.oracle.forecast(desk.bars.head(21)).quantiles[0, 1])


def test_an_empty_feed_and_an_open_bar(small: Desk) -> None:
    assert small.tick(20, feed=HistoryFeed(bars=small.bars.head(0))).reason == "no closed bar"

    class Eager:
        def closed_bars(self, *_: object) -> pl.DataFrame:
            return small.bars.head(30)

    with pytest.raises(BadInput, match="closes at"):
        small.tick(20, feed=Eager())


def test_bars_the_account_has_lived_through_are_not_traded_again(small: Desk) -> None:
    small.run(range(10, 60))
    other = DeploymentRepository(small.database).deploy(
        DeploymentRequest(
            symbol="EURUSD",
            timeframe="H1",
            bundle_hash="b1",
            config=CONFIG,
            costs=COSTS,
            approved_by="ann",
            reason="newer",
            allow_no_skill=True,
            skill=None,
        )
    )
    before = small.journal.fills(small.broker.account)
    small.deployment = other
    reports = small.run(range(10, 59))
    assert all(r.decision == "none" and "later bars" in r.reason for r in reports)
    assert small.journal.fills(small.broker.account) == before
    assert small.tick(60).decision != "none"


# ---- limits and states


@pytest.mark.parametrize(("state", "expected"), [(TradingState.HALTED, "HALTED"), (TradingState.REDUCING, "REDUCING")])
def test_no_entry_unless_active(small: Desk, state: TradingState, expected: str) -> None:
    TradingStateRepository(small.database).set(state, reason="test", by="ann")
    reports = small.run(range(10, 40))
    wanted = [r for r in reports if r.decision == "enter"]
    assert wanted
    assert all(expected in r.vetoes for r in wanted)
    assert small.journal.intents(small.broker.account) == []
    stored = [d for d in small.journal.decisions(small.deployment.deployment_id) if d.action == "enter"]
    assert all(expected in d.vetoes for d in stored)


def test_reducing_lets_a_position_out_and_halted_does_not(small: Desk) -> None:
    wide = replace(CONFIG, stop_scales=50.0, take_profit_scales=50.0, holding_limit_bars=3)
    small.deployment = replace(small.deployment, config=wide)
    states = TradingStateRepository(small.database)
    entry = next(bar for bar in range(10, 60) if small.tick(bar).orders)
    small.run([entry + 1, entry + 2])
    states.set(TradingState.HALTED, reason="test", by="ann")
    halted = small.tick(entry + 3)
    assert (halted.decision, halted.vetoes) == ("exit", ("HALTED",))
    states.set(TradingState.REDUCING, reason="test", by="ann")
    reducing = small.tick(entry + 4)
    assert (reducing.decision, reducing.vetoes, len(reducing.orders)) == ("exit", (), 1)
    assert small.tick(entry + 5).position is None


def test_flatten_closes_even_when_halted(small: Desk) -> None:
    small.deployment = replace(small.deployment, config=replace(CONFIG, stop_scales=50.0, take_profit_scales=50.0))
    entry = next(bar for bar in range(10, 60) if small.tick(bar).orders)
    small.tick(entry + 1)
    TradingStateRepository(small.database).set(TradingState.HALTED, reason="test", by="ann")
    ports = {"feed": HistoryFeed(bars=small.bars), "journal": small.journal, "broker": small.broker}
    report = flatten(small.deployment, small.close_of(entry + 1), **ports, reason="panic")
    assert len(report.orders) == 1
    again = flatten(small.deployment, small.close_of(entry + 1), **ports, reason="panic")
    assert again.orders == ()
    closed = small.tick(entry + 2)
    assert closed.position is None
    assert flatten(small.deployment, small.close_of(entry + 2), **ports, reason="panic").reason == "nothing to close"
    assert_books_agree(small)


def test_a_stale_bar_enters_nothing(small: Desk) -> None:
    reports = [small.tick(bar, late=timedelta(hours=1, seconds=301), feed=Frozen(small, bar)) for bar in range(10, 40)]
    wanted = [r for r in reports if r.decision == "enter"]
    assert wanted
    assert all("STALE_BAR" in r.vetoes for r in wanted)


@dataclass
class Frozen:
    """A feed that has stopped at one bar."""

    desk: Desk
    bar: int

    def closed_bars(self, *_: object) -> pl.DataFrame:
        return self.desk.bars.head(self.bar + 1)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (LiveLimits(max_lots=Decimal("0.01")), "MAX_LOTS"),
        (LiveLimits(max_spread_pips=0.5), "SPREAD"),
        (LiveLimits(max_orders_per_day=1), "MAX_ORDERS_PER_DAY"),
    ],
)
def test_limits_veto_with_their_code(small: Desk, limits: LiveLimits, expected: str) -> None:
    reports = small.run(range(10, 60), limits=limits)
    assert any(expected in r.vetoes for r in reports)
    for report in reports:
        assert not (report.vetoes and report.orders)


def test_the_spread_of_the_candles_is_the_one_judged(small: Desk) -> None:
    small.bars = small.bars.with_columns(ask_close=pl.col("close") + 20e-4)
    assert any("SPREAD" in r.vetoes for r in small.run(range(10, 60)))


def test_a_position_that_differs_from_the_venue_halts_the_pair(small: Desk) -> None:
    import sqlalchemy as sa

    entry = next(bar for bar in range(10, 60) if small.tick(bar).orders)
    small.tick(entry + 1)
    with small.database.write() as connection:
        connection.execute(sa.text("UPDATE position SET lots = '7'"))
    report = small.tick(entry + 2)
    found = TradingStateRepository(small.database).get("EURUSD")
    assert found is not None
    assert (found.state, found.changed_by) == (TradingState.HALTED, "guard")
    assert report.orders == ()


def test_a_trailing_stop_is_the_venues_and_the_journal_follows_it(desk: Desk) -> None:
    desk.deployment = replace(desk.deployment, config=TRAILING)
    reports = desk.run(range(10, 60))
    moved = [(a.position, b.position) for a, b in pairwise(reports) if a.position and b.position]
    same = [(a, b) for a, b in moved if a.opened_utc == b.opened_utc]
    assert all(b.side.sign * (b.stop_price - a.stop_price) >= 0 for a, b in same)
    assert sum(a.stop_price != b.stop_price for a, b in same) > 5
    assert TradingStateRepository(desk.database).get("EURUSD") is None, "nothing was halted"
    assert_books_agree(desk)


@pytest.mark.parametrize("change", ["take_profit_price = '9'", "entry_price = '9'", "trail_distance = 0.5"])
def test_beside_a_trailing_stop_every_difference_still_halts(small: Desk, change: str) -> None:
    import sqlalchemy as sa

    small.deployment = replace(small.deployment, config=TRAILING)
    entry = next(bar for bar in range(10, 60) if small.tick(bar).orders)
    small.tick(entry + 1)
    with small.database.write() as connection:
        connection.execute(sa.text(f"UPDATE position SET {change}"))
    assert small.tick(entry + 2).orders == ()
    found = TradingStateRepository(small.database).get("EURUSD")
    assert found is not None
    assert found.state is TradingState.HALTED


def test_impossible_bars_are_refused_before_anything_happens(small: Desk) -> None:
    small.tick(20)
    torn = small.bars.with_columns(high=pl.when(pl.int_range(pl.len()) == 21).then(0.5).otherwise("high"))
    with pytest.raises(BadInput, match="impossible bars"):
        small.tick(21, feed=HistoryFeed(bars=torn))
    assert len(small.journal.decisions(small.deployment.deployment_id)) == 1


# ---- failures


def test_a_database_that_is_down_stops_everything(small: Desk) -> None:
    calls = small.oracle.calls
    lost = Path(str(small.database.engine.url.database))
    small.database.close()
    for path in lost.parent.glob(f"{lost.name}*"):
        path.unlink()
    with pytest.raises(StoreError):
        small.tick(20)
    assert small.oracle.calls == calls


class PowerCut(Exception):
    """The process dies here."""


class Dying:
    """A port that dies at one of its methods, before or after doing what it should."""

    def __init__(self, port: object, method: str, *, after: bool) -> None:
        self._port, self._method, self._after, self.died = port, method, after, False

    def __getattr__(self, name: str) -> object:
        found = getattr(self._port, name)
        return self._dies(found) if name == self._method else found

    def _dies(self, method: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if not self._after:
                self.died = True
                raise PowerCut
            method(*args, **kwargs)
            self.died = True
            raise PowerCut

        return call


KILL_POINTS = [
    ("journal", "commit_decision"),
    ("journal", "begin_sending"),
    ("broker", "submit"),
    ("journal", "mark"),
    ("broker", "advance"),
    ("journal", "book_fills"),
    ("journal", "move_stop"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("port", "method"), KILL_POINTS)
def test_killed_anywhere_the_next_tick_recovers(sqlite_url: str, port: str, method: str, after: bool) -> None:
    desk = new_desk(sqlite_url, bars=40)
    desk.deployment = replace(desk.deployment, config=TRAILING)
    deaths = 0
    for bar in range(10, 40):
        dying = Dying(getattr(desk, port), method, after=after)
        try:
            desk.tick(bar, **{port: dying})
        except PowerCut:
            deaths += 1
        desk.tick(bar)  # whoever comes next finishes this bar
    assert deaths > 3
    assert len(desk.journal.decisions(desk.deployment.deployment_id)) == 30
    assert_books_agree(desk)
    open_now = [
        i for i in desk.journal.intents(desk.broker.account) if i.state in (OrderState.INTENT, OrderState.SENDING)
    ]
    assert all(i.intent.bar_close_utc >= desk.close_of(38) for i in open_now)
    desk.database.close()


def test_an_intent_left_unsent_expires_with_its_bar(small: Desk) -> None:
    class Unable(DatabaseJournal):
        def begin_sending(self, *_: object) -> bool:
            raise PowerCut

    bar = 10
    while True:
        try:
            small.tick(bar, journal=Unable(small.database))
        except PowerCut:
            break
        bar += 1
    (left,) = small.journal.intents(small.broker.account)
    assert left.state is OrderState.INTENT
    small.tick(bar + 1)
    found = {i.intent.client_order_id: i.state for i in small.journal.intents(small.broker.account)}
    assert found[left.intent.client_order_id] is OrderState.EXPIRED
    assert left.intent.client_order_id not in {f.client_order_id for f in small.journal.fills(small.broker.account)}


def test_an_order_the_venue_never_got_is_settled_by_evidence_after_its_expiry(small: Desk) -> None:
    class Silent:
        def __init__(self, broker: PaperBroker) -> None:
            self.broker = broker

        def __getattr__(self, name: str) -> object:
            return getattr(self.broker, name)

        def submit(self, intent: OrderIntent) -> Submission:
            return Submission(state=OrderState.UNKNOWN, reason="no answer")

    entry = next(bar for bar in range(10, 60) if small.tick(bar, broker=Silent(small.broker)).orders)
    (sent,) = small.journal.intents(small.broker.account)
    assert sent.state is OrderState.UNKNOWN
    blocked = small.tick(entry + 1)
    assert blocked.orders == ()
    assert "ORDER_PENDING" in blocked.vetoes or blocked.decision == "hold"
    small.tick(entry + 2)
    settled = {i.intent.client_order_id: i.state for i in small.journal.intents(small.broker.account)}
    assert settled[sent.intent.client_order_id] is OrderState.NEVER_ARRIVED


def test_a_fenced_owner_sends_nothing(desk: Desk) -> None:
    clock = [datetime(2018, 1, 2, tzinfo=UTC)]
    journal = DatabaseJournal(desk.database, clock=lambda: clock[0])
    old = journal.acquire_lease(desk.broker.account, "old", 30)
    assert old is not None
    assert journal.acquire_lease(desk.broker.account, "new", 30) is None
    clock[0] += timedelta(seconds=31)
    new = journal.acquire_lease(desk.broker.account, "new", 30)
    assert new is not None
    assert new.epoch == old.epoch + 1
    reports = [desk.tick(bar, journal=journal, lease=old) for bar in range(10, 40)]
    assert [r for r in reports if r.decision == "enter"]
    assert all(r.orders == () for r in reports)
    assert desk.broker.advance(desk.bars.head(0), after_fill_id=None).fills == ()
    journal.release_lease(old)  # somebody else has it by now
    assert journal.acquire_lease(desk.broker.account, "third", 30) is None
    journal.release_lease(new)
    third = journal.acquire_lease(desk.broker.account, "third", 30)
    assert third is not None
    assert third.epoch == new.epoch + 1


def test_a_replay_is_refused_while_another_process_trades(small: Desk) -> None:
    lease = small.journal.acquire_lease(small.broker.account, "other", 30)
    assert lease is not None
    with pytest.raises(NotReady, match="another process"):
        small.run([10])
    assert small.tick(10).reason == "another process is trading this account"
    small.journal.release_lease(lease)
    assert small.tick(10).decision != "none"


PROCESS = """
import sys, time
from datetime import timedelta
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("live_step_builders", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["live_step_builders"] = module
spec.loader.exec_module(module)
desk = module.new_desk(sys.argv[2], bars=40)
time.sleep(max(0.0, float(sys.argv[3]) - time.time()))
sent = 0
for bar in range(10, 40):
    sent += len(desk.tick(bar).orders)
print(sent)
"""


def test_processes_at_once_send_nothing_twice(database_url: str) -> None:
    alone = new_desk(database_url, bars=40)
    start = str(time.time() + 3)
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-c", PROCESS, str(Path(__file__)), database_url, start]
    crowd = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    sent = [int(process.communicate(timeout=90)[0]) for process in crowd]
    assert [process.returncode for process in crowd] == [0, 0, 0]
    intents = alone.journal.intents(alone.broker.account)
    acked = [e for i in intents for e in alone.journal.events(i.intent.client_order_id) if e[0] is OrderState.SENDING]
    assert sum(sent) == len(acked) > 0
    assert len(acked) == len({i.intent.client_order_id for i in intents if i.state is not OrderState.EXPIRED})
    assert_books_agree(alone)
    alone.database.close()


def test_only_one_process_can_decide_a_bar(desk: Desk) -> None:
    """The unique row is the last guard, even where two hold a lease at once."""
    ports = [desk.journal.acquire_lease(desk.broker.account, "same", 30) for _ in range(2)]
    results: list[TickReport] = []

    class Slow(Oracle):
        def forecast(self, bars: pl.DataFrame) -> ForecastBatch:
            if not results:
                results.append(desk.tick(bars.height - 1, lease=ports[1]))  # the other one overtakes
            return super().forecast(bars)

    report = desk.tick(20, forecaster=Slow(), lease=ports[0])
    assert results[0].duplicates == 0
    assert report.duplicates == 1
    assert report.orders == ()


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), schedule=st.lists(st.integers(0, 3), min_size=8, max_size=16))
def test_any_schedule_of_ticks_keeps_the_books_in_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, schedule: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("schedule")
    desk = new_desk(f"sqlite:///{folder / 'db.sqlite'}", bars=90, seed=seed)
    bar, seen = 10, set()
    for advance in schedule:
        bar += advance
        report = desk.tick(bar)
        assert (report.duplicates == 1) == (bar in seen)
        seen.add(bar)
    assert_books_agree(desk)
    desk.database.close()


def test_a_tick_takes_milliseconds(small: Desk) -> None:
    small.run(range(10, 20))
    reports = small.run(range(20, 60))
    own = [r.latency_ms - (r.forecast_ms or 0.0) for r in reports]
    assert float(np.median(own)) < 50
