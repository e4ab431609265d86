"""The rules and the money are written once: compiled, they give the same bits as Python gives for paper and live."""

import math
import struct
from collections.abc import Callable
from functools import cache

import pytest
from backtest_market import SCALE, UP, candles, forecasts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.domain import money
from forexgpt_core.domain.costs import Costs
from forexgpt_core.features.kernels import part
from forexgpt_core.strategy import rules
from forexgpt_core.strategy.config import StrategyConfig

anything = st.floats()
sides = st.sampled_from([1, -1])
shares = st.floats(0, 1)
prices = st.floats(1e-4, 1e5)
amounts = st.floats(-1e12, 1e12)
positive = st.floats(1e-9, 1e9)
leverages = st.floats(1, 1000)
distances = st.floats(1e-100, 1)  # what `judge` lets pass
flags = st.booleans()
compiling = settings(deadline=None)  # the first example of a rule


@cache
def compiled(rule: Callable[..., float]) -> Callable[..., float]:
    return part(rule)


def bits(value: float) -> tuple[bool, bytes]:
    return math.isnan(value), b"" if math.isnan(value) else struct.pack("<d", value)


def assert_same_bits(rule: Callable[..., float], *given: float) -> None:
    plain, fast = rule(*given), compiled(rule)(*given)
    assert bits(plain) == bits(fast), f"{rule.__name__}{given}: {plain!r} in Python, {fast!r} compiled"


@compiling
@given(
    said=st.tuples(anything, anything, anything, anything, anything)
    | st.tuples(shares, shares, prices, distances, shares),
    held=st.sampled_from([rules.LONG, rules.SHORT, rules.FLAT]),
    bars_held=st.integers(0, 100),
    threshold=shares,
    stop=st.floats(0, allow_nan=False),
    target=st.floats(0, allow_nan=False),
    limit=st.integers(1, 100),
    opposite=flags,
)
def test_judge(
    said: tuple[float, ...],
    held: int,
    bars_held: int,
    threshold: float,
    stop: float,
    target: float,
    limit: int,
    opposite: bool,
) -> None:
    assert_same_bits(rules.judge, *said, held, bars_held, threshold, stop, target, limit, opposite)


@compiling
@given(close=prices, distance=st.floats(-1, 1))
def test_level(close: float, distance: float) -> None:
    assert_same_bits(rules.level, close, distance)


@compiling
@given(stop=prices, side=sides, close=prices, distance=st.floats(0, allow_nan=False))
@example(stop=1.2, side=-1, close=1.2, distance=1e9)
@example(stop=1.2, side=-1, close=1.2, distance=math.inf)
@example(stop=1.2, side=1, close=1.2, distance=math.inf)
def test_trailed(stop: float, side: int, close: float, distance: float) -> None:
    assert_same_bits(rules.trailed, stop, side, close, distance)
    found = rules.trailed(stop, side, close, distance)
    assert side * found >= side * stop
    assert found == rules.trailed(found, side, close, distance)


@compiling
@given(
    sizing=st.integers(0, 5),
    size=st.floats(0, 1, exclude_min=True),
    lots=positive,
    equity=st.floats(1e-6, 1e12),
    one_lot=st.floats(1e-3, 1e9),
    leverage=leverages,
    side=sides,
    probability=shares,
    stop=distances,
    target=distances,
    yearly=st.floats(1e-300, 1e3),
    ratio=st.floats(0),
)
@example(4, 0.1, 1.0, 1e5, 1e5, 30.0, 1, 0.9, 1e-18, 1e-18, 0.1, 1.0)
@example(4, 0.1, 1.0, 1e5, 1e5, 30.0, -1, 0.9, 1.0, 5e-324, 0.1, math.inf)
def test_wanted_lots(
    sizing: int,
    size: float,
    lots: float,
    equity: float,
    one_lot: float,
    leverage: float,
    side: int,
    probability: float,
    stop: float,
    target: float,
    yearly: float,
    ratio: float,
) -> None:
    args = (sizing, size, lots, equity, one_lot, leverage, side, probability, stop, target, yearly, ratio)
    assert_same_bits(rules.wanted_lots, *args)
    assert rules.wanted_lots(*args) >= 0


@compiling
@given(free=amounts, one_lot=st.floats(1e-3, 1e9), leverage=leverages, cost=st.floats(0, 1e3))
def test_affordable_lots(free: float, one_lot: float, leverage: float, cost: float) -> None:
    assert_same_bits(rules.affordable_lots, free, one_lot, leverage, cost)


@compiling
@given(
    wanted=anything | positive,
    affordable=anything | positive,
    least=positive,
    step=positive | st.sampled_from([0.001, 0.01, 0.05, 0.1, 1.0]),
)
def test_rounded_lots(wanted: float, affordable: float, least: float, step: float) -> None:
    assert_same_bits(money.rounded_lots, wanted, affordable, least, step)


@compiling
@given(sign=sides, units=positive, entry=prices, exit_=prices, rate=positive, base=flags)
def test_money_of_a_position(sign: int, units: float, entry: float, exit_: float, rate: float, base: bool) -> None:
    assert_same_bits(money.notional_in_account, units, entry, rate, base)
    assert_same_bits(money.profit_in_account, sign, units, entry, exit_, rate, base)
    assert_same_bits(money.swap_in_account, units, exit_ - entry, entry, rate, base)


@compiling
@given(lots=positive, units=positive, price=prices, rate=positive, per_lot=positive, percent=shares, base=flags)
def test_commission(
    lots: float, units: float, price: float, rate: float, per_lot: float, percent: float, base: bool
) -> None:
    assert_same_bits(money.commission_of, lots, units, price, rate, per_lot, percent, base)


@compiling
@given(
    balance=amounts,
    sign=sides,
    units=st.floats(0, 1e9),
    entry=prices,
    used=st.floats(0, 1e9),
    share=st.floats(0, 1, exclude_max=True),
    rate=positive,
    base=flags,
)
def test_liquidation_price(
    balance: float, sign: int, units: float, entry: float, used: float, share: float, rate: float, base: bool
) -> None:
    assert_same_bits(money.liquidation_price, balance, sign, units, entry, used, share, rate, base)


@pytest.mark.parametrize("sizing", ["risk", "kelly"])
def test_a_stop_too_near_to_count_wants_more_than_the_margin_gives(sizing: str) -> None:
    config = StrategyConfig(
        horizon_bars=1,
        sizing=sizing,
        stop_scales=1e-15 * SCALE,
        take_profit_scales=1e-15 * SCALE,
        cost_multiple=0.0,
    )
    free = Costs(spread_pips=0, slippage_pips=0, commission_per_lot=0, leverage=10, stop_out=0)
    bars = candles([(1.25, 1.25, 1.25, 1.25)] * 3)
    result = run_backtest(bars, forecasts([UP, 0.0, 0.0]), config, free, symbol="EURUSD")
    assert result.trades["lots"].to_list() == [7.84]  # 98 % x 100,000 x 10 / 125,000
