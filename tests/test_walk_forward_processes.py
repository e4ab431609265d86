"""Walk-forward in processes of its own, as Dagster runs it: killed in the middle, it goes on with the folds it has."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import psutil
import pytest
from polars.testing import assert_frame_equal

from forexgpt_assets.runs import add_symbol, materialize, session
from forexgpt_core import evidence
from forexgpt_core.composition import Platform
from forexgpt_core.deployment.symbol_settings import default_settings
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.evaluation.walk_forward import WalkForwardSettings
from forexgpt_core.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("walk_forward_processes")]
PAIR, H1, FAMILY = "GBPUSD", Timeframe.H1, "boosting"
FOLDS, AT_ONCE = 3, 2
STAGES = ("model", "calibration", "evaluation")


def candles(count: int) -> pl.DataFrame:
    ts = expected_opens(np.datetime64("2018-01-01T22", "us"), np.datetime64("2018-12-31T20", "us"), H1)[:count]
    close = 1.3 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 1e-3, ts.size)))
    open_ = np.concatenate([[1.3], close[:-1]])
    high, low = np.maximum(open_, close) * 1.0002, np.minimum(open_, close) * 0.9998
    prices = {"open": open_, "high": high, "low": low, "close": close, "volume": np.ones(ts.size)}
    return pl.DataFrame({"ts_utc": pl.Series(ts).dt.replace_time_zone("UTC"), **prices})


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two equal homes where the family is calibrated and waits for its evaluation."""
    use(tmp_path / "calibrated", monkeypatch)
    with session() as (platform, instance):
        platform.pairs.save(
            replace(
                default_settings(PAIR),
                families=("random_walk", FAMILY),
                family_options={FAMILY: {"rounds": 300}},
                recipe={"timeframes": ["H1"]},
                horizons_bars=(1, 4),
                walk_forward=WalkForwardSettings(folds=FOLDS),
            ),
            by="test",
        )
        platform.lake.merge_candles(PAIR, H1, candles(1_500))
        add_symbol(instance, PAIR)
        first = [f"{family}_{stage}" for family in ("random_walk", FAMILY) for stage in STAGES]
        materialize(instance, ["features", *first[:-1]], PAIR)
    copies = tmp_path / "killed", tmp_path / "whole"
    for copy in copies:
        shutil.copytree(tmp_path / "calibrated", copy)
    return copies


def use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREXGPT_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))


def evaluating(home: Path) -> subprocess.Popen[str]:
    """Return the command that materializes the evaluation with the code location's own executor."""
    config = {"execution": {"config": {"max_concurrent": FOLDS, "folds_at_once": AT_ONCE}}}
    return subprocess.Popen(
        [
            Path(sys.executable).parent / "dagster", "asset", "materialize", "-m", "forexgpt_assets.definitions",
            "--select", f"{FAMILY}_evaluation", "--partition", PAIR, "--config-json", json.dumps(config),
        ],
        env={**os.environ, "FOREXGPT_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def fold_steps(home: Path) -> list[dict[str, tuple[float, float]]]:
    """Return, run by run, when the process of each fold that came to its end was asked for and when it was done."""
    runs = []
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        for run in reversed(instance.get_runs()):
            times: dict[str, list[float]] = {}
            for record in instance.all_logs(run.run_id):
                event = record.dagster_event
                wanted = event is not None and event.event_type_value in ("STEP_WORKER_STARTING", "STEP_SUCCESS")
                if wanted and f"{FAMILY}_fold[" in str(event.step_key):
                    times.setdefault(str(event.step_key), []).append(record.timestamp)
            runs.append({step: (min(t), max(t)) for step, t in times.items() if len(t) == 2})
    return runs


def at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Return how many of these lasted at the same moment, at most."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def outcome(platform: Platform) -> tuple[pl.DataFrame, object, str]:
    settings = platform.pair(PAIR)
    rows = platform.lake.read(f"forecasts_{FAMILY}", PAIR, H1)
    judged = platform.version(settings, FAMILY, "evaluation")
    return rows, evidence.horizon_scores(platform, settings, FAMILY), judged.bundle_hash


def test_a_run_whose_processes_are_killed_goes_on_with_its_finished_folds(
    homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, whole = homes
    platform = Platform(load_settings({"FOREXGPT_HOME": str(killed)}))
    earlier = set(platform.folds.root.glob("*.parquet"))

    def fitted() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in platform.folds.root.glob("*.parquet") if p not in earlier}

    process, deadline = evaluating(killed), time.monotonic() + 60
    while not fitted():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)  # the run and, in the middle of its fold, every process it started
    process.communicate()
    assert psutil.wait_procs(family, timeout=10)[1] == []
    before = fitted()
    assert 0 < len(before) < FOLDS

    again = evaluating(killed)
    told, _ = again.communicate(timeout=240)
    assert again.returncode == 0, told[-3000:]
    after = fitted()
    assert len(after) == FOLDS
    assert {path: after[path] for path in before} == before, "what was finished is not fitted again"
    *_, second = fold_steps(killed)
    assert len(second) == FOLDS
    assert at_once(list(second.values())) == AT_ONCE

    use(whole, monkeypatch)
    with session() as (uninterrupted, instance):
        materialize(instance, [f"{FAMILY}_evaluation"], PAIR)
        rows, *scored = outcome(uninterrupted)
    resumed, *rescored = outcome(platform)
    assert_frame_equal(resumed, rows)
    assert rescored == scored
