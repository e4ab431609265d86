"""The files of Dukascopy's data feed: where they lie and what their bytes mean.

A `.bi5` file is an LZMA stream in its old form ("alone", as in `.lzma` files) of big-endian records. Candle files hold
one UTC day of minutes: seconds since midnight, open, close, low, high (in this order), volume. Tick files hold one
hour: milliseconds since its begin, ask, bid, ask volume, bid volume. Prices are whole points: 1e-5 of the quote
currency, but 1e-3 where that is the yen and for gold. Volumes are quoted sizes in millions of base currency. Months
are counted from 00.
"""

import lzma
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np
import polars as pl

from forexgpt_core.domain.bars import ASK_PRICES, PRICES, SCHEMA
from forexgpt_core.domain.instruments import Instrument
from forexgpt_core.errors import ForexGPTError

Side = Literal["BID", "ASK"]

CANDLE = np.dtype(
    [("second", ">i4"), ("open", ">i4"), ("close", ">i4"), ("low", ">i4"), ("high", ">i4"), ("volume", ">f4")]
)
TICK = np.dtype([("ms", ">i4"), ("ask", ">i4"), ("bid", ">i4"), ("ask_volume", ">f4"), ("bid_volume", ">f4")])
BID_AND_ASK: dict[str, pl.DataType] = {**SCHEMA, **{name: pl.Float64() for name in ASK_PRICES}}
_DAY_SECONDS, _HOUR_MS = 86_400, 3_600_000
_LONGEST = 64 * 2**20  # of a file unpacked; a real hour of ticks takes about 1 MB


class BadBi5(ForexGPTError):
    """A file is not what the format says; its text completes 'the file ...'."""


def candles_path(symbol: str, day: date, side: Side) -> str:
    """Return where one side's minute candles of a UTC day lie.

    >>> candles_path("EURUSD", date(2018, 1, 31), "BID")
    'datafeed/EURUSD/2018/00/31/BID_candles_min_1.bi5'
    """
    return f"datafeed/{symbol}/{day.year:04d}/{day.month - 1:02d}/{day.day:02d}/{side}_candles_min_1.bi5"


def ticks_path(symbol: str, hour: datetime) -> str:
    """Return where the ticks of a UTC hour lie.

    >>> ticks_path("EURUSD", datetime(2018, 12, 3, 7))
    'datafeed/EURUSD/2018/11/03/07h_ticks.bi5'
    """
    return f"datafeed/{symbol}/{hour.year:04d}/{hour.month - 1:02d}/{hour.day:02d}/{hour.hour:02d}h_ticks.bi5"


def points_per_unit(pair: Instrument) -> int:
    """Return how many points of a file make 1 of quote currency."""
    return 1_000 if pair.quote == "JPY" or pair.base == "XAU" else 100_000


def unpack(content: bytes) -> bytes:
    """Return what a file holds once unpacked; nothing for an empty file.

    Raises:
        BadBi5: not LZMA, or the stream ends before its end.
    """
    if not content:
        return b""
    stream = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE)
    try:
        unpacked = stream.decompress(content, max_length=_LONGEST)
    except (lzma.LZMAError, EOFError):
        raise BadBi5("is no LZMA stream") from None
    stated = int.from_bytes(content[5:13], "little")  # of the stream's header; all ones where an end mark says it
    if not stream.eof and len(unpacked) != stated:
        raise BadBi5(f"is cut off after {len(content)} bytes")
    return unpacked


def read_candles(content: bytes, day: date, points: int) -> pl.DataFrame:
    """Return the minutes of one side and UTC day as the file has them, in the columns of the candle schema.

    Raises:
        BadBi5: not LZMA, cut off, not whole records, or times outside the day.
    """
    records = _records(content, CANDLE)
    second = records["second"].astype(np.int64)
    _require_within(second, _DAY_SECONDS, "the day")
    times = np.datetime64(day, "us") + second.astype("timedelta64[s]")
    prices = {name: records[name].astype(np.float64) / points for name in PRICES}
    return _bars({"ts_utc": times, **prices, "volume": records["volume"].astype(np.float64)}, SCHEMA)


def read_ticks(content: bytes, hour: datetime, points: int) -> pl.DataFrame:
    """Return the ticks of one UTC hour: `ts_utc`, `bid`, `ask`, `bid_volume`.

    Raises:
        BadBi5: not LZMA, cut off, not whole records, or times outside the hour.
    """
    records = _records(content, TICK)
    ms = records["ms"].astype(np.int64)
    _require_within(ms, _HOUR_MS, "the hour")
    begin = np.datetime64(hour.astimezone(UTC).replace(tzinfo=None), "us")
    columns = {
        "ts_utc": begin + ms.astype("timedelta64[ms]"),
        "bid": records["bid"].astype(np.float64) / points,
        "ask": records["ask"].astype(np.float64) / points,
        "bid_volume": records["bid_volume"].astype(np.float64),
    }
    return _bars(columns, {"ts_utc": SCHEMA["ts_utc"], **dict.fromkeys(list(columns)[1:], pl.Float64())})


def minutes_of(ticks: pl.DataFrame) -> pl.DataFrame:
    """Return minute bars with bid and ask out of ticks, as the candle files have them; no bar where there is no tick.

    The first tick of a minute opens it and the last one closes it, in the order of the file.
    """
    bars = ticks.group_by(pl.col("ts_utc").dt.truncate("1m"), maintain_order=True).agg(
        *_open_to_close("bid", ""), pl.col("bid_volume").sum().alias("volume"), *_open_to_close("ask", "ask_")
    )
    return bars.sort("ts_utc").select(pl.col(name).cast(dtype) for name, dtype in BID_AND_ASK.items())


def _open_to_close(column: str, prefix: str) -> list[pl.Expr]:
    values = pl.col(column)
    aggregates = {"open": values.first(), "high": values.max(), "low": values.min(), "close": values.last()}
    return [expression.alias(prefix + name) for name, expression in aggregates.items()]


def _records(content: bytes, kind: np.dtype) -> np.ndarray:
    unpacked = unpack(content)
    if len(unpacked) % kind.itemsize:
        raise BadBi5(f"holds {len(unpacked)} bytes, expected records of {kind.itemsize}")
    return np.frombuffer(unpacked, dtype=kind)


def _require_within(offsets: np.ndarray, length: int, period: str) -> None:
    outside = (offsets < 0) | (offsets >= length)
    if outside.any():
        raise BadBi5(f"holds {int(outside.sum())} of {offsets.size} times outside {period}")


def _bars(columns: dict[str, np.ndarray], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    times = pl.Series("ts_utc", columns["ts_utc"].astype("datetime64[us]")).dt.replace_time_zone("UTC")
    others = [pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items() if name != "ts_utc"]
    return pl.DataFrame([times, *others]).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
