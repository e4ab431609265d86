"""Candles from Tiingo's forex API, for which everybody can get a free key."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta

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
from forexgpt_core.domain.instruments import instrument

PROVIDER, KEY = "tiingo", "FOREXGPT_TIINGO_KEY"
URL = "https://api.tiingo.com"
FIRST_DAY = date(2010, 1, 1)  # asked from where nobody says; the API answers with what it has
_FREQUENCIES = {
    Timeframe.M1: "1min",
    Timeframe.M5: "5min",
    Timeframe.M15: "15min",
    Timeframe.M30: "30min",
    Timeframe.H1: "1hour",
}
_MOST_ROWS = 10_000  # the API cuts longer answers short without a word
_RAW = {"date": pl.String(), **{name: pl.Float64() for name in PRICES}}


class TiingoSource:
    """Bars of Tiingo's forex API: prices are the MID of bid and ask, there is no volume and no ask.

    H4, D1 and W1 are built from hours, because the API's own start at other times than 17:00 New York. The free plan
    allows 50 questions an hour and 1,000 a day; a month takes one question on H1 and longer, 8 on M1. The API knows
    whole days only, so its answer is cut to the range here, and the bar still forming is left out.

    Attributes:
        left_out: how many hours did not become part of a longer bar since this source was made, by reason.
    """

    archive = False
    chunk: timedelta | None = timedelta(days=31)

    def __init__(
        self,
        key: str | None,
        base_url: str = URL,
        *,
        start: date | None = None,
        getter: HttpGetter | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Remember where to ask.

        Args:
            key: the API token.
            base_url: address before `/tiingo/fx`.
            start: first day where `fetch` is given no beginning.
            getter: asks in place of a patient one.
            now: the clock.

        Raises:
            KeyMissing: there is no key.
        """
        if not key:
            mend = f"set {KEY} (a free key: https://www.tiingo.com)"
            raise KeyMissing(PROVIDER, "candles", "no key is set", mend)
        headers = {"authorization": f"Token {key}"}
        self._getter = getter or HttpGetter(PROVIDER, base_url, secret_headers=headers, pace=Pace(5, 1.0))
        self._begin = datetime.combine(start or FIRST_DAY, time(), UTC)
        self._now = now
        self.left_out: Counter[str] = Counter()

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return the API's bars; see `CandleSource`.

        Raises:
            UnknownName: the pair is not known.
            ProviderError: the API refused, could not be reached or did not answer with bars.
        """
        pair = instrument(symbol).symbol
        asked = asked_range(since_utc, until_utc, begin=self._begin, now=self._now())
        if asked.empty:
            return empty_bars()
        base = timeframe if timeframe in _FREQUENCIES else Timeframe.H1
        pages = [self._page(pair, base, page) for page in _pages(asked, base)]
        raw = pl.concat([empty_bars(), *pages])
        if base is timeframe:
            return asked.cut(raw, timeframe)
        inside = raw.filter(pl.col("ts_utc") >= asked.since_utc)
        return higher_bars(inside, base, timeframe, asked, self.left_out)

    def _page(self, pair: str, base: Timeframe, page: Range) -> pl.DataFrame:
        """Return the bars that open on the days of a page, oldest first."""
        first, after = page.since_utc.date(), page.until_utc.date()
        asked = f"{pair} {base} from {first} to {after}"
        params = {"startDate": str(first), "endDate": str(after), "resampleFreq": _FREQUENCIES[base]}
        content = self._getter.get(
            f"tiingo/fx/{pair.lower()}/prices",
            {**params, "format": "json"},
            asked=asked,
            refuse=lambda status, text: _refusal(asked, status, text),
        )
        bars = self._read(content or b"", asked).sort("ts_utc", maintain_order=True)
        return bars.filter((pl.col("ts_utc") >= page.since_utc) & (pl.col("ts_utc") < page.until_utc))

    def _read(self, content: bytes, asked: str) -> pl.DataFrame:
        try:
            rows = json.loads(content)
        except ValueError:
            raise self._unreadable(asked, f"no JSON came but {_beginning(content, self._getter)}") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and _RAW.keys() <= row.keys() for row in rows):
            raise self._unreadable(asked, f"no list of bars came but {_beginning(content, self._getter)}")
        try:
            table = pl.DataFrame(rows, schema=_RAW) if rows else pl.DataFrame(schema=_RAW)
            times = table["date"].str.to_datetime(time_unit="us", time_zone="UTC")
        except (pl.exceptions.PolarsError, TypeError) as error:
            reason = self._getter.redact(next(iter(str(error).splitlines()), ""))
            raise self._unreadable(asked, f"bars came whose values cannot be read ({reason[:120]})") from None
        if times.null_count():
            raise self._unreadable(asked, f"{times.null_count()} of {len(rows)} bars came without a time")
        volume = pl.lit(None, dtype=pl.Float64).alias("volume")
        return table.with_columns(times.alias("ts_utc"), volume).select(list(SCHEMA))

    def _unreadable(self, asked: str, came: str) -> UnreadableAnswer:
        return UnreadableAnswer(PROVIDER, asked, came, "the API may have changed; nothing was taken")


def _refusal(asked: str, status: int, text: str) -> ProviderError | None:
    """Return what the API says in words: it does so with status 429, and sometimes with 200."""
    said = text.lower()
    if "run over your" in said or "allocation" in said:
        if "hour" in said:
            came, mend = "the questions of this hour are used up", "run it again in an hour: what was fetched is kept"
            return RateLimited(PROVIDER, asked, came, mend, 3600.0)
        came, mend = "the plan's questions for this day or month are used up", "run it again when they are renewed"
        return QuotaUsedUp(PROVIDER, asked, came, mend)
    if status in (401, 403) or (status == 200 and "token" in said[:200] and "date" not in said):
        return KeyRefused(PROVIDER, asked, f"the key was refused (HTTP {status})", f"check {KEY}")
    if status == 404 or (status == 400 and "ticker" in said):
        return UnknownSymbol(PROVIDER, asked, f"the pair is not known there (HTTP {status})", "take another source")
    return None


def _pages(asked: Range, base: Timeframe) -> list[Range]:
    """Return whole days that cover a range, so few at a time that no answer is cut short."""
    days = min(365, _MOST_ROWS * base.seconds // 86_400 - 2)  # 2 more come where both ends are included
    midnight = datetime.combine(asked.since_utc.date(), time(), UTC)
    count = -(-(asked.until_utc - midnight) // timedelta(days=days))
    starts = [midnight + timedelta(days=days * n) for n in range(count)]
    last = datetime.combine((asked.until_utc - timedelta(microseconds=1)).date() + timedelta(days=1), time(), UTC)
    return [Range(since_utc=start, until_utc=min(start + timedelta(days=days), last)) for start in starts]


def _beginning(content: bytes, getter: HttpGetter) -> str:
    text = getter.redact(content[:400].decode("utf-8", "replace"))
    return f"'{text[:100]}'" if text else "nothing"
