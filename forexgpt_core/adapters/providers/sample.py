"""The hourly EURUSD candles that ship inside the `backtesting` package: real data on every machine, offline."""

from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from forexgpt_core.adapters.providers.files import FileSource
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import normalise_symbol
from forexgpt_core.errors import NotReady, UnknownName

SYMBOL, TIMEFRAME = "EURUSD", Timeframe.H1


class SampleSource:
    """5,000 H1 bars of EURUSD from 2017-04-19 09:00 to 2018-02-07 15:00, bid side, with tick counts.

    The file states no time zone. Its times are the bars' opens in UTC, which was measured against an independent UTC
    feed of the same pair: the closes agree best at a shift of 0 hours in each of the 43 weeks (median difference 0.7
    pip; 5 pips and more at any other shift), and 40 of the 42 weeks that begin inside the file open at 17:00 New York
    (21:00 UTC in summer, 22:00 in winter), the other two being Christmas and New Year. So nothing is converted. Two
    flat stub bars open at the weekly close (2017-10-06 and 2017-10-20, 21:00): they are left in, for the cleaning to
    drop and count.
    """

    archive = True
    chunk: timedelta | None = None

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return the sample's bars; see `CandleSource`.

        Raises:
            UnknownName: anything but EURUSD H1 was asked for.
            NotReady: the installed backtesting package has no sample.
        """
        if (normalise_symbol(symbol), timeframe) != (SYMBOL, TIMEFRAME):
            raise UnknownName(f"the sample holds {SYMBOL} {TIMEFRAME} only, not {symbol} {timeframe}: import a file")
        return FileSource(sample_file(), timezone="UTC").fetch(
            symbol, timeframe, since_utc=since_utc, until_utc=until_utc
        )


def sample_file() -> Path:
    """Return where the sample lies, without importing its package (which takes a second and draws in a plotter).

    Raises:
        NotReady: it is not there.
    """
    spec = find_spec("backtesting")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "test" / "EURUSD.csv"
        if path.is_file():
            return path
    raise NotReady("the sample candles are missing: they come with the package backtesting 0.6, please install it")
