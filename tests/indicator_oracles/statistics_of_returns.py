"""Oracles of the law and the memory of returns."""

import math

from indicator_oracles.plain import (
    Quotes,
    Series,
    ago,
    correlation,
    deviation,
    mean,
    over,
    plain,
    ratio,
    variance,
)


def _standardised(w: Series, power: int) -> float:
    if min(w) == max(w):
        return 0.0
    middle, size = mean(w), deviation(w)
    return mean([((r - middle) / size) ** power for r in w])


@plain
def skewness(q: Quotes, bars: int) -> dict[str, Series]:
    return {"skewness": over(bars, lambda w: _standardised(w, 3), q.returns)}


@plain
def kurtosis(q: Quotes, bars: int) -> dict[str, Series]:
    return {"kurtosis": over(bars, lambda w: 0.0 if min(w) == max(w) else _standardised(w, 4) - 3, q.returns)}


@plain
def realised_moments(q: Quotes, bars: int) -> dict[str, Series]:
    def power(w: Series, order: int) -> float:
        return math.fsum(r**order for r in w)

    return {
        "realised_skewness": over(
            bars, lambda w: ratio(math.sqrt(bars) * power(w, 3), power(w, 2) ** 1.5, 0.0), q.returns
        ),
        "realised_kurtosis": over(bars, lambda w: ratio(bars * power(w, 4), power(w, 2) ** 2, 0.0), q.returns),
    }


@plain
def autocorrelation(q: Quotes, bars: int, lag: int) -> dict[str, Series]:
    return {"autocorrelation": over(bars + lag, lambda w: correlation(w[lag:], w[:-lag]), q.returns)}


@plain
def variance_ratio(q: Quotes, bars: int, lag: int) -> dict[str, Series]:
    long = [math.log(c / before) if before == before else before for c, before in zip(q.close, ago(q.close, lag))]
    return {"variance_ratio": over(bars, lambda a, b: ratio(variance(a), lag * variance(b), 1.0), long, q.returns)}


@plain
def hurst(q: Quotes, bars: int) -> dict[str, Series]:
    lags = [1, 2, 4, 8, 16]
    price = [math.log(c) for c in q.close]

    def exponent(w: Series) -> float:  # of bars + 16 log prices
        sizes = [deviation([w[i] - w[i - lag] for i in range(16, len(w))]) for lag in lags]
        if min(sizes) == 0:
            return 0.5
        x, y = [math.log(lag) for lag in lags], [math.log(size) for size in sizes]
        return math.fsum((a - mean(x)) * (b - mean(y)) for a, b in zip(x, y)) / math.fsum((a - mean(x)) ** 2 for a in x)

    return {"hurst": over(bars + 16, exponent, price)}


@plain
def z_score(q: Quotes, bars: int) -> dict[str, Series]:
    return {"z_score": over(bars, lambda w: ratio(w[-1] - mean(w), deviation(w), 0.0), q.close)}


def _rank(w: Series) -> float:
    others, newest = w[:-1], w[-1]
    return (sum(x < newest for x in others) + 0.5 * sum(x == newest for x in others)) / len(others)


@plain
def return_rank(q: Quotes, bars: int) -> dict[str, Series]:
    return {"return_rank": over(bars, _rank, q.returns)}


@plain
def range_rank(q: Quotes, bars: int) -> dict[str, Series]:
    return {"range_rank": over(bars, _rank, [math.log(h / m) for h, m in zip(q.high, q.low)])}
