"""Real minute candles with bid and ask from Dukascopy's public data feed, for which nobody needs a key."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

import numpy as np
import polars as pl

from forexgpt_core.adapters.providers.bi5 import (
    BID_AND_ASK,
    BadBi5,
    Side,
    candles_path,
    minutes_of,
    points_per_unit,
    read_candles,
    read_ticks,
    ticks_path,
)
from forexgpt_core.adapters.providers.http import HttpGetter
from forexgpt_core.adapters.providers.pace import Pace
from forexgpt_core.adapters.providers.ranges import Range, asked_range, higher_bars
from forexgpt_core.candles.provider_errors import UnreadableAnswer
from forexgpt_core.domain.bars import ASK_PRICES, PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe, in_fx_week, to_utc
from forexgpt_core.domain.instruments import instrument

Progress = Callable[[int, int, str], None]
Read = Callable[[bytes], pl.DataFrame]

PROVIDER = "dukascopy"
URL = "https://datafeed.dukascopy.com"
FIRST_DAY = date(2003, 5, 5)  # of the oldest pairs; others begin later, and the days before are missing files
_WORKERS = 4  # the feed answers more at once with HTTP 503
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_LATE = timedelta(days=2)  # after so long a day's file that is missing will not come any more


class DukascopySource:
    """Minute candles of Dukascopy's data feed, and every longer timeframe built from them.

    `open` to `close` are the bid, `ask_open` to `ask_close` the ask, `volume` the quoted size at the bid in millions of
    base currency. Finished UTC days come from the feed's two candle files per day. The current day, and one just past
    whose file is not there yet, are built from tick files hour by hour, up to the last whole hour the feed has.

    The feed fills every minute without a quote, weekends included, with a bar that repeats the last close and has no
    volume. Such a bar says that nothing was quoted, on either side, so it is left out like in any other source. Days
    and hours whose file is missing or empty have no bars; because the feed sometimes answers an existing file with
    nothing, an empty one is asked for twice.

    Attributes:
        left_out: how many rows of the feed did not become bars since this source was made, by reason: `filler`
            (minutes without a quote), `ask_without_bid`, `ask_repeat`, and what the cleaning drops before longer bars
            are built (`M1_off_grid` and the like). `no_ask` counts the bars that have no ask.
    """

    archive = False
    chunk: timedelta | None = timedelta(days=31)

    def __init__(
        self,
        base_url: str = URL,
        *,
        start: date | None = None,
        getter: HttpGetter | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        progress: Progress | None = None,
    ) -> None:
        """Remember where to ask.

        Args:
            base_url: address before `/datafeed`.
            start: first day where `fetch` is given no beginning; the feed's first one by default.
            getter: asks in place of a patient one.
            now: the clock.
            progress: told after each file how many of how many are there, and which it was.
        """
        self._getter = getter or HttpGetter(PROVIDER, base_url, pace=Pace(10, 1.0))
        self._begin = datetime.combine(start or FIRST_DAY, time(), UTC)
        self._now, self._progress = now, progress
        self.left_out: Counter[str] = Counter()

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return the feed's bars; see `CandleSource`.

        Raises:
            UnknownName: the pair is not known.
            ProviderError: a file could not be had, or is damaged; the text names it.
        """
        pair, now = instrument(symbol), self._now()
        asked = asked_range(since_utc, until_utc, begin=self._begin, now=now)
        if asked.empty:
            return pl.DataFrame(schema=BID_AND_ASK)
        feed = _Feed(self._getter, pair.symbol, points_per_unit(pair), self._progress)
        minutes, known = feed.minutes(asked, now)
        self.left_out.update(feed.counts)
        seen = Range(since_utc=asked.since_utc, until_utc=min(asked.until_utc, known))
        if timeframe is Timeframe.M1:
            return seen.cut(minutes, timeframe)
        inside = minutes.filter(pl.col("ts_utc") >= asked.since_utc)
        return higher_bars(inside, Timeframe.M1, timeframe, seen, self.left_out)


