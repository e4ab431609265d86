"""The compiled backtest against backtesting.py, thousands of configurations at once, and a whole strategy search."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from benchmarks.measurement import Measurement, against_peer, alone, median_seconds
from forexgpt_core.backtest import engine, kernc
from forexgpt_core.backtest.result import BacktestResult
from forexgpt_core.backtest.span import Span, lay_out
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.forecasts import SCORES, ForecastBatch
from forexgpt_core.evaluation.overfitting import TrialRegistry
from forexgpt_core.optimisation.goals import strategy_goals
from forexgpt_core.optimisation.methods import SearchSettings
from forexgpt_core.optimisation.pareto import ParetoSettings, search
from forexgpt_core.optimisation.search import compare_methods, run_search
from forexgpt_core.optimisation.search_space import SearchSpace
from forexgpt_core.optimisation.trials import Memory
from forexgpt_core.optimisation.verdict import judge_search
from forexgpt_core.strategy.config import StrategyConfig

NAMES = (
    "engine_vs_backtesting",
    "engine_parity",
    "engine_sweep",
    "engine_scaling_cores",
    "engine_scaling_bars",
    "engine_memory",
    "hybrid_optimisation",
    "nsga3_hypervolume",
)
BARS, SWEEP_BARS, SWEEP_CONFIGS, PARITY_CONFIGS = 74_439, 31_000, 5_000, 250
LEAST_VS_BACKTESTING, MOST_SWEEP_SECONDS, MOST_SEARCH_SECONDS = 1_000.0, 5.0, 30.0
MOST_KIB_EACH = 8.0
HORIZONS, SEED = (6, 24), 7
CASH = 1_000_000.0

_SHARED = Path(__file__).parents[2] / "shared" / "data" / "fx" / "EURUSD_H1.parquet"
_ROOT = Path(__file__).parents[1]
_TRADED = StrategyConfig(horizon_bars=24, entry_probability=0.79, holding_limit_bars=24, size_fraction=0.02)
_FULL_COSTS = Costs(stop_out=0.0)  # spread, slippage and commission; a stop-out is what the peer cannot count


def measure(only: set[str] | None) -> list[Measurement]:
    """Return the measurements named in `only`, None for all."""
    measures: dict[str, Callable[[], Measurement]] = {
        "engine_vs_backtesting": _against_backtesting,
        "engine_parity": _parity,
        "engine_sweep": _sweep,
        "engine_scaling_cores": _cores,
        "engine_scaling_bars": _bars,
        "engine_memory": _memory,
        "hybrid_optimisation": _search,
        "nsga3_hypervolume": _nsga3,
    }
    return [measure_() for name, measure_ in measures.items() if only is None or name in only]


def market(bars: int, costs: Costs) -> tuple[pl.DataFrame, ForecastBatch, str]:
    """Return hourly EURUSD bars, a law at each of them, and where the bars come from.

    The law's scale is an EWMA of past returns. Its mean is drawn, as large against the scale as makes the strategies
    trade; it knows nothing of the future.
    """
    candles, source = _candles(bars)
    close = np.log(candles["close"].to_numpy())
    returns = pl.Series(np.diff(close, prepend=close[0]) ** 2)
    scale = np.sqrt(returns.ewm_mean(alpha=0.03).to_numpy() + 1e-10)[:, None] * np.sqrt(HORIZONS)
    mean = np.random.default_rng(SEED).normal(0, 0.35, scale.shape) * scale
    forecasts = ForecastBatch(
        symbol="EURUSD",
        timeframe="H1",
        family="drawn",
        origin_utc=candles["ts_utc"].to_numpy().astype("datetime64[us]"),
        horizons_bars=HORIZONS,
        quantiles=mean[:, :, None] + scale[:, :, None] * SCORES,
        scale=scale,
    )
    return candles, forecasts, source


def _candles(bars: int) -> tuple[pl.DataFrame, str]:
    if _SHARED.exists():
        found = pl.read_parquet(_SHARED).select("ts_utc", "open", "high", "low", "close").tail(bars)
        return found.with_columns(volume=pl.lit(None, dtype=pl.Float64)).cast(dict(SCHEMA)), "real EURUSD H1 bars"
    rng = np.random.default_rng(SEED)
    opens = expected_opens(np.datetime64("2005-01-02T22:00"), np.datetime64("2019-01-01"), Timeframe.H1)[:bars]
    close = 1.2 * np.exp(np.cumsum(rng.normal(0, 0.001, bars)))
    opened = np.concatenate(([1.2], close[:-1]))
    wick = np.abs(rng.normal(0, 0.0005, (2, bars)))
    high, low = np.maximum(opened, close) * np.exp(wick[0]), np.minimum(opened, close) * np.exp(-wick[1])
    columns = {"open": opened, "high": high, "low": low, "close": close, "volume": np.full(bars, np.nan)}
    frame = pl.DataFrame({"ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"), **columns})
    return frame.with_columns(pl.col("volume").fill_nan(None)).cast(dict(SCHEMA)), "bars of a random walk"


def span(bars: int, costs: Costs) -> tuple[Span, str]:
    """Return such a market laid out for backtests."""
    candles, forecasts, source = market(bars, costs)
    return lay_out(candles, forecasts, costs, symbol="EURUSD"), source


def drawn_configs(count: int) -> list[StrategyConfig]:
    """Return configurations drawn from the default search space."""
    space, rng = SearchSpace(horizons_bars=HORIZONS), np.random.default_rng(SEED)
    return [space.decode(rng.random(space.dimensions)) for _ in range(count)]


def _against_backtesting() -> Measurement:
    laid, source = span(BARS, _FULL_COSTS)
    ours, peer = engine.run_span(laid, _TRADED, cash=CASH), kernc.run_span(laid, _TRADED, cash=CASH)
    trades, same = ours.trades.height, ("entry_bar", "exit_bar", "side", "lots")
    if not (500 <= trades <= 2_000 and ours.trades.select(same).equals(peer.trades.select(same))):
        raise AssertionError(f"{trades} trades against {peer.trades.height}: the two do not trade alike")
    in_full = median_seconds(lambda: engine.run_span(laid, _TRADED, cash=CASH), repeats=31)
    return against_peer(
        "engine_vs_backtesting",
        ours=median_seconds(lambda: engine.sweep(laid, [_TRADED], cash=CASH), repeats=31),
        peer=median_seconds(lambda: kernc.run_span(laid, _TRADED, cash=CASH), repeats=5),
        unit="s per configuration",
        least_ratio=LEAST_VS_BACKTESTING,
        note=(
            f"{laid.close.size:,} {source}, {trades} trades, spread, slippage and commission: the statistics of one"
            " configuration, as a search asks for them, against the same strategy on backtesting.py 0.6.6, whose run"
            f" has them with its trades; with the table of trades and the account at every bar ours takes {in_full:.2g}"
            " s. Signals were computed beforehand for both; each is timed in a row, so ours finds its arrays in cache"
        ),
    )


def _parity() -> Measurement:
    """Return the share of configurations whose trades are those of backtesting.py, one by one."""
    costs = Costs(spread_pips=1.2, slippage_pips=0.2, leverage=500.0, stop_out=0.0)
    laid, source = span(BARS, costs)
    same, refused, trades = 0, 0, 0
    for config in _varied_configs(PARITY_CONFIGS):
        ours, peer = engine.run_span(laid, config, cash=CASH), kernc.run_span(laid, config, cash=CASH)
        if ours.stats["entries_refused"] or peer.stats["entries_refused"]:
            refused += 1  # the two ask for margin at different prices, see kernc.DIFFERENCES
        elif _trade_alike(ours, peer):
            same, trades = same + 1, trades + ours.trades.height
    return alone(
        "engine_parity",
        same / (PARITY_CONFIGS - refused),
        unit="share of configurations",
        at_least=1.0,
        note=(
            f"{PARITY_CONFIGS - refused} configurations drawn over every setting, {laid.close.size:,} {source}, against"
            f" backtesting.py 0.6.6: {trades:,} trades alike in bars, side, lots, reason, prices and profit (1e-9), and"
            f" the account at every bar; {refused} more had an entry refused for margin and are not compared"
        ),
    )


def _varied_configs(count: int) -> list[StrategyConfig]:
    space = SearchSpace(
        horizons_bars=HORIZONS,
        entry_probability=(0.55, 0.85),
        size_fraction=(0.001, 0.01),
        cost_multiples=(0.0, 1.0, 2.0),
        trailing_scales=(0.0, 3.0),
        sizings=("fraction", "lots", "risk", "volatility", "kelly", "uncertainty"),
        max_entries=(1, 3),
        opposite_exits=(True, False),
    )
    rng = np.random.default_rng(SEED)
    return [space.decode(rng.random(space.dimensions)) for _ in range(count)]


def _trade_alike(ours: BacktestResult, peer: BacktestResult) -> bool:
    exact, near = ("entry_bar", "exit_bar", "side", "lots", "exit_reason"), ("entry_price", "exit_price", "profit")
    if not ours.trades.select(exact).equals(peer.trades.select(exact)):
        return False
    pairs = [(ours.trades[name], peer.trades[name]) for name in near] + [(ours.equity["equity"], peer.equity["equity"])]
    return all(np.allclose(one.to_numpy(), two.to_numpy(), rtol=1e-9, atol=1e-6) for one, two in pairs)


def _sweep() -> Measurement:
    laid, source = span(SWEEP_BARS, Costs())
    configs = drawn_configs(SWEEP_CONFIGS)
    trades = [int(stats["trades"] or 0) for stats in engine.sweep(laid, configs, cash=CASH, blocks=12).stats]
    return alone(
        "engine_sweep",
        median_seconds(lambda: engine.sweep(laid, configs, cash=CASH, blocks=12), repeats=3),
        unit="s",
        at_most=MOST_SWEEP_SECONDS,
        note=(
            f"{SWEEP_CONFIGS:,} configurations drawn from the default space over {laid.close.size:,} {source},"
            f" statistics and block moments included, on {_cores_here()} cores; {np.mean(trades):.0f} trades each"
        ),
    )


def _cores() -> Measurement:
    """Return how many times faster all cores are than one."""
    laid, source = span(SWEEP_BARS, Costs())
    configs = drawn_configs(1_000)
    times = {
        workers: median_seconds(lambda n=workers: engine.sweep(laid, configs, cash=CASH, workers=n), repeats=3)
        for workers in sorted({1, 2, _cores_here()})
    }
    shown = ", ".join(f"{workers}: {taken:.2f} s" for workers, taken in times.items())
    return alone(
        "engine_scaling_cores",
        times[1] / times[_cores_here()],
        unit="times faster than one core",
        note=f"1,000 configurations over {laid.close.size:,} {source}, by threads: {shown}",
    )


def _bars() -> Measurement:
    """Return the time per bar of the longest span over that of the shortest: 1 is linear."""
    configs, taken = drawn_configs(200), {}
    for bars in (BARS // 8, BARS // 4, BARS // 2, BARS):
        laid, source = span(bars, Costs())
        seconds = median_seconds(lambda laid=laid: engine.sweep(laid, configs, cash=CASH), repeats=3)
        taken[laid.close.size] = seconds / laid.close.size / len(configs)
    shown = ", ".join(f"{bars:,}: {1e9 * each:.1f} ns" for bars, each in taken.items())
    counts = list(taken)
    return alone(
        "engine_scaling_bars",
        taken[counts[-1]] / taken[counts[0]],
        unit="time per bar of 8 times the bars over that of one",
        note=f"200 configurations over the newest {source}; per configuration and bar on all cores, by bars: {shown}",
    )


def _memory() -> Measurement:
    """Return by how much the memory that a sweep takes grows with its configurations, their figures apart."""
    taken = {count: _sweep_mib(count) for count in (1_000, 9_000)}
    return alone(
        "engine_memory",
        1024 * (taken[9_000] - taken[1_000]) / 8_000,
        unit="KiB per configuration",
        at_most=MOST_KIB_EACH,
        note=(
            f"peak of a sweep over {SWEEP_BARS:,} bars above what the process held before: {taken[1_000]:.1f} MiB for"
            f" 1,000 configurations, {taken[9_000]:.1f} MiB for 9,000, their figures as Python objects included; the"
            f" equity of one would be {8 * SWEEP_BARS / 1024:.0f} KiB"
        ),
    )


def _sweep_mib(count: int) -> float:
    code = (
        "from pathlib import Path; from benchmarks import bench_engine as b; from forexgpt_core.backtest import engine;"
        f"s, _ = b.span(b.SWEEP_BARS, b.Costs()); configs = b.drawn_configs({count});"
        "engine.sweep(s, configs[:8], cash=b.CASH);"
        "told = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024;"
        "Path('/proc/self/clear_refs').write_text('5'); before = told();"  # forgets the peak so far
        "engine.sweep(s, configs, cash=b.CASH); print(told() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT)
    return float(done.stdout.split()[-1])


def _search() -> Measurement:
    candles, forecasts, source = market(SWEEP_BARS, Costs())
    settings = ParetoSettings(grid=500, population=50, generations=100, patience=0, seed=SEED)
    space = settings.search_space(HORIZONS)
    started = perf_counter()
    found, evidence = search(candles, forecasts, Costs(), symbol="EURUSD", space=space, settings=settings, cash=CASH)
    verdict = judge_search(found, evidence, TrialRegistry(sharpes={}))
    taken = perf_counter() - started
    return alone(
        "hybrid_optimisation",
        taken,
        unit="s",
        at_most=MOST_SEARCH_SECONDS,
        note=(
            f"500 of a grid, then {settings.population} x {settings.generations} NSGA-II evaluations over"
            f" {candles.height:,} {source}: {found.trials:,} different configurations on the earlier"
            f" {settings.in_sample_share:.0%}; {len(found.members)} members scored on {settings.later_spans} later"
            f" spans, stability of the picks, deflated Sharpe ratios and PBO ({verdict.pbo:.2f}) included;"
            f" {_cores_here()} cores"
        ),
    )


def _nsga3() -> Measurement:
    """Return the hypervolume of NSGA-III's front over that of NSGA-II's, after as many evaluations."""
    laid, source = span(SWEEP_BARS, Costs())
    space, runs = SearchSpace(horizons_bars=HORIZONS), {}
    for method in ("nsga2", "nsga3"):
        settings = SearchSettings(method=method, generations=60, patience=0, seed=SEED)
        goals = strategy_goals(min_trades=30)
        runs[method] = run_search(
            space, lambda configs: engine.sweep(laid, configs, cash=CASH).stats, goals, settings, Memory()
        )
    shares = compare_methods(runs)
    return alone(
        "nsga3_hypervolume",
        shares["nsga3"] / shares["nsga2"],
        unit="times NSGA-II's",
        note=(
            f"share of one common box that each front dominates, four objectives, 50 x 60 evaluations on"
            f" {laid.close.size:,} {source}: NSGA-II {shares['nsga2']:.3f}, NSGA-III {shares['nsga3']:.3f}, one seed"
        ),
    )


def _cores_here() -> int:
    return len(os.sched_getaffinity(0))
