"""Oracles of the shape of bars and of returns."""

import itertools
import math

import numpy as np
import talib

from indicator_oracles.plain import (
    NAN,
    Quotes,
    Series,
    ago,
    deviation,
    highest,
    last_place,
    lowest,
    mean,
    over,
    plain,
    ratio,
    ratios,
    wilder,
    with_talib,
)


@plain
def ohlc(q: Quotes) -> dict[str, Series]:
    prices = {"log_open": q.open, "log_high": q.high, "log_low": q.low, "log_return": q.close}
    return {
        name: [NAN, *(math.log(price) - math.log(before) for price, before in zip(x[1:], q.close))]
        for name, x in prices.items()
    }


@plain
def candle(q: Quotes) -> dict[str, Series]:
    bars = list(zip(q.open, q.high, q.low, q.close))
    return {
        "body": [ratio(c - o, h - low, 0.0) for o, h, low, c in bars],
        "upper_wick": [ratio(h - max(o, c), h - low, 0.0) for o, h, low, c in bars],
        "lower_wick": [ratio(min(o, c) - low, h - low, 0.0) for o, h, low, c in bars],
    }


@plain
def relative_range(q: Quotes, bars: int) -> dict[str, Series]:
    ranges = [h - low for h, low in zip(q.high, q.low)]
    return {"range": ratios(ranges, wilder(q.true_ranges, bars), 0.0)}


@plain
def close_location(q: Quotes) -> dict[str, Series]:
    return {
        "close_location": [ratio(2 * c - h - low, h - low, 0.0) for h, low, c in zip(q.high, q.low, q.close)],
    }


@plain
def gap(q: Quotes, bars: int) -> dict[str, Series]:
    gaps = [o - before for o, before in zip(q.open, ago(q.close, 1))]
    return {"gap": ratios(gaps, wilder(q.true_ranges, bars), 0.0)}


@plain
def inside_bar(q: Quotes) -> dict[str, Series]:
    out = [NAN]
    for i in range(1, len(q)):
        inside = q.high[i - 1] >= q.high[i] and q.low[i] >= q.low[i - 1]
        outside = q.high[i - 1] < q.high[i] and q.low[i] < q.low[i - 1]
        out.append(-1.0 if inside else 1.0 if outside else 0.0)
    return {"inside_bar": out}


@plain
def engulfing(q: Quotes) -> dict[str, Series]:
    out = [NAN]
    for i in range(1, len(q)):
        body, before = q.close[i] - q.open[i], q.close[i - 1] - q.open[i - 1]
        covers = max(q.open[i], q.close[i]) >= max(q.open[i - 1], q.close[i - 1])
        covers = covers and min(q.open[i], q.close[i]) <= min(q.open[i - 1], q.close[i - 1])
        opposed = body * before < 0
        out.append(math.copysign(1, body) if opposed and covers and abs(body) > abs(before) else 0.0)
    return {"engulfing": out}


@with_talib
def engulfing(q: Quotes) -> dict[str, Series]:  # noqa: F811
    """TA-Lib takes a bar without a body for a rising one; where the bar before has none, we say 0.

    It is silent about the first two bars, so one is put in front.
    """
    bars = tuple(np.concatenate([x[:1], x]) for x in q.arrays()[:4])
    found = np.sign(talib.CDLENGULFING(*bars)).astype(float)[1:]
    found[1:][(bars[0] == bars[3])[1:-1]] = 0.0
    found[:1] = NAN
    return {"engulfing": list(found)}


@plain
def heikin_ashi(q: Quotes) -> dict[str, Series]:
    body, distance, opened, closed = [], [], NAN, NAN
    for i, (o, h, low, c) in enumerate(zip(q.open, q.high, q.low, q.close)):
        opened = (opened + closed) / 2 if i else (o + c) / 2
        closed = (o + h + low + c) / 4
        body.append((closed - opened) / c if i else NAN)
        distance.append((closed - c) / c if i else NAN)
    return {"heikin_ashi_body": body, "heikin_ashi_gap": distance}


@plain
def run_length(q: Quotes, most: int) -> dict[str, Series]:
    out, run = [NAN], 0
    for change in q.changes[1:]:
        step = (change > 0) - (change < 0)
        run = run + step if step and run * step >= 0 else step
        out.append(float(max(-most, min(most, run))))
    return {"run_length": out}


@plain
def returns(q: Quotes, bars: int) -> dict[str, Series]:
    return {"return": [math.log(c / p) if p == p else NAN for c, p in zip(q.close, ago(q.close, bars))]}


@plain
def return_z(q: Quotes, bars: int) -> dict[str, Series]:
    return {"return_z": over(bars, lambda w: ratio(w[-1] - mean(w), deviation(w), 0.0), q.returns)}


@plain
def acceleration(q: Quotes, bars: int) -> dict[str, Series]:
    triples = zip(q.close, ago(q.close, bars), ago(q.close, 2 * bars))
    return {"acceleration": [math.log(a / b) - math.log(b / c) if c == c else NAN for a, b, c in triples]}


@plain
def extremes(q: Quotes, bars: int) -> dict[str, Series]:
    return {
        "below_high": [math.log(c) - math.log(top) for c, top in zip(q.close, highest(q.high, bars))],
        "above_low": [math.log(c) - math.log(bottom) for c, bottom in zip(q.close, lowest(q.low, bars))],
    }


@plain
def drawdown(q: Quotes, bars: int) -> dict[str, Series]:
    return {"drawdown": over(bars, lambda w: math.log(w[-1] / max(w)), q.close)}


@plain
def up_share(q: Quotes, bars: int) -> dict[str, Series]:
    return {
        "up_share": over(bars, lambda w: sum(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in w) / bars, q.changes)
    }


@plain
def efficiency_ratio(q: Quotes, bars: int) -> dict[str, Series]:
    def efficiency(w: Series) -> float:
        return ratio(w[-1] - w[0], math.fsum(abs(b - a) for a, b in itertools.pairwise(w)), 0.0)

    return {"efficiency_ratio": over(bars + 1, efficiency, q.close)}


@plain
def extremes_age(q: Quotes, bars: int) -> dict[str, Series]:
    return {
        "bars_since_high": over(bars, lambda w: last_place(w, max(w)) / (bars - 1), q.high),
        "bars_since_low": over(bars, lambda w: last_place(w, min(w)) / (bars - 1), q.low),
    }


@with_talib
def rate_of_change(q: Quotes, bars: int) -> dict[str, Series]:
    return {"rate_of_change": list(talib.ROC(np.array(q.close), bars))}
