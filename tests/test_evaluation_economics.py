"""Break-even costs, turnover and sample sizes: published tables, repriced trades, and series of known dependence."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from backtest_market import random_bars, varied_market
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.backtest.fills import entry_price, exit_price, trade_profit
from forexgpt_core.backtest.result import TRADES_SCHEMA, BacktestResult
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import Side
from forexgpt_core.errors import BadInput
from forexgpt_core.evaluation.economics import (
    break_even_hit_rate,
    independent_observations,
    rows_for_effect,
    trade_economics,
    turnover_of_positions,
)
from forexgpt_core.strategy.config import StrategyConfig

DAYS = 252
BARS_A_DAY = {"15 min": 96, "1 h": 24, "4 h": 6, "1 day": 1}
START = datetime(2018, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cost_pips", "expected"),
    [(0.4, (0.544, 0.522, 0.511, 0.505)), (0.8, (0.589, 0.544, 0.522, 0.509)), (1.5, (0.666, 0.583, 0.542, 0.517))],
)
def test_the_published_break_even_hit_rates(cost_pips: float, expected: tuple[float, ...]) -> None:
    """EURUSD at 1.10 with 8 % volatility a year."""
    cost = cost_pips * 1e-4 / 1.10
    for bars, wanted in zip(BARS_A_DAY.values(), expected, strict=True):
        mean_move = 0.08 / math.sqrt(DAYS * bars) * math.sqrt(2 / math.pi)
        assert break_even_hit_rate(cost, mean_move) == pytest.approx(wanted, abs=6e-4)


@given(cost=st.floats(0, 0.01), seed=st.integers(0, 2**32 - 1))
def test_calls_that_are_right_that_often_earn_nothing(cost: float, seed: int) -> None:
    moves = np.abs(np.random.default_rng(seed).normal(0, 0.005, 200))
    p = break_even_hit_rate(cost, float(moves.mean()))
    assert p * moves.mean() - (1 - p) * moves.mean() - cost == pytest.approx(0, abs=1e-12)


def book(seed: int, costs: Costs, symbol: str) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, float]]:
    """Return trades between random bid prices at given costs, an account of 100,000, and what the trades paid."""
    rng = np.random.default_rng(seed)
    level = 110.0 if symbol.endswith("JPY") else 1.1
    rows = []
    for n in range(12):
        side = Side.BUY if rng.random() < 0.5 else Side.SELL
        bids, lots = level * np.exp(rng.normal(0, 0.01, 2)), float(rng.integers(1, 50)) / 100
        bought, closed = entry_price(bids[0], side, costs, symbol), exit_price(bids[1], side, costs, symbol)
        profit = trade_profit(side, lots, bought, closed, costs, symbol)
        when = START + timedelta(hours=10 * n)
        blank = dict.fromkeys(TRADES_SCHEMA)
        rows.append(
            blank
            | {"entry_utc": when, "exit_utc": when + timedelta(hours=5), "side": side.value, "lots": lots}
            | {"entry_price": bought, "exit_price": closed, "profit": profit}
        )
    hours = [START + timedelta(hours=n) for n in range(200)]
    trades = pl.DataFrame(rows, schema=TRADES_SCHEMA)
    pip, lots = 0.01 if symbol == "USDJPY" else 0.0001, trades["lots"]
    paid = {
        "spread_cost": costs.spread_pips * pip * 100_000 * lots.sum(),
        "slippage_cost": 2 * costs.slippage_pips * pip * 100_000 * lots.sum(),
        "commission": 2 * costs.commission_per_lot * lots.sum(),
        "swap": 0.0,
        "turnover": 100_000 * float((lots * (trades["entry_price"] + trades["exit_price"])).sum()),
    }
    return trades, pl.DataFrame({"ts_utc": hours, "equity": [100_000.0] * 200}), paid


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0, 3),
    commission=st.floats(0, 7),
    symbol=st.sampled_from(["EURUSD", "USDJPY"]),
)
def test_repriced_at_their_break_even_cost_the_trades_earn_nothing(
    seed: int, spread: float, commission: float, symbol: str
) -> None:
    costs = Costs(spread_pips=spread, commission_per_lot=commission, slippage_pips=0.2)
    trades, equity, paid = book(seed, costs, symbol)
    found = trade_economics(trades, equity, paid, symbol)
    free = Costs(spread_pips=0, commission_per_lot=0, slippage_pips=0)
    gross, _, _ = book(seed, free, symbol)
    pip = 0.01 if symbol == "USDJPY" else 0.0001
    pip_value = pip * 100_000 * trades["lots"].sum()
    assert gross["profit"].sum() == pytest.approx(found.break_even_pips * pip_value, abs=1e-6 * abs(pip_value))
    assert gross["profit"].sum() - trades["profit"].sum() == pytest.approx(found.cost_pips * pip_value, abs=1e-4)
    if found.break_even_pips > 0:
        repriced, _, _ = book(seed, replace(free, spread_pips=found.break_even_pips), symbol)
        assert repriced["profit"].sum() == pytest.approx(0, abs=1e-4)


def test_turnover_by_hand() -> None:
    costs = Costs(spread_pips=0, commission_per_lot=0, slippage_pips=0)
    trades, equity, paid = book(0, costs, "EURUSD")
    found = trade_economics(trades, equity, paid, "EURUSD")
    notional = 100_000 * float((trades["lots"] * (trades["entry_price"] + trades["exit_price"])).sum())
    assert found.turnover_per_year == pytest.approx(notional / 100_000 / (199 / 24 / 365.25))
    assert found.trades == 12
    assert turnover_of_positions(np.array([0.0, 1.0, 1.0, -1.0]), 260) == pytest.approx((1 + 2 + 1) / 4 * 260)
    assert turnover_of_positions(np.zeros(5), 260) == 0


def test_independent_observations_of_series_with_known_dependence() -> None:
    noises = np.random.default_rng(0).normal(size=(20, 20_000))
    free = [independent_observations(noise, 1).effective for noise in noises]
    assert np.median(free) == pytest.approx(20_000, rel=0.15)
    summed = [np.convolve(noise, np.ones(12), mode="valid") for noise in noises]
    overlapping = [independent_observations(x, 12) for x in summed]
    assert overlapping[0].nonoverlapping == math.ceil(summed[0].size / 12)
    assert np.median([one.effective for one in overlapping]) == pytest.approx(summed[0].size / 12, rel=0.2)
    slow = [independent_observations(lfilter([1.0], [1.0, -0.95], noise), 1).effective for noise in noises]
    assert np.median(slow) == pytest.approx(20_000 * 0.05 / 1.95, rel=0.2)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), overlap=st.integers(1, 40), scale=st.floats(1e-6, 1e6))
def test_dependence_never_adds_observations(seed: int, overlap: int, scale: float) -> None:
    x = np.random.default_rng(seed).normal(size=100)
    found = independent_observations(x, overlap)
    assert 1 <= found.effective <= found.nonoverlapping <= found.rows == 100
    assert independent_observations(3 + scale * x, overlap).effective == pytest.approx(found.effective, rel=1e-3)


def test_sample_sizes_have_the_power_they_promise() -> None:
    from scipy.stats import norm

    rows = rows_for_effect(0.1)
    means = np.random.default_rng(0).normal(0.1, 1, (4000, rows)).mean(axis=1)
    assert np.mean(means * math.sqrt(rows) > norm.ppf(0.95)) == pytest.approx(0.8, abs=0.02)
    assert rows_for_effect(0.1, rows_per_observation=4) == pytest.approx(4 * rows, abs=4)


ACCOUNTS = {"USD": "", "EUR": "EUR", "JPY": "JPY"}


def on_signals_alone(costs: Costs, seed: int, bars: int = 300) -> BacktestResult:
    """Return a backtest whose trades stay the same whatever they cost: fixed lots, far stops, no hurdle."""
    walk, laws = varied_market(seed, bars=bars)
    yen = random_bars(np.random.default_rng(seed + 1), bars, 0.001, start=110.0)
    earlier = yen.with_columns(pl.col("ts_utc") - pl.duration(hours=2))
    strategy = StrategyConfig(
        horizon_bars=6,
        entry_probability=0.6,
        stop_scales=40.0,
        take_profit_scales=40.0,
        distance_unit="percent",
        holding_limit_bars=5,
        cost_multiple=0.0,
        sizing="lots",
        lots=0.3,
    )
    return run_backtest(walk, laws, strategy, costs, symbol="EURUSD", rates={"USDJPY": earlier}, cash=1e7)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 2),
    account=st.sampled_from(sorted(ACCOUNTS)),
    source=st.sampled_from(["constant", "session"]),
    slippage=st.floats(0, 1),
    range_share=st.floats(0, 0.05),
    per_lot=st.floats(0, 7),
    percent=st.floats(0, 0.01),
    swap=st.floats(-3, 3),
)
def test_a_backtest_repriced_at_its_break_even_spread_earns_nothing_in_any_account(
    seed: int, account: str, source: str, slippage: float, range_share: float, per_lot: float, percent: float,
    swap: float,
) -> None:  # fmt: skip
    free = Costs(
        spread_pips=0, slippage_pips=0, commission_per_lot=0, leverage=500, stop_out=0,
        account_currency=ACCOUNTS[account],
    )  # fmt: skip
    costs = replace(
        free,
        spread_source=source,
        spread_pips=1.5,
        spread_by_hour_pips=tuple(0.5 + hour % 5 for hour in range(24)),
        slippage_pips=slippage,
        slippage_range_share=range_share,
        commission_per_lot=per_lot,
        commission_percent=percent,
        swap_long_pips=swap,
        swap_short_pips=-0.5,
    )
    paid, unpaid = on_signals_alone(costs, seed), on_signals_alone(free, seed)
    assert paid.trades["exit_bar"].to_list() == unpaid.trades["exit_bar"].to_list()
    if paid.trades.height == 0:
        return
    found = trade_economics(paid.trades, paid.equity, paid.stats, "EURUSD")
    gross, net = (float(one.trades["profit"].sum()) for one in (unpaid, paid))
    # money is turned at the rate of the moment; a pip at the mean rate of all that was traded
    near = 0.005 * max(abs(found.cost), abs(gross)) if account != "USD" else 0.0
    assert found.cost == pytest.approx(gross - net, rel=1e-9, abs=near + 1e-3)
    assert found.cost_per_trade == found.cost / paid.trades.height
    if gross > 0 and found.cost_share is not None:
        assert found.cost_share == pytest.approx(found.cost / (net + found.cost), rel=1e-9)
    if found.break_even_pips > 0:
        repriced = on_signals_alone(replace(free, spread_pips=found.break_even_pips), seed)
        assert float(repriced.trades["profit"].sum()) == pytest.approx(0, abs=near + 1e-3)


def test_a_swap_received_makes_trading_cheaper() -> None:
    trades, equity, paid = book(0, Costs(), "EURUSD")
    plain = trade_economics(trades, equity, paid, "EURUSD")
    helped = trade_economics(trades, equity, paid | {"swap": 5.0}, "EURUSD")
    assert helped.cost == pytest.approx(plain.cost - 5.0)
    assert helped.break_even_pips < plain.break_even_pips  # of the same profit, less was earned by the trades


def test_trades_that_would_lose_for_free_have_no_share_of_cost() -> None:
    trades, equity, paid = book(0, Costs(), "EURUSD")
    losing = trades.with_columns(profit=pl.lit(-1000.0))
    found = trade_economics(losing, equity, paid, "EURUSD")
    assert found.cost_share is None
    assert found.break_even_pips < 0


def test_bad_input_is_refused_by_name() -> None:
    trades, equity, paid = book(0, Costs(), "EURUSD")
    with pytest.raises(BadInput, match="made no trade"):
        trade_economics(trades.clear(), equity, paid, "EURUSD")
    with pytest.raises(BadInput, match=r"lack \['profit'\]"):
        trade_economics(trades.drop("profit"), equity, paid, "EURUSD")
    with pytest.raises(BadInput, match="not finite"):
        trade_economics(trades.with_columns(profit=pl.lit(float("nan"))), equity, paid, "EURUSD")
    with pytest.raises(BadInput, match="more than one bar"):
        trade_economics(trades, equity.head(1), paid, "EURUSD")
    with pytest.raises(BadInput, match="mean equity"):
        trade_economics(trades, equity.with_columns(equity=pl.lit(0.0)), paid, "EURUSD")
    with pytest.raises(BadInput, match="turnover was None"):
        trade_economics(trades, equity, {n: v for n, v in paid.items() if n != "turnover"}, "EURUSD")
    with pytest.raises(BadInput, match="turnover of trades of EURUSD must be above 0"):
        trade_economics(trades, equity, paid | {"turnover": 0.0}, "EURUSD")
    with pytest.raises(BadInput, match="round_trip_cost"):
        break_even_hit_rate(-1e-9, 0.1)
    with pytest.raises(BadInput, match="mean_absolute_return"):
        break_even_hit_rate(0.1, 0.0)
    with pytest.raises(BadInput, match="all 20 rows are 2"):
        independent_observations(np.full(20, 2.0), 1)
    with pytest.raises(BadInput, match="1 of 20 rows are not finite"):
        independent_observations(np.append(np.arange(19.0), np.nan), 1)
    with pytest.raises(BadInput, match="at least 10 rows"):
        independent_observations(np.arange(9.0), 1)
    with pytest.raises(BadInput, match="overlap_rows"):
        independent_observations(np.arange(20.0), 0)
    with pytest.raises(BadInput, match="positions"):
        turnover_of_positions(np.array([np.inf]), 260)
    with pytest.raises(BadInput, match="periods_per_year"):
        turnover_of_positions(np.array([1.0]), 0)
    with pytest.raises(BadInput, match="effect"):
        rows_for_effect(0.0)
    with pytest.raises(BadInput, match="rows_per_observation"):
        rows_for_effect(0.1, rows_per_observation=0.5)
    with pytest.raises(BadInput, match="power"):
        rows_for_effect(0.1, power=1.0)
