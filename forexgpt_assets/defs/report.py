"""The report card of a pair: all that is known about its forecasts and strategies, and a verdict in one sentence."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import dagster as dg

from forexgpt_assets.defs.backtest import backtest
from forexgpt_assets.defs.ensemble import ensemble
from forexgpt_assets.defs.optimisation import pareto_configs
from forexgpt_assets.metadata import figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_core import cards
from forexgpt_core.composition import REFERENCE, Platform

PAGE = "report_card.html"


@dg.asset(deps=[ensemble, backtest, pareto_configs], partitions_def=symbols, group_name="evaluation", kinds={"mlflow"})
def report_card(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """Skill, calibration, direction, stability and money of every family on one page. Lists what it cannot say."""
    from forexgpt_core.evaluation.card import report_card as judge
    from forexgpt_core.reporting.report_page import report_page
    from forexgpt_core.reporting.report_picture import report_picture

    started = perf_counter()
    settings = platform.pair(context.partition_key)
    inputs = cards.card_inputs(platform, settings.symbol)
    card = judge(inputs)
    evaluated = platform.version(settings, REFERENCE, "evaluation").data_version  # candles may have come since
    origin = {"data_version": evaluated, "recorded_utc": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    document = {**origin, **card.to_dict()}
    drawing = report_picture(document)
    page = report_page(document, {"The card at a glance": drawing})
    run_id = platform.registry.record_report(
        symbol=settings.symbol,
        timeframe=settings.timeframe,
        name="report card",
        metrics=dict(_metrics(document)),
        tags={"dagster_run": context.run.run_id, **origin},
        artifacts={
            PAGE: page.encode(),
            "report_card.png": drawing,
            "report_card.json": json.dumps(document, indent=2, allow_nan=False).encode(),
        },
    )
    version = cards.store_card(platform, settings.symbol, document)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(len(family["horizons"]) for family in document["families"]),
            "card": picture(drawing, "report card"),
            **figures({"verdict": card.verdict, "warnings": "; ".join(document["warnings"]) or "none"}),
            **figures(_shown(document)),
            **figures({"data_version": origin["data_version"], "lake_version": version}),
            **figures({"seconds": perf_counter() - started}),
            "not_said": dg.MetadataValue.md("\n".join(f"- {line}" for line in document["unsaid"])),
            "figures": table(cards.card_rows(document)),
            "page": dg.MetadataValue.url(platform.registry.artifact_url(run_id, PAGE)),
            "file": dg.MetadataValue.path(platform.save_page(settings.symbol, "report_card", page)),
        },
    )


def _shown(document: Mapping[str, Any]) -> dict[str, object]:
    """Return what is worth a line over time: of the family the verdict tells, and of the strategies."""
    entries = [entry for family in document["families"] for entry in family["horizons"]]
    search, backtested = document["search"] or {}, document["backtest"] or {}
    shown: dict[str, object] = {
        "told": document["told"],
        "skills_shown": sum(entry["shown"] for entry in entries),
        "skills_tested": sum(not entry["equals_reference"] for entry in entries),
        "trials_ever": search.get("trials_ever"),
        "best_deflated_sharpe": search.get("deflated_sharpe"),
        "pbo": search.get("pbo"),
        "break_even_pips": backtested.get("break_even_pips"),
        "overfitted": sum(bool(entry["overfitted"]) for entry in entries),
        "cannot_say": len(document["unsaid"]),
    }
    for entry in entries:
        score = entry["score"]
        if score["family"] == document["told"]:
            for name in ("skill", "coverage_90", "direction"):
                shown[f"{name}_h{score['horizon_bars']}"] = score[name]
    return shown


def _metrics(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the headline figures of every family and horizon under the names that its own evaluation has."""
    for family in document["families"]:
        for entry in family["horizons"]:
            score = entry["score"]
            for name in ("skill", "skill_low", "skill_high", "coverage_90", "direction"):
                if score[name] is not None:
                    yield f"{score['family']}_{name}_h{score['horizon_bars']}", float(score[name])
