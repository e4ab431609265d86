"""Strategy settings that are not dominated on return, drawdown, Sharpe and win rate."""

from dataclasses import asdict, replace
from time import perf_counter
from typing import get_args

import dagster as dg

from forexgpt_assets.defs.backtest import backtest
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core import evidence
from forexgpt_core.composition import Platform
from forexgpt_core.domain.clock import Timeframe


class ParetoConfig(dg.Config):
    """Overrides for one run; the pair's settings stand where nothing is given."""

    population: int | None = None
    generations: int | None = None
    seed: int | None = None


@dg.asset(deps=[backtest], partitions_def=symbols, group_name="strategy", kinds={"python"})
def pareto_configs(
    context: dg.AssetExecutionContext, config: ParetoConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """NSGA-II front on the earlier part of the out-of-sample span; members re-scored on a later part they never saw."""
    from forexgpt_core.optimisation.pareto import Pick, pick, search
    from forexgpt_core.optimisation.search_space import SearchSpace
    from forexgpt_core.reporting.pareto import front_picture

    started = perf_counter()
    pair = platform.pair(context.partition_key)
    symbol, timeframe = pair.symbol, Timeframe.parse(pair.timeframe)
    traded, bars, forecasts = evidence.traded_forecasts(platform, pair)
    pair = platform.with_measured_spread(pair, bars, forecasts)
    wanted = {name: value for name, value in config.model_dump().items() if value is not None}
    settings = replace(pair.pareto, **wanted)
    result = search(
        bars,
        forecasts,
        pair.costs,
        symbol=symbol,
        space=SearchSpace(horizons_bars=pair.horizons_bars),
        settings=settings,
        cash=pair.cash,
        no_entry=platform.no_entry(pair, bars),
        progress=lambda share, message: context.log.debug(f"{share:.0%} {message}"),
    )
    verdict = evidence.judge_search(platform, pair, result)
    study = evidence.record_search(platform, pair, traded, result, settings, verdict)
    rows = [
        {
            "config": m.hash12,
            **{f"in_{k}": m.in_sample.get(k) for k in _SHOWN},
            **{f"out_{k}": m.out_of_sample.get(k) for k in _SHOWN},
            **verdict.of(m.hash12).shown(),
            **asdict(m.config),
        }
        for m in result.members
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(str(study)),
        metadata={
            "dagster/row_count": len(result.members),
            **figures(
                {
                    "trials": result.trials,
                    "study": study,
                    **verdict.figures(),
                    "spread_pips": pair.costs.spread_pips,
                    "seconds": perf_counter() - started,
                }
            ),
            "front": picture(front_picture(result, f"{symbol} {timeframe}"), "Pareto front"),
            "members": table(rows),
            "picks": table([{"pick": how, "config": pick(result, how).hash12} for how in get_args(Pick)]),
        },
    )


_SHOWN = ("return_pct", "max_drawdown_pct", "sharpe", "win_rate_pct", "trades")
