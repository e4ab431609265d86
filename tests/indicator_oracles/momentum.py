"""Oracles of momentum: Wilder's and others' recursions by hand, and bare TA-Lib."""

import math

import numpy as np
import talib

from indicator_oracles.plain import (
    NAN,
    Quotes,
    Series,
    ago,
    ema,
    highest,
    last_place,
    lowest,
    mean,
    over,
    plain,
    ratio,
    sma,
    wilder,
    with_talib,
    wma,
)


def _gains_and_losses(q: Quotes, bars: int) -> tuple[Series, Series]:
    ups = [NAN if d != d else max(d, 0.0) for d in q.changes]
    downs = [NAN if d != d else max(-d, 0.0) for d in q.changes]
    return wilder(ups, bars), wilder(downs, bars)


def _strength(q: Quotes, bars: int) -> Series:
    return [100 * ratio(g, g + m, 0.0) for g, m in zip(*_gains_and_losses(q, bars))]


@plain
def rsi(q: Quotes, bars: int) -> dict[str, Series]:
    return {"rsi": _strength(q, bars)}


@with_talib
def rsi(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    return {"rsi": list(talib.RSI(np.array(q.close), bars))}


@plain
def macd(q: Quotes, fast: int, slow: int, signal: int) -> dict[str, Series]:
    """Both averages begin on the bar where the slow one can: the fast one with the mean of its newest `fast` then."""
    begun = [NAN] * (slow - fast) + q.close[slow - fast :]
    lines = [a - b for a, b in zip(ema(begun, fast), ema(q.close, slow))]
    signals = ema(lines, signal)
    return {
        "macd": [x / c for x, c in zip(lines, q.close)],
        "macd_signal": [x / c for x, c in zip(signals, q.close)],
        "macd_histogram": [(x - s) / c for x, s, c in zip(lines, signals, q.close)],
    }


@with_talib
def macd(q: Quotes, fast: int, slow: int, signal: int) -> dict[str, Series]:  # noqa: F811
    close = np.array(q.close)
    lines = talib.MACD(close, fast, slow, signal)
    return {name: list(x / close) for name, x in zip(("macd", "macd_signal", "macd_histogram"), lines)}


@plain
def stochastic(q: Quotes, bars: int, smooth: int, signal: int) -> dict[str, Series]:
    raw = [100 * ratio(c - m, h - m, 0.5) for c, h, m in zip(q.close, highest(q.high, bars), lowest(q.low, bars))]
    k = sma(raw, smooth)
    return {"stochastic_k": k, "stochastic_d": sma(k, signal)}


@with_talib
def stochastic(q: Quotes, bars: int, smooth: int, signal: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    k, d = talib.STOCH(high, low, close, bars, smooth, 0, signal, 0)
    return {"stochastic_k": list(k), "stochastic_d": list(d)}


@plain
def stochastic_rsi(q: Quotes, bars: int, window: int) -> dict[str, Series]:
    def place(w: Series) -> float:
        spread = max(w) - min(w)
        return 50.0 if spread < 1e-9 else 100 * (w[-1] - min(w)) / spread

    return {"stochastic_rsi": over(window, place, _strength(q, bars))}


@with_talib
def stochastic_rsi(q: Quotes, bars: int, window: int) -> dict[str, Series]:  # noqa: F811
    return {"stochastic_rsi": list(talib.STOCHRSI(np.array(q.close), bars, window, 1, 0)[0])}


@plain
def cci(q: Quotes, bars: int) -> dict[str, Series]:
    def index(w: Series) -> float:
        if min(w) == max(w):
            return 0.0
        middle = mean(w)
        return (w[-1] - middle) / (0.015 * mean([abs(x - middle) for x in w]))

    return {"cci": over(bars, index, q.typical)}


@with_talib
def cci(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    return {"cci": list(talib.CCI(high, low, close, bars))}


@plain
def williams_r(q: Quotes, bars: int) -> dict[str, Series]:
    return {
        "williams_r": [
            -100 * ratio(h - c, h - m, 0.5) for c, h, m in zip(q.close, highest(q.high, bars), lowest(q.low, bars))
        ]
    }


@with_talib
def williams_r(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    return {"williams_r": list(talib.WILLR(high, low, close, bars))}


@plain
def ultimate_oscillator(q: Quotes, short: int, medium: int, long: int) -> dict[str, Series]:
    pressure = [c - min(m, before) for c, m, before in zip(q.close, q.low, ago(q.close, 1))]
    pressure[:1] = [NAN] * len(pressure[:1])

    def average(bars: int) -> Series:
        return over(bars, lambda p, t: ratio(math.fsum(p), math.fsum(t), 0.5), pressure, q.true_ranges)

    return {
        "ultimate_oscillator": [
            100 * (4 * a + 2 * b + c) / 7 for a, b, c in zip(average(short), average(medium), average(long))
        ]
    }


@with_talib
def ultimate_oscillator(q: Quotes, short: int, medium: int, long: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    return {"ultimate_oscillator": list(talib.ULTOSC(high, low, close, short, medium, long))}


@plain
def trix(q: Quotes, bars: int) -> dict[str, Series]:
    triple = ema(ema(ema(q.close, bars), bars), bars)
    return {"trix": [100 * (x / before - 1) for x, before in zip(triple, ago(triple, 1))]}


@with_talib
def trix(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    return {"trix": list(talib.TRIX(np.array(q.close), bars))}


def _rate(q: Quotes, bars: int) -> Series:
    return [100 * (c - before) / before for c, before in zip(q.close, ago(q.close, bars))]


@plain
def rate_of_change(q: Quotes, bars: int) -> dict[str, Series]:
    return {"rate_of_change": _rate(q, bars)}


@plain
def cmo(q: Quotes, bars: int) -> dict[str, Series]:
    return {"cmo": [100 * ratio(g - m, g + m, 0.0) for g, m in zip(*_gains_and_losses(q, bars))]}


@with_talib
def cmo(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    return {"cmo": list(talib.CMO(np.array(q.close), bars))}


@plain
def true_strength(q: Quotes, long: int, short: int) -> dict[str, Series]:
    net = ema(ema(q.changes, long), short)
    path = ema(ema([abs(d) for d in q.changes], long), short)
    return {"true_strength": [100 * ratio(a, b, 0.0) for a, b in zip(net, path)]}


@plain
def awesome_oscillator(q: Quotes, fast: int, slow: int) -> dict[str, Series]:
    means = zip(sma(q.middle, fast), sma(q.middle, slow), q.close)
    return {"awesome_oscillator": [(a - b) / c for a, b, c in means]}


def _power(q: Quotes) -> Series:
    return [ratio(c - o, h - m, 0.0) for o, h, m, c in zip(q.open, q.high, q.low, q.close)]


@plain
def balance_of_power(q: Quotes, bars: int) -> dict[str, Series]:
    return {"balance_of_power": sma(_power(q), bars)}


@with_talib
def balance_of_power(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    open_, high, low, close, _ = q.arrays()
    power = talib.BOP(open_, high, low, close)
    return {"balance_of_power": list(talib.SMA(power, bars) if bars > 1 else power)}


@plain
def aroon(q: Quotes, bars: int) -> dict[str, Series]:
    return {
        "aroon_up": over(bars + 1, lambda w: 100 * (bars - last_place(w, max(w))) / bars, q.high),
        "aroon_down": over(bars + 1, lambda w: 100 * (bars - last_place(w, min(w))) / bars, q.low),
    }


@with_talib
def aroon(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, _, _ = q.arrays()
    down, up = talib.AROON(high, low, bars)
    return {"aroon_up": list(up), "aroon_down": list(down)}


@plain
def coppock(q: Quotes, long: int, short: int, smooth: int) -> dict[str, Series]:
    return {"coppock": wma([a + b for a, b in zip(_rate(q, long), _rate(q, short))], smooth)}


@plain
def know_sure_thing(q: Quotes, signal: int) -> dict[str, Series]:
    parts = [sma(_rate(q, n), m) for n, m in ((10, 10), (15, 10), (20, 10), (30, 15))]
    kst = [a + 2 * b + 3 * c + 4 * d for a, b, c, d in zip(*parts)]
    return {"kst": kst, "kst_signal": sma(kst, signal)}


@plain
def fisher(q: Quotes, bars: int) -> dict[str, Series]:
    """The published program: both states begin at 0; beyond 0.99 the smoothed place is set to 0.999 and kept so."""
    out, place, transform = [], 0.0, 0.0
    for price, top, bottom in zip(q.middle, highest(q.middle, bars), lowest(q.middle, bars)):
        if top != top:
            out.append(NAN)
            continue
        place = 0.33 * 2 * (ratio(price - bottom, top - bottom, 0.5) - 0.5) + 0.67 * place
        if place > 0.99:
            place = 0.999
        if place < -0.99:
            place = -0.999
        transform = 0.5 * math.log((1 + place) / (1 - place)) + 0.5 * transform
        out.append(transform)
    return {"fisher": out}


@plain
def elder_ray(q: Quotes, bars: int) -> dict[str, Series]:
    average = ema(q.close, bars)
    return {
        "bull_power": [(h - a) / c for h, a, c in zip(q.high, average, q.close)],
        "bear_power": [(m - a) / c for m, a, c in zip(q.low, average, q.close)],
    }


@plain
def qstick(q: Quotes, bars: int) -> dict[str, Series]:
    means = sma([c - o for o, c in zip(q.open, q.close)], bars)
    return {"qstick": [x / c for x, c in zip(means, q.close)]}


@plain
def relative_vigour(q: Quotes, bars: int) -> dict[str, Series]:
    def smooth(x: Series) -> Series:
        return over(4, lambda w: (w[3] + 2 * w[2] + 2 * w[1] + w[0]) / 6, x)

    bodies = smooth([c - o for o, c in zip(q.open, q.close)])
    spreads = smooth([h - m for h, m in zip(q.high, q.low)])
    return {
        "relative_vigour": over(bars, lambda a, b: ratio(math.fsum(a), math.fsum(b), 0.0), bodies, spreads),
    }


@plain
def detrended_price(q: Quotes, bars: int) -> dict[str, Series]:
    before = ago(sma(q.close, bars), bars // 2 + 1)
    return {"detrended_price": [(c - m) / c for c, m in zip(q.close, before)]}


@plain
def ppo(q: Quotes, fast: int, slow: int) -> dict[str, Series]:
    return {"ppo": [100 * (a - b) / b for a, b in zip(ema(q.close, fast), ema(q.close, slow))]}


@with_talib
def ppo(q: Quotes, fast: int, slow: int) -> dict[str, Series]:  # noqa: F811
    return {"ppo": list(talib.PPO(np.array(q.close), fast, slow, 1))}
