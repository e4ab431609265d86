"""The codec of bars: what a trend bar on the wire says, in history and in live quotes alike.

Prices are integers in 1/100000 of the quote currency, whatever the symbol's digits: open, high and close stand above
the low. The time is the bar's OPEN in minutes since 1970, the volume a number of ticks. Bars are of the bid side.
"""

from collections.abc import Iterable
from datetime import timedelta
from operator import attrgetter

import numpy as np
import polars as pl

from forexgpt_core.adapters.ctrader.messages import Message
from forexgpt_core.domain.bars import SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import BadInput

PRICE_SCALE = 100_000
PERIODS = {
    Timeframe.M1: 1,
    Timeframe.M5: 5,
    Timeframe.M15: 7,
    Timeframe.M30: 8,
    Timeframe.H1: 9,
    Timeframe.H4: 10,
    Timeframe.D1: 12,
    Timeframe.W1: 13,
}
_TIMEFRAMES = {number: timeframe for timeframe, number in PERIODS.items()}
_WEEK = timedelta(weeks=1)
SPANS = {  # longest ranges the server once published as limits; longer ones are cut short without a word
    **dict.fromkeys((Timeframe.M1, Timeframe.M5), 5 * _WEEK),
    **dict.fromkeys((Timeframe.M15, Timeframe.M30, Timeframe.H1), 35 * _WEEK),
    **dict.fromkeys((Timeframe.H4, Timeframe.D1), timedelta(days=365)),
    Timeframe.W1: timedelta(days=5 * 365),
}
_FIELDS = attrgetter("utcTimestampInMinutes", "low", "deltaOpen", "deltaHigh", "deltaClose", "volume")
_YEAR_2100_SECONDS = 4_102_444_800


def decode_bars(trendbars: Iterable[Message]) -> pl.DataFrame:
    """Return trend bars as candles, in their own order, with the columns of `domain.bars.SCHEMA`.

    Nothing is repaired: an impossible bar comes out as impossible as it came in. A price of 5 decimals or fewer is the
    float64 nearest to it, so it equals the same price read from a file.

    Raises:
        BadInput: a bar has no time, or a number no candle can have.
    """
    bars = list(trendbars)
    if not bars:
        return empty_bars()
    if not all(bar.HasField("utcTimestampInMinutes") for bar in bars):
        raise BadInput("cTrader sent a bar without its time; nothing was taken from this answer")
    try:
        minutes, low, to_open, to_high, to_close, volume = np.array([_FIELDS(bar) for bar in bars], dtype=np.int64).T
    except OverflowError:
        raise BadInput("cTrader sent a bar with a number beyond 64 bits; nothing was taken from this answer") from None
    if (minutes * 60 >= _YEAR_2100_SECONDS).any():
        raise BadInput("cTrader sent a bar from after the year 2100; nothing was taken from this answer")
    ts = (minutes * 60_000_000).astype("datetime64[us]")
    columns = {"open": low + to_open, "high": low + to_high, "low": low, "close": low + to_close}
    return pl.DataFrame(
        {"ts_utc": pl.Series(ts).dt.replace_time_zone("UTC")}
        | {name: points / PRICE_SCALE for name, points in columns.items()}
        | {"volume": volume.astype(np.float64)},
        schema=SCHEMA,
    )


def timeframe_of(response: Message) -> Timeframe:
    """Return the timeframe of a response's bars: its own, because historic bars leave theirs unset, which reads as M1.

    Raises:
        BadInput: it is a period we have no name for.
    """
    number = int(response.period)
    if number not in _TIMEFRAMES:
        raise BadInput(f"cTrader answered with bars of period {number}; known: {', '.join(_TIMEFRAMES.values())}")
    return _TIMEFRAMES[number]
