"""Oracles of volatility: the published estimators term by term."""

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
    ema,
    highest,
    lowest,
    mean,
    over,
    plain,
    ratio,
    ratios,
    root_mean_square,
    variance,
    wilder,
    with_talib,
)


@plain
def true_range(q: Quotes) -> dict[str, Series]:
    return {"true_range": [t / c for t, c in zip(q.true_ranges, q.close)]}


@with_talib
def true_range(q: Quotes) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    return {"true_range": list(talib.TRANGE(high, low, close) / close)}


@plain
def atr(q: Quotes, bars: int) -> dict[str, Series]:
    return {"atr": [a / c for a, c in zip(wilder(q.true_ranges, bars), q.close)]}


@with_talib
def atr(q: Quotes, bars: int) -> dict[str, Series]:  # noqa: F811
    _, high, low, close, _ = q.arrays()
    return {"atr": list(talib.NATR(high, low, close, bars) / 100)}


@plain
def volatility(q: Quotes, bars: int) -> dict[str, Series]:
    return {"volatility": over(bars, root_mean_square, q.returns)}


@plain
def ewma_volatility(q: Quotes, decay: float) -> dict[str, Series]:
    """Weights decay^age over the sum of the weights; shown once they hold three quarters of what they ever will."""
    out, r = [NAN], q.returns[1:]
    weights = [decay**k for k in range(len(r))]
    for end in range(1, len(r) + 1):
        total = math.fsum(weights[:end])
        squares = math.fsum(w * x * x for w, x in zip(weights, reversed(r[:end])))
        enough = total * (1 - decay) >= 0.75 - 1e-12
        out.append(math.sqrt(squares / total) if enough else NAN)
    return {"ewma_volatility": out}


@plain
def parkinson(q: Quotes, bars: int) -> dict[str, Series]:
    def estimate(high: Series, low: Series) -> float:
        return math.sqrt(math.fsum(math.log(h / m) ** 2 for h, m in zip(high, low)) / (4 * bars * math.log(2)))

    return {"parkinson": over(bars, estimate, q.high, q.low)}


@plain
def garman_klass(q: Quotes, bars: int) -> dict[str, Series]:
    """The estimator without an opening gap (the practical one of the paper, without its last digits)."""

    def estimate(*prices: Series) -> float:
        terms = [
            0.5 * math.log(h / m) ** 2 - (2 * math.log(2) - 1) * math.log(c / o) ** 2 for o, h, m, c in zip(*prices)
        ]
        return math.sqrt(math.fsum(terms) / bars)

    return {"garman_klass": over(bars, estimate, q.open, q.high, q.low, q.close)}


def _rogers_satchell(opens: Series, highs: Series, lows: Series, closes: Series) -> float:
    terms = []
    for o, h, m, c in zip(opens, highs, lows, closes):
        up, down, body = math.log(h / o), math.log(m / o), math.log(c / o)
        terms.append(up * (up - body) + down * (down - body))
    return math.fsum(terms) / len(terms)


@plain
def rogers_satchell(q: Quotes, bars: int) -> dict[str, Series]:
    return {
        "rogers_satchell": over(bars, lambda *p: math.sqrt(_rogers_satchell(*p)), q.open, q.high, q.low, q.close),
    }


@plain
def yang_zhang(q: Quotes, bars: int) -> dict[str, Series]:
    def estimate(before: Series, *prices: Series) -> float:
        opens, _, _, closes = prices
        unbiased = bars / (bars - 1)
        overnight = variance([math.log(o / p) for o, p in zip(opens, before)]) * unbiased
        day = variance([math.log(c / o) for c, o in zip(closes, opens)]) * unbiased
        k = 0.34 / (1.34 + (bars + 1) / (bars - 1))
        return math.sqrt(overnight + k * day + (1 - k) * _rogers_satchell(*prices))

    return {"yang_zhang": over(bars, estimate, ago(q.close, 1), q.open, q.high, q.low, q.close)}


@plain
def bollinger(q: Quotes, bars: int, deviations: float) -> dict[str, Series]:
    def place(w: Series) -> float:
        upper, lower = mean(w) + deviations * deviation(w), mean(w) - deviations * deviation(w)
        return 0.5 if min(w) == max(w) else (w[-1] - lower) / (upper - lower)

    width = over(bars, lambda w: 2 * deviations * deviation(w) / mean(w), q.close)
    return {"percent_b": over(bars, place, q.close), "bollinger_width": width}


