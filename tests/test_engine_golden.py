"""The engine books whole trades to the cent as ledgers kept by hand do."""

from decimal import Decimal

import numpy as np
import pytest
from money_scenarios import SCENARIOS, Scenario, cents

from forexgpt_core.backtest.engine import run_backtest
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.orders import Side
from forexgpt_core.strategy.config import StrategyConfig

CASH = 1_000_000.0


def forecasts_of(one: Scenario) -> ForecastBatch:
    """Return laws that ask for the trade at the close before its entry, and for nothing else."""
    bars = one.candles.height
    means = np.zeros(bars)
    means[one.entry_bar - 1] = 0.05 * one.side.sign
    return ForecastBatch(
        symbol=one.symbol,
        timeframe="H4",
        family="test",
        origin_utc=one.candles["ts_utc"].to_numpy().astype("datetime64[us]"),
        horizons_bars=(1,),
        quantiles=(means[:, None] + 0.01 * SCORES)[:, None, :],
        scale=np.full((bars, 1), 0.01),
    )


@pytest.mark.parametrize("one", SCENARIOS, ids=[one.name for one in SCENARIOS])
def test_a_trade_is_booked_to_the_cent(one: Scenario) -> None:
    config = StrategyConfig(
        horizon_bars=1,
        entry_probability=0.9,
        stop_scales=50.0,
        take_profit_scales=50.0,
        distance_unit="percent",
        holding_limit_bars=one.exit_bar - one.entry_bar,
        sizing="lots",
        lots=one.lots,
    )
    result = run_backtest(
        one.candles, forecasts_of(one), config, one.costs, symbol=one.symbol, cash=CASH, rates=one.rates
    )
    (trade,) = result.trades.to_dicts()
    ledger = one.ledger
    assert (trade["entry_bar"], trade["exit_bar"], trade["lots"]) == (one.entry_bar, one.exit_bar, one.lots)
    assert trade["side"] == one.side.value == (Side.BUY if one.side.sign > 0 else Side.SELL).value
    assert trade["entry_price"] == pytest.approx(float(ledger.entry_price), abs=1e-9)
    assert trade["exit_price"] == pytest.approx(float(ledger.exit_price), abs=1e-9)
    assert trade["commission"] == pytest.approx(float(ledger.commission), abs=1e-6)
    assert trade["swap"] == pytest.approx(float(ledger.swap), abs=1e-6)
    assert cents(Decimal(trade["profit"])) == one.net_cents
    final = result.stats["final_equity"]
    assert isinstance(final, float)
    assert cents(Decimal(final - CASH)) == one.net_cents