class _Feed:
    """The files of one pair for one range, several at a time."""

    def __init__(self, getter: HttpGetter, symbol: str, points: int, progress: Progress | None) -> None:
        self._getter, self._symbol, self._points, self._progress = getter, symbol, points, progress
        self._done = self._of = 0
        self._lock, self._failed = threading.Lock(), threading.Event()
        self.counts: Counter[str] = Counter()

    def minutes(self, asked: Range, now: datetime) -> tuple[pl.DataFrame, datetime]:
        """Return the minutes of every day of the range, oldest first, and the moment up to which the feed is known."""
        today = now.astimezone(UTC).date()
        days = _trading_days(asked)
        finished = self._days([day for day in days if day < today])
        pending = [day for day in days if day >= today or (finished[day] is None and _is_recent(day, now))]
        hours = self._hours([hour for day in pending for hour in _trading_hours(day, asked, now)])
        parts = [*finished.items(), *((hour.date(), bars) for hour, bars in sorted(hours.items()))]
        ordered = [bars for _, bars in sorted(parts, key=lambda part: part[0]) if bars is not None]
        return pl.concat([pl.DataFrame(schema=BID_AND_ASK), *ordered]), _known_until(hours, now)

    def _days(self, days: Sequence[date]) -> dict[date, pl.DataFrame | None]:
        wanted: list[tuple[date, Side]] = [(day, side) for day in days for side in ("BID", "ASK")]
        files = [
            (candles_path(self._symbol, day, side), partial(read_candles, day=day, points=self._points))
            for day, side in wanted
        ]
        tables = dict(zip(wanted, self._all(files), strict=True))
        return {day: self._both(tables[day, "BID"], tables[day, "ASK"]) for day in days}

    def _hours(self, hours: Sequence[datetime]) -> dict[datetime, pl.DataFrame | None]:
        files = [
            (ticks_path(self._symbol, hour), partial(read_ticks, hour=hour, points=self._points)) for hour in hours
        ]
        found = zip(hours, self._all(files), strict=True)
        return {hour: None if ticks is None else minutes_of(ticks) for hour, ticks in found}

    def _both(self, bid: pl.DataFrame | None, ask: pl.DataFrame | None) -> pl.DataFrame | None:
        """Return one day's quoted minutes, the ask beside the bid and null where there is none; None without a bid."""
        ask = pl.DataFrame(schema=SCHEMA) if ask is None else ask
        once = ask.unique("ts_utc", keep="first", maintain_order=True)
        alone = once if bid is None else once.join(bid, on="ts_utc", how="anti")
        self._count(ask_repeat=ask.height - once.height, ask_without_bid=alone.filter(~_without_quote(PRICES)).height)
        if bid is None:
            return None
        beside = once.rename({"volume": "ask_volume", **dict(zip(PRICES, ASK_PRICES, strict=True))})
        minutes = bid.join(beside, on="ts_utc", how="left", maintain_order="left")
        quoted = minutes.filter(~(_without_quote(PRICES) & _without_quote(ASK_PRICES, "ask_volume")))
        self._count(filler=minutes.height - quoted.height, no_ask=quoted["ask_open"].null_count())
        return quoted.select(list(BID_AND_ASK))

    def _count(self, **reasons: int) -> None:
        self.counts.update({reason: count for reason, count in reasons.items() if count})

    def _all(self, wanted: Sequence[tuple[str, Read]]) -> list[pl.DataFrame | None]:
        """Return every file's table in order, None for what is missing or empty; the first failure stops the rest."""
        self._of += len(wanted)
        with ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix=PROVIDER) as pool:
            futures: list[Future[pl.DataFrame | None]] = [pool.submit(self._one, *file) for file in wanted]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, path: str, read: Read) -> pl.DataFrame | None:
        """Return one file's table, or ask for nothing any more once another file has failed."""
        if self._failed.is_set():
            return None  # of no account: the failure is raised in place of all tables
        try:
            table = self._table(path, read)
        except BaseException:
            self._failed.set()
            raise
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._of, path)
        return None if table is None or table.is_empty() else table

    def _table(self, path: str, read: Read) -> pl.DataFrame | None:
        """Return one file's table; a damaged file is asked for once more, and so is an empty one."""
        table, problem = self._attempt(path, read)
        if problem is not None or (table is not None and table.is_empty()):
            table, problem = self._attempt(path, read)
        if problem is not None:
            mend = "run it again later; nothing of this range was taken"
            raise UnreadableAnswer(PROVIDER, path, f"the file {problem}, twice", mend)
        return table

    def _attempt(self, path: str, read: Read) -> tuple[pl.DataFrame | None, BadBi5 | None]:
        content = self._getter.get(path, asked=path, missing_ok=True)
        try:
            return (None if content is None else read(content)), None
        except BadBi5 as problem:
            return None, problem


def _without_quote(prices: Sequence[str], volume: str = "volume") -> pl.Expr:
    """Return where one side did not move and quoted no size, or does not exist."""
    still = pl.all_horizontal([pl.col(name) == pl.col(prices[0]) for name in prices[1:]])
    return (still & (pl.col(volume) == 0)).fill_null(True)


def _known_until(hours: Mapping[datetime, pl.DataFrame | None], now: datetime) -> datetime:
    """Return up to when the feed has told all it will tell.

    A missing hour with later ones behind it had no quotes; one at the end may be still to come.
    """
    known = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    for hour, bars in sorted(hours.items(), key=lambda item: item[0], reverse=True):
        if bars is not None:
            break
        known = hour
    return known


def _is_recent(day: date, now: datetime) -> bool:
    return now - (datetime.combine(day, time(), UTC) + _DAY) < _LATE


def _trading_days(asked: Range) -> list[date]:
    """Return the UTC days that a range touches, without Saturdays, on which nothing is traded."""
    first, last = asked.since_utc.date(), (asked.until_utc - timedelta(microseconds=1)).date()
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return [day for day in days if day.weekday() != 5]


def _trading_hours(day: date, asked: Range, now: datetime) -> list[datetime]:
    """Return the hours of a UTC day that are over, touch the range and lie in the FX week."""
    begin = datetime.combine(day, time(), UTC)
    hours = [hour for hour in (begin + n * _HOUR for n in range(24)) if hour + _HOUR <= now]
    inside = in_fx_week(np.array([to_utc(hour) for hour in hours], dtype="datetime64[us]"))
    touched = [asked.since_utc - _HOUR < hour < asked.until_utc for hour in hours]
    return [hour for hour, traded, near in zip(hours, inside, touched, strict=True) if traded and near]
