"""The engine trades as the same strategy on backtesting.py does, wherever both mean the same thing.

What they do not agree on is `kernc.DIFFERENCES`, and tests of its own show each. Here margin is never short.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from backtest_market import configs, needs_real_bars, random_configs, real_market, seeds, varied_market
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest import engine, kernc
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.backtest.span import Span, lay_out
from forexgpt_core.domain.costs import Costs
from forexgpt_core.strategy.config import StrategyConfig

CASH = 100_000.0
EXACT = ("entry_utc", "exit_utc", "entry_bar", "exit_bar", "side", "lots", "probability", "exit_reason")
CLOSE = ("entry_price", "exit_price", "stop_price", "take_profit_price", "return_pct", "commission", "profit")

costs = st.builds(
    Costs,
    spread_pips=st.floats(0, 3),
    slippage_pips=st.floats(0, 1),
    commission_per_lot=st.floats(0, 7),
    leverage=st.sampled_from([1.0, 10.0, 30.0, 500.0]),
    lot_step=st.sampled_from([0.01, 0.1]),
    min_lots=st.sampled_from([0.01, 0.1]),
    stop_out=st.just(0.0),
)


def assert_same(ours: BacktestResult, theirs: BacktestResult) -> None:
    """Hold trades, equity and every figure that both have against each other.

    A cent in a hundred million may go in rounding: an account that is nearly lost has turned over that much.
    """
    assert ours.trades.select(EXACT).rows() == theirs.trades.select(EXACT).rows()
    for name in CLOSE:
        found, expected = ours.trades[name].to_numpy(), theirs.trades[name].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6 if name == "profit" else 1e-9, err_msg=name)
    found, expected = ours.equity["equity"].to_numpy(), theirs.equity["equity"].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-6)
    assert set(theirs.stats) <= set(ours.stats)
    for name, value in theirs.stats.items():
        assert _alike(ours.stats[name], value), f"{name}: {ours.stats[name]} and {value}"


def _alike(found: object, expected: object) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-6)
    return found == expected


def both(span: Span, config: StrategyConfig) -> tuple[BacktestResult, BacktestResult]:
    return engine.run_span(span, config, cash=CASH), kernc.run_span(span, config, cash=CASH)


def refusals(*results: BacktestResult) -> int:
    return sum(int(result.stats["entries_refused"] or 0) for result in results)


@settings(max_examples=150, deadline=None)
@given(seed=seeds, config=configs, costs=costs)
def test_trades_equity_and_figures_are_those_of_backtesting(seed: int, config: StrategyConfig, costs: Costs) -> None:
    bars, laws = varied_market(seed, bars=120)
    ours, theirs = both(lay_out(bars, laws, costs, symbol="EURUSD"), config)
    assume(refusals(ours, theirs) == 0)
    assert_same(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, config=configs, symbol=st.sampled_from([("USDJPY", 110.0), ("XAUUSD", 1300.0), ("EURGBP", 0.88)]))
def test_other_pairs_agree_too(seed: int, config: StrategyConfig, symbol: tuple[str, float]) -> None:
    name, start = symbol
    bars, laws = varied_market(seed, bars=100, start=start, symbol=name)
    ours, theirs = both(lay_out(bars, laws, Costs(stop_out=0.0), symbol=name), config)
    assume(refusals(ours, theirs) == 0)
    assert_same(ours, theirs)


def test_refusals_are_rare_enough_for_the_comparison_to_mean_something() -> None:
    trades = refused = 0
    for seed, config in enumerate(random_configs(7, 40)):
        bars, laws = varied_market(seed, bars=120)
        ours = engine.run_span(lay_out(bars, laws, Costs(stop_out=0.0), symbol="EURUSD"), config)
        trades += ours.trades.height
        refused += refusals(ours) > 0
    assert refused < 10
    assert trades > 800


REAL_COSTS = Costs(spread_pips=1.2, slippage_pips=0.2, commission_per_lot=3.5, leverage=500.0, stop_out=0.0)


@needs_real_bars
@pytest.mark.parametrize("part", range(8))
def test_slices_of_real_bars_agree(part: int) -> None:
    bars, laws = real_market(part, first=300 + part * 9_000, bars=1_200)
    span = lay_out(bars, laws, REAL_COSTS, symbol="EURUSD")
    compared = 0
    for config in random_configs(100 + part, 4):
        ours, theirs = both(span, config)
        if refusals(ours, theirs) == 0:
            assert_same(ours, theirs)
            compared += ours.trades.height
    assert compared > 50


@pytest.mark.slow
@needs_real_bars
@pytest.mark.parametrize("part", range(6))  # `make bench ONLY=engine_parity` compares hundreds
def test_every_real_bar_agrees(part: int) -> None:
    bars, laws = real_market(part)
    assert bars.height == 74_439
    span = lay_out(bars, laws, REAL_COSTS, symbol="EURUSD")
    compared = 0
    for config in random_configs(200 + part, 8):
        calm = replace(config, size_fraction=config.size_fraction / 10)  # years of it, and the account lives
        ours, theirs = both(span, calm)
        if refusals(ours, theirs) == 0:
            assert_same(ours, theirs)
            compared += 1
    assert compared >= 6
