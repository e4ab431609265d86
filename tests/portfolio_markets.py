"""Random pairs for portfolios: bars with holes and gaps, forecasts on most of them, costs of every kind."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from forexgpt_core.backtest.portfolio import PairHistory
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.domain.instruments import instrument
from forexgpt_core.strategy.config import StrategyConfig

HOURS = expected_opens(np.datetime64("2018-01-02T00:00"), np.datetime64("2018-12-01"), Timeframe.H1)
LEVEL = {"EURUSD": 1.2, "GBPUSD": 1.35, "USDJPY": 110.0, "EURGBP": 0.88, "USDCHF": 0.95}
COSTS = Costs(spread_pips=1.5, slippage_pips=0.3, commission_per_lot=3.0, stop_out=0.0)
DEAR = Costs(
    spread_pips=2.0,
    slippage_pips=0.2,
    slippage_range_share=0.02,
    commission_per_lot=2.0,
    commission_percent=0.003,
    swap_long_pips=-0.8,
    swap_short_pips=0.3,
    leverage=50,
    stop_out=0.0,
)


def candles(rows: Sequence[tuple[float, float, float, float]], opens: np.ndarray | None = None) -> pl.DataFrame:
    table = np.array(rows, dtype=np.float64)
    times = HOURS[: len(rows)] if opens is None else opens
    prices = dict(zip(("open", "high", "low", "close"), table.T))
    volume = pl.Series([None] * len(rows), dtype=pl.Float64)
    return pl.DataFrame(
        {"ts_utc": pl.Series(times).dt.replace_time_zone("UTC"), **prices, "volume": volume}, schema=SCHEMA
    )


def forecasts(symbol: str, opens: np.ndarray, means: Sequence[float], scale: float) -> ForecastBatch:
    quantiles = (np.array(means, dtype=np.float64)[:, None] + scale * SCORES)[:, None, :]
    return ForecastBatch(
        symbol=symbol,
        timeframe="H1",
        family="test",
        origin_utc=opens,
        horizons_bars=(1,),
        quantiles=quantiles,
        scale=np.full((len(means), 1), scale),
    )


def market(
    seed: int, symbols: Sequence[str], bars: int = 90, *, costs: Costs = COSTS, volatility: float = 0.002
) -> dict[str, PairHistory]:
    """Return pairs that move together in part, each with a tenth of the bars and of the forecasts absent."""
    rng = np.random.default_rng(seed)
    common, pairs = rng.normal(0, volatility, bars), {}
    for symbol in symbols:
        moved = rng.choice([-0.8, 0.0, 0.8]) * common + rng.normal(0, 0.7 * volatility, bars)
        close = LEVEL[symbol] * np.exp(np.cumsum(moved))
        opened = np.concatenate(([LEVEL[symbol]], close[:-1])) * np.exp(rng.normal(0, volatility / 3, bars))
        wicks = np.abs(rng.normal(0, volatility / 2, (2, bars)))
        high, low = np.maximum(opened, close) * np.exp(wicks[0]), np.minimum(opened, close) * np.exp(-wicks[1])
        there = np.sort(rng.choice(bars, size=int(bars * 0.9), replace=False)) if len(symbols) > 1 else np.arange(bars)
        there = np.union1d(there, [0, 1])  # rates are known from the first bar on
        told = there[2:][np.sort(rng.choice(there.size - 2, size=int(there.size * 0.9) - 2, replace=False))]
        pairs[symbol] = PairHistory(
            candles=candles(np.column_stack((opened, high, low, close))[there].tolist(), HOURS[there]),
            forecasts=forecasts(symbol, HOURS[told], rng.normal(0, volatility, told.size).tolist(), volatility),
            costs=costs,
        )
    return pairs


def strategies(seed: int, symbols: Sequence[str], largest: float = 0.4) -> Mapping[str, StrategyConfig]:
    rng = np.random.default_rng(seed + 1)
    return {
        symbol: StrategyConfig(
            horizon_bars=1,
            entry_probability=float(rng.uniform(0.3, 0.7)),
            stop_scales=float(rng.uniform(0.6, 3)),
            take_profit_scales=float(rng.uniform(0.6, 3)),
            size_fraction=float(rng.uniform(0.02, largest)),
            holding_limit_bars=int(rng.integers(1, 12)),
            trailing_scales=float(rng.choice([0.0, 1.5])),
            max_entries=int(rng.integers(1, 4)),
            opposite_exit=bool(rng.integers(2)),
            cost_multiple=float(rng.choice([0.0, 1.0])),
        )
        for symbol in symbols
    }


def lot_value(symbol: str, price: float) -> float:
    """Return what a lot is worth in dollars, for pairs with the dollar in them."""
    pair = instrument(symbol)
    return float(pair.lot_units) * (price if pair.quote == "USD" else 1.0)
