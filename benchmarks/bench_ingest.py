"""From a file to the lake: parse, judge, clean, write, in M1 bars per second of CPU."""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import TypeVar

import numpy as np
import polars as pl

from benchmarks.measurement import Measurement, alone
from forexgpt_core.adapters.lake import Lake
from forexgpt_core.adapters.providers.files import FileSource
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.quality import judge
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens

NAMES = ("ingest_parquet", "ingest_csv")

REPEATS = 5
BARS = 650_000  # generated where there are no real ones
LEAST = {"ingest_parquet": 1_000_000, "ingest_csv": 300_000}

_SHARED = Path(__file__).parents[2] / "shared" / "data" / "fx" / "EURUSD_M1.parquet"
_M1 = Timeframe.M1
_Result = TypeVar("_Result")


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    wanted = [name for name in NAMES if only is None or name in only]
    if not wanted:
        return []
    bars, origin = _bars()
    with tempfile.TemporaryDirectory() as folder:
        return [_measured(name, _written(name, bars, Path(folder)), bars.height, origin) for name in wanted]


def _measured(name: str, file: Path, bars: int, origin: str) -> Measurement:
    _ingested(file, bars)  # once uncounted: Great Expectations takes seconds to import
    runs = [_ingested(file, bars) for _ in range(REPEATS)]
    steps = {step: statistics.median(run[step] for run in runs) for step in runs[0]}
    whole = statistics.median(sum(run.values()) for run in runs)
    shown = ", ".join(f"{step} {1000 * seconds:.0f}" for step, seconds in steps.items())
    note = f"{bars:,} M1 bars of {origin}, CPU time of all threads, median of {REPEATS}; ms: {shown}"
    return alone(name, bars / whole, unit="bars/s", at_least=LEAST[name], note=note)


def _ingested(file: Path, bars: int) -> dict[str, float]:
    """Bring a file into a fresh lake and return the seconds of CPU of each step."""
    seconds: dict[str, float] = {}

    def timed(step: str, action: Callable[[], _Result]) -> _Result:
        started = process_time()
        result = action()
        seconds[step] = process_time() - started
        return result

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        raw = timed("parse", lambda: FileSource(file).fetch("EURUSD", _M1, since_utc=None, until_utc=None))
        verdict = timed("judge", lambda: judge(raw, _M1))
        cleaned = timed("clean", lambda: clean(raw, _M1))
        timed("write", lambda: lake.merge_candles("EURUSD", _M1, cleaned.bars))
        stored = lake.candles("EURUSD", _M1).height
    if not verdict.passed or stored != bars:
        raise ValueError(f"{stored} of {bars} bars reached the lake: {[failure.line for failure in verdict.failures]}")
    return seconds


def _written(name: str, bars: pl.DataFrame, folder: Path) -> Path:
    if name == "ingest_parquet":
        bars.write_parquet(folder / "bars.parquet")
        return folder / "bars.parquet"
    text = bars.with_columns(pl.col("ts_utc").dt.strftime("%Y-%m-%d %H:%M:%S"))
    text.write_csv(folder / "bars.csv")
    return folder / "bars.csv"


def _bars() -> tuple[pl.DataFrame, str]:
    """Return real EURUSD M1 bars where they lie beside the project, else a walk without gaps."""
    if _SHARED.exists():
        return pl.read_parquet(_SHARED), "EURUSD 2018-01 to 2019-09"
    first, last = np.datetime64("2018-01-01T22", "us"), np.datetime64("2021-01-01T20", "us")
    opens = expected_opens(first, last, _M1)[:BARS]
    rng = np.random.default_rng(1)
    close = np.round(1.2 * np.exp(np.cumsum(rng.normal(0, 1e-5, opens.size))), 5)
    open_ = np.concatenate([[1.2], close[:-1]])
    prices = {
        "open": open_,
        "high": np.maximum(open_, close) + 2e-5,
        "low": np.minimum(open_, close) - 2e-5,
        "close": close,
        "volume": rng.integers(1, 200, opens.size).astype(np.float64),
    }
    table = pl.DataFrame({"ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), **prices}, schema=SCHEMA)
    return table, "a generated walk (the real bars are absent)"
