"""Oracles of averages and direction."""

import math

import numpy as np
import talib

from indicator_oracles.plain import (
    NAN,
    Quotes,
    Series,
    above,
    ago,
    correlation,
    ema,
    highest,
    line,
    lowest,
    over,
    plain,
    ratio,
    wilder,
    with_talib,
)
from indicator_oracles.plain import (
    sma as simple,
)
from indicator_oracles.plain import (
    wma as weighted,
)


def _talib_average(name: str, function: object) -> None:
    def oracle(q: Quotes, bars: int) -> dict[str, Series]:
        close = np.array(q.close)
        return {name: list(close / function(close, bars) - 1)}

    oracle.__name__ = name
    with_talib(oracle)


for _name in ("sma", "ema", "wma", "dema", "tema", "trima", "kama", "midpoint"):
    _talib_average(_name, getattr(talib, _name.upper()))


@plain
def sma(q: Quotes, bars: int) -> dict[str, Series]:
    return {"sma": above(q.close, simple(q.close, bars))}


@plain
def wma(q: Quotes, bars: int) -> dict[str, Series]:
    return {"wma": above(q.close, weighted(q.close, bars))}


def _exponentials(x: Series, bars: int, times: int) -> list[Series]:
    out = [ema(x, bars)]
    for _ in range(times - 1):
        out.append(ema(out[-1], bars))
    return out


def ema_(q: Quotes, bars: int) -> dict[str, Series]:
    return {"ema": above(q.close, ema(q.close, bars))}


ema_.__name__ = "ema"
plain(ema_)


@plain
def dema(q: Quotes, bars: int) -> dict[str, Series]:
    return {"dema": above(q.close, [2 * a - b for a, b in zip(*_exponentials(q.close, bars, 2))])}


@plain
def tema(q: Quotes, bars: int) -> dict[str, Series]:
    return {"tema": above(q.close, [3 * a - 3 * b + c for a, b, c in zip(*_exponentials(q.close, bars, 3))])}


@plain
def t3(q: Quotes, bars: int, factor: float) -> dict[str, Series]:
    """Tillson: GD(GD(GD(x))) with GD(x) = (1 + v) EMA(x) - v EMA(EMA(x)), here multiplied out."""
    v = factor
    _, _, e3, e4, e5, e6 = _exponentials(q.close, bars, 6)
    weights = ((1 + v) ** 3, -3 * v * (1 + v) ** 2, 3 * v**2 * (1 + v), -(v**3))
    return {"t3": above(q.close, [math.fsum(w * x for w, x in zip(weights, row)) for row in zip(e3, e4, e5, e6)])}


@with_talib
def t3(q: Quotes, bars: int, factor: float) -> dict[str, Series]:  # noqa: F811
    close = np.array(q.close)
    return {"t3": list(close / talib.T3(close, bars, factor) - 1)}


@plain
def trima(q: Quotes, bars: int) -> dict[str, Series]:
    weights = [min(k, bars + 1 - k) for k in range(1, bars + 1)]
    return {
        "trima": above(
            q.close, over(bars, lambda w: math.fsum(a * b for a, b in zip(weights, w)) / sum(weights), q.close)
        )
    }


@plain
def kama(q: Quotes, bars: int) -> dict[str, Series]:
    out, state, fast, slow = [], NAN, 2 / (2 + 1), 2 / (30 + 1)
    for i, close in enumerate(q.close):
        if i < bars:
            state = close
            out.append(NAN)
            continue
        path = math.fsum(abs(q.close[j] - q.close[j - 1]) for j in range(i - bars + 1, i + 1))
        efficiency = ratio(abs(close - q.close[i - bars]), path, 1.0)
        state += (efficiency * (fast - slow) + slow) ** 2 * (close - state)
        out.append(state)
    return {"kama": above(q.close, out)}


