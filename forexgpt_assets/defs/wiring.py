"""Resources of every asset, and how many steps of a run go side by side."""

import os
from typing import Any

import dagster as dg

from forexgpt_assets.resources import PlatformResource

_FOLD_GIB = 3  # that one fold may need: its own Python with libraries, a pair's history, trees


def _executor_config(config: dict[str, Any]) -> dict[str, object]:
    if "in_process" in config:
        return {"in_process": {}}
    limit = {"key": "forexgpt/step", "value": "fold", "limit": config["folds_at_once"]}
    return {"multiprocess": {"max_concurrent": config["max_concurrent"], "tag_concurrency_limits": [limit]}}


def _folds_at_once() -> int:
    """Return how many folds fit into half of the machine's memory and onto its cores."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(os.cpu_count() or 1, int(gib / 2 / _FOLD_GIB)))


side_by_side = dg.multi_or_in_process_executor.configured(
    _executor_config,
    config_schema={
        "in_process": dg.Field(
            dg.Permissive(), is_required=False, description="One step after the other in the run's own process."
        ),
        "max_concurrent": dg.Field(int, default_value=os.cpu_count() or 1, description="Steps at once, of all kinds."),
        "folds_at_once": dg.Field(
            int, default_value=_folds_at_once(), description="Folds of walk-forward at once; each holds a pair's data."
        ),
    },
    name="side_by_side",
)


@dg.definitions
def wiring() -> dg.Definitions:
    """Return the resources and the executor."""
    return dg.Definitions(resources={"platform": PlatformResource()}, executor=side_by_side)
