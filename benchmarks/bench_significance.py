"""Bootstrap intervals of skill, and the probability of backtest overfitting, on seeded noise."""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.measurement import Measurement, alone, median_seconds
from forexgpt_core.evaluation.cscv import backtest_overfitting
from forexgpt_core.evaluation.significance import skill_interval

NAMES = ("bootstrap_interval", "pbo")
REPEATS = 5
ROWS, REPLICATES, HORIZON_BARS = 10_000, 1_000, 24
DAYS, TRIALS, BLOCKS = 2_000, 1_000, 16
MOST_INTERVAL_SECONDS = 2.0


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    measures: dict[str, Callable[[], Measurement]] = {"bootstrap_interval": _interval, "pbo": _pbo}
    return [measure_() for name, measure_ in measures.items() if only is None or name in only]


def _interval() -> Measurement:
    model, reference = np.random.default_rng(0).exponential(size=(2, ROWS))
    took = median_seconds(
        lambda: skill_interval(model, reference, horizon_bars=HORIZON_BARS, replicates=REPLICATES, seed=1), REPEATS
    )
    note = f"{REPLICATES:,} replicates of {ROWS:,} rows, labels of {HORIZON_BARS} rows, median of {REPEATS}"
    return alone("bootstrap_interval", took, unit="s", at_most=MOST_INTERVAL_SECONDS, note=note)


def _pbo() -> Measurement:
    returns = np.random.default_rng(0).normal(0, 0.005, size=(DAYS, TRIALS)).astype(np.float32)
    found = backtest_overfitting(returns, blocks=BLOCKS)
    took = median_seconds(lambda: backtest_overfitting(returns, blocks=BLOCKS), REPEATS)
    note = (
        f"{TRIALS:,} trials x {DAYS:,} rows x {BLOCKS} blocks, {math.comb(BLOCKS, BLOCKS // 2):,} halves; worthless"
        f" trials, probability of overfitting {found.pbo:.2f}; median of {REPEATS}"
    )
    return alone("pbo", took, unit="s", note=note)
