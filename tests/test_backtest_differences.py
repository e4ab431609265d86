"""Each deliberate difference between the engine and backtesting.py is real: see `kernc.DIFFERENCES`."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from backtest_market import CONFIG, COSTS, FLAT, UP, candles, forecasts, random_market

from forexgpt_core.backtest import engine, kernc
from forexgpt_core.backtest.performance import curve_stats, day_ends
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import ForecastBatch
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.config import StrategyConfig

SHOWN: dict[str, Callable[[], None]] = {}
BARS, LAWS = random_market(11)
LONGER = replace(CONFIG, holding_limit_bars=20, stop_scales=6.0, take_profit_scales=6.0)


def shows(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enter a function as the one that shows a difference."""

    def enter(show: Callable[[], None]) -> Callable[[], None]:
        SHOWN[name] = show
        return show

    return enter


def test_every_difference_is_shown() -> None:
    assert set(SHOWN) == set(kernc.DIFFERENCES)


@pytest.mark.parametrize("name", sorted(kernc.DIFFERENCES))
def test_the_difference_is_real(name: str) -> None:
    SHOWN[name]()


def both(
    bars: pl.DataFrame, laws: ForecastBatch, config: StrategyConfig = CONFIG, costs: Costs = COSTS
) -> tuple[BacktestResult, BacktestResult]:
    ours, theirs = (m.run_backtest(bars, laws, config, costs, symbol="EURUSD") for m in (engine, kernc))
    return ours, theirs


def only_ours(costs: Costs, said: str) -> BacktestResult:
    """Return the engine's run under costs that the library's refuses, and see that they change something."""
    with pytest.raises(BadInput, match=f"cannot count {said}; use backtest.engine"):
        kernc.run_backtest(BARS, LAWS, CONFIG, costs, symbol="EURUSD")
    ours, plain = (engine.run_backtest(BARS, LAWS, LONGER, c, symbol="EURUSD") for c in (costs, COSTS))
    assert ours.trades.height > 0
    assert ours.stats["final_equity"] != plain.stats["final_equity"]
    return ours


