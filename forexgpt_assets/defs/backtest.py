"""The ensemble's out-of-sample forecasts traded on paper, bar by bar."""

import html
import json
from time import perf_counter

import dagster as dg

from forexgpt_assets.defs.ensemble import ensemble
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core import evidence, searches
from forexgpt_core.composition import ENSEMBLE, Platform
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.strategy.config import StrategyConfig

PAGE = "backtest.html"
_USUAL = StrategyConfig()
_COUNTED = ("missing_ask_bars", "crossed_ask_bars", "stale_rate_bars")


class BacktestConfig(dg.Config):
    """Strategy of the run; the defaults are those of StrategyConfig, at a horizon the pair is forecast for.

    `mode` trades the ensemble combined another way ("weighted", "mean", "median", "voting") than it is deployed.
    """

    mode: str | None = None
    horizon_bars: int | None = None
    entry_probability: float = _USUAL.entry_probability
    stop_scales: float = _USUAL.stop_scales
    take_profit_scales: float = _USUAL.take_profit_scales
    size_fraction: float = _USUAL.size_fraction
    holding_limit_bars: int = _USUAL.holding_limit_bars
    cost_multiple: float = _USUAL.cost_multiple
    distance_unit: str = _USUAL.distance_unit
    trailing_scales: float = _USUAL.trailing_scales
    sizing: str = _USUAL.sizing
    lots: float = _USUAL.lots
    max_entries: int = _USUAL.max_entries
    opposite_exit: bool = _USUAL.opposite_exit


@dg.asset(deps=[ensemble], partitions_def=symbols, group_name="strategy", kinds={"python", "mlflow"})
def backtest(
    context: dg.AssetExecutionContext, config: BacktestConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """One strategy over the ensemble's out-of-sample forecasts, with spread, commission, slippage and margin."""
    from forexgpt_core.backtest.engine import run_span
    from forexgpt_core.backtest.plot import interactive_plot
    from forexgpt_core.backtest.quotes import mean_spread_pips
    from forexgpt_core.backtest.span import lay_out
    from forexgpt_core.backtest.statistics import familiar_stats, own_stats, shown
    from forexgpt_core.reporting.backtest import equity_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    symbol, timeframe = settings.symbol, Timeframe.parse(settings.timeframe)
    market = evidence.traded_market(platform, settings, mode=config.mode)
    bars, forecasts, settings = market.bars, market.forecasts, market.settings
    strategy = StrategyConfig(
        **{**config.model_dump(exclude={"mode"}), "horizon_bars": _horizon(config, forecasts.horizons_bars)}
    )
    span = lay_out(bars, forecasts, settings.costs, symbol=symbol, no_entry=market.no_entry, rates=market.rates)
    result = run_span(span, strategy, cash=settings.cash)
    statistics = familiar_stats(result, span.close)
    own = own_stats(result, symbol, searches.trials_ever(platform, settings))
    counted = {name: getattr(span.quotes, name) for name in _COUNTED}
    title = f"{symbol} {timeframe} {strategy.hash12}"
    plot = interactive_plot(span, strategy, result, settings.cash, title=title)
    drawing = equity_picture(result, title)
    # Without a plot the page says why: an older plot would stand there for this strategy's.
    file = platform.save_page(symbol, "backtest", plot.html or f"<!DOCTYPE html><p>{html.escape(plot.said)}</p>")
    version = platform.lake.replace("backtest_equity", symbol, timeframe, result.equity)
    platform.scores.replace_backtest(
        symbol,
        str(timeframe),
        ENSEMBLE,
        market.traded.bundle_hash,
        [
            {
                **result.stats,
                **own,
                **counted,
                "statistics": statistics,
                "plot": plot.said,
                "plot_drawn": plot.html is not None,
                "mode": config.mode,
                "config": strategy.hash12,
                "strategy": strategy.document(),
                "horizon_bars": strategy.horizon_bars,
                "n": forecasts.quantiles.shape[0],
            }
        ],
    )
    run_id = platform.registry.record_report(
        symbol=symbol,
        timeframe=str(timeframe),
        name="backtest",
        metrics={name: float(value) for name, value in {**result.stats, **own}.items() if _is_number(value)},
        tags={"dagster_run": context.run.run_id, "config": strategy.hash12},
        artifacts={
            "equity.png": drawing,
            "statistics.json": json.dumps(statistics, indent=2, allow_nan=False).encode(),
            **({} if plot.html is None else {PAGE: plot.html.encode()}),
        },
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": result.trades.height,
            **figures(result.stats),
            **figures(own),
            **figures(counted),
            **figures({"spread_pips": mean_spread_pips(span.quotes, symbol)}),
            **figures({"account_currency": settings.costs.account_of(symbol)}),
            **figures({"config": strategy.hash12, "lake_version": version, "seconds": perf_counter() - started}),
            "statistics": table([{"figure": name, "value": text} for name, text in shown(statistics).items()]),
            "trades": table(result.trades.tail(50).to_dicts()),
            "equity": picture(drawing, "equity and drawdown"),
            "plot": plot.said
            if plot.html is None
            else dg.MetadataValue.url(platform.registry.artifact_url(run_id, PAGE)),
            "plot_shows": plot.said,
            "file": dg.MetadataValue.path(file),
        }
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _horizon(config: BacktestConfig, forecast_bars: tuple[int, ...]) -> int:
    if config.horizon_bars is not None:
        return config.horizon_bars
    usual = StrategyConfig().horizon_bars
    return usual if usual in forecast_bars else forecast_bars[-1]
