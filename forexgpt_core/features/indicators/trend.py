"""Where the price stands against its averages, and how directed its way is."""

import math

import numpy as np
import talib

from forexgpt_core.features.indicator import (
    Bars,
    Columns,
    Family,
    Floats,
    ema_fades,
    fades,
    number,
    share,
    shifted,
    wilder_fades,
    window,
)
from forexgpt_core.features.kernels import rolling_line, rolling_sum

FAMILY = Family("trend")
_FAST_BELOW_SLOW = ("fast must be below slow", lambda fast, slow, **_: fast < slow)
_KAMA_SLOWEST = 1 - (2 / 31) ** 2


def weighted_mean(x: Floats, bars: int) -> Floats:
    """Return the mean with weights 1 (oldest) to `bars` (newest)."""
    end, slope, _ = rolling_line(x, bars)
    middle = end - slope * (bars - 1) / 2
    return np.asarray(middle + slope * (bars - 1) / 6)  # what a line through the window weighs to


def _above(b: Bars, average: Floats) -> Floats:
    """Return how far the close stands above an average, as a share of the average."""
    return np.asarray(b.close / average - 1)


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(20))
def sma(b: Bars, bars: int) -> Columns:
    """Close over its simple mean of `bars`, less 1."""
    return {"sma": _above(b, rolling_sum(b.close, bars) / bars)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, forget=ema_fades, bars=window(20))
def ema(b: Bars, bars: int) -> Columns:
    """Close over its exponential mean of `bars`, less 1; the mean begins as a simple one."""
    return {"ema": _above(b, talib.EMA(b.close, timeperiod=bars))}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(20))
def wma(b: Bars, bars: int) -> Columns:
    """Close over its linearly weighted mean of `bars`, less 1."""
    return {"wma": _above(b, weighted_mean(b.close, bars))}


@FAMILY.indicator(warm_up=lambda bars: 2 * (bars - 1), forget=lambda bars: 2 * ema_fades(bars), bars=window(20))
def dema(b: Bars, bars: int) -> Columns:
    """Close over its double exponential mean of `bars`, less 1."""
    return {"dema": _above(b, talib.DEMA(b.close, timeperiod=bars))}


@FAMILY.indicator(warm_up=lambda bars: 3 * (bars - 1), forget=lambda bars: 3 * ema_fades(bars), bars=window(20))
def tema(b: Bars, bars: int) -> Columns:
    """Close over its triple exponential mean of `bars`, less 1."""
    return {"tema": _above(b, talib.TEMA(b.close, timeperiod=bars))}


@FAMILY.indicator(
    warm_up=lambda bars, factor: 6 * (bars - 1),
    forget=lambda bars, factor: 6 * ema_fades(bars),
    bars=window(5),
    factor=number(0.7, 0, 1),
)
def t3(b: Bars, bars: int, factor: float) -> Columns:
    """Close over Tillson's T3 mean of `bars`, less 1."""
    return {"t3": _above(b, talib.T3(b.close, timeperiod=bars, vfactor=factor))}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(20, least=3))
def trima(b: Bars, bars: int) -> Columns:
    """Close over its triangular mean of `bars` (a mean of means), less 1."""
    inner, outer = (bars + 1) // 2, bars // 2 + 1
    return {"trima": _above(b, rolling_sum(rolling_sum(b.close, inner) / inner, outer) / outer)}


@FAMILY.indicator(warm_up=lambda bars: bars, forget=fades(_KAMA_SLOWEST), bars=window(10))
def kama(b: Bars, bars: int) -> Columns:
    """Close over Kaufman's adaptive mean, less 1."""
    return {"kama": _above(b, talib.KAMA(b.close, timeperiod=bars))}


