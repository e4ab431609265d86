"""One source of truth: over the same bars and forecasts, live deciding and the paper venue do what the backtest says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from forexgpt_core.adapters.database.deployments import DeploymentRepository
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.journal import DatabaseJournal
from forexgpt_core.adapters.database.paper import DatabaseLedger
from forexgpt_core.adapters.database.schema import upgrade
from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.deployment.records import Deployment, DeploymentRequest
from forexgpt_core.domain.bars import ASK_PRICES, PRICES
from forexgpt_core.domain.clock import Timeframe, expected_opens, from_utc
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.events import CalendarEntry, EconomicEvent, event_table
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.domain.orders import OrderState
from forexgpt_core.errors import BadInput
from forexgpt_core.live.guard import EventWatch, LiveLimits
from forexgpt_core.live.history import HistoryFeed
from forexgpt_core.live.paper import PaperBroker, realised
from forexgpt_core.live.step import replay, step
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
    def others(self) -> dict[str, pl.DataFrame]:
        return {name: candles(name, self.seed + 50) for name in self.rates}

    @property
    def watch(self) -> EventWatch:
        pair = instrument(self.symbol)
        return EventWatch(guard=self.guard, events=releases(self.bars), currencies=(pair.base, pair.quote))


def candles(symbol: str, seed: int) -> pl.DataFrame:
    """Return two weeks of hourly bars with a spread of their own, the last of them from Tuesday over a weekend."""
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


def laws(bars: pl.DataFrame, symbol: str, seed: int) -> ForecastBatch:
    """Return forecasts of changing lean, scale and width at every bar but the first ones."""
    rng = np.random.default_rng(seed + 1_000)
    n = bars.height - BEFORE
    lean = np.repeat(rng.normal(0, 0.7, n // 5 + 1), 5)[:n] + rng.normal(0, 0.1, n)
    scale = 0.0016 * rng.uniform(0.7, 1.4, (n, 1))
    width = rng.uniform(0.6, 1.6, n)
    return ForecastBatch(
        symbol=symbol,
        timeframe="H1",
        family="wave",
        origin_utc=bars["ts_utc"].to_numpy().astype("datetime64[us]")[BEFORE:],
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
    def ports(self) -> dict[str, object]:
        case = self.case
        return {
            "feed": HistoryFeed(bars=case.bars, others=lambda: case.others),
            "forecaster": Known(laws(case.bars, case.symbol, case.seed)),
            "journal": self.journal,
            "broker": self.broker,
            "limits": WIDE,
            "watch": case.watch,
        }

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
        return pl.DataFrame(rows)


def desk_of(database: Database, case: Case) -> Desk:
    request = DeploymentRequest(
        symbol=case.symbol,
        timeframe="H1",
        bundle_hash="b",
        config=case.config,
        costs=case.costs,
        approved_by="ann",
        reason="test",
        allow_no_skill=True,
        skill=None,
    )
    return Desk(case=case, deployment=DeploymentRepository(database).deploy(request), database=database)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path_factory.mktemp('parity') / 'db.sqlite'}"
    upgrade(url)
    database = open_database(url)
    yield database
    database.close()


def backtest(case: Case) -> BacktestResult:
    bars = case.bars
    batch = laws(bars, case.symbol, case.seed)
    closes = bars["ts_utc"].to_numpy().astype("datetime64[us]") + np.timedelta64(1, "h")
    return run_backtest(
        bars,
        batch,
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
    found = desk.trades().head(expected.height) if expected.height else pl.DataFrame()
    same = ["entry_utc", "exit_utc", "side", "lots", "entry_price", "exit_price", "exit_reason"]
    assert found.select(same).rows() == expected.select(same).rows()
    for name in ("commission", "swap", "profit"):
        assert found[name].to_list() == pytest.approx(expected[name].to_list(), abs=1e-6)
    equity = [float(report.equity) for report in reports]
    assert equity[:-1] == pytest.approx(result.equity["equity"].to_list()[:-1], abs=1e-6)
    return found


HOURS = tuple(0.5 + 0.1 * (hour % 9) for hour in range(24))
RICH = replace(
    COSTS,
    spread_source="candles",
    commission_percent=0.002,
    slippage_range_share=0.03,
    slippage_spread_share=0.1,
    swap_long_pips=-0.7,
    swap_short_pips=0.3,
)
CASES = {
    "as it ever was": Case(),
    "another market": Case(seed=2),
    "guarded": Case(seed=2, guard=GUARD),
}
