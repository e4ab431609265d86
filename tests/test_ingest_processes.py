"""Real processes that ingest into real files: two at once, and one that is killed at any point."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.lake import Lake
from forexgpt_core.domain.bars import require_bars
from forexgpt_core.domain.clock import Timeframe

# A process of its own: a provider with one history that answers in pieces of two days, also with rows that are no
# candles, and a hole that it does not have. Judging is left out (its library takes seconds to import): what is tested
# is that writing survives.
INGEST = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
import polars as pl
import forexgpt_core.candles.ingest as ingestion
from forexgpt_core.adapters.lake import Lake
from forexgpt_core.candles.quality import Verdict
from forexgpt_core.domain.clock import Timeframe, expected_opens

START, NOW = datetime(2018, 1, 3, tzinfo=UTC), datetime(2018, 3, 2, tzinfo=UTC)

def history():
    opens = expected_opens(np.datetime64("2018-01-03"), np.datetime64("2018-03-01"), Timeframe.M15)
    close = 1.2 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-4, opens.size)))
    bars = pl.DataFrame({
        "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), "open": close, "high": close * 1.001,
        "low": close * 0.999, "close": close, "volume": np.ones(opens.size),
    })
    hole = datetime(2018, 2, 1, 9, tzinfo=UTC), datetime(2018, 2, 1, 12, tzinfo=UTC)
    bars = bars.filter(~pl.col("ts_utc").is_between(*hole))
    return pl.concat([bars, bars[100::500].with_columns(pl.col("high") * 1.01)]).sort("ts_utc", maintain_order=True)

class Feed:
    archive, chunk = False, timedelta(days=2)
    bars = history()
    def fetch(self, symbol, timeframe, *, since_utc, until_utc):
        return self.bars.filter(
            (pl.col("ts_utc") >= since_utc) & (pl.col("ts_utc") <= until_utc - timedelta(minutes=15))
        )

ingestion.judge = lambda raw, *a, **k: Verdict(passed=True, rows=raw.height, failures=(), figures={"rows": raw.height})
if __name__ == "__main__":
    lake = Lake(sys.argv[1])
    print("ready", flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.readline()
    ingestion.ingest(
        Feed(), lake, "EURUSD", Timeframe.M15, ingestion.IngestTerms(start_utc=START, origin="feed"), now_utc=NOW
    )
    print("done", flush=True)
"""
M15 = Timeframe.M15


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "ingest_once.py"
    path.write_text(INGEST)
    return path


def start(script: Path, lake: Path, how: str = "go") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), str(lake), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=120)
    assert process.returncode == 0


class Uninterrupted:
    def __init__(self, script: Path, folder: Path) -> None:
        began = time.monotonic()
        finish(start(script, folder))
        self.seconds = time.monotonic() - began
        self.lake = Lake(str(folder))
        self.candles = self.lake.candles("EURUSD", M15)
        self.quarantined = self.lake.quarantined("EURUSD", M15)


@pytest.fixture(scope="module")
def uninterrupted(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(script, tmp_path_factory.mktemp("whole") / "lake")


def same_as(lake: Lake, expected: Uninterrupted) -> None:
    assert_frame_equal(lake.candles("EURUSD", M15), expected.candles)
    rows = lake.quarantined("EURUSD", M15)
    assert rows.n_unique() == rows.height
    order = ["ts_utc", "high"]
    assert_frame_equal(rows.sort(order), expected.quarantined.sort(order))


def test_two_processes_ingesting_one_pair_at_once_lose_nothing_and_repeat_nothing(
    script: Path, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    both = [start(script, tmp_path / "lake", "wait") for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        finish(process)
    same_as(Lake(str(tmp_path / "lake")), uninterrupted)


def kill_again_and_again(script: Path, folder: Path, expected: Uninterrupted, kills: int, seed: int) -> None:
    """Kill ingestions at random moments, looking at what each leaves behind, until one of them is let through."""
    chance, lake, met = random.Random(seed), Lake(str(folder)), 0
    for _ in range(kills):
        process = start(script, folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, expected.seconds / 2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        met += process.returncode == -signal.SIGKILL
        if lake.exists("candles", "EURUSD", M15):
            left = require_bars(lake.candles("EURUSD", M15))
            assert_frame_equal(left, expected.candles.head(left.height))  # so far and no further, nothing in between
            assert lake.quarantined("EURUSD", M15).n_unique() == lake.quarantined("EURUSD", M15).height
    assert met, "no process was killed before it was done"
    finish(start(script, folder))
    same_as(lake, expected)


def test_a_killed_ingestion_leaves_a_readable_table_and_the_next_one_completes_it(
    script: Path, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    kill_again_and_again(script, tmp_path / "lake", uninterrupted, kills=3, seed=1)


@pytest.mark.slow
def test_a_campaign_of_kills_never_leaves_a_table_that_cannot_be_read_or_completed(
    script: Path, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    for round_ in range(8):
        kill_again_and_again(script, tmp_path / f"lake{round_}", uninterrupted, kills=5, seed=100 + round_)


def test_what_was_put_aside_is_what_the_source_had(uninterrupted: Uninterrupted) -> None:
    aside = uninterrupted.quarantined
    assert set(aside["reason"]) == {"conflicting_repeat"}
    assert aside.filter(pl.col("kept")).height == aside.filter(~pl.col("kept")).height > 5
