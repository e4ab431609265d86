"""Thousands of configurations at once: the same bits as one by one, in any order, and no more memory."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from backtest_market import CONFIG, COSTS, random_configs, varied_market
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.backtest.engine import run_span, sweep
from forexgpt_core.backtest.performance import Stats, day_returns
from forexgpt_core.backtest.span import Span, lay_out
from forexgpt_core.domain.costs import Costs
from forexgpt_core.errors import BadInput
from forexgpt_core.strategy.config import StrategyConfig

FULL = Costs(swap_long_pips=-0.4, swap_short_pips=0.1, commission_percent=0.001, slippage_range_share=0.02)
OF_THE_SPAN = {"cash", "buy_hold_return_pct", "start", "end", "bars"}
CONFIGS = random_configs(3, 150)


def span(seed: int = 0, bars: int = 300) -> Span:
    candles, laws = varied_market(seed, bars=bars)
    return lay_out(candles, laws, FULL, symbol="EURUSD")


SPAN = span()


def alone(config: StrategyConfig, on: Span = SPAN) -> Stats:
    stats = run_span(on, config).stats
    return {name: value for name, value in stats.items() if name not in OF_THE_SPAN}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), workers=st.integers(1, 5), count=st.integers(1, 150), order=st.randoms())
def test_a_sweep_gives_what_each_gives_alone(seed: int, workers: int, count: int, order: object) -> None:
    configs = random_configs(seed, count)
    order.shuffle(configs)
    found = sweep(SPAN, configs, workers=workers)
    assert list(found.stats) == [alone(config) for config in configs]


def test_company_changes_nothing() -> None:
    whole = sweep(SPAN, CONFIGS, blocks=4, workers=3)
    turned = sweep(SPAN, CONFIGS[::-1], blocks=4, workers=1)
    assert list(whole.stats) == list(turned.stats)[::-1]
    assert whole.moments.tobytes() == turned.moments[::-1].tobytes()
    again = sweep(SPAN, CONFIGS * 2, blocks=4)
    assert list(again.stats) == list(whole.stats) * 2


@pytest.mark.parametrize("blocks", [1, 3, 10, 40])
def test_block_moments_are_those_of_the_daily_returns(blocks: int) -> None:
    found = sweep(SPAN, CONFIGS[:30], blocks=blocks)
    assert found.moments.shape == (30, blocks, 2)
    assert (found.edges[0], found.edges[-1]) == (0, SPAN.ends.size)
    for config, moments in zip(CONFIGS, found.moments):
        returns = day_returns(run_span(SPAN, config).equity["equity"].to_numpy(), 100_000.0, SPAN.ends)
        for block, (start, end) in enumerate(zip(found.edges[:-1], found.edges[1:], strict=True)):
            part = returns[start:end]
            assert moments[block].tolist() == pytest.approx([part.sum(), (part**2).sum()], rel=1e-9, abs=1e-15)


def test_ruin_has_moments_too() -> None:
    wild = StrategyConfig(
        horizon_bars=1, entry_probability=0.5, size_fraction=1.0, distance_unit="percent", stop_scales=90.0
    )
    candles, laws = varied_market(8, bars=300, volatility=0.01)
    risky = lay_out(candles, laws, Costs(leverage=500, stop_out=0.0), symbol="EURUSD")
    found = sweep(risky, [wild], blocks=2)
    assert found.stats[0]["ruined"] is True
    assert found.stats[0]["return_pct"] == -100
    returns = day_returns(run_span(risky, wild).equity["equity"].to_numpy(), 100_000.0, risky.ends)
    assert found.moments[0].sum(axis=0).tolist() == pytest.approx([returns.sum(), (returns**2).sum()], rel=1e-12)


def test_figures_are_plain_json() -> None:
    for stats in sweep(SPAN, CONFIGS).stats:
        assert json.loads(json.dumps(stats, allow_nan=False)) == stats
        assert {type(value) for value in stats.values()} <= {float, int, bool, type(None)}


def test_a_stopped_sweep_returns_what_it_had_from_the_first_on() -> None:
    configs = random_configs(4, 400)
    whole = sweep(SPAN, configs, blocks=2)
    asked = iter([False] * 3 + [True] * 100)
    stopped = sweep(SPAN, configs, blocks=2, workers=1, should_stop=lambda: next(asked))
    assert 0 < len(stopped.stats) < 400
    assert list(stopped.stats) == list(whole.stats)[: len(stopped.stats)]
    assert stopped.moments.tobytes() == whole.moments[: len(stopped.stats)].tobytes()
    assert len(sweep(SPAN, configs, should_stop=lambda: True).stats) == 0


def test_a_change_of_mind_leaves_no_hole() -> None:
    configs = random_configs(4, 400)
    asked = iter([False, True, False, False, False, False, False])
    stopped = sweep(SPAN, configs, workers=1, should_stop=lambda: next(asked))
    assert list(stopped.stats) == list(sweep(SPAN, configs).stats)[: len(stopped.stats)]
    assert len(stopped.stats) < 400


def test_an_error_of_the_caller_reaches_the_caller() -> None:
    def stop() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(SPAN, CONFIGS, should_stop=stop)


def test_a_sweep_over_nothing_is_empty() -> None:
    found = sweep(SPAN, [], blocks=3)
    assert (len(found.stats), found.moments.shape) == (0, (0, 3, 2))


def test_limits_beyond_the_span_cost_nothing() -> None:
    endless = StrategyConfig(horizon_bars=1, sizing="lots", max_entries=10**30, holding_limit_bars=10**30)
    as_long = StrategyConfig(horizon_bars=1, sizing="lots", max_entries=300, holding_limit_bars=301)
    assert alone(endless) == alone(as_long)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"workers": 0}, "workers 1 or more"),
        ({"blocks": -1}, "blocks must be 0 or more"),
        ({"cash": 0.0}, "cash must be"),
        ({"cash": math.inf}, "cash must be"),
    ],
)
def test_senseless_sweeps_are_refused(more: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        sweep(SPAN, CONFIGS, **more)
    with pytest.raises(BadInput, match="horizon_bars 24"):
        sweep(SPAN, [StrategyConfig(horizon_bars=24)])


MEASURED = """
import resource, sys
sys.path.insert(0, "tests")
from backtest_market import COSTS, random_configs, varied_market
from forexgpt_core.backtest.engine import sweep
from forexgpt_core.backtest.span import lay_out

