"""Options of a model family, searched on a pair's training part when somebody asks; nothing is applied."""

from typing import Any

import dagster as dg

from forexgpt_assets.metadata import MetadataDict, figures, picture, table
from forexgpt_assets.partitions import symbols
from forexgpt_assets.progress import search_line, shares_of
from forexgpt_core.composition import Platform


class TuningConfig(dg.Config):
    """What to search; see `tunings.TuningRequest`."""

    family: str = "boosting"
    trials: int = 30
    seed: int | None = None
    time_limit_seconds: float | None = None
    figures: bool = False


@dg.op
def search_options(
    context: dg.OpExecutionContext, config: TuningConfig, platform: dg.ResourceParam[Platform]
) -> dict[str, Any]:
    """Search; a search that was stopped goes on, and loses one fit at most."""
    from forexgpt_core import tunings

    pair = platform.pair(context.partition_key)
    tuning = tunings.prepared(platform, pair, tunings.TuningRequest(**config.model_dump()))
    tell = shares_of(context)
    if config.figures:
        found, in_use = tunings.search_figures(
            platform, tuning, progress=lambda told: tell(told.generation / told.generations, search_line(told))
        )
        document = tunings.figures_document(tuning, found, in_use)
        context.add_output_metadata(_of_front(document))
    else:
        document = tunings.error_document(tuning, tunings.search_error(platform, tuning, progress=tell))
        context.add_output_metadata(_of_best(document))
    return document


@dg.job(
    partitions_def=symbols,
    description="Search the options of a family on a pair's training part; apply nothing.",
    tags={"stage": "training"},  # one such run at a time
)
def tuning_job() -> None:
    """Search."""
    search_options()


def _of_best(document: dict[str, Any]) -> MetadataDict:
    from forexgpt_core.reporting.tuning import tuning_picture

    told = ("family", "study", "data_version", "convincing", "p_value", "gain_percent", "tried", "pruned")
    title = f"{document['symbol']} {document['timeframe']} {document['family']}"
    return {
        **figures({name: document[name] for name in told}),
        **figures({"note": document["note"] or "none"}),
        "result": dg.MetadataValue.json(document),
        "trials": picture(tuning_picture(document, title), "option sets tried"),
    }


def _of_front(document: dict[str, Any]) -> MetadataDict:
    rows = [{"options": "in use", **document["usual"]}, *document["front"]]
    return {
        **figures({name: document[name] for name in ("family", "study", "data_version", "tried", "feasible")}),
        **figures({"note": document["note"] or "none"}),
        "result": dg.MetadataValue.json(document),
        "front": table([{**row, "options": str(row["options"])} for row in rows]),
    }
