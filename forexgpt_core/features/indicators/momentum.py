"""How fast and how steadily the price rises or falls, mostly as oscillators on a fixed scale."""

import numpy as np
import talib

from forexgpt_core.features.indicator import (
    Bars,
    Columns,
    Family,
    Floats,
    ema_fades,
    fades,
    share,
    shifted,
    wilder_fades,
    window,
)
from forexgpt_core.features.kernels import fisher_transform, rolling_sum

FAMILY = Family("momentum")
_FAST_BELOW_SLOW = ("fast must be below slow", lambda fast, slow, **_: fast < slow)


@FAMILY.indicator(warm_up=lambda bars: bars, forget=wilder_fades, bars=window(14))
def rsi(b: Bars, bars: int) -> Columns:
    """Wilder's relative strength index, 0 to 100; 0 while nothing has moved at all, as in TA-Lib.

    A close that stands leaves it as it is, until all movement is forgotten (a few hundred bars).
    """
    return {"rsi": talib.RSI(b.close, timeperiod=bars)}


@FAMILY.indicator(
    "macd",
    "macd_signal",
    "macd_histogram",
    warm_up=lambda fast, slow, signal: slow + signal - 2,
    forget=lambda fast, slow, signal: ema_fades(slow) + ema_fades(signal),
    fast=window(12),
    slow=window(26),
    signal=window(9),
    rule=_FAST_BELOW_SLOW,
)
def macd(b: Bars, fast: int, slow: int, signal: int) -> Columns:
    """MACD, its signal line and their difference, as shares of the close."""
    lines = talib.MACD(b.close, fastperiod=fast, slowperiod=slow, signalperiod=signal)
    return {name: line / b.close for name, line in zip(("macd", "macd_signal", "macd_histogram"), lines)}


@FAMILY.indicator(
    "stochastic_k",
    "stochastic_d",
    warm_up=lambda bars, smooth, signal: bars + smooth + signal - 3,
    bars=window(14),
    smooth=window(3, least=1),
    signal=window(3, least=1),
)
def stochastic(b: Bars, bars: int, smooth: int, signal: int) -> Columns:
    """Slow stochastic %K and %D, 0 to 100; 50 where the window has no range."""
    top, bottom = talib.MAX(b.high, timeperiod=bars), talib.MIN(b.low, timeperiod=bars)
    k = rolling_sum(100 * share(b.close - bottom, top - bottom, where_none=0.5), smooth) / smooth
    return {"stochastic_k": k, "stochastic_d": rolling_sum(k, signal) / signal}


@FAMILY.indicator(
    warm_up=lambda bars, window: bars + window - 1,
    forget=lambda bars, window: wilder_fades(bars),
    bars=window(14),
    window=window(14),
)
def stochastic_rsi(b: Bars, bars: int, window: int) -> Columns:
    """Place of the RSI between its lowest and highest of `window`, 0 to 100; 50 where it does not vary.

    This is the fast %K of Chande and Kroll (1994), without smoothing. While the close stands, the RSI varies by
    rounding alone: less than a billionth of a point counts as not varying.
    """
    strength = talib.RSI(b.close, timeperiod=bars)
    top, bottom = talib.MAX(strength, timeperiod=window), talib.MIN(strength, timeperiod=window)
    return {"stochastic_rsi": 100 * share(strength - bottom, top - bottom, where_none=0.5, least=1e-9)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(20))
def cci(b: Bars, bars: int) -> Columns:
    """Commodity channel index: typical price less its mean, in mean absolute deviations times 0.015; 0 where flat."""
    return {"cci": talib.CCI(b.high, b.low, b.close, timeperiod=bars)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(14))
def williams_r(b: Bars, bars: int) -> Columns:
    """Williams %R, -100 at the lowest low to 0 at the highest high; -50 where the window has no range."""
    top, bottom = talib.MAX(b.high, timeperiod=bars), talib.MIN(b.low, timeperiod=bars)
    return {"williams_r": -100 * share(top - b.close, top - bottom, where_none=0.5)}


