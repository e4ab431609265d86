"""Oracles of tick volume. A window with an undefined volume is undefined."""

import math

import talib

from indicator_oracles.plain import (
    NAN,
    Quotes,
    Series,
    ago,
    correlation,
    deviation,
    faded,
    mean,
    over,
    plain,
    ratio,
    ratios,
    with_talib,
)


@plain
def obv(q: Quotes, bars: int) -> dict[str, Series]:
    signed = [v * ((d > 0) - (d < 0)) if d == d else NAN for d, v in zip(q.changes, q.volume)]
    return {"obv": over(bars, lambda s, v: ratio(math.fsum(s), math.fsum(v), 0.0), signed, q.volume)}


@with_talib
def obv(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, _, _, close, volume = q.arrays()
    total = list(talib.OBV(close, volume))
    moved = [a - b for a, b in zip(total, ago(total, bars))]
    return {"obv": ratios(moved, over(bars, math.fsum, q.volume), 0.0)}


@plain
def vwap(q: Quotes, bars: int) -> dict[str, Series]:
    def distance(close: Series, typical: Series, volume: Series) -> float:
        if not any(volume):
            return 0.0
        return close[-1] / (math.fsum(p * v for p, v in zip(typical, volume)) / math.fsum(volume)) - 1

    return {"vwap": over(bars, distance, q.close, q.typical, q.volume)}


@plain
def mfi(q: Quotes, bars: int) -> dict[str, Series]:
    def index(typical: Series, volume: Series) -> float:
        moved = [(round(b - a, 9), b * v) for a, b, v in zip(typical, typical[1:], volume[1:])]  # less is rounding
        up = math.fsum(flow for rise, flow in moved if rise > 0)
        down = math.fsum(flow for rise, flow in moved if rise < 0)
        return 100 * ratio(up, up + down, 0.5)

    # the first typical price of a window is compared with, its volume does not count
    out = over(bars + 1, index, q.typical, [0.0 if v != v else v for v in q.volume])
    return {"mfi": [x if v == v else NAN for x, v in zip(out, over(bars, math.fsum, q.volume))]}


@with_talib
def mfi(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, volume = q.arrays()
    return {"mfi": list(talib.MFI(high, low, close, volume, bars))}


def _multiplier(q: Quotes) -> Series:
    return [ratio((c - m) - (h - c), h - m, 0.0) for h, m, c in zip(q.high, q.low, q.close)]


@plain
def chaikin_money_flow(q: Quotes, bars: int) -> dict[str, Series]:
    def index(multiplier: Series, volume: Series) -> float:
        return ratio(math.fsum(a * v for a, v in zip(multiplier, volume)), math.fsum(volume), 0.0)

    return {"chaikin_money_flow": over(bars, index, _multiplier(q), q.volume)}


@plain
def accumulation_oscillator(q: Quotes, fast: int, slow: int, bars: int) -> dict[str, Series]:
    flow = [a * v for a, v in zip(_multiplier(q), q.volume)]
    quick, calm = (faded(flow, 2 / (n + 1)) for n in (fast, slow))
    usual = over(bars, mean, q.volume)
    return {"accumulation_oscillator": ratios([a - b for a, b in zip(quick, calm)], usual, 0.0)}


@plain
def force_index(q: Quotes, bars: int) -> dict[str, Series]:
    force = [r * v for r, v in zip(q.returns, q.volume)]
    return {"force_index": ratios(faded(force, 2 / (bars + 1)), over(bars, mean, q.volume), 0.0)}


@plain
def ease_of_movement(q: Quotes, bars: int) -> dict[str, Series]:
    ease = []
    for i in range(len(q)):
        move = (q.middle[i] - q.middle[i - 1]) / q.close[i] if i else NAN
        spread = (q.high[i] - q.low[i]) / q.close[i]
        ease.append(ratio(move * spread, q.volume[i], 0.0))
    return {"ease_of_movement": [a * v for a, v in zip(over(bars, mean, ease), over(bars, mean, q.volume))]}


@plain
def volume_z(q: Quotes, bars: int) -> dict[str, Series]:
    logs = [math.log(v + 1) for v in q.volume]
    return {"volume_z": over(bars, lambda w: ratio(w[-1] - mean(w), deviation(w), 0.0), logs)}


@plain
def relative_volume(q: Quotes, bars: int) -> dict[str, Series]:
    return {"relative_volume": over(bars, lambda w: ratio(w[-1], mean(w), 1.0), q.volume)}


@plain
def vwma(q: Quotes, bars: int) -> dict[str, Series]:
    def distance(close: Series, volume: Series) -> float:
        if not any(volume):
            return 0.0
        return mean(close) / (math.fsum(p * v for p, v in zip(close, volume)) / math.fsum(volume)) - 1

    return {"vwma": over(bars, distance, q.close, q.volume)}


@plain
def volume_volatility(q: Quotes, bars: int) -> dict[str, Series]:
    return {"volume_volatility": over(bars, correlation, [abs(r) for r in q.returns], q.volume)}
