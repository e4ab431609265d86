"""The ensemble's out-of-sample forecasts traded on paper, bar by bar."""

from dataclasses import asdict
from time import perf_counter

import dagster as dg

from forexgpt_assets.defs.ensemble import ensemble
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core import evidence
from forexgpt_core.composition import ENSEMBLE, Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.strategy.config import StrategyConfig


class BacktestConfig(dg.Config):
    """Strategy of the run; the defaults are those of StrategyConfig, at a horizon the pair is forecast for.

    `mode` trades the ensemble combined another way ("weighted", "mean", "median", "voting") than it is deployed.
    """

    mode: str | None = None
    horizon_bars: int | None = None
    entry_probability: float = StrategyConfig().entry_probability
    stop_scales: float = StrategyConfig().stop_scales
    take_profit_scales: float = StrategyConfig().take_profit_scales
    size_fraction: float = StrategyConfig().size_fraction
    holding_limit_bars: int = StrategyConfig().holding_limit_bars


@dg.asset(deps=[ensemble], partitions_def=symbols, group_name="strategy", kinds={"python"})
def backtest(
    context: dg.AssetExecutionContext, config: BacktestConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """One strategy over the ensemble's out-of-sample forecasts, with spread, commission, slippage and margin."""
    from forexgpt_core.backtest.engine import run_backtest
    from forexgpt_core.evaluation.economics import trade_economics
    from forexgpt_core.reporting.backtest import equity_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    market = evidence.traded_market(platform, settings, mode=config.mode)
    bars, forecasts, settings = market.bars, market.forecasts, market.settings
    strategy = StrategyConfig(
        **{**config.model_dump(exclude={"mode"}), "horizon_bars": _horizon(config, forecasts.horizons_bars)}
    )
    result = run_backtest(
        bars,
        forecasts,
        strategy,
        settings.costs,
        symbol=symbol,
        cash=settings.cash,
        no_entry=market.no_entry,
        rates=market.rates,
    )
    economics = (
        asdict(trade_economics(result.trades, result.equity, result.stats, symbol)) if result.trades.height else {}
    )
    version = platform.lake.replace("backtest_equity", symbol, timeframe, result.equity)
    platform.scores.replace_backtest(
        symbol,
        str(timeframe),
        ENSEMBLE,
        market.traded.bundle_hash,
        [
            {
                **result.stats,
                **economics,
                "mode": config.mode,
                "config": strategy.hash12,
                "strategy": strategy.document(),
                "horizon_bars": strategy.horizon_bars,
                "n": forecasts.quantiles.shape[0],
            }
        ],
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": result.trades.height,
            **figures(result.stats),
            **figures(economics),
            **figures({"spread_pips": settings.costs.spread_pips}),
            **figures({"config": strategy.hash12, "lake_version": version, "seconds": perf_counter() - started}),
            "trades": table(result.trades.tail(50).to_dicts()),
            "equity": picture(equity_picture(result, f"{symbol} {timeframe} {strategy.hash12}"), "equity and drawdown"),
        }
    )


def _horizon(config: BacktestConfig, forecast_bars: tuple[int, ...]) -> int:
    if config.horizon_bars is not None:
        return config.horizon_bars
    usual = StrategyConfig().horizon_bars
    return usual if usual in forecast_bars else forecast_bars[-1]
