"""One source of truth: over the same bars and forecasts, live deciding and the paper venue do what a backtest says."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from forexgpt_core.adapters.database.deployments import DeploymentRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.journal import DatabaseJournal
from forexgpt_core.adapters.database.paper import DatabaseLedger
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.backtest.result import TRADES_SCHEMA, BacktestResult
from forexgpt_core.deployment.records import Deployment, DeploymentRequest
from forexgpt_core.domain.bars import ASK_PRICES, PRICES
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.events import CalendarEntry, EconomicEvent, event_table
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.errors import BadInput
from forexgpt_core.live.guard import EventWatch, LiveLimits
from forexgpt_core.live.history import HistoryFeed
from forexgpt_core.live.paper import PaperBroker, realised
from forexgpt_core.live.step import flatten, replay, step
from forexgpt_core.live.tick import TickReport
from forexgpt_core.strategy.config import StrategyConfig
from forexgpt_core.strategy.event_guard import EventGuard

CASH = 20_000.0
COSTS = Costs(spread_pips=1.0, commission_per_lot=3.5, slippage_pips=0.1, leverage=30.0)
CONFIG = StrategyConfig(
    horizon_bars=4, entry_probability=0.6, stop_scales=0.8, take_profit_scales=1.2, holding_limit_bars=6
)
GUARD = EventGuard(event_minutes_before=180, event_minutes_after=60)
WIDE = LiveLimits(max_lots=Decimal(10_000), max_spread_pips=1_000.0, max_orders_per_day=1_000)
HOUR = timedelta(hours=1)
MONEY = ("commission", "swap", "profit")
COMPARED = ("entry_utc", "exit_utc", "side", "lots", "entry_price", "exit_price", *MONEY, "exit_reason")
BARS, BEFORE = 110, 80  # BEFORE: bars that the feed knows and no forecast was made at
STARTS = {"EURUSD": 1.2, "USDJPY": 112.0, "EURGBP": 0.88, "GBPUSD": 1.35}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A strategy and the costs it trades at, on a generated market."""

    config: StrategyConfig = CONFIG
    costs: Costs = COSTS
    symbol: str = "EURUSD"
    seed: int = 1
    guard: EventGuard = field(default_factory=EventGuard)
    rates: tuple[str, ...] = ()

    @property
    def bars(self) -> pl.DataFrame:
        return candles(self.symbol, self.seed)

    @property
    def laws(self) -> ForecastBatch:
        return laws(self.symbol, self.seed)

    @property
    def others(self) -> dict[str, pl.DataFrame]:
        return {name: candles(name, self.seed + 50) for name in self.rates}

    @property
    def watch(self) -> EventWatch:
        pair = instrument(self.symbol)
        return EventWatch(guard=self.guard, events=releases(self.bars), currencies=(pair.base, pair.quote))


@cache
def candles(symbol: str, seed: int) -> pl.DataFrame:
    """Return hourly bars with a spread of their own; those with a forecast go from a Tuesday over a weekend."""
    rng, n = np.random.default_rng(seed), BEFORE + BARS
    start = STARTS[symbol]
    ts = expected_opens(np.datetime64("2017-12-27T16"), np.datetime64("2018-03-02"), Timeframe.H1)[:n]
    close = start * np.exp(np.cumsum(rng.normal(0, 0.0008, n)))
    opened = np.concatenate([[start], close[:-1]]) * np.exp(rng.normal(0, 0.0001, n))
    wick = start * np.abs(rng.normal(0, 0.0004, (2, n)))
    bids = (opened, np.maximum(opened, close) + wick[0], np.minimum(opened, close) - wick[1], close)
    spread = start * rng.uniform(0.00005, 0.0003, n)
    asks = dict(zip(ASK_PRICES, (price + spread for price in bids)))
    frame = pl.DataFrame({"ts_utc": pl.Series(ts), **dict(zip(PRICES, bids)), "volume": np.ones(n), **asks})
    some = pl.int_range(pl.len()) % 7 == 3  # bars without an ask
    return frame.with_columns(
        pl.col("ts_utc").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        pl.when(some).then(None).otherwise(pl.col("ask_low")).alias("ask_low"),
    )


