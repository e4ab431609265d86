"""Strategy settings that are not dominated on return, drawdown, Sharpe and win rate."""

from dataclasses import asdict
from time import perf_counter

import dagster as dg

from forexgpt_assets.defs.backtest import backtest
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_assets.progress import search_progress_of
from forexgpt_core import evidence, searches
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.documents import build
from forexgpt_core.optimisation.pareto import ParetoResult, ParetoSettings

PAGE = "explorer.html"
_SHOWN = ("return_pct", "max_drawdown_pct", "sharpe", "win_rate_pct", "trades")


class ParetoConfig(dg.Config):
    """Overrides for one run; the pair's settings stand where nothing is given. See `ParetoSettings`."""

    method: str | None = None
    population: int | None = None
    generations: int | None = None
    grid: int | None = None
    seed: int | None = None
    preset: str | None = None
    time_limit_seconds: float | None = None
    objectives: list[str] | None = None


@dg.asset(deps=[backtest], partitions_def=symbols, group_name="strategy", kinds={"python", "mlflow"})
def pareto_configs(
    context: dg.AssetExecutionContext, config: ParetoConfig, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Front of a search on the earlier part of the out-of-sample span; scored again on a later part it never saw.

    A search that was made before is shown at once; one that was stopped goes on where it was.
    """
    from forexgpt_core.reporting.explorer_front import money_in_words
    from forexgpt_core.reporting.pareto import front_picture

    started = perf_counter()
    pair = platform.pair(context.partition_key)
    market = evidence.traded_market(platform, pair)
    wanted = build(ParetoSettings, {**asdict(pair.pareto), **config.model_dump(exclude_none=True)}, "the search")
    found = searches.find(platform, market, wanted, progress=search_progress_of(context))
    result, page = found.result, searches.explorer(platform, found)
    drawing = front_picture(result, f"{pair.symbol} {pair.timeframe}")
    verdict = {name: value for name, value in found.overfitting.items() if name != "members"}
    run_id = platform.registry.record_report(
        symbol=pair.symbol,
        timeframe=pair.timeframe,
        name="pareto front",
        metrics={n: float(v) for n, v in verdict.items() if isinstance(v, int | float)},
        tags={"dagster_run": context.run.run_id, "study": str(found.study_id)},
        artifacts={PAGE: page.encode(), "front.png": drawing},
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(str(found.study_id)),
        metadata={
            "dagster/row_count": len(result.members),
            **figures({"trials": result.trials, "remembered": found.remembered, "study": found.study_id}),
            **figures({**verdict, "stopped": result.stopped, "note": result.note or "none"}),
            **figures({"costs": money_in_words(pair.cash, market.settings.costs, pair.symbol)}),
            **figures({"seconds": perf_counter() - started}),
            "explorer": dg.MetadataValue.url(platform.registry.artifact_url(run_id, PAGE)),
            "file": dg.MetadataValue.path(platform.save_page(pair.symbol, "explorer", page)),
            "front": picture(drawing, "Pareto front"),
            "members": table(_rows(found)),
            "picks": table(_picks(result)),
        },
    )


def _rows(found: searches.FoundStudy) -> list[dict[str, object]]:
    return [
        {
            "config": m.hash12,
            **{f"in_{k}": m.in_sample.get(k) for k in _SHOWN},
            **{f"out_{k}": m.out_of_sample.get(k) for k in _SHOWN},
            **found.shown(m.hash12),
            **m.config.document(),
        }
        for m in found.result.members
    ]


def _picks(result: ParetoResult) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for how, hash12 in result.picks.items():
        told = result.stability[hash12]
        kept = {f"{name}_kept_nearby": share for name, share in told["kept"].items()}
        rows.append({"pick": how, "config": hash12, "neighbours": told["neighbours"], **kept})
    return rows
