"""Candle history of a cTrader account, behind the `CandleSource` port.

What the server does with a range is not what it says (see the tests, which switch each habit on and off): a bar that
opens exactly at the end is included, the beginning does not bound the answer, a count of N gives N or N - 1, pages are
cut short without a word, `hasMore` is true on the last one, and the bar still forming is served as if it were closed.
So the range is paged backwards from its end, always from the oldest bar served, and every bar is judged by its time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import polars as pl

from forexgpt_core.adapters.ctrader.bars import PERIODS, SPANS, decode_bars, timeframe_of
from forexgpt_core.adapters.ctrader.pacing import Clock, Patience, SystemClock
from forexgpt_core.adapters.ctrader.session import Session
from forexgpt_core.adapters.ctrader.symbols import Asks, find_symbol
from forexgpt_core.adapters.ctrader.transport import Timings
from forexgpt_core.domain.bars import SCHEMA, empty_bars
from forexgpt_core.domain.clock import Timeframe, from_utc, to_utc
from forexgpt_core.domain.instruments import normalise_symbol
from forexgpt_core.errors import BadInput
from forexgpt_core.settings import CTraderSettings

_T = TypeVar("_T")
PAGE = 5000  # bars asked for at once; the largest count seen answered
SETTLE = timedelta(seconds=2)  # a closed bar is in history up to a second after its close, and clocks differ
EMPTY_SPANS = 3  # spans without a bar after which history has come to its beginning
_OLDEST = datetime(1990, 1, 1, tzinfo=UTC)


class CTraderHistory:
    """Closed bid bars of an account, with tick counts as volume.

    Each `fetch` makes its own connection and its own event loop. Repeats that two pages have in common are dropped;
    those inside a page, and bars of one time that differ, arrive as the server has them.
    """

    archive: bool = False
    chunk: timedelta | None = timedelta(days=365)

    def __init__(
        self,
        settings: CTraderSettings,
        *,
        clock: Clock | None = None,
        line_clock: Clock | None = None,
        timings: Timings | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Remember the account; see `Session` for the rest.

        Raises:
            NotReady: a setting is missing.
        """
        settings.require()
        self._settings, self._clock, self._line_clock = settings, clock or SystemClock(), line_clock
        self._timings, self._patience = timings, patience

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return the account's closed bars; see `CandleSource`.

        Raises:
            UnknownName: the account does not serve this symbol.
            BadInput: what the server sent cannot be read as candles.
            CTraderError: the server cannot be reached, refuses, or does not answer.
        """
        key = normalise_symbol(symbol)
        settled = self._clock.now_utc() - SETTLE
        until = settled if until_utc is None else min(_aware(until_utc), settled)
        since = None if since_utc is None else max(_aware(since_utc), _OLDEST)
        if since is not None and since + timedelta(seconds=timeframe.seconds) > until:
            return empty_bars()

        async def work() -> pl.DataFrame:
            async with Session(
                self._settings,
                clock=self._clock,
                line_clock=self._line_clock,
                timings=self._timings,
                patience=self._patience,
            ) as session:
                found = await find_symbol(session, key)
                return await read_back(session, found.symbol_id, timeframe, since, until)

        return run_alone(work)


async def read_back(
    session: Asks, symbol_id: int, timeframe: Timeframe, since_utc: datetime | None, until_utc: datetime
) -> pl.DataFrame:
    """Return the bars that open at `since_utc` or later and close at `until_utc` or earlier.

    Args:
        since_utc: None for the beginning, which is where `EMPTY_SPANS` spans have no bar.

    Raises:
        BadInput: the server answered with another timeframe, or with bars that cannot be read.
    """
    first = since_utc or _OLDEST
    newest = until_utc - timedelta(seconds=timeframe.seconds)
    pages: list[pl.DataFrame] = []
    end, empty = until_utc, 0
    while end > first and (since_utc is not None or empty < EMPTY_SPANS):
        begin = max(first, end - SPANS[timeframe])
        page = await _page(session, symbol_id, timeframe, begin, end)
        page = page.filter(pl.col("ts_utc") <= _literal(min(end, newest)))
        if pages:
            page = _without_repeats(page, pages[-1])
        pages += [page] if page.height else []
        oldest = from_utc(page["ts_utc"].to_numpy().min()) if page.height else end
        end, empty = (oldest, 0) if oldest < end else (begin, empty + 1)
    if not pages:
        return empty_bars()
    return pl.concat(reversed(pages)).filter(pl.col("ts_utc") >= _literal(first))


def run_alone(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end in an event loop of its own, also where another one is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


async def _page(session: Asks, symbol_id: int, timeframe: Timeframe, begin: datetime, end: datetime) -> pl.DataFrame:
    answer = await session.ask(
        f"{timeframe} bars of {begin:%Y-%m-%d} to {end:%Y-%m-%d}",
        "ProtoOAGetTrendbarsReq",
        symbolId=symbol_id,
        period=PERIODS[timeframe],
        fromTimestamp=_milliseconds(begin),
        toTimestamp=_milliseconds(end),
        count=PAGE,
    )
    if timeframe_of(answer) != timeframe:
        raise BadInput(f"cTrader was asked for {timeframe} bars and answered with {timeframe_of(answer)} bars")
    return decode_bars(answer.trendbar)


def _without_repeats(page: pl.DataFrame, newer: pl.DataFrame) -> pl.DataFrame:
    """Drop the bars that the page asked for before held too; one of the same time that differs is kept."""
    return page.join(newer, on=list(SCHEMA), how="anti", nulls_equal=True, maintain_order="left")


def _milliseconds(moment: datetime) -> int:
    return int(to_utc(moment).astype("datetime64[ms]").astype(int))


def _aware(moment: datetime) -> datetime:
    return from_utc(to_utc(moment))


def _literal(moment: datetime) -> pl.Expr:
    return pl.lit(moment.astimezone(UTC).replace(tzinfo=None)).dt.replace_time_zone("UTC")
