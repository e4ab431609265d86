"""How much the price moves, from closes, ranges and all four prices."""

import math

import numpy as np
import polars as pl
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
from forexgpt_core.features.kernels import rolling_moments, rolling_sum

FAMILY = Family("volatility")
_AT_REST = 1e-7  # of the price: an average range that has faded to less, in a long standstill, counts as none
_FAST_BELOW_SLOW = ("fast must be below slow", lambda fast, slow, **_: fast < slow)


@FAMILY.indicator(warm_up=1)
def true_range(b: Bars) -> Columns:
    """Wilder's true range as a share of the close."""
    return {"true_range": b.true_range / b.close}


@FAMILY.indicator(warm_up=lambda bars: bars, forget=wilder_fades, bars=window(14))
def atr(b: Bars, bars: int) -> Columns:
    """Wilder's average true range as a share of the close (normalised ATR)."""
    return {"atr": talib.ATR(b.high, b.low, b.close, timeperiod=bars) / b.close}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(24))
def volatility(b: Bars, bars: int) -> Columns:
    """Root mean square log return of the newest `bars`, the mean taken as 0."""
    return {"volatility": _mean_root(b.log_return**2, bars)}


def _first_mass(decay: float) -> int:
    """Return the returns that carry three quarters of all weight; the average is shown from then on."""
    return max(1, math.ceil(math.log(0.25) / math.log(decay)))


@FAMILY.indicator(warm_up=_first_mass, forget=fades, decay=number(0.94, 0.5, 0.999))
def ewma_volatility(b: Bars, decay: float) -> Columns:
    """Root of the exponentially weighted mean squared log return, weights normalised over the returns seen.

    Source: RiskMetrics Technical Document (1996), decay 0.94 for daily returns.
    """
    squared = pl.Series(b.log_return[1:] ** 2)
    mean = squared.ewm_mean(alpha=1 - decay, adjust=True, min_samples=_first_mass(decay)).fill_null(float("nan"))
    return {"ewma_volatility": np.concatenate([np.full(min(1, len(b)), np.nan), np.sqrt(mean.to_numpy())])}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(24))
def parkinson(b: Bars, bars: int) -> Columns:
    """Volatility per bar from high and low. Source: Parkinson (1980), J. Business 53."""
    return {"parkinson": _mean_root(np.log(b.high / b.low) ** 2 / (4 * math.log(2)), bars)}


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(24))
def garman_klass(b: Bars, bars: int) -> Columns:
    """Volatility per bar from open, high, low and close. Source: Garman and Klass (1980), J. Business 53."""
    ranges, bodies = np.log(b.high / b.low) ** 2, np.log(b.close / b.open) ** 2
    return {"garman_klass": _mean_root(0.5 * ranges - (2 * math.log(2) - 1) * bodies, bars)}


def _rogers_satchell(b: Bars) -> Floats:
    up = np.log(b.high / b.close) * np.log(b.high / b.open)
    return np.asarray(up + np.log(b.low / b.close) * np.log(b.low / b.open))


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(24))
def rogers_satchell(b: Bars, bars: int) -> Columns:
    """Volatility per bar, whatever the drift. Source: Rogers and Satchell (1991), Ann. Appl. Probab. 1(4)."""
    return {"rogers_satchell": _mean_root(_rogers_satchell(b), bars)}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(24))
def yang_zhang(b: Bars, bars: int) -> Columns:
    """Volatility per bar with gaps between bars, whatever the drift. Source: Yang and Zhang (2000), J. Business 73."""
    weight = 0.34 / (1.34 + (bars + 1) / (bars - 1))
    unbiased = bars / (bars - 1)
    gaps = rolling_moments(np.log(b.open / b.previous_close), bars, 2)[1] * unbiased
    bodies = rolling_moments(np.log(b.close / b.open), bars, 2)[1] * unbiased
    inner = rolling_sum(_rogers_satchell(b), bars) / bars
    return {"yang_zhang": np.sqrt(gaps + weight * bodies + (1 - weight) * inner)}


@FAMILY.indicator(
    "percent_b", "bollinger_width", warm_up=lambda bars, **_: bars - 1, bars=window(20), deviations=number(2, 0.1, 10)
)
def bollinger(b: Bars, bars: int, deviations: float) -> Columns:
    """Place of the close in the band (0 lower, 1 upper, 0.5 without a width), and the width as a share of the mean."""
    mean, variance = rolling_moments(b.close, bars, 2)
    half = deviations * np.sqrt(variance)
    return {"percent_b": share(b.close - mean + half, 2 * half, where_none=0.5), "bollinger_width": 2 * half / mean}


@FAMILY.indicator(
    "keltner_position",
    "keltner_width",
    warm_up=lambda bars, atr_bars, **_: max(bars - 1, atr_bars),
    forget=lambda bars, atr_bars, **_: max(ema_fades(bars), wilder_fades(atr_bars)),
    bars=window(20),
    atr_bars=window(10),
    multiple=number(2, 0.1, 10),
)
def keltner(b: Bars, bars: int, atr_bars: int, multiple: float) -> Columns:
    """Place of the close in the channel of EMA and ATR (0 lower, 1 upper, 0.5 for no width), and the relative width.

    The channel is the EMA of the close and `multiple` of Wilder's ATR to either side. A ten-millionth of the price, to
    which it narrows in a long standstill, is no width.
    """
    middle = talib.EMA(b.close, timeperiod=bars)
    half = multiple * talib.ATR(b.high, b.low, b.close, timeperiod=atr_bars)
    position = share(b.close - middle + half, 2 * half, where_none=0.5, least=_AT_REST * middle)
    return {"keltner_position": position, "keltner_width": 2 * half / middle}