@with_talib
def bollinger(q: Quotes, bars: int, deviations: float) -> dict[str, Series]:  # noqa: F811
    close = np.array(q.close)
    upper, middle, lower = talib.BBANDS(close, bars, deviations, deviations)
    return {
        "percent_b": ratios(list(close - lower), list(upper - lower), 0.5),
        "bollinger_width": list((upper - lower) / middle),
    }


@plain
def keltner(q: Quotes, bars: int, atr_bars: int, multiple: float) -> dict[str, Series]:
    place, width = [], []
    for close, middle, usual in zip(q.close, ema(q.close, bars), wilder(q.true_ranges, atr_bars)):
        upper, lower = middle + multiple * usual, middle - multiple * usual
        place.append(ratio(close - lower, upper - lower, 0.5, least=1e-7 * middle))
        width.append((upper - lower) / middle)
    return {"keltner_position": place, "keltner_width": width}


@plain
def donchian(q: Quotes, bars: int) -> dict[str, Series]:
    tops, bottoms = highest(q.high, bars), lowest(q.low, bars)
    place = [ratio(c - m, h - m, 0.5) for c, h, m in zip(q.close, tops, bottoms)]
    return {"donchian_position": place, "donchian_width": [(h - m) / c for c, h, m in zip(q.close, tops, bottoms)]}


@plain
def volatility_ratio(q: Quotes, fast: int, slow: int) -> dict[str, Series]:
    parts = (over(n, root_mean_square, q.returns) for n in (fast, slow))
    return {"volatility_ratio": ratios(*parts, 1.0)}


@plain
def volatility_of_volatility(q: Quotes, bars: int) -> dict[str, Series]:
    usual = over(bars, root_mean_square, q.returns)
    return {"volatility_of_volatility": over(bars, lambda w: ratio(deviation(w), mean(w), 0.0), usual)}


@plain
def semi_volatility(q: Quotes, bars: int) -> dict[str, Series]:
    def half(sign: int) -> Series:
        return over(bars, lambda w: root_mean_square([r if r * sign > 0 else 0.0 for r in w]), q.returns)

    return {"downside_volatility": half(-1), "upside_volatility": half(1)}


@plain
def bipower(q: Quotes, bars: int) -> dict[str, Series]:
    def parts(w: Series) -> tuple[float, float]:  # of bars + 1 returns
        smooth = math.pi / 2 * math.fsum(abs(a) * abs(b) for a, b in itertools.pairwise(w))
        return smooth, math.fsum(r * r for r in w[1:])

    def jumps(w: Series) -> float:
        smooth, total = parts(w)
        return max(ratio(total - smooth, total, 0.0), 0.0)

    return {
        "bipower_volatility": over(bars + 1, lambda w: math.sqrt(parts(w)[0] / bars), q.returns),
        "jump_share": over(bars + 1, jumps, q.returns),
    }


@plain
def ulcer_index(q: Quotes, bars: int) -> dict[str, Series]:
    depths = over(bars, lambda w: (max(w) - w[-1]) / max(w), q.close)
    return {"ulcer_index": over(bars, root_mean_square, depths)}


@plain
def chaikin_volatility(q: Quotes, bars: int, change: int) -> dict[str, Series]:
    average = ema([h - m for h, m in zip(q.high, q.low)], bars)
    triples = zip(average, ago(average, change), q.close)
    return {"chaikin_volatility": [ratio(a - b, b, 0.0, least=1e-7 * c) for a, b, c in triples]}


@plain
def mass_index(q: Quotes, ema: int, bars: int) -> dict[str, Series]:
    from indicator_oracles.plain import ema as exponential

    once = exponential([h - m for h, m in zip(q.high, q.low)], ema)
    return {"mass_index": over(bars, math.fsum, ratios(once, exponential(once, ema), 1.0))}


@plain
def choppiness(q: Quotes, bars: int) -> dict[str, Series]:
    def index(path: Series, high: Series, low: Series) -> float:
        net = max(high) - min(low)
        return 100.0 if net == 0 else 100 * math.log10(math.fsum(path) / net) / math.log10(bars)

    return {"choppiness": over(bars, index, q.true_ranges, q.high, q.low)}
