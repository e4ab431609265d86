"""How far the price has come, over several spans."""

import numpy as np
import talib

from forexgpt_core.features.indicator import Bars, Columns, Family, share, shifted, window
from forexgpt_core.features.kernels import rolling_moments, rolling_sum

FAMILY = Family("returns")


@FAMILY.indicator("return", warm_up=lambda bars: bars, bars=window(4, least=1))
def returns(b: Bars, bars: int) -> Columns:
    """Log return over the newest `bars` bars."""
    return {"return": np.log(b.close / shifted(b.close, bars))}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(48, least=5))
def return_z(b: Bars, bars: int) -> Columns:
    """Newest log return less the mean of the newest `bars`, in their standard deviations; 0 where they are equal."""
    mean, variance = rolling_moments(b.log_return, bars, 2)
    return {"return_z": share(b.log_return - mean, np.sqrt(variance), where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: 2 * bars, bars=window(12, least=1))
def acceleration(b: Bars, bars: int) -> Columns:
    """Log return over the newest `bars` bars less that over the `bars` before."""
    newest = np.log(b.close / shifted(b.close, bars))
    return {"acceleration": newest - shifted(newest, bars)}


@FAMILY.indicator("below_high", "above_low", warm_up=lambda bars: bars - 1, bars=window(48))
def extremes(b: Bars, bars: int) -> Columns:
    """Log distance of the close from the highest high (at most 0) and the lowest low (at least 0) of `bars`."""
    return {
        "below_high": np.log(b.close / talib.MAX(b.high, bars)),
        "above_low": np.log(b.close / talib.MIN(b.low, bars)),
    }


@FAMILY.indicator(warm_up=lambda bars: bars - 1, bars=window(48))
def drawdown(b: Bars, bars: int) -> Columns:
    """Log distance of the close from the highest close of `bars`; at most 0."""
    return {"drawdown": np.log(b.close / talib.MAX(b.close, bars))}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(24))
def up_share(b: Bars, bars: int) -> Columns:
    """Share of the newest `bars` closes that rose; a close that stands counts half (psychological line)."""
    rose = np.sign(b.change) / 2 + 0.5
    return {"up_share": rolling_sum(rose, bars) / bars}


@FAMILY.indicator(warm_up=lambda bars: bars, bars=window(10))
def efficiency_ratio(b: Bars, bars: int) -> Columns:
    """Net change over `bars` as a share of the path walked, with its sign; 0 where nothing moves (Kaufman 1995)."""
    path = rolling_sum(np.abs(b.change), bars)
    return {"efficiency_ratio": share(b.close - shifted(b.close, bars), path, where_none=0.0)}


@FAMILY.indicator("bars_since_high", "bars_since_low", warm_up=lambda bars: bars - 1, bars=window(24, least=3))
def extremes_age(b: Bars, bars: int) -> Columns:
    """How long ago the highest high and the lowest low of `bars` were last reached: 0 now to 1 on the oldest bar."""
    down, up = talib.AROON(b.high, b.low, timeperiod=bars - 1)  # of equal extremes it takes the newest, unlike MAXINDEX
    return {"bars_since_high": 1 - up / 100, "bars_since_low": 1 - down / 100}
