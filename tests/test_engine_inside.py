"""What happens inside a bar, by hand: stops, the broker's stop-out and targets, in the order of price."""

import math
from dataclasses import replace

import polars as pl
import pytest
from backtest_market import FLAT, UP, candles, forecasts, join

from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.domain.costs import Costs
from forexgpt_core.strategy.config import StrategyConfig

FREE = Costs(spread_pips=0, slippage_pips=0, commission_per_lot=0, leverage=10, stop_out=0.95)
PAIR = StrategyConfig(
    horizon_bars=1,
    entry_probability=0.6,
    stop_scales=2.0,
    take_profit_scales=20.0,
    sizing="lots",
    lots=4.0,
    max_entries=2,
    holding_limit_bars=50,
    cost_multiple=0.0,
)
STILL = (1.2, 1.2, 1.2, 1.2)


def exits(third: tuple[float, float, float, float], side: int = 1, costs: Costs = FREE) -> list[tuple[object, ...]]:
    """Return how two entries at 1.2 of four lots each, with stops 50 and 150 pips away, leave in bar 3.

    Together they tie up 96,000 of 100,000, so at 95 % the broker acts after 8,800, which are 110 pips; once the first
    has gone he would act after more than a thousand.
    """
    rows = [STILL, STILL, STILL, third, (third[3],) * 4]
    near, far = (abs(math.log((1.2 - side * pips) / 1.2)) / 2 for pips in (0.0050, 0.0150))
    laws = join(
        forecasts([side * UP * 10], near, [0]),
        join(forecasts([side * UP * 10], far, [1]), forecasts([FLAT], 0.01, [4])),
    )
    result = run_backtest(candles(rows), laws, PAIR, costs, symbol="EURUSD", cash=100_000.0)
    return result.trades.select("entry_bar", "exit_bar", pl.col("exit_price").round(9), "exit_reason").rows()


def test_a_stop_before_the_brokers_price_frees_margin_for_the_others() -> None:
    assert exits((1.2, 1.2, 1.18, 1.19)) == [(1, 3, 1.195, "stop"), (2, 3, 1.185, "stop")]
    assert exits((1.2, 1.2, 1.186, 1.19)) == [(1, 3, 1.195, "stop"), (2, 4, 1.19, "end")]


def test_a_short_pair_meets_the_same_on_its_side() -> None:
    assert exits((1.2, 1.22, 1.2, 1.21), side=-1) == [(1, 3, 1.205, "stop"), (2, 3, 1.215, "stop")]
    assert exits((1.2, 1.214, 1.2, 1.21), side=-1) == [(1, 3, 1.205, "stop"), (2, 4, 1.21, "end")]


def test_a_market_that_opens_beyond_both_leaves_at_its_open() -> None:
    assert exits((1.18, 1.19, 1.17, 1.18)) == [(1, 3, 1.18, "stop"), (2, 3, 1.18, "stop")]


def test_without_a_stop_on_the_way_the_broker_closes_all_at_one_price() -> None:
    wide = replace(PAIR, stop_scales=200.0)
    rows = [STILL, STILL, STILL, (1.2, 1.2, 1.18, 1.2), STILL]
    laws = forecasts([UP * 10, UP * 10, FLAT, FLAT, FLAT])
    trades = run_backtest(candles(rows), laws, wide, FREE, symbol="EURUSD", cash=100_000.0).trades
    assert trades.select("entry_bar", "exit_bar", "exit_reason").rows() == [(1, 3, "stop_out"), (2, 3, "stop_out")]
    assert trades["exit_price"].to_list() == pytest.approx([1.2 - 0.0110] * 2, abs=1e-12)
    gapped = [*rows[:3], (1.185, 1.2, 1.18, 1.2), STILL]
    trades = run_backtest(candles(gapped), laws, wide, FREE, symbol="EURUSD", cash=100_000.0).trades
    assert trades["exit_price"].to_list() == [1.185, 1.185]


def test_the_brokers_price_comes_before_a_target_in_the_same_bar() -> None:
    rows = [STILL, STILL, STILL, (1.2, 1.3, 1.18, 1.2), STILL]
    laws = forecasts([UP * 10, UP * 10, FLAT, FLAT, FLAT])
    trades = run_backtest(candles(rows), laws, replace(PAIR, stop_scales=200.0), FREE, symbol="EURUSD").trades
    assert trades["exit_reason"].to_list() == ["stop_out", "stop_out"]


def test_the_worst_price_itself_is_met_and_the_one_beside_it_is_not() -> None:
    stop = 1.2 * math.exp(-2 * (abs(math.log((1.2 - 0.0050) / 1.2)) / 2))
    assert exits((1.2, 1.2, stop, 1.2))[0] == (1, 3, 1.195, "stop")
    assert exits((1.2, 1.2, math.nextafter(stop, 2), 1.2))[0] == (1, 4, 1.2, "end")
