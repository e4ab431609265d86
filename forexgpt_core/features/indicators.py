"""Scale-free indicators of one timeframe: row i reads bars up to and including bar i, NaN while warming up.

TA-Lib computes what it has. It is imported on use because it pulls in pandas.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.bars import PRICES

Floats = NDArray[np.float64]
Columns = dict[str, Floats]

BOLLINGER_DEVIATIONS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """The prices of n bars, oldest first; (n,) each, in quote currency."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats

    @classmethod
    def of(cls, bars: pl.DataFrame) -> "Prices":
        """Return the prices of a candle table."""
        return cls(**{name: np.ascontiguousarray(bars[name].to_numpy(), dtype=np.float64) for name in PRICES})

    @property
    def previous_close(self) -> Floats:
        """Return the close of the bar before each; NaN for the first."""
        return np.concatenate([np.full(min(1, self.close.size), np.nan), self.close[:-1]])


def relative_ohlc(prices: Prices, atr_bars: int) -> Columns:
    """Return the bar's shape without its price level.

    Returns:
        `log_open`, `log_high`, `log_low`, `log_return`: log ratios of open, high, low and close to the previous close.
        `range`: high minus low as a multiple of Wilder's average true range, which log high and log low do not already
        say. `body`, `upper_wick`, `lower_wick`: signed body and wicks as shares of the range. All are 0 for a bar
        without a range.
    """
    import talib

    usual = talib.ATR(prices.high, prices.low, prices.close, timeperiod=atr_bars)
    before = prices.previous_close
    spread = prices.high - prices.low
    top, bottom = np.maximum(prices.open, prices.close), np.minimum(prices.open, prices.close)
    return {
        "log_open": np.log(prices.open / before),
        "log_high": np.log(prices.high / before),
        "log_low": np.log(prices.low / before),
        "log_return": np.log(prices.close / before),
        "range": _share(spread, usual, where_none=0.0),
        "body": _share(prices.close - prices.open, spread, where_none=0.0),
        "upper_wick": _share(prices.high - top, spread, where_none=0.0),
        "lower_wick": _share(bottom - prices.low, spread, where_none=0.0),
    }


def relative_strength(prices: Prices, bars: int) -> Columns:
    """Return Wilder's RSI, 0 to 100."""
    import talib

    return {f"rsi_{bars}": talib.RSI(prices.close, timeperiod=bars)}


def relative_atr(prices: Prices, bars: int) -> Columns:
    """Return Wilder's average true range as a share of the close."""
    import talib

    return {f"atr_{bars}": talib.ATR(prices.high, prices.low, prices.close, timeperiod=bars) / prices.close}


def relative_macd(prices: Prices, fast: int, slow: int, signal: int) -> Columns:
    """Return the MACD and its histogram (MACD minus signal) as shares of the close."""
    import talib

    macd, _, histogram = talib.MACD(prices.close, fastperiod=fast, slowperiod=slow, signalperiod=signal)
    return {
        f"macd_{fast}_{slow}": macd / prices.close,
        f"macd_histogram_{fast}_{slow}_{signal}": histogram / prices.close,
    }


def bollinger(prices: Prices, bars: int) -> Columns:
    """Return where the close stands in the two-deviation band and how wide the band is.

    Returns:
        `percent_b`: 0 on the lower band, 1 on the upper, 0.5 where the band has no width. `bollinger_width`: the
        band's width as a share of its middle.
    """
    import talib

    upper, middle, lower = talib.BBANDS(
        prices.close, timeperiod=bars, nbdevup=BOLLINGER_DEVIATIONS, nbdevdn=BOLLINGER_DEVIATIONS
    )
    return {
        f"percent_b_{bars}": _share(prices.close - lower, upper - lower, where_none=0.5),
        f"bollinger_width_{bars}": (upper - lower) / middle,
    }


def directional_movement(prices: Prices, bars: int) -> Columns:
    """Return Wilder's ADX, 0 to 100."""
    import talib

    return {f"adx_{bars}": talib.ADX(prices.high, prices.low, prices.close, timeperiod=bars)}


def _share(part: Floats, whole: Floats, *, where_none: float) -> Floats:
    shares = np.full(part.shape, where_none)
    np.divide(part, whole, out=shares, where=whole != 0)  # NaN wholes stay NaN
    return shares