candles, laws = varied_market(0, bars=5_000)
span = lay_out(candles, laws, COSTS, symbol="EURUSD")
configs = random_configs(1, int(sys.argv[1]))
sweep(span, configs[:200])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = sweep(span, configs)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def measured(*arguments: str, code: str = MEASURED, **environment: str) -> str:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_configurations() -> None:
    few, many = int(measured("1000")), int(measured("8000"))
    per_configuration = (many - few) * 1024 / 7_000
    assert per_configuration < 5_000  # bytes: its figures, a seventh of its equity curve alone


RETURNS = """
import sys
sys.path.insert(0, "tests")
from backtest_market import CONFIG, COSTS, random_market
from forexgpt_core.backtest.engine import run_backtest

candles, laws = random_market(1)
print(run_backtest(candles, laws, CONFIG, COSTS, symbol="EURUSD").stats["final_equity"])
"""


def edited_copy(folder: Path, edits: Sequence[tuple[str, str, str]]) -> None:
    """Copy the library, times of files included, and change some of it."""
    root = Path(__file__).parents[1]
    for name in ("forexgpt_core", "tests"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for file, old, new in edits:
        path = folder / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("forexgpt_core/strategy/rules.py", "MARGIN_CEILING = 0.98", "MARGIN_CEILING = 0.01"),
        (
            "forexgpt_core/strategy/rules.py",
            "return close * math.exp(distance)",
            "return close * math.exp(2 * distance)",
        ),
        ("forexgpt_core/domain/money.py", "earned = sign *", "earned = 2 * sign *"),
    ],
)
def test_machine_code_is_never_that_of_other_rules(tmp_path: Path, file: str, old: str, new: str) -> None:
    def final() -> float:
        done = subprocess.run(
            [sys.executable, "-B", "-c", RETURNS],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        )
        return float(done.stdout)

    edited_copy(tmp_path, [])
    first = final()
    kept = sorted((tmp_path / "cache").rglob("*.nbc"))
    assert kept
    assert final() == first
    assert sorted((tmp_path / "cache").rglob("*.nbc")) == kept  # read, not compiled again
    edited_copy(tmp_path, [(file, old, new)])
    assert final() != first


def test_costs_of_the_sweep_are_those_of_the_span() -> None:
    candles, laws = varied_market(0, bars=300)
    cheap = lay_out(candles, laws, COSTS, symbol="EURUSD")
    assert alone(CONFIG, cheap) != alone(CONFIG)
    assert np.isfinite(sweep(cheap, [CONFIG]).stats[0]["final_equity"])