@FAMILY.indicator("donchian_position", "donchian_width", warm_up=lambda bars: bars - 1, bars=window(20))
def donchian(b: Bars, bars: int) -> Columns:
    """Place of the close between lowest low (0) and highest high (1), 0.5 without a width, and the relative width."""
    top, bottom = talib.MAX(b.high, timeperiod=bars), talib.MIN(b.low, timeperiod=bars)
    position = share(b.close - bottom, top - bottom, where_none=0.5)
    return {"donchian_position": position, "donchian_width": (top - bottom) / b.close}


@FAMILY.indicator(warm_up=lambda fast, slow: slow, fast=window(12), slow=window(96), rule=_FAST_BELOW_SLOW)
def volatility_ratio(b: Bars, fast: int, slow: int) -> Columns:
    """Volatility of the newest `fast` returns over that of the newest `slow`; 1 where nothing moves."""
    squared = b.log_return**2
    return {"volatility_ratio": share(_mean_root(squared, fast), _mean_root(squared, slow), where_none=1.0)}


@FAMILY.indicator(warm_up=lambda bars: 2 * bars - 1, bars=window(24))
def volatility_of_volatility(b: Bars, bars: int) -> Columns:
    """Standard deviation over mean of the newest `bars` volatilities of `bars` returns; 0 where nothing moves."""
    mean, variance = rolling_moments(_mean_root(b.log_return**2, bars), bars, 2)
    return {"volatility_of_volatility": share(np.sqrt(variance), mean, where_none=0.0)}


@FAMILY.indicator("downside_volatility", "upside_volatility", warm_up=lambda bars: bars, bars=window(24))
def semi_volatility(b: Bars, bars: int) -> Columns:
    """Root mean square of the falling, and of the rising, log returns, over all `bars` of them."""
    down, up = np.minimum(b.log_return, 0), np.maximum(b.log_return, 0)
    return {"downside_volatility": _mean_root(down**2, bars), "upside_volatility": _mean_root(up**2, bars)}


@FAMILY.indicator("bipower_volatility", "jump_share", warm_up=lambda bars: bars + 1, bars=window(48, least=4))
def bipower(b: Bars, bars: int) -> Columns:
    """Volatility that jumps do not raise, and the share of the variance that jumps make up (0 where nothing moves).

    From the `bars` newest products of neighbouring absolute returns and as many squares; a negative share counts 0.
    Source: Barndorff-Nielsen and Shephard (2004), J. Financial Econometrics 2(1).
    """
    products = np.abs(b.log_return * shifted(b.log_return, 1))
    smooth = math.pi / 2 * rolling_sum(products, bars) / bars
    total = rolling_sum(b.log_return**2, bars) / bars
    jumps = np.maximum(share(total - smooth, total, where_none=0.0), 0.0)
    return {"bipower_volatility": np.sqrt(smooth), "jump_share": jumps}


@FAMILY.indicator(warm_up=lambda bars: 2 * (bars - 1), bars=window(14))
def ulcer_index(b: Bars, bars: int) -> Columns:
    """Root mean square depth of `bars` closes below the highest of the `bars` up to each, as a share, not in per cent.

    Source: Martin and McCann (1989), The Investor's Guide to Fidelity Funds.
    """
    depth = 1 - b.close / talib.MAX(b.close, timeperiod=bars)
    return {"ulcer_index": _mean_root(depth**2, bars)}


@FAMILY.indicator(
    warm_up=lambda bars, change: bars - 1 + change,
    forget=lambda bars, change: ema_fades(bars),
    bars=window(10),
    change=window(10, least=1),
)
def chaikin_volatility(b: Bars, bars: int, change: int) -> Columns:
    """Relative change over `change` bars of the EMA of high minus low, as a share; 0 where nothing moved before.

    An average below a ten-millionth of the price, to which it fades in a long standstill, is nothing.
    """
    average = talib.EMA(b.high - b.low, timeperiod=bars)
    before = shifted(average, change)
    return {"chaikin_volatility": share(average - before, before, where_none=0.0, least=_AT_REST * b.close)}


@FAMILY.indicator(
    warm_up=lambda ema, bars: 2 * (ema - 1) + bars - 1,
    forget=lambda ema, bars: 2 * ema_fades(ema),
    ema=window(9),
    bars=window(25),
)
def mass_index(b: Bars, ema: int, bars: int) -> Columns:
    """Sum over `bars` of the EMA of high minus low over its own EMA; `bars` where the range stays (Dorsey 1992)."""
    once = talib.EMA(b.high - b.low, timeperiod=ema)
    return {"mass_index": rolling_sum(share(once, talib.EMA(once, timeperiod=ema), where_none=1.0), bars)}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(14))
def choppiness(b: Bars, bars: int) -> Columns:
    """Choppiness index: log of the summed true range over the net range, over the log of `bars`, times 100.

    0 for a straight line to 100 for no way made, also where nothing moves (Dreiss 1993).
    """
    net = talib.MAX(b.high, timeperiod=bars) - talib.MIN(b.low, timeperiod=bars)
    path = share(rolling_sum(b.true_range, bars), net, where_none=float(bars))
    return {"choppiness": 100 * np.log(path) / math.log(bars)}


def _mean_root(x: Floats, bars: int) -> Floats:
    return np.asarray(np.sqrt(np.maximum(rolling_sum(x, bars), 0.0) / bars))
