"""Candles from Alpha Vantage, for which everybody can get a free key."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import polars as pl

from forexgpt_core.adapters.providers.http import HttpGetter
from forexgpt_core.adapters.providers.pace import Pace
from forexgpt_core.adapters.providers.ranges import Range, asked_range, higher_bars
from forexgpt_core.candles.provider_errors import (
    KeyMissing,
    KeyRefused,
    ProviderError,
    QuotaUsedUp,
    RateLimited,
    UnknownSymbol,
    UnreadableAnswer,
)
from forexgpt_core.domain.bars import PRICES, SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import Instrument, instrument

PROVIDER, KEY = "alpha_vantage", "FOREXGPT_ALPHA_VANTAGE_KEY"
URL = "https://www.alphavantage.co"
_INTERVALS = {
    Timeframe.M1: "1min",
    Timeframe.M5: "5min",
    Timeframe.M15: "15min",
    Timeframe.M30: "30min",
    Timeframe.H1: "60min",
}
_BEGIN = datetime(1990, 1, 1, tzinfo=UTC)
_SHORT_BARS = 90  # a short answer holds 100
_FIELDS = {f"{n}. {name}": name for n, name in enumerate(PRICES, start=1)}
_WORDS = ("Error Message", "Note", "Information")


class AlphaVantageSource:
    """Intraday bars of Alpha Vantage's FX_INTRADAY, without volume and ask; which side the prices are is not said.

    One answer holds all the history the API gives, some weeks to months of it, so there is nothing to page. H4, D1 and
    W1 are built from hours: the days of FX_DAILY do not start at 17:00 New York, so they are not used. A longer bar
    that had begun before the history did is left out. The free plan allows 25 questions a day and 5 a minute; it may
    exclude intraday bars, which is then said.

    Attributes:
        left_out: how many rows did not become bars since this source was made, by reason: `partial_first`, and what
            the cleaning drops before longer bars are built (`H1_outside_week` and the like).
    """

    archive = False
    chunk: timedelta | None = None

    def __init__(
        self,
        key: str | None,
        base_url: str = URL,
        *,
        getter: HttpGetter | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Remember where to ask.

        Args:
            key: the API key.
            base_url: address before `/query`.
            getter: asks in place of a patient one.
            now: the clock.

        Raises:
            KeyMissing: there is no key.
        """
        if not key:
            mend = f"set {KEY} (a free key: https://www.alphavantage.co/support/#api-key)"
            raise KeyMissing(PROVIDER, "candles", "no key is set", mend)
        params = {"apikey": key}
        self._getter = getter or HttpGetter(PROVIDER, base_url, secret_params=params, pace=Pace(5, 60.0))
        self._now = now
        self.left_out: Counter[str] = Counter()

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return the API's bars, oldest first; see `CandleSource`.

        Raises:
            UnknownName: the pair is not known.
            ProviderError: the API refused, could not be reached or did not answer with bars.
        """
        pair, now = instrument(symbol), self._now()
        asked = asked_range(since_utc, until_utc, begin=_BEGIN, now=now)
        if asked.empty:
            return empty_bars()
        base = timeframe if timeframe in _INTERVALS else Timeframe.H1
        short = (now - asked.since_utc).total_seconds() < _SHORT_BARS * base.seconds
        raw = self._history(pair, base, short=short)
        if base is timeframe:
            return asked.cut(raw, timeframe)
        return self._longer(raw, base, timeframe, asked)

    def _longer(self, raw: pl.DataFrame, base: Timeframe, timeframe: Timeframe, asked: Range) -> pl.DataFrame:
        bars = higher_bars(raw, base, timeframe, asked, self.left_out)
        whole = bars.filter(pl.col("ts_utc") >= raw["ts_utc"].min()) if raw.height else bars
        self.left_out.update({"partial_first": bars.height - whole.height} if bars.height > whole.height else {})
        return whole

    def _history(self, pair: Instrument, base: Timeframe, *, short: bool) -> pl.DataFrame:
        asked = f"{pair.symbol} {base}"
        params = {
            "function": "FX_INTRADAY",
            "from_symbol": pair.base,
            "to_symbol": pair.quote,
            "interval": _INTERVALS[base],
            "outputsize": "compact" if short else "full",
            "datatype": "json",  # the CSV form does not say its time zone
        }
        content = self._getter.get(
            "query", params, asked=asked, refuse=lambda status, text: _refusal(asked, status, text)
        )
        return self._read(content or b"", asked, f"Time Series FX ({_INTERVALS[base]})")

    def _read(self, content: bytes, asked: str, name: str) -> pl.DataFrame:
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        meta, series = (document.get(key) if isinstance(document, dict) else None for key in ("Meta Data", name))
        if not isinstance(meta, dict) or not isinstance(series, dict):
            said = self._getter.redact(content[:400].decode("utf-8", "replace"))[:100]
            raise _unreadable(asked, f"no '{name}' with its 'Meta Data' came but '{said}'")
        zone = next((str(value) for key, value in meta.items() if key.endswith("Time Zone")), "")
        if zone not in available_timezones():
            raise _unreadable(asked, f"the answer's time zone is '{zone[:40]}'")
        if not series:
            return empty_bars()
        return _bars(series, zone, asked)


def _bars(series: Mapping[str, object], zone: str, asked: str) -> pl.DataFrame:
    """Return the bars of a series of texts, oldest first."""
    rows = list(series.values())
    if not all(isinstance(row, dict) and _FIELDS.keys() <= row.keys() for row in rows):
        raise _unreadable(asked, f"bars came without {', '.join(_FIELDS)}")
    texts = pl.DataFrame(rows, schema=dict.fromkeys(_FIELDS, pl.String()), strict=False).rename(_FIELDS)
    numbers = texts.with_columns(pl.all().cast(pl.Float64, strict=False))
    times = pl.Series("time", list(series)).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    bad = (numbers.null_count().sum_horizontal()[0], times.null_count())
    if any(bad):
        raise _unreadable(asked, f"{bad[0]} prices and {bad[1]} times of {len(rows)} bars cannot be read")
    try:
        utc = times.dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
    except pl.exceptions.PolarsError:
        raise _unreadable(asked, f"bars came in an hour that happened twice or never in {zone}") from None
    volume = pl.lit(None, dtype=pl.Float64).alias("volume")
    return numbers.with_columns(utc.alias("ts_utc"), volume).select(list(SCHEMA)).sort("ts_utc", maintain_order=True)


def _unreadable(asked: str, came: str) -> UnreadableAnswer:
    return UnreadableAnswer(PROVIDER, asked, came, "the API may have changed; nothing was taken")


def _refusal(asked: str, status: int, text: str) -> ProviderError | None:
    """Return what the API says in words; it does so with status 200."""
    if status != 200 or not any(f'"{word}"' in text[:200] for word in _WORDS):
        return None
    said = text.lower()
    if '"error message"' in said and "apikey" not in said:
        came = "the API does not know this pair or interval"
        return UnknownSymbol(PROVIDER, asked, came, "take another source for it")
    if "premium endpoint" in said or "premium-only" in said:
        return KeyRefused(PROVIDER, asked, "the key's plan does not include it (premium)", "take another source for it")
    if any(word in said for word in ("per minute", "per second", "spreading out", "sparingly")):
        mend = "wait a minute and run it again"
        return RateLimited(PROVIDER, asked, "the API wants fewer questions per minute", mend, 60.0)
    if "per day" in said or "rate limit" in said or '"note"' in said:
        return QuotaUsedUp(PROVIDER, asked, "the questions of this day are used up", "run it again tomorrow")
    if "apikey" in said or "api key" in said:
        return KeyRefused(PROVIDER, asked, "the key was refused", f"check {KEY}")
    return ProviderError(PROVIDER, asked, f"the API says '{text[:160]}'", "this is not worth trying again as it is")
