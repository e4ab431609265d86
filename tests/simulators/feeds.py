"""Providers of candles as they answer, out of given bars: Dukascopy's files, Tiingo's and Alpha Vantage's JSON.

Written from the formats and not with the code under test.
"""

import json
import lzma
import re
import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

import polars as pl

from simulators.http import Asked, Reply

CANDLES = re.compile(r"/datafeed/([A-Z]{6})/(\d{4})/(\d\d)/(\d\d)/(BID|ASK)_candles_min_1\.bi5")
TICKS = re.compile(r"/datafeed/([A-Z]{6})/(\d{4})/(\d\d)/(\d\d)/(\d\d)h_ticks\.bi5")
PRICES = ("open", "high", "low", "close")
MISSING = Reply(b"", 404)


def packed(layout: str, rows: Iterable[tuple[float, ...]]) -> bytes:
    """Return records the way a `.bi5` file holds them."""
    return lzma.compress(b"".join(struct.pack(layout, *row) for row in rows), format=lzma.FORMAT_ALONE)


class Dukascopy:
    """The data feed over minute bars with bid and ask; finished days have candle files, `today` has tick files.

    Attributes:
        bars: per symbol, `ts_utc`, prices, `volume`, and `ask_*` where there is an ask.
        fill: whether minutes without a bar are filled with the last close and no volume, as the real feed does.
        late: UTC days whose candle files are not there yet, though they are over.
        last_hour: newest hour with a tick file, None for every one.
    """

    def __init__(
        self,
        bars: Mapping[str, pl.DataFrame],
        *,
        today: date,
        fill: bool = False,
        late: Iterable[date] = (),
        last_hour: datetime | None = None,
    ) -> None:
        self.bars, self.today, self.fill = bars, today, fill
        self.late, self.last_hour = set(late), last_hour
        self._made: dict[str, Reply] = {}

    def __call__(self, asked: Asked) -> Reply:
        if asked.path not in self._made:
            self._made[asked.path] = self._make(asked)
        return self._made[asked.path]

    def _make(self, asked: Asked) -> Reply:
        if found := CANDLES.fullmatch(asked.path):
            symbol, year, month, day, side = found.groups()
            return self._candles(symbol, date(int(year), int(month) + 1, int(day)), side)
        if found := TICKS.fullmatch(asked.path):
            symbol, *parts = found.groups()
            year, month, day, hour = map(int, parts)
            return self._ticks(symbol, datetime(year, month + 1, day, hour, tzinfo=UTC))
        return MISSING

    def _span(self, symbol: str, begin: datetime, length: timedelta) -> pl.DataFrame:
        inside = pl.col("ts_utc").is_between(begin, begin + length, closed="left")
        return self.bars[symbol].filter(inside) if symbol in self.bars else pl.DataFrame()

    def _candles(self, symbol: str, day: date, side: str) -> Reply:
        if day >= self.today or day in self.late:
            return MISSING
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        bars = self._span(symbol, begin, timedelta(days=1))
        prefix = "" if side == "BID" else "ask_"
        if bars.is_empty() or f"{prefix}open" not in bars.columns:
            return MISSING
        points = _points(symbol)
        rows = {}
        for row in bars.iter_rows(named=True):
            o, h, low, c = (row[prefix + name] for name in PRICES)
            if o is not None:
                second = int((row["ts_utc"] - begin).total_seconds())
                volume = 1.0 if row["volume"] is None else row["volume"]
                rows[second] = (second, *(round(p * points) for p in (o, c, low, h)), volume)
        if self.fill:
            rows = _filled(rows)
        return Reply(packed(">5if", rows.values()))

    def _ticks(self, symbol: str, hour: datetime) -> Reply:
        bars = self._span(symbol, hour, timedelta(hours=1))
        if bars.is_empty() or (self.last_hour is not None and hour > self.last_hour):
            return MISSING
        points, ticks = _points(symbol), []
        for row in bars.iter_rows(named=True):
            ms = int((row["ts_utc"] - hour).total_seconds()) * 1000
            for n, name in enumerate(("open", "high", "low", "close")):
                bid = round(row[name] * points)
                ask = round(row[f"ask_{name}"] * points)
                ticks.append((ms + 14_000 * n + 500, ask, bid, 1.5, (row["volume"] or 4.0) / 4))
        return Reply(packed(">3i2f", ticks))