def library(prices: list[float], act: Callable[[Any, int], None], **options: Any) -> Any:
    """Return what the library says of a strategy that acts at each bar it is asked at, on bars without wicks.

    Args:
        prices: of every bar, or (open, close) of it.
    """
    import pandas as pd
    from backtesting import Backtest, Strategy

    class Plan(Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            act(self, len(self.data) - 1)

    rows = [price if isinstance(price, tuple) else (price, price) for price in prices]
    table = [(first, max(first, last), min(first, last), last) for first, last in rows]
    index = pd.date_range("2018-01-02", periods=len(rows), freq="h")
    frame = pd.DataFrame(table, index=index, columns=["Open", "High", "Low", "Close"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Backtest(frame, Plan, **{"cash": 100_000, "margin": 0.1, **options}).run()


@shows("margin")
def margin() -> None:
    # 97.2 % of the cash are margin at 1.2; after 2.6 % the margin fits, with a tenth of the commission and not with all
    dear = replace(COSTS, spread_pips=0, slippage_pips=0, commission_per_lot=50.0)
    full = replace(CONFIG, size_fraction=1.0)
    gap = candles([(1.2, 1.2, 1.2, 1.2), *[(1.2312, 1.2312, 1.2312, 1.2312)] * 2])
    ours, theirs = both(gap, forecasts([UP, FLAT, FLAT]), full, dear)
    assert (ours.stats["entries_refused"], theirs.stats["entries_refused"]) == (1, 0)
    # 45 % are in use, and 45 % fit at the open of bar 2; that its close will have lost 15 % nobody knows there
    config = replace(CONFIG, max_entries=2, size_fraction=0.45, distance_unit="percent", stop_scales=50.0)
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 2 + [(1.2, 1.2, 1.16, 1.16), (1.16, 1.16, 1.16, 1.16)])
    ours, theirs = both(bars, forecasts([UP, UP, FLAT, FLAT]), config)
    assert (ours.stats["entries_refused"], theirs.stats["entries_refused"]) == (0, 1)


@shows("stop-out")
def stop_out() -> None:
    full = replace(CONFIG, size_fraction=0.9, distance_unit="percent", stop_scales=50.0, holding_limit_bars=30)
    bars = candles([(1.2, 1.2, 1.2, 1.2)] * 2 + [(1.2, 1.2, 1.10, 1.2), (1.2, 1.2, 1.2, 1.2)])
    laws = forecasts([UP, FLAT, FLAT, FLAT])
    ours, theirs = both(bars, laws, full)
    assert ours.trades["exit_reason"].to_list() == theirs.trades["exit_reason"].to_list() == ["end"]
    with pytest.raises(BadInput, match="a stop-out"):
        both(bars, laws, full, replace(COSTS, stop_out=0.5))[1]
    called = engine.run_backtest(bars, laws, full, replace(COSTS, stop_out=0.5), symbol="EURUSD")
    assert called.trades.select("exit_bar", "exit_reason").rows() == [(2, "stop_out")]


@shows("swap")
def swap() -> None:
    ours = only_ours(replace(COSTS, swap_long_pips=-1.0), "swap")
    assert float(ours.stats["swap"] or 0) < 0


@shows("spread")
def spread() -> None:
    hours = tuple(2.0 + hour % 3 for hour in range(24))
    only_ours(replace(COSTS, spread_source="session", spread_by_hour_pips=hours), "a spread that changes")
    # the library's own: a buyer pays a share more and sells at the bid, a seller gets a share less and buys at the bid
    longs = library([1.0, 1.0, 2.0, 2.0, 2.0], lambda s, n: plan(s, n, s.buy), spread=0.01)["_trades"]
    assert longs[["EntryPrice", "ExitPrice"]].to_numpy().tolist() == [[2.0 * 1.01, 2.0]]
    shorts = library([1.0, 1.0, 2.0, 2.0, 2.0], lambda s, n: plan(s, n, s.sell), spread=0.01)["_trades"]
    assert shorts[["EntryPrice", "ExitPrice"]].to_numpy().tolist() == [[2.0 * 0.99, 2.0]]


def plan(strategy: Any, bar: int, order: Callable[..., object]) -> None:
    """Open at bar 2 and close at bar 4."""
    if bar == 1:
        order(size=100)
    if bar == 3:
        strategy.position.close()


@shows("slippage")
def slippage() -> None:
    only_ours(replace(COSTS, slippage_range_share=0.05), "slippage that changes")
    only_ours(replace(COSTS, slippage_spread_share=0.5), "slippage that changes")


@shows("conversion")
def conversion() -> None:
    only_ours(replace(COSTS, account_currency="EUR"), "an account in another currency")


@shows("commission")
def commission() -> None:
    only_ours(replace(COSTS, commission_percent=0.01), "a commission in per cent")
    charged: list[float] = []
    library(
        [1.0, 1.0, 2.0, 2.0, 2.0],
        lambda s, n: plan(s, n, s.buy),
        spread=0.01,
        commission=lambda size, price: charged.append(price) or 0.0,
    )
    assert charged.count(2.0) > 0  # the bid, beside the 2.02 that was paid


@shows("units")
def units() -> None:
    fine = replace(COSTS, lot_step=1e-6, min_lots=1e-6)
    ours = only_ours(fine, "parts of a unit")
    assert any(abs(lots * 100_000 - round(lots * 100_000)) > 0.05 for lots in ours.trades["lots"])
    with pytest.raises(AssertionError):
        library([1.0] * 4, lambda s, n: s.buy(size=1.5))


@shows("levels")
def levels() -> None:
    free = Costs(spread_pips=0, slippage_pips=0, commission_per_lot=0, leverage=10, stop_out=0)
    near = replace(CONFIG, stop_scales=1e-15, cost_multiple=0.0)
    bars, laws = candles([(1.25, 1.25, 1.25, 1.25)] * 3), forecasts([UP, FLAT, FLAT])
    assert engine.run_backtest(bars, laws, near, free, symbol="EURUSD").trades["exit_reason"].to_list() == ["stop"]
    with pytest.raises(ValueError, match="Long orders require"):
        kernc.run_backtest(bars, laws, near, free, symbol="EURUSD")


@shows("end")
def end() -> None:
    bars: list[Any] = [1.0, 1.0, (1.0, 1.1), (1.1, 1.5)]
    kept = library(bars, lambda s, n: s.buy(size=100) if n == 1 else None)
    assert len(kept["_trades"]) == 0
    closed = library(bars, lambda s, n: s.buy(size=100) if n == 1 else None, finalize_trades=True)
    assert closed["_trades"]["ExitPrice"].tolist() == [1.1]
    ours, theirs = both(candles([(o, max(o, c), min(o, c), c) for o, c in [(1.2, 1.2), (1.2, 1.2), (1.2, 1.203)]]),
                        forecasts([UP, FLAT, FLAT]))  # fmt: skip
    for result in (ours, theirs):
        assert result.trades["exit_price"].to_list() == [pytest.approx(1.203 - 0.00005, abs=1e-12)]


@shows("ruin")
def ruin() -> None:
    run = library([1.0] * 6 + [0.1] * 3, lambda s, n: s.buy(size=200_000) if n in (1, 2, 3) else None)
    assert run["_equity_curve"]["Equity"].tolist()[-3:] == [0, 0, 0]
    assert (len(run["_trades"]), len(run["_strategy"].trades)) == (2, 1)


@shows("first bar")
def first_bar() -> None:
    asked: list[int] = []
    library([1.0] * 5, lambda s, n: asked.append(n))
    assert asked == [1, 2, 3, 4]
    ours, theirs = both(candles([(1.2, 1.2, 1.2, 1.2)] * 3), forecasts([UP, FLAT, FLAT]))
    assert ours.trades["entry_bar"].to_list() == theirs.trades["entry_bar"].to_list() == [1]


@shows("figures")
def figures() -> None:
    prices = (1.2 + np.cumsum(np.random.default_rng(0).normal(0, 0.002, 24 * 20))).tolist()
    run = library(prices, lambda s, n: s.buy(size=100_000) if n == 1 else None)
    equity = run["_equity_curve"]["Equity"]
    daily = equity.resample("D").last().pct_change().dropna()
    compounded = float(np.expm1(np.log1p(daily).mean() * 365))
    assert run["Return (Ann.) [%]"] == pytest.approx(100 * compounded, rel=1e-9)
    times = equity.index.to_numpy().astype("datetime64[us]")
    ours = curve_stats(equity.to_numpy(), 100_000.0, *day_ends(times))
    assert ours["return_pct"] == pytest.approx(run["Return [%]"], abs=1e-9)
    assert abs(float(ours["sharpe"] or 0) - run["Sharpe Ratio"]) > 0.01
