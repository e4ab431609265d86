"""What Dagster adds: loading the code location in a fresh process, and one whole run of a small asset."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measurement import Measurement, alone, median_seconds
from forexgpt_core.domain.clock import Timeframe

NAMES = ("definitions_load", "dagster_run")

REPEATS = 5
LOAD_GOAL_S = 3.0
SYMBOL = "EURUSD"

_LOAD = "from forexgpt_assets.definitions import defs; defs()"


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    makers = {"definitions_load": definitions_load, "dagster_run": dagster_run}
    return [make() for name, make in makers.items() if only is None or name in only]


def definitions_load() -> Measurement:
    """Measure what every step process pays before it works: the interpreter's start and all definitions."""
    took = median_seconds(_load_in_a_fresh_process, REPEATS)
    note = f"a fresh Python process from its start to its end, all definitions loaded, median of {REPEATS}"
    return alone("definitions_load", took, unit="s", at_most=LOAD_GOAL_S, note=note)


def dagster_run() -> Measurement:
    """Measure one run of `features`, from the request to the stored events."""
    from forexgpt_assets.runs import add_symbol, materialize, session

    with tempfile.TemporaryDirectory() as folder, _home(Path(folder)), session() as (platform, instance):
        add_symbol(instance, SYMBOL)
        materialize(instance, ["candles"], SYMBOL)
        took = median_seconds(lambda: materialize(instance, ["features"], SYMBOL), REPEATS)
        rows = platform.lake.read("features", SYMBOL, Timeframe.H1).height
    note = f"`features` of {rows:,} H1 bars with its checks, in_process executor, new SQLite home, median of {REPEATS}"
    return alone("dagster_run", took, unit="s", note=note)


def _load_in_a_fresh_process() -> None:
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"the definitions did not load: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """Let everything of this process live in a folder of its own, and put the environment back afterwards."""
    before = dict(os.environ)
    for name in ("FOREXGPT_DATABASE_URL", "FOREXGPT_LAKE", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)
    os.environ["FOREXGPT_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