def _points(symbol: str) -> int:
    return 1000 if symbol.endswith("JPY") or symbol == "XAUUSD" else 100_000


def _filled(rows: dict[int, tuple[float, ...]]) -> dict[int, tuple[float, ...]]:
    """Return every minute of the day, those without a bar flat at the last close (the first open at the beginning)."""
    last = next(iter(rows.values()))[1]
    full = {}
    for second in range(0, 86_400, 60):
        full[second] = rows.get(second, (second, last, last, last, last, 0.0))
        last = full[second][2]
    return full


class Tiingo:
    """The forex API over bars of one base timeframe per frequency; a bar is served from its open on, half made or not.

    Attributes:
        bars: (ticker, resampleFreq) to bars.
    """

    def __init__(self, bars: Mapping[tuple[str, str], pl.DataFrame], key: str) -> None:
        self.bars, self.key = bars, key

    def __call__(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Token {self.key}":
            return _json({"detail": "Invalid token."}, 401)
        found = re.fullmatch(r"/tiingo/fx/([a-z]{6})/prices", asked.path)
        name = (found.group(1), asked.params["resampleFreq"]) if found else ("", "")
        if name not in self.bars:
            return _json({"detail": "Not found."}, 404)
        first, last = (date.fromisoformat(asked.params[p]) for p in ("startDate", "endDate"))
        bars = self.bars[name].filter(pl.col("ts_utc").dt.date().is_between(first, last)).tail(10_000)
        rows = [
            {
                "date": f"{row['ts_utc']:%Y-%m-%dT%H:%M:%S.000Z}",
                "ticker": name[0],
                **{p: row[p] for p in PRICES},
            }
            for row in bars.iter_rows(named=True)
        ]
        return _json(rows)


class AlphaVantage:
    """FX_INTRADAY over bars per (pair, interval), newest first, in the clock of `zone`."""

    def __init__(self, bars: Mapping[tuple[str, str], pl.DataFrame], key: str, zone: str = "UTC") -> None:
        self.bars, self.key, self.zone = bars, key, zone

    def __call__(self, asked: Asked) -> Reply:
        p = asked.params
        if p.get("apikey") != self.key:
            return _json({"Error Message": "the parameter apikey is invalid or missing. Please claim your key"})
        name = (p["from_symbol"] + p["to_symbol"], p["interval"])
        if p["function"] != "FX_INTRADAY" or name not in self.bars:
            return _json({"Error Message": "Invalid API call. Please retry or visit the documentation."})
        bars = self.bars[name] if p["outputsize"] == "full" else self.bars[name].tail(100)
        local = bars.with_columns(pl.col("ts_utc").dt.convert_time_zone(self.zone)).reverse()
        meta = {
            "1. Information": f"FX Intraday ({p['interval']}) Time Series",
            "2. From Symbol": p["from_symbol"],
            "3. To Symbol": p["to_symbol"],
            "4. Last Refreshed": "",
            "5. Interval": p["interval"],
            "6. Output Size": p["outputsize"],
            "7. Time Zone": self.zone,
        }
        series = {
            f"{row['ts_utc']:%Y-%m-%d %H:%M:%S}": {f"{n}. {k}": f"{row[k]:.5f}" for n, k in enumerate(PRICES, 1)}
            for row in local.iter_rows(named=True)
        }
        return _json({"Meta Data": meta, f"Time Series FX ({p['interval']})": series})


def _json(document: object, status: int = 200) -> Reply:
    return Reply(json.dumps(document).encode(), status, {"content-type": "application/json"})
