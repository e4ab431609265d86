"""Every pair's strategy on one account."""

from collections import Counter
from collections.abc import Mapping
from time import perf_counter

import dagster as dg

from forexgpt_assets.defs.backtest import backtest
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_core import evidence
from forexgpt_core.composition import Platform
from forexgpt_core.errors import NotReady


class PortfolioConfig(dg.Config):
    """The account, see PortfolioSettings; a limit that is not given limits nothing."""

    account_currency: str = "USD"
    cash: float = 100_000.0
    leverage: float | None = None
    stop_out: float = 0.5
    max_currency_exposure: float | None = None
    max_correlation: float | None = None
    correlation_bars: int = 250
    max_positions: int | None = None


@dg.asset(deps=[backtest], group_name="strategy", kinds={"python"})
def portfolio_backtest(
    context: dg.AssetExecutionContext, config: PortfolioConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Every pair with the strategy of its newest backtest, on one account: shared margin, and limits where wanted."""
    from forexgpt_core.backtest.portfolio import lay_out_pairs, run_portfolio
    from forexgpt_core.backtest.portfolio_settings import PortfolioSettings
    from forexgpt_core.reporting.portfolio import portfolio_picture

    started = perf_counter()
    settings = PortfolioSettings(**config.model_dump())
    pairs, left_out = evidence.backtested(platform)
    chosen = _of_one_timeframe(pairs, left_out)
    for symbol, why in left_out.items():
        context.log.warning(f"{symbol} is left out of the portfolio: {why}")
    if not chosen:
        raise NotReady(_nothing(left_out))
    histories, rates = evidence.portfolio_histories(platform, chosen, settings.account_currency)
    strategies = {symbol: one.strategy for symbol, one in chosen.items()}
    result = run_portfolio(lay_out_pairs(histories, settings, rates=rates), strategies, settings)
    name = f"{len(chosen)} pairs, {next(iter(chosen.values())).settings.timeframe}, in {settings.account_currency}"
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": result.trades.height,
            **figures(result.stats),
            **figures({"symbols": ", ".join(chosen), "left_out_pairs": ", ".join(left_out) or "none"}),
            **figures({"seconds": perf_counter() - started}),
            "left_out": table([{"symbol": symbol, "why": why} for symbol, why in left_out.items()]),
            "contributions": table(result.pairs.to_dicts()),
            "strategies": table([{"symbol": s, "config": c.hash12, **c.document()} for s, c in strategies.items()]),
            "trades_newest": table(result.trades.tail(50).to_dicts()),
            "equity": picture(portfolio_picture(result, f"portfolio of {name}"), "equity, drawdown and exposure"),
        }
    )


def _of_one_timeframe(
    pairs: Mapping[str, evidence.Backtested], left_out: dict[str, str]
) -> dict[str, evidence.Backtested]:
    """Return the pairs of the timeframe that most of them have, and note the others."""
    counted = Counter(one.settings.timeframe for one in pairs.values())
    if not counted:
        return {}
    usual = max(sorted(counted), key=lambda timeframe: counted[timeframe])
    for symbol, one in pairs.items():
        if one.settings.timeframe != usual:
            left_out[symbol] = f"its bars are {one.settings.timeframe}, those of most pairs {usual}"
    return {symbol: one for symbol, one in pairs.items() if symbol not in left_out}


def _nothing(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return "no pair has a backtest yet; materialize `backtest`"
    return "no pair can be traded: " + "; ".join(f"{symbol}: {why}" for symbol, why in left_out.items())