@plain
def hull(q: Quotes, bars: int) -> dict[str, Series]:
    quick = [2 * a - b for a, b in zip(weighted(q.close, bars // 2), weighted(q.close, bars))]
    return {"hull": above(q.close, weighted(quick, int(math.sqrt(bars))))}


@plain
def zero_lag_ema(q: Quotes, bars: int) -> dict[str, Series]:
    lag = (bars - 1) // 2
    return {
        "zero_lag_ema": above(q.close, ema([c + (c - before) for c, before in zip(q.close, ago(q.close, lag))], bars))
    }


@plain
def sma_cross(q: Quotes, fast: int, slow: int) -> dict[str, Series]:
    return {"sma_cross": above(simple(q.close, fast), simple(q.close, slow))}


@plain
def linear_trend(q: Quotes, bars: int) -> dict[str, Series]:
    place = list(range(bars))

    def distance(w: Series) -> float:
        start, slope = line(w)
        return (w[-1] - start - slope * (bars - 1)) / w[-1]

    return {
        "trend_slope": over(bars, lambda w: line(w)[1] / w[-1], q.close),
        "trend_r2": over(bars, lambda w: correlation(place, w) ** 2, q.close),
        "trend_distance": over(bars, distance, q.close),
    }


@with_talib
def linear_trend(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    close = np.array(q.close)
    # TA-Lib's CORREL runs its sums over time, so it gets the closes without their level.
    r2 = talib.CORREL(close - close[0], np.arange(close.size, dtype=np.float64), bars) ** 2
    return {
        "trend_slope": list(talib.LINEARREG_SLOPE(close, bars) / close),
        "trend_distance": list((close - talib.LINEARREG(close, bars)) / close),
        "trend_r2": list(r2),
    }


def _wilders_sum(x: Series, bars: int) -> Series:
    """Return s - s / bars + x, begun with the sum of bars - 1 values (TA-Lib); one value per bar from `bars` on."""
    out, state = [NAN] * len(x), 0.0
    for i in range(1, len(x)):
        state = state + x[i] if i < bars else state - state / bars + x[i]
        if i >= bars:
            out[i] = state
    return out


def _directional(q: Quotes, bars: int) -> tuple[Series, Series, Series]:
    plus, minus = [NAN], [NAN]
    for i in range(1, len(q)):
        up, down = q.high[i] - q.high[i - 1], q.low[i - 1] - q.low[i]
        plus.append(up if up > down and up > 0 else 0.0)
        minus.append(down if down > up and down > 0 else 0.0)
    path = _wilders_sum(q.true_ranges, bars)
    pdi, mdi = ([100 * ratio(a, b, 0.0) for a, b in zip(_wilders_sum(x, bars), path)] for x in (plus, minus))
    dx, state = [], 0.0
    for a, b in zip(pdi, mdi):
        state = 100 * abs(a - b) / (a + b) if a == a and a + b else state  # without direction it keeps its value
        dx.append(state if a == a else NAN)
    return pdi, mdi, dx


@plain
def directional(q: Quotes, bars: int) -> dict[str, Series]:
    pdi, mdi, dx = _directional(q, bars)
    return {"plus_di": pdi, "minus_di": mdi, "dx": dx}


@with_talib
def directional(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    names = {"plus_di": talib.PLUS_DI, "minus_di": talib.MINUS_DI, "dx": talib.DX}
    return {name: list(f(high, low, close, bars)) for name, f in names.items()}


@plain
def adx(q: Quotes, bars: int) -> dict[str, Series]:
    return {"adx": wilder(_directional(q, bars)[2], bars)}


@with_talib
def adx(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    return {"adx": list(talib.ADX(high, low, close, bars))}


@plain
def adxr(q: Quotes, bars: int) -> dict[str, Series]:
    index = wilder(_directional(q, bars)[2], bars)
    return {"adxr": [(a + b) / 2 for a, b in zip(index, ago(index, bars - 1))]}


@with_talib
def adxr(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    return {"adxr": list(talib.ADXR(high, low, close, bars))}


@plain
def vortex(q: Quotes, bars: int) -> dict[str, Series]:
    up = [abs(h - before) for h, before in zip(q.high, ago(q.low, 1))]
    down = [abs(m - before) for m, before in zip(q.low, ago(q.high, 1))]

    def index(swing: Series) -> Series:
        return over(bars, lambda s, t: ratio(math.fsum(s), math.fsum(t), 1.0), swing, q.true_ranges)

    return {"vortex_plus": index(up), "vortex_minus": index(down)}


@plain
def ichimoku(q: Quotes, fast: int, middle: int, slow: int) -> dict[str, Series]:
    tenkan, kijun, senkou_b = (
        [(h + m) / 2 for h, m in zip(highest(q.high, n), lowest(q.low, n))] for n in (fast, middle, slow)
    )
    senkou_a = [(a + b) / 2 for a, b in zip(tenkan, kijun)]
    lines = {"tenkan": tenkan, "kijun": kijun, "senkou_a": senkou_a, "senkou_b": senkou_b}
    return {name: above(q.close, x) for name, x in lines.items()}


@plain
def midpoint(q: Quotes, bars: int) -> dict[str, Series]:
    return {"midpoint": over(bars, lambda w: w[-1] / ((max(w) + min(w)) / 2) - 1, q.close)}
