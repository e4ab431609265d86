"""The engine against an account kept by hand, with all that a broker counts: see `backtest_oracle`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from backtest_market import configs, laws_on, random_bars, seeds
from backtest_oracle import Account, play
from hypothesis import given, settings

from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.domain.bars import PRICES
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.strategy.config import StrategyConfig

EXACT = ("entry_bar", "exit_bar", "side", "lots", "exit_reason")
MONEY = ("commission", "swap", "profit")
CLOSE = ("entry_price", "exit_price", "stop_price", "take_profit_price", "probability", "return_pct")
COUNTED = ("entries_refused", "entries_held_back", "entries_too_small")
STARTS = {"EURUSD": 1.2, "USDJPY": 110.0, "EURGBP": 0.88, "XAUUSD": 1300.0}
CONVERTING = {
    ("USDJPY", "EUR"): ("EURJPY", 130.0),
    ("EURGBP", "USD"): ("GBPUSD", 1.35),
    ("XAUUSD", "EUR"): ("EURUSD", 1.2),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A market and the account that trades on it."""

    symbol: str
    candles: pl.DataFrame
    laws: ForecastBatch
    costs: Costs
    cash: float
    rates: Mapping[str, pl.DataFrame]
    no_entry: np.ndarray


def with_asks(bars: pl.DataFrame, rng: np.random.Generator, pip: float) -> pl.DataFrame:
    """Return bars with an ask side of changing spread, absent here and there and below the bid here and there."""
    spread = rng.uniform(-0.3, 4, bars.height) * pip
    absent = pl.Series(rng.random(bars.height) < 0.1)
    sides = [pl.when(absent).then(None).otherwise(pl.col(name) + spread).alias(f"ask_{name}") for name in PRICES]
    return bars.with_columns(sides)


def scene(seed: int, bars: int = 140) -> Scene:
    """Return a market, costs of every kind and a leverage that the broker has to act upon now and then."""
    rng = np.random.default_rng(seed)
    symbol = str(rng.choice(list(STARTS)))
    account = str(rng.choice(["", "USD", "EUR"]))
    volatility = float(rng.choice([0.001, 0.003, 0.008]))
    pip = {"USDJPY": 0.01, "XAUUSD": 0.1}.get(symbol, 0.0001)
    walk = random_bars(rng, bars, volatility, STARTS[symbol])
    walk = walk.filter(pl.Series(rng.random(bars) < 0.97))  # bars are missing
    rates = {}
    if (symbol, account) in CONVERTING:
        name, start = CONVERTING[symbol, account]
        rates[name] = random_bars(rng, bars, 0.002, start)
        late = walk["ts_utc"].min()
        walk = walk.filter(pl.col("ts_utc") > late)  # the rate of the first open is known
    laws = laws_on(walk, rng, volatility * rng.uniform(0.7, 1.4, walk.height), symbol)
    yen = 100.0 if (account or symbol[3:]) == "JPY" else 1.0
    costs = Costs(
        spread_pips=float(rng.uniform(0, 3)),
        slippage_pips=float(rng.uniform(0, 1)),
        slippage_range_share=float(rng.choice([0, 0.1])),
        slippage_spread_share=float(rng.choice([0, 0.3])),
        commission_per_lot=float(rng.uniform(0, 7)) * yen,
        commission_percent=float(rng.choice([0, 0.004])),
        leverage=float(rng.choice([1, 10, 30, 200, 500])),
        account_currency=account,
        spread_source=str(rng.choice(["constant", "candles", "session"])),
        spread_by_hour_pips=tuple(rng.uniform(0, 4, 24)),
        swap_long_pips=float(rng.choice([0, rng.normal(0, 2)])),
        swap_short_pips=float(rng.choice([0, rng.normal(0, 2)])),
        swap_triple_weekday=int(rng.integers(5)),
        min_lots=float(rng.choice([0.01, 0.05, 1.0])),
        lot_step=float(rng.choice([0.01, 0.05, 0.1])),
        stop_out=float(rng.choice([0, 0.2, 0.5, 0.95])),
    )
    return Scene(
        symbol=symbol,
        candles=with_asks(walk, rng, pip),
        laws=laws,
        costs=costs,
        cash=float(rng.choice([3_000, 100_000])) * yen,
        rates=rates,
        no_entry=rng.random(walk.height) < 0.05,
    )


def by_engine(one: Scene, config: StrategyConfig) -> BacktestResult:
    return run_backtest(
        one.candles,
        one.laws,
        config,
        one.costs,
        symbol=one.symbol,
        cash=one.cash,
        rates=one.rates,
        no_entry=one.no_entry,
    )


def by_hand(one: Scene, config: StrategyConfig) -> Account:
    return play(
        one.candles,
        one.laws,
        config,
        one.costs,
        symbol=one.symbol,
        cash=one.cash,
        rates=one.rates,
        no_entry=one.no_entry.tolist(),
    )


def assert_same(found: BacktestResult, expected: Account, cash: float) -> None:
    """Money may differ by what rounding the largest balance of the account leaves."""
    booked = max(cash, *np.abs(expected.equity), *(abs(float(t["profit"])) for t in expected.trades))
    trades = found.trades
    assert trades.select(EXACT).rows() == [tuple(trade[name] for name in EXACT) for trade in expected.trades]
    for name in (*CLOSE, *MONEY):
        values = [trade[name] for trade in expected.trades]
        tolerance = {"atol": 1e-9 * booked} if name in MONEY else {"atol": 1e-12}
        np.testing.assert_allclose(trades[name].to_numpy(), values, rtol=1e-9, err_msg=name, **tolerance)
    np.testing.assert_allclose(found.equity["equity"].to_numpy(), expected.equity, rtol=1e-9, atol=1e-9 * booked)
    assert [found.stats[name] for name in COUNTED] == [expected.counts[name] for name in COUNTED]
    assert found.stats["turnover"] == pytest.approx(expected.turnover, rel=1e-9)
    for name in ("commission", "swap"):
        total = sum(float(trade[name]) for trade in expected.trades)
        assert found.stats[name] == pytest.approx(total, rel=1e-9, abs=1e-9 * booked)


@settings(max_examples=120, deadline=None)
@given(seed=seeds, config=configs)
def test_the_account_equals_one_kept_by_hand(seed: int, config: StrategyConfig) -> None:
    one = scene(seed)
    assert_same(by_engine(one, config), by_hand(one, config), one.cash)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(seed=seeds, config=configs)
def test_the_account_equals_one_kept_by_hand_thousands_of_times(seed: int, config: StrategyConfig) -> None:
    one = scene(seed)
    assert_same(by_engine(one, config), by_hand(one, config), one.cash)


def test_what_the_account_is_compared_on_happens() -> None:
    reasons: dict[str, int] = {}
    counted = dict.fromkeys(COUNTED, 0)
    for seed in range(50):
        config = StrategyConfig(
            horizon_bars=1,
            entry_probability=0.4,
            distance_unit="percent",
            stop_scales=20.0 if seed % 3 else 1.0,
            take_profit_scales=1.0 + seed % 5,
            size_fraction=0.9,
            holding_limit_bars=10,
            max_entries=1 + seed % 3,
        )
        account = by_hand(scene(seed), config)
        for trade in account.trades:
            reasons[str(trade["exit_reason"])] = reasons.get(str(trade["exit_reason"]), 0) + 1
        for name in COUNTED:
            counted[name] += account.counts[name]
    expected = {"stop", "stop_out", "take_profit", "holding limit", "opposite signal", "end", "ruin"}
    assert {name for name, times in reasons.items() if times > 0} == expected
    assert min(counted.values()) >= 3
