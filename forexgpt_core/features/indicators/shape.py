"""The shape of a bar, without its price level."""

import numpy as np
import talib

from forexgpt_core.features.indicator import Bars, Columns, Family, Floats, fades, share, shifted, wilder_fades, window

FAMILY = Family("shape")


@FAMILY.indicator("log_open", "log_high", "log_low", "log_return", warm_up=1)
def ohlc(b: Bars) -> Columns:
    """Log ratios of open, high, low and close to the close before."""
    before = b.previous_close
    prices = {"log_open": b.open, "log_high": b.high, "log_low": b.low, "log_return": b.close}
    return {name: np.log(price / before) for name, price in prices.items()}


@FAMILY.indicator("body", "upper_wick", "lower_wick")
def candle(b: Bars) -> Columns:
    """Signed body and wicks as shares of the bar's range; 0 for a bar without a range."""
    spread = b.high - b.low
    top, bottom = np.maximum(b.open, b.close), np.minimum(b.open, b.close)
    parts = {"body": b.close - b.open, "upper_wick": b.high - top, "lower_wick": bottom - b.low}
    return {name: share(part, spread, where_none=0.0) for name, part in parts.items()}


@FAMILY.indicator("range", warm_up=lambda bars: bars, forget=wilder_fades, bars=window(14))
def relative_range(b: Bars, bars: int) -> Columns:
    """High minus low as a multiple of Wilder's average true range; 0 where nothing moves."""
    usual = talib.ATR(b.high, b.low, b.close, timeperiod=bars)
    return {"range": share(b.high - b.low, usual, where_none=0.0)}


@FAMILY.indicator()
def close_location(b: Bars) -> Columns:
    """Where the close lies in the bar: -1 at the low, 1 at the high, 0 for a bar without a range."""
    return {"close_location": share((b.close - b.low) - (b.high - b.close), b.high - b.low, where_none=0.0)}


@FAMILY.indicator(warm_up=lambda bars: bars, forget=wilder_fades, bars=window(14))
def gap(b: Bars, bars: int) -> Columns:
    """Open minus the close before, as a multiple of Wilder's average true range; 0 where nothing moves."""
    usual = talib.ATR(b.high, b.low, b.close, timeperiod=bars)
    return {"gap": share(b.open - b.previous_close, usual, where_none=0.0)}


@FAMILY.indicator(warm_up=1)
def inside_bar(b: Bars) -> Columns:
    """-1 where the bar lies within the bar before, 1 where it reaches beyond it on both sides, else 0."""
    before_high, before_low = shifted(b.high, 1), shifted(b.low, 1)
    outside = (b.high > before_high) & (b.low < before_low)
    inside = (b.high <= before_high) & (b.low >= before_low)
    return {"inside_bar": _undefined_first(outside.astype(np.float64) - inside, 1)}


@FAMILY.indicator(warm_up=1)
def engulfing(b: Bars) -> Columns:
    """1 where a rising body covers the falling one before it and is longer, -1 for the reverse, else 0."""
    before_open, before_close = shifted(b.open, 1), shifted(b.close, 1)
    up = (b.close > b.open) & (before_close < before_open)
    down = (b.close < b.open) & (before_close > before_open)
    bullish = up & (b.open <= before_close) & (b.close >= before_open)
    bearish = down & (b.open >= before_close) & (b.close <= before_open)
    longer = np.abs(b.close - b.open) > np.abs(before_close - before_open)
    return {"engulfing": _undefined_first((bullish.astype(np.float64) - bearish) * longer, 1)}


@FAMILY.indicator("heikin_ashi_body", "heikin_ashi_gap", warm_up=1, forget=fades(0.5))
def heikin_ashi(b: Bars) -> Columns:
    """Body of the averaged (Heikin-Ashi) candle, and how far its close lies above the bar's, as shares of the close.

    Its open is the mean of open and close of the averaged candle before; the first one opens at the first bar's mean.
    """
    from forexgpt_core.features.kernels import smoothed

    close = (b.open + b.high + b.low + b.close) / 4
    seed = (b.open[:1] + b.close[:1]) / 2
    opened = smoothed(np.concatenate([seed, close[:-1]]), 0.5)
    opened[:1] = np.nan  # of the first candle the open is made up
    return {"heikin_ashi_body": (close - opened) / b.close, "heikin_ashi_gap": _undefined_first(close / b.close - 1, 1)}


@FAMILY.indicator("run_length", warm_up=1, forget=lambda most: most, most=window(10, most=100))
def run_length(b: Bars, most: int) -> Columns:
    """How many closes in a row rose (positive) or fell (negative), counted up to `most`; 0 where the close stands."""
    sign = np.sign(np.diff(b.close, prepend=b.close[:1]))
    place = np.arange(sign.size)
    began = (
        np.maximum.accumulate(np.where(sign != np.concatenate([[np.nan], sign[:-1]]), place, 0)) if sign.size else place
    )
    return {"run_length": _undefined_first(sign * np.minimum(place - began + 1, most), 1)}


def _undefined_first(x: Floats, rows: int) -> Floats:
    x[:rows] = np.nan
    return x
