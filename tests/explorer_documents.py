"""Made-up fronts for the tests of the Pareto explorer."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from forexgpt_core.reporting.explorer_document import (
    Curve,
    ExplorerDocument,
    ExplorerMember,
    ExplorerTrade,
    Objective,
)

HOUR_MS = 3_600_000
START_MS = 1_483_315_200_000  # 2017-01-02
OBJECTIVES = (
    Objective("return_pct", "max", "%"),
    Objective("max_drawdown_pct", "min", "%"),
    Objective("sharpe", "max"),
    Objective("win_rate_pct", "max", "%"),
)
REASONS = ("stop", "take_profit", "holding limit", "opposite signal")


def walk(rng: np.random.Generator, bars: int, start_ms: int, drift: float) -> Curve:
    """Return an account that drifts and trembles."""
    values = 100_000 * np.exp(np.cumsum(rng.normal(drift, 1.2e-3, bars)))
    return Curve((start_ms + HOUR_MS * np.arange(bars)).tolist(), values.tolist())


def figures(rng: np.random.Generator, curve: Curve, trades: int) -> dict[str, Any]:
    """Return figures of a curve, in the names that a backtest gives."""
    values = np.array(curve.values)
    fall = 1 - values / np.maximum.accumulate(values)
    steps = np.diff(np.log(values))
    sharpe = float(steps.mean() / steps.std() * np.sqrt(260 * 24))
    return {
        "return_pct": float(values[-1] / values[0] - 1) * 100,
        "max_drawdown_pct": float(fall.max()) * 100,
        "sharpe": sharpe,
        "sortino": sharpe * 1.3,
        "trades": trades,
        "win_rate_pct": float(rng.uniform(38, 62)),
        "profit_factor": float(np.exp(sharpe / 6)),
        "average_trade_pct": float(rng.normal(0.02, 0.02)),
        "exposure_pct": float(rng.uniform(20, 90)),
        "commission": float(trades * 7.0),
        "final_equity": float(values[-1]),
        "cash": 100_000.0,
        "start": "2017-01-02T00:00:00Z",
        "end": "2018-02-01T00:00:00Z",
        "bars": len(values),
    }


def trades(rng: np.random.Generator, count: int, bars: int, start_ms: int) -> list[ExplorerTrade]:
    """Return trades in order of entry."""
    entries = np.sort(rng.integers(0, bars, count))
    return [
        ExplorerTrade(
            entry_ms=int(start_ms + HOUR_MS * entry),
            exit_ms=int(start_ms + HOUR_MS * (entry + rng.integers(1, 40))),
            side=("long", "short")[int(rng.integers(2))],
            lots=round(float(rng.uniform(0.1, 2)), 2),
            entry_price=round(float(rng.normal(1.18, 0.02)), 5),
            exit_price=round(float(rng.normal(1.18, 0.02)), 5),
            profit=round(float(rng.normal(20, 300)), 2),
            exit_reason=REASONS[int(rng.integers(4))],
        )
        for entry in entries
    ]


def member(rng: np.random.Generator, number: int, *, bars: int = 600, count: int = 60) -> ExplorerMember:
    """Return one member; every third falls apart."""
    fallen = number % 3 == 2
    split = int(bars * 0.6)
    searched = walk(rng, split, START_MS, 4e-5 + 2e-6 * number)
    later = walk(rng, bars - split, START_MS + HOUR_MS * (split + 24), -6e-5 if fallen else 3e-5)
    return ExplorerMember(
        hash12=hashlib.sha256(str(number).encode()).hexdigest()[:12],
        parameters={
            "horizon_bars": int(rng.choice([4, 12, 24])),
            "entry_probability": round(float(rng.uniform(0.5, 0.7)), 3),
            "stop_scales": round(float(rng.uniform(1, 5)), 2),
            "take_profit_scales": round(float(rng.uniform(2, 10)), 2),
            "size_fraction": round(float(rng.uniform(0.05, 0.2)), 3),
            "holding_limit_bars": int(rng.integers(1, 48)),
            "sizing": ("fraction", "volatility")[number % 2],
            "distance_unit": "volatility",
            "opposite_exit": number % 4 > 0,
        },
        in_sample=figures(rng, searched, int(count * 0.6)),
        out_of_sample=figures(rng, later, int(count * 0.4)),
        later_spans={
            "2018-02 to 2018-06": figures(rng, later, count // 5),
            "2018-06 to 2018-11": figures(rng, later, count // 5),
        },
        probabilistic_sharpe=float(rng.uniform(0.3, 0.99)),
        deflated_sharpe=None if number == 1 else float(rng.uniform(0, 0.9)),
        falls_apart=fallen,
        searched=searched,
        later=later,
        trades=trades(rng, count, bars, START_MS),
    )


def front(members: int = 12, *, bars: int = 600, count: int = 60, seed: int = 0, **changes: Any) -> ExplorerDocument:
    """Return a front of that many members, each with `bars` bars and `count` trades."""
    rng = np.random.default_rng(seed)
    made = [member(rng, number, bars=bars, count=count) for number in range(members)]
    picks = {"knee": 0, "lowest_drawdown": 3, "best_sharpe": 5, "ideal_point": 0}
    document = ExplorerDocument(
        symbol="EURUSD",
        timeframe="H1",
        study="EURUSD-H1-7f3a90c1",
        objectives=OBJECTIVES,
        members=made,
        picks={name: made[place].hash12 for name, place in picks.items() if place < members},
        trials=5_500,
        best_of_worthless=2.31,
        overfitting={"pbo": 0.42, "pbo_slope": -0.31, "pbo_days": 280, "trials_ever": 6_100, "sharpe_std": None},
        searched=("2017-01-02", "2018-01-30"),
        later=("2018-02-01", "2018-11-20"),
        money="USD account of 100,000; spread .6 pips, commission 3.50 a lot and side, slippage .1 pip",
    )
    return replace(document, **changes)
