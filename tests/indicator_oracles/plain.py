"""The plainest tools for oracles: loops over lists, exact sums, no array arithmetic and none of the code under test."""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

NAN = math.nan
Series = list[float]
Oracle = Callable[..., dict[str, Series]]
PLAIN: dict[str, Oracle] = {}  # by hand, for every indicator
TALIB: dict[str, Oracle] = {}  # by bare TA-Lib, for those it has


@dataclass
class Quotes:
    """The bars of a table as lists, oldest first; missing is NaN."""

    ts: list[dt.datetime]
    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series
    ask: Series
    seconds: int = 3600
    symbol: str = "EURUSD"
    others: dict[str, Series] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pl.DataFrame, *, seconds: int = 3600, others: dict[str, Series] | None = None) -> "Quotes":
        lists = [
            [NAN if x is None else x for x in table[name]] if name in table.columns else [NAN] * table.height
            for name in ("open", "high", "low", "close", "volume", "ask_close")
        ]
        return cls(table["ts_utc"].to_list(), *lists, seconds=seconds, others=others or {})

    def __len__(self) -> int:
        return len(self.close)

    @property
    def typical(self) -> Series:
        return [(h + low + c) / 3 for h, low, c in zip(self.high, self.low, self.close)]

    @property
    def middle(self) -> Series:
        return [(h + low) / 2 for h, low in zip(self.high, self.low)]

    @property
    def returns(self) -> Series:
        return [NAN, *(math.log(c / p) for p, c in zip(self.close, self.close[1:]))]

    @property
    def changes(self) -> Series:
        return [NAN, *(c - p for p, c in zip(self.close, self.close[1:]))]

    @property
    def true_ranges(self) -> Series:
        bars = zip(self.high[1:], self.low[1:], self.close)
        return [NAN, *(max(h - low, abs(h - before), abs(low - before)) for h, low, before in bars)]

    def arrays(self) -> tuple[np.ndarray, ...]:
        return tuple(np.array(x, dtype=np.float64) for x in (self.open, self.high, self.low, self.close, self.volume))


def plain(oracle: Oracle) -> Oracle:
    """Register an oracle under the indicator's name."""
    PLAIN[oracle.__name__] = oracle
    return oracle


def with_talib(oracle: Oracle) -> Oracle:
    TALIB[oracle.__name__] = oracle
    return oracle


def over(bars: int, compute: Callable[..., float], *series: Sequence[float]) -> Series:
    """Return `compute` of the newest `bars` values of each series; NaN where a window is short or holds a NaN."""
    out = []
    for end in range(1, len(series[0]) + 1):
        windows = [list(s[max(0, end - bars) : end]) for s in series]
        short = end < bars or any(x != x for w in windows for x in w)
        out.append(NAN if short else compute(*windows))
    return out


def ago(x: Series, bars: int) -> Series:
    return [x[i - bars] if i >= bars else NAN for i in range(len(x))]


def ratio(part: float, whole: float, neutral: float, *, least: float = 0.0) -> float:
    if part != part or whole != whole:
        return NAN
    return neutral if abs(whole) <= least else part / whole


def ratios(parts: Series, wholes: Series, neutral: float) -> Series:
    return [ratio(p, w, neutral) for p, w in zip(parts, wholes)]


def mean(x: Sequence[float]) -> float:
    return math.fsum(x) / len(x)


def variance(x: Sequence[float]) -> float:
    """Return the mean squared distance from the mean; exactly 0 where all values are equal."""
    if min(x) == max(x):
        return 0.0
    middle = mean(x)
    return math.fsum((v - middle) ** 2 for v in x) / len(x)


def deviation(x: Sequence[float]) -> float:
    return math.sqrt(variance(x))


def covariance(x: Sequence[float], y: Sequence[float]) -> float:
    if min(x) == max(x) or min(y) == max(y):
        return 0.0
    mx, my = mean(x), mean(y)
    return math.fsum((a - mx) * (b - my) for a, b in zip(x, y)) / len(x)


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    return ratio(covariance(x, y), deviation(x) * deviation(y), 0.0)


def root_mean_square(x: Sequence[float]) -> float:
    return math.sqrt(math.fsum(v * v for v in x) / len(x))


def sma(x: Series, bars: int) -> Series:
    return over(bars, mean, x)


def faded(x: Series, share: float) -> Series:
    """Return the mean of all values so far with weights (1 - share) to the power of their age in rows."""
    out = []
    for i, newest in enumerate(x):
        weighed = [((1 - share) ** (i - j), value) for j, value in enumerate(x[: i + 1]) if value == value]
        total = sum(weight for weight, _ in weighed)
        out.append(sum(weight * value for weight, value in weighed) / total if newest == newest else NAN)
    return out


def averaged(x: Series, bars: int, share: float) -> Series:
    """Return y += share * (x - y), begun with the simple mean of the first `bars` values that exist."""
    out, seen, state = [], [], NAN
    for value in x:
        if value != value:
            out.append(NAN)
            continue
        if len(seen) < bars:
            seen.append(value)
            state = mean(seen) if len(seen) == bars else NAN
        else:
            state += share * (value - state)
        out.append(state)
    return out


def ema(x: Series, bars: int) -> Series:
    return averaged(x, bars, 2 / (bars + 1))


def wilder(x: Series, bars: int) -> Series:
    return averaged(x, bars, 1 / bars)


def wma(x: Series, bars: int) -> Series:
    return over(bars, lambda w: math.fsum(k * v for k, v in enumerate(w, 1)) / (bars * (bars + 1) / 2), x)


def line(y: Sequence[float]) -> tuple[float, float]:
    """Return intercept and slope of the least-squares line over places 0, 1, …"""
    x = list(range(len(y)))
    slope = covariance(x, y) / variance(x)
    return mean(y) - slope * mean(x), slope


def above(close: Series, average: Series) -> Series:
    return [c / a - 1 for c, a in zip(close, average)]


def highest(x: Series, bars: int) -> Series:
    return over(bars, max, x)


def lowest(x: Series, bars: int) -> Series:
    return over(bars, min, x)


def last_place(window: Sequence[float], wanted: float) -> int:
    """Return how many bars ago a window last held a value."""
    return list(reversed(window)).index(wanted)
