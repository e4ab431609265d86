"""The law and the memory of recent returns."""

import numpy as np

from forexgpt_core.features.indicator import Bars, Columns, Family, share, shifted, window
from forexgpt_core.features.kernels import rolling_covariance, rolling_moments, rolling_rank, rolling_sum

FAMILY = Family("statistics")


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(48, least=8))
def skewness(b: Bars, bars: int) -> Columns:
    """Skewness of the log returns of `bars` (moments, biased); 0 where they do not vary."""
    _, second, third = rolling_moments(b.log_return, bars, 3)
    return {"skewness": share(third, second**1.5, where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(48, least=8))
def kurtosis(b: Bars, bars: int) -> Columns:
    """Excess kurtosis of the log returns of `bars` (moments, biased); 0 where they do not vary."""
    _, second, _, fourth = rolling_moments(b.log_return, bars, 4)
    return {"kurtosis": share(fourth, second**2, where_none=3.0) - 3}


@FAMILY.indicator("realised_skewness", "realised_kurtosis", warm_up=lambda bars: bars, bars=window(48, least=8))
def realised_moments(b: Bars, bars: int) -> Columns:
    """Realised skewness and kurtosis of the log returns of `bars`, mean taken as 0; 0 where nothing moves.

    Source: Amaya, Christoffersen, Jacobs and Vasquez (2015), J. Financial Economics 118.
    """
    r = b.log_return
    square = rolling_sum(r**2, bars)
    return {
        "realised_skewness": share(np.sqrt(bars) * rolling_sum(r**3, bars), square**1.5, where_none=0.0),
        "realised_kurtosis": share(bars * rolling_sum(r**4, bars), square**2, where_none=0.0),
    }


@FAMILY.indicator(warm_up=lambda bars, lag: bars + lag, bars=window(48, least=8), lag=window(1, least=1))
def autocorrelation(b: Bars, bars: int, lag: int) -> Columns:
    """Correlation of log returns with those `lag` bars before, over `bars` pairs, -1 to 1; 0 where they do not vary."""
    both, first, second = rolling_covariance(b.log_return, shifted(b.log_return, lag), bars)
    return {"autocorrelation": np.clip(share(both, np.sqrt(first * second), where_none=0.0), -1, 1)}


@FAMILY.indicator(warm_up=lambda bars, lag: bars + lag - 1, bars=window(96, least=8), lag=window(4))
def variance_ratio(b: Bars, bars: int, lag: int) -> Columns:
    """Variance of `lag`-bar log returns over `lag` times that of one bar; 1 for a random walk and where nothing moves.

    Over the newest `bars` of either, overlapping, each around its own mean, without correction for small samples.
    Source: Lo and MacKinlay (1988), Review of Financial Studies 1(1).
    """
    long = rolling_moments(np.log(b.close / shifted(b.close, lag)), bars, 2)[1]
    return {"variance_ratio": share(long, lag * rolling_moments(b.log_return, bars, 2)[1], where_none=1.0)}


_LAGS = (1, 2, 4, 8, 16)


@FAMILY.indicator(warm_up=lambda bars: bars + _LAGS[-1] - 1, bars=window(128, least=32))
def hurst(b: Bars, bars: int) -> Columns:
    """Hurst exponent: slope of the log deviation of log price changes on the log lag (1, 2, 4, 8, 16 bars).

    Over the newest `bars` overlapping changes of each lag, each around its own mean, which takes a drift out.
    0.5 for a random walk, above for trends, below for reversals; 0.5 where nothing moves.
    Source: generalised Hurst exponent of order 2, Di Matteo (2007), Quantitative Finance 7(1).
    """
    price = np.log(b.close)
    x = np.log(_LAGS) - np.log(_LAGS).mean()
    slope, still = np.zeros(len(b)), np.zeros(len(b), dtype=np.bool_)
    for weight, lag in zip(x / (x**2).sum(), _LAGS):
        variance = rolling_moments(price - shifted(price, lag), bars, 2)[1]
        still |= variance == 0
        slope += weight * 0.5 * np.log(np.where(variance == 0, 1.0, variance))
    return {"hurst": np.where(still, 0.5, slope)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(48, least=5))
def z_score(b: Bars, bars: int) -> Columns:
    """Close less its mean of `bars`, in their standard deviations; 0 where it does not vary."""
    mean, variance = rolling_moments(b.close, bars, 2)
    return {"z_score": share(b.close - mean, np.sqrt(variance), where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(48, least=5, most=1000))
def return_rank(b: Bars, bars: int) -> Columns:
    """Share of the newest `bars` log returns that lie below the newest one, ties counted half; 0 to 1."""
    return {"return_rank": rolling_rank(b.log_return, bars)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(48, least=5, most=1000))
def range_rank(b: Bars, bars: int) -> Columns:
    """Share of the newest `bars` relative ranges that lie below the newest one, ties counted half; 0 to 1."""
    return {"range_rank": rolling_rank(np.log(b.high / b.low), bars)}