@cache
def laws(symbol: str, seed: int) -> ForecastBatch:
    """Return forecasts of changing lean, scale and width at every bar but the first ones."""
    rng = np.random.default_rng(seed + 1_000)
    n, opens = BARS, candles(symbol, seed)["ts_utc"].to_numpy().astype("datetime64[us]")
    lean = np.repeat(rng.normal(0, 0.7, n // 5 + 1), 5)[:n] + rng.normal(0, 0.1, n)
    scale = 0.0016 * rng.uniform(0.7, 1.4, (n, 1))
    width = rng.uniform(0.6, 1.6, n)
    return ForecastBatch(
        symbol=symbol,
        timeframe="H1",
        family="wave",
        origin_utc=opens[BEFORE:],
        horizons_bars=(4,),
        quantiles=scale[..., None] * (lean[:, None, None] + width[:, None, None] * SCORES),
        scale=scale,
    )


def releases(bars: pl.DataFrame) -> pl.DataFrame:
    """Return a high-impact release every 17 hours, announced a week ahead, that ends before the bars do."""
    times = bars["ts_utc"][BEFORE + 5 :: 17].to_list()[:-1]
    return event_table(
        EconomicEvent(
            entry=CalendarEntry(scheduled_utc=t, currency="USD", impact="high", title=f"release {n}"),
            revision=1,
            announced_utc=t - timedelta(days=7),
            released_utc=None,
            source="test",
        )
        for n, t in enumerate(times)
    )


@dataclass(frozen=True)
class Known:
    """Forecasts that were made before, each given at its own bar."""

    batch: ForecastBatch

    def forecast(self, seen: pl.DataFrame) -> ForecastBatch:
        return self.batch.take(np.array([seen.height - 1 - BEFORE]))


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A deployment of a case with an account of its own."""

    case: Case
    deployment: Deployment
    database: Database

    @property
    def journal(self) -> DatabaseJournal:
        return DatabaseJournal(self.database)

    @property
    def broker(self) -> PaperBroker:
        ledger, case = DatabaseLedger(self.database), self.case
        return PaperBroker(
            ledger, symbol=case.symbol, costs=case.costs, cash=CASH, account=f"paper:{self.deployment.deployment_id}"
        )

    @property
    def doors(self) -> dict[str, object]:
        case = self.case
        feed = HistoryFeed(bars=case.bars, others=lambda: case.others)
        return {"feed": feed, "journal": self.journal, "broker": self.broker}

    @property
    def ports(self) -> dict[str, object]:
        return self.doors | {"forecaster": Known(self.case.laws), "limits": WIDE, "watch": self.case.watch}

    @property
    def moments(self) -> list[datetime]:
        return [moment + HOUR for moment in self.case.bars["ts_utc"][BEFORE:]]

    def run(self) -> list[TickReport]:
        return replay(self.deployment, self.moments, **self.ports)

    def trades(self) -> pl.DataFrame:
        """Return the finished trades as a backtest tells them."""
        intents = {i.intent.client_order_id: i.intent.reason for i in self.journal.intents(self.broker.account)}
        fills = self.journal.fills(self.broker.account)
        rows = [
            {
                "entry_utc": entry.filled_utc,
                "exit_utc": leave.filled_utc,
                "side": entry.side.value,
                "lots": float(entry.lots),
                "entry_price": float(entry.price),
                "exit_price": float(leave.price),
                "commission": float(entry.commission + leave.commission),
                "swap": float(leave.swap),
                "profit": float(leave.profit + leave.swap - entry.commission - leave.commission),
                "exit_reason": intents[leave.client_order_id] if leave.reason == "market" else leave.reason,
            }
            for entry, leave in zip(fills[::2], fills[1::2])
        ]
        return pl.DataFrame(rows, schema={name: TRADES_SCHEMA[name] for name in COMPARED})


_numbers = count()


def desk_of(database: Database, case: Case) -> Desk:
    """Deploy a case; a bundle of its own makes every deployment another one, with another account."""
    request = DeploymentRequest(
        symbol=case.symbol,
        timeframe="H1",
        bundle_hash=f"b{next(_numbers)}",
        config=case.config,
        costs=case.costs,
        approved_by="ann",
        reason="test",
        allow_no_skill=True,
        skill=None,
    )
    return Desk(case=case, deployment=DeploymentRepository(database).deploy(request), database=database)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    memory = Path("/dev/shm")  # commits wait for the disk
    with tempfile.TemporaryDirectory(prefix="forexgpt-", dir=memory if memory.is_dir() else None) as folder:
        url = f"sqlite:///{Path(folder) / 'db.sqlite'}"
        upgrade(url)
        database = open_database(url)
        yield database
        database.close()


def backtest(case: Case) -> BacktestResult:
    closes = case.bars["ts_utc"].to_numpy().astype("datetime64[us]") + np.timedelta64(1, "h")
    return run_backtest(
        case.bars,
        case.laws,
        case.config,
        case.costs,
        symbol=case.symbol,
        cash=CASH,
        no_entry=case.watch.held_back(closes).any,
        rates=case.others,
    )


def assert_the_same(desk: Desk, reports: list[TickReport], result: BacktestResult) -> pl.DataFrame:
    """The same trades, at the same prices, for the same reasons; and the same money, to a millionth."""
    expected = result.trades.filter(pl.col("exit_reason") != "end")
    found = desk.trades()
    exact = [name for name in COMPARED if name not in (*MONEY, "exit_price")]
    assert found.select(exact).rows() == expected.select(exact).rows()
    # the price of a stop-out follows from a balance that the ledger keeps to ten decimals
    assert found["exit_price"].to_list() == pytest.approx(expected["exit_price"].to_list(), rel=1e-12)
    for name in MONEY:
        assert found[name].to_list() == pytest.approx(expected[name].to_list(), abs=1e-6)
    equity = [float(report.equity) for report in reports]
    assert equity[:-1] == pytest.approx(result.equity["equity"].to_list()[:-1], abs=1e-6)
    return found


NIGHT = replace(COSTS, swap_long_pips=-0.7, swap_short_pips=0.3)
BY_HOUR = replace(
    COSTS, spread_source="session", spread_by_hour_pips=tuple(0.5 + 0.1 * (hour % 9) for hour in range(24))
)
EVERYTHING = replace(
    NIGHT,
    spread_source="candles",
    commission_percent=0.002,
    slippage_range_share=0.03,
    slippage_spread_share=0.1,
    account_currency="USD",
)
LONG_HELD = replace(CONFIG, stop_scales=3.0, take_profit_scales=5.0, holding_limit_bars=30)
CASES = {
    "plain": Case(),
    "guarded": Case(seed=2, guard=GUARD),
    "trailing, spread of the candles": Case(
        config=replace(CONFIG, trailing_scales=0.5, take_profit_scales=3.0),
        costs=replace(COSTS, spread_source="candles"),
        seed=3,
    ),
    "by risk in per cent, spread of the hour": Case(
        config=replace(
            CONFIG,
            sizing="risk",
            size_fraction=0.02,
            distance_unit="percent",
            stop_scales=0.15,
            take_profit_scales=0.3,
            opposite_exit=False,
        ),
        costs=BY_HOUR,
        seed=4,
    ),
    "by volatility, any cost, commission per cent": Case(
        config=replace(CONFIG, sizing="volatility", size_fraction=0.5, cost_multiple=0.0),
        costs=replace(COSTS, commission_percent=0.01, commission_per_lot=0.0),
        seed=5,
    ),
    "by Kelly, twice the cost, slippage of the range": Case(
        config=replace(CONFIG, sizing="kelly", size_fraction=0.05, cost_multiple=2.0, entry_probability=0.5),
        costs=replace(COSTS, slippage_range_share=0.05),
        seed=6,
    ),
    "by uncertainty, trailing, over nights": Case(
        config=replace(LONG_HELD, sizing="uncertainty", size_fraction=0.3, trailing_scales=1.5), costs=NIGHT, seed=7
    ),
    "stopped out": Case(
        config=replace(CONFIG, size_fraction=1.0, stop_scales=5.0, take_profit_scales=5.0),
        costs=replace(COSTS, leverage=200.0, stop_out=0.8),
        seed=8,
    ),
    "ruined": Case(
        config=replace(LONG_HELD, size_fraction=1.0, stop_scales=9.0, take_profit_scales=9.0, opposite_exit=False),
        costs=replace(COSTS, leverage=400.0, stop_out=0.0),
        seed=9,
    ),
    "dollars on USDJPY": Case(
        symbol="USDJPY", config=replace(LONG_HELD, trailing_scales=2.0), costs=EVERYTHING, seed=10
    ),
    "dollars on EURGBP": Case(
        symbol="EURGBP",
        config=replace(LONG_HELD, stop_scales=1.0, sizing="lots", lots=1.7),
        costs=EVERYTHING,
        rates=("GBPUSD",),
        seed=11,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_paper_trading_is_the_backtest(database: Database, name: str) -> None:
    """One decision path: the same bars and forecasts give the same trades, prices, lots and equity."""
    case = CASES[name]
    desk = desk_of(database, case)
    reports, result = desk.run(), backtest(case)
    trades = assert_the_same(desk, reports, result)
    told, stats = set(trades["exit_reason"]), result.stats
    held_back = [report for report in reports if report.vetoes and set(report.vetoes) <= {"EVENT", "EVENTS_UNKNOWN"}]
    assert all(report.decision == "enter" and not report.orders for report in held_back)
    assert stats["entries_held_back"] == len(held_back) - bool(held_back and held_back[-1] is reports[-1])
    assert bool(held_back) == case.guard.on
    if name == "ruined":
        assert told >= {"ruin"}
        assert stats["ruined"]
        assert reports[-1].equity == 0
        return
    assert trades.height > 5
    assert told >= {"stop_out"} if name == "stopped out" else "stop" in told
    assert (case.costs.swap_long_pips != 0) == bool((trades["swap"] != 0).any())


def test_both_databases_keep_the_same_account(database_url: str) -> None:
    upgrade(database_url)
    database = open_database(database_url)
    case = CASES["dollars on USDJPY"]
    desk = desk_of(database, case)
    assert_the_same(desk, desk.run(), backtest(case))
    view = desk.broker.advance(case.bars.head(0), after_fill_id=None)
    fills = desk.journal.fills(desk.broker.account)
    assert fills == list(view.fills)
    assert desk.journal.position(desk.broker.account) == view.position
    if view.position is None:
        assert view.equity == Decimal(str(CASH)) + realised(fills)["USDJPY"]
    database.close()


configs = st.builds(
    StrategyConfig,
    horizon_bars=st.just(4),
    entry_probability=st.floats(0.4, 0.7),
    stop_scales=st.floats(0.3, 4.0),
    take_profit_scales=st.floats(0.3, 4.0),
    size_fraction=st.floats(0.01, 1.0),
    holding_limit_bars=st.integers(1, 30),
    cost_multiple=st.sampled_from([0.0, 1.0, 2.0]),
    distance_unit=st.sampled_from(["volatility", "percent"]),
    trailing_scales=st.just(0.0) | st.floats(0.05, 3.0),
    sizing=st.sampled_from(["fraction", "lots", "risk", "volatility", "kelly", "uncertainty"]),
    lots=st.floats(0.01, 2.0),
    opposite_exit=st.booleans(),
)
some_costs = st.builds(
    replace,
    st.sampled_from([COSTS, NIGHT, BY_HOUR, EVERYTHING]),
    leverage=st.sampled_from([5.0, 30.0, 200.0, 500.0]),
    stop_out=st.sampled_from([0.0, 0.5, 0.9]),
    account_currency=st.sampled_from(["", "USD", "EUR", "GBP"]),
    min_lots=st.sampled_from([0.01, 0.1]),
    lot_step=st.sampled_from([0.01, 0.1]),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])  # a run is too long to shrink
@given(
    config=configs,
    costs=some_costs,
    pair=st.sampled_from([("EURUSD", "GBPUSD"), ("USDJPY", "EURUSD", "GBPUSD"), ("EURGBP", "GBPUSD")]),
    seed=st.integers(0, 1_000),
)
def test_whatever_is_traded_at_whatever_cost_is_the_backtest(
    database: Database, config: StrategyConfig, costs: Costs, pair: tuple[str, ...], seed: int
) -> None:
    case = Case(config=config, costs=costs, symbol=pair[0], rates=pair[1:], seed=seed)
    desk = desk_of(database, case)
    assert_the_same(desk, desk.run(), backtest(case))


# ---- money that cannot be counted


def test_without_candles_that_convert_nothing_is_decided_or_sent(database: Database) -> None:
    case = replace(CASES["dollars on EURGBP"], rates=())
    desk = desk_of(database, case)
    with pytest.raises(BadInput, match="turning GBP into USD needs the candles of GBPUSD; fetch them"):
        step(desk.deployment, desk.moments[0], **desk.ports)
    with pytest.raises(BadInput, match="GBPUSD"):
        flatten(desk.deployment, desk.moments[0], **desk.doors, reason="test")
    assert desk.journal.decisions(desk.deployment.deployment_id) == []
    assert desk.journal.intents(desk.broker.account) == []


def test_candles_that_convert_and_go_missing_leave_the_account_as_it_was(database: Database) -> None:
    """What was open waits, and is lived through once they are back."""
    case = CASES["dollars on EURGBP"]
    desk, alone = desk_of(database, case), desk_of(database, case)
    lost = HistoryFeed(bars=case.bars)
    alone.run()
    moments = iter(desk.moments)
    for moment in moments:
        if step(desk.deployment, moment, **desk.ports).position is not None:
            break
    before = desk.journal.fills(desk.broker.account)
    with pytest.raises(BadInput, match="GBPUSD"):
        step(desk.deployment, next(moments), **desk.ports | {"feed": lost})
    assert desk.journal.fills(desk.broker.account) == before
    report = step(desk.deployment, next(moments), **desk.ports)
    assert report.decision != "none"
    assert report.fills == () or report.fills[0].reason != "market"
    seen = [fill.price for fill in desk.journal.fills(desk.broker.account)]
    assert seen == [fill.price for fill in alone.journal.fills(alone.broker.account)][: len(seen)]


def test_what_converts_is_never_seen_before_it_has_closed(database: Database) -> None:
    case = CASES["dollars on EURGBP"]
    feed = HistoryFeed(bars=case.bars, others=lambda: case.others)
    moment = case.bars["ts_utc"][40]
    seen = feed.conversion_candles(Timeframe.H1, moment)["GBPUSD"]
    assert seen["ts_utc"][-1] == moment - HOUR