@FAMILY.indicator(
    warm_up=lambda short, medium, long: long,
    short=window(7),
    medium=window(14),
    long=window(28),
    rule=("short must be below medium and medium below long", lambda short, medium, long: short < medium < long),
)
def ultimate_oscillator(b: Bars, short: int, medium: int, long: int) -> Columns:
    """Weighted buying pressure over three spans, 0 to 100; a span in which nothing moves counts 50."""
    pressure = b.close - np.minimum(b.low, b.previous_close)
    spans = ((4, short), (2, medium), (1, long))
    parts = [w * share(rolling_sum(pressure, n), rolling_sum(b.true_range, n), where_none=0.5) for w, n in spans]
    return {"ultimate_oscillator": 100 / 7 * (parts[0] + parts[1] + parts[2])}


@FAMILY.indicator(warm_up=lambda bars: 3 * (bars - 1) + 1, forget=lambda bars: 3 * ema_fades(bars), bars=window(15))
def trix(b: Bars, bars: int) -> Columns:
    """Change per bar of the triple EMA of the close, in per cent."""
    return {"trix": talib.TRIX(b.close, timeperiod=bars)}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(10, least=1))
def rate_of_change(b: Bars, bars: int) -> Columns:
    """Change of the close over `bars`, in per cent."""
    return {"rate_of_change": talib.ROC(b.close, timeperiod=bars)}


@FAMILY.indicator(warm_up=lambda bars: bars, forget=wilder_fades, bars=window(14))
def cmo(b: Bars, bars: int) -> Columns:
    """Chande's momentum oscillator with Wilder's averages, -100 to 100; 0 where nothing moves."""
    return {"cmo": talib.CMO(b.close, timeperiod=bars)}


@FAMILY.indicator(
    warm_up=lambda long, short: long + short - 1,
    forget=lambda long, short: ema_fades(long) + ema_fades(short),
    long=window(25),
    short=window(13),
)
def true_strength(b: Bars, long: int, short: int) -> Columns:
    """Twice averaged change over twice averaged absolute change, -100 to 100; 0 where nothing moves (Blau 1991)."""
    ups, all_ = (talib.EMA(talib.EMA(x, timeperiod=long), timeperiod=short) for x in (b.change, np.abs(b.change)))
    return {"true_strength": 100 * share(ups, all_, where_none=0.0)}


@FAMILY.indicator(warm_up=lambda fast, slow: slow - 1, fast=window(5), slow=window(34), rule=_FAST_BELOW_SLOW)
def awesome_oscillator(b: Bars, fast: int, slow: int) -> Columns:
    """Mean of the bar's middle over `fast` less that over `slow`, as a share of the close."""
    middle = (b.high + b.low) / 2
    return {"awesome_oscillator": (rolling_sum(middle, fast) / fast - rolling_sum(middle, slow) / slow) / b.close}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(14, least=1))
def balance_of_power(b: Bars, bars: int) -> Columns:
    """Mean over `bars` of the body as a share of the range; a bar without a range counts 0."""
    return {"balance_of_power": rolling_sum(share(b.close - b.open, b.high - b.low, where_none=0.0), bars) / bars}


@FAMILY.indicator("aroon_up", "aroon_down", warm_up=lambda bars: bars, bars=window(25))
def aroon(b: Bars, bars: int) -> Columns:
    """How recent the highest high and the lowest low of the newest bars are: 100 now, 0 `bars` ago."""
    down, up = talib.AROON(b.high, b.low, timeperiod=bars)
    return {"aroon_up": up, "aroon_down": down}


@FAMILY.indicator(
    warm_up=lambda long, short, smooth: max(long, short) + smooth - 1,
    long=window(14),
    short=window(11),
    smooth=window(10),
)
def coppock(b: Bars, long: int, short: int, smooth: int) -> Columns:
    """Linearly weighted mean of two rates of change, in per cent (Coppock 1962)."""
    from forexgpt_core.features.indicators.trend import weighted_mean

    rates = talib.ROC(b.close, timeperiod=long) + talib.ROC(b.close, timeperiod=short)
    return {"coppock": weighted_mean(rates, smooth)}