@FAMILY.indicator(warm_up=lambda bars: bars - 1 + math.isqrt(bars) - 1, bars=window(16, least=4))
def hull(b: Bars, bars: int) -> Columns:
    """Close over Hull's mean of `bars`, less 1."""
    quick = 2 * weighted_mean(b.close, bars // 2) - weighted_mean(b.close, bars)
    return {"hull": _above(b, weighted_mean(quick, math.isqrt(bars)))}


@FAMILY.indicator(warm_up=lambda bars: (bars - 1) // 2 + bars - 1, forget=ema_fades, bars=window(20))
def zero_lag_ema(b: Bars, bars: int) -> Columns:
    """Close over the EMA of the close advanced by its own change over half the span, less 1."""
    advanced = 2 * b.close - shifted(b.close, (bars - 1) // 2)
    return {"zero_lag_ema": _above(b, talib.EMA(advanced, timeperiod=bars))}


@FAMILY.indicator(warm_up=lambda fast, slow: slow - 1, fast=window(10), slow=window(50), rule=_FAST_BELOW_SLOW)
def sma_cross(b: Bars, fast: int, slow: int) -> Columns:
    """Simple mean of `fast` over that of `slow`, less 1."""
    return {"sma_cross": rolling_sum(b.close, fast) / fast / (rolling_sum(b.close, slow) / slow) - 1}


@FAMILY.indicator("trend_slope", "trend_r2", "trend_distance", warm_up=lambda bars: bars - 1, bars=window(24, least=3))
def linear_trend(b: Bars, bars: int) -> Columns:
    """Least-squares line through the closes of `bars`: slope per bar and distance of the close, as shares; and R2."""
    end, slope, r2 = rolling_line(b.close, bars)
    return {"trend_slope": slope / b.close, "trend_r2": r2, "trend_distance": (b.close - end) / b.close}


@FAMILY.indicator(warm_up=lambda bars: 2 * bars - 1, forget=lambda bars: 2 * wilder_fades(bars), bars=window(14))
def adx(b: Bars, bars: int) -> Columns:
    """Wilder's average directional index, 0 to 100; where nothing moves it keeps its value, 0 at first."""
    return {"adx": talib.ADX(b.high, b.low, b.close, timeperiod=bars)}


@FAMILY.indicator(warm_up=lambda bars: 3 * bars - 2, forget=lambda bars: 2 * wilder_fades(bars), bars=window(14))
def adxr(b: Bars, bars: int) -> Columns:
    """Mean of the ADX now and `bars` - 1 bars ago (as in TA-Lib; Wilder goes one further), 0 to 100."""
    return {"adxr": talib.ADXR(b.high, b.low, b.close, timeperiod=bars)}


@FAMILY.indicator("plus_di", "minus_di", "dx", warm_up=lambda bars: bars, forget=wilder_fades, bars=window(14))
def directional(b: Bars, bars: int) -> Columns:
    """Wilder's directional indicators and their index (difference over sum), 0 to 100; 0 where nothing has moved.

    The index keeps its value where neither direction has any.
    """
    names = {"plus_di": talib.PLUS_DI, "minus_di": talib.MINUS_DI, "dx": talib.DX}
    return {name: compute(b.high, b.low, b.close, timeperiod=bars) for name, compute in names.items()}


@FAMILY.indicator("vortex_plus", "vortex_minus", warm_up=lambda bars: bars, bars=window(14))
def vortex(b: Bars, bars: int) -> Columns:
    """Upward and downward swing over the true range of `bars`; 1 where nothing moves (Botes and Siepman 2010)."""
    path = rolling_sum(b.true_range, bars)
    up, down = np.abs(b.high - shifted(b.low, 1)), np.abs(b.low - shifted(b.high, 1))
    swings = {"vortex_plus": up, "vortex_minus": down}
    return {name: share(rolling_sum(swing, bars), path, where_none=1.0) for name, swing in swings.items()}


@FAMILY.indicator(
    "tenkan",
    "kijun",
    "senkou_a",
    "senkou_b",
    warm_up=lambda fast, middle, slow: slow - 1,
    fast=window(9),
    middle=window(26),
    slow=window(52),
    rule=("fast must be below middle and middle below slow", lambda fast, middle, slow: fast < middle < slow),
)
def ichimoku(b: Bars, fast: int, middle: int, slow: int) -> Columns:
    """Close over the four lines of the cloud, less 1, each as computed now: nothing is drawn ahead or behind."""
    tenkan, kijun, senkou_b = (
        (talib.MAX(b.high, timeperiod=n) + talib.MIN(b.low, timeperiod=n)) / 2 for n in (fast, middle, slow)
    )
    lines = {"tenkan": tenkan, "kijun": kijun, "senkou_a": (tenkan + kijun) / 2, "senkou_b": senkou_b}
    return {name: _above(b, line) for name, line in lines.items()}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(20))
def midpoint(b: Bars, bars: int) -> Columns:
    """Close over the middle between highest and lowest close of `bars`, less 1."""
    return {"midpoint": _above(b, talib.MIDPOINT(b.close, timeperiod=bars))}
