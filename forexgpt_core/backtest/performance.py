"""Figures of an equity curve and of a list of trades.

Sharpe and Sortino are arithmetic: mean over deviation of the returns per FX day (17:00 to 17:00 New York), times
sqrt(260); weekly bars give weekly returns and sqrt(52). No risk-free rate is subtracted.
"""

import math

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Timeframe, bar_open

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Times = NDArray[np.datetime64]
StatValue = float | int | str | None
Stats = dict[str, StatValue]

_DAYS_PER_YEAR, _WEEKS_PER_YEAR = 260, 52


def day_ends(ts_utc: Times) -> tuple[Ints, int]:
    """Return the index of the last bar of every FX day and how many such days a year has (52 for weekly bars)."""
    days = bar_open(ts_utc, Timeframe.D1)
    ends = np.append(np.flatnonzero(days[1:] != days[:-1]), days.size - 1)
    gaps = np.diff(days[ends])
    weekly = gaps.size > 0 and np.median(gaps) > np.timedelta64(4, "D")
    return ends.astype(np.int64), _WEEKS_PER_YEAR if weekly else _DAYS_PER_YEAR


def periods_per_year(timeframe: Timeframe) -> int:
    """Return the periods that a Sharpe ratio of such bars was annualised with; `day_ends` finds the same in them."""
    return _WEEKS_PER_YEAR if timeframe is Timeframe.W1 else _DAYS_PER_YEAR


def day_returns(equity: Floats, cash: float, ends: Ints) -> Floats:
    """Return the simple return of every FX day (week, for weekly bars), the first one from `cash`; 0 after ruin.

    Args:
        equity: (n,) at each bar's close.
        ends: see `day_ends`.
    """
    daily = np.concatenate(([cash], equity[ends]))
    before = daily[:-1]
    return np.asarray(np.divide(daily[1:], before, out=np.ones_like(before), where=before > 0) - 1)


def drawdown(equity: Floats) -> Floats:
    """Return the share lost since the highest equity so far; shape of the input, 0 at every new high."""
    peak = np.maximum.accumulate(equity)
    return np.asarray(1 - equity / peak)


def curve_stats(equity: Floats, cash: float, ends: Ints, periods_per_year: int) -> Stats:
    """Return return_pct, max_drawdown_pct (0 or more), sharpe and sortino of an account that began with `cash`.

    Args:
        equity: (n,) at each bar's close.
        ends, periods_per_year: see `day_ends`.
    """
    curve = np.concatenate(([cash], equity))
    returns = day_returns(equity, cash, ends)
    mean = float(returns.mean())
    deviation = float(returns.std(ddof=1)) if returns.size > 1 else 0.0
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0) ** 2)))
    yearly = math.sqrt(periods_per_year)
    return {
        "return_pct": (float(equity[-1]) / cash - 1) * 100,
        "max_drawdown_pct": float(drawdown(curve).max()) * 100,
        "sharpe": mean / deviation * yearly if deviation > 1e-15 else None,
        "sortino": mean / downside * yearly if downside > 1e-15 else None,
    }


def trade_stats(profit: Floats) -> Stats:
    """Return trades, win_rate_pct and profit_factor from net profits; None where undefined.

    A trade wins when it earns more than its costs. The profit factor is gross gain over gross loss in money.
    """
    won, lost = float(profit[profit > 0].sum()), float(-profit[profit < 0].sum())
    return {
        "trades": int(profit.size),
        "win_rate_pct": float((profit > 0).mean()) * 100 if profit.size else None,
        "profit_factor": won / lost if lost > 0 else None,
    }