_KST = ((10, 10, 1), (15, 10, 2), (20, 10, 3), (30, 15, 4))


@FAMILY.indicator("kst", "kst_signal", warm_up=lambda signal: 44 + signal - 1, signal=window(9))
def know_sure_thing(b: Bars, signal: int) -> Columns:
    """Pring's weighted sum of four smoothed rates of change, in per cent, and its mean over `signal`."""
    rates = [weight * rolling_sum(talib.ROC(b.close, timeperiod=n), m) / m for n, m, weight in _KST]
    kst = np.asarray(np.sum(rates, axis=0))
    return {"kst": kst, "kst_signal": rolling_sum(kst, signal) / signal}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, forget=fades(0.67) + fades(0.5), bars=window(10))
def fisher(b: Bars, bars: int) -> Columns:
    """Ehlers' Fisher transform of the bar middle's place in its range of `bars`; a window without a range counts 0.

    The place, -1 to 1, is smoothed by a third (beyond 0.99 it becomes 0.999, and is remembered so), transformed, and
    half of the value before is added. Both begin at 0.
    Source: Ehlers (2002), Stocks & Commodities 20(11).
    """
    middle = (b.high + b.low) / 2
    top, bottom = talib.MAX(middle, timeperiod=bars), talib.MIN(middle, timeperiod=bars)
    return {"fisher": fisher_transform(2 * share(middle - bottom, top - bottom, where_none=0.5) - 1)}


@FAMILY.indicator("bull_power", "bear_power", warm_up=lambda bars: bars - 1, forget=ema_fades, bars=window(13))
def elder_ray(b: Bars, bars: int) -> Columns:
    """High and low less the EMA of the close, as shares of the close."""
    average = talib.EMA(b.close, timeperiod=bars)
    return {"bull_power": (b.high - average) / b.close, "bear_power": (b.low - average) / b.close}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(14))
def qstick(b: Bars, bars: int) -> Columns:
    """Mean body of `bars`, as a share of the close."""
    return {"qstick": rolling_sum(b.close - b.open, bars) / bars / b.close}


@FAMILY.indicator(warm_up=lambda bars: bars + 2, bars=window(10))
def relative_vigour(b: Bars, bars: int) -> Columns:
    """Smoothed body over smoothed range, summed over `bars`; 0 where nothing moves (Ehlers 2002)."""
    bodies, ranges = (rolling_sum(_symmetric(x), bars) for x in (b.close - b.open, b.high - b.low))
    return {"relative_vigour": share(bodies, ranges, where_none=0.0)}


def _symmetric(x: Floats) -> Floats:
    return np.asarray((x + 2 * shifted(x, 1) + 2 * shifted(x, 2) + shifted(x, 3)) / 6)


@FAMILY.indicator(warm_up=lambda bars: bars - 1 + bars // 2 + 1, bars=window(20))
def detrended_price(b: Bars, bars: int) -> Columns:
    """Close less the mean of `bars` as it was half of them (and one) ago, as a share of the close."""
    mean = rolling_sum(b.close, bars) / bars
    return {"detrended_price": (b.close - shifted(mean, bars // 2 + 1)) / b.close}


@FAMILY.indicator(
    warm_up=lambda fast, slow: slow - 1,
    forget=lambda fast, slow: ema_fades(slow),
    fast=window(12),
    slow=window(26),
    rule=_FAST_BELOW_SLOW,
)
def ppo(b: Bars, fast: int, slow: int) -> Columns:
    """Percentage price oscillator: fast EMA over slow EMA less 1, in per cent."""
    return {"ppo": 100 * (talib.EMA(b.close, timeperiod=fast) / talib.EMA(b.close, timeperiod=slow) - 1)}
