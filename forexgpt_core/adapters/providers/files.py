"""Candles from a CSV or Parquet file. Everything is read as it stands, or refused with the row that is wrong."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from forexgpt_core.adapters.providers.columns import find_columns
from forexgpt_core.adapters.providers.plausible import require_plausible
from forexgpt_core.adapters.providers.tables import header_again, read_table
from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.adapters.source_files.times import to_utc
from forexgpt_core.domain.bars import ASK_PRICES, PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.clock import to_utc as moment_to_utc


class FileSource:
    """One file with the candles of one pair and timeframe; what pair that is, the caller knows.

    CSV (also packed in a ZIP) is separated by comma, semicolon or tab, Parquet has the same columns. Names are read in
    any case and with or without the angle brackets of MetaTrader: a time (`time`, `date`, `datetime`, `timestamp`,
    `ts_utc`, or `date` and `time` in two columns, or a first column without a name), `open`, `high`, `low`, `close`,
    and optionally `volume` and `ask_open` to `ask_close`. Other columns are left alone. Decimals have a point.

    Files without a header are those of HistData (generic ASCII and MetaTrader) and MetaTrader 4. MetaTrader's `SPREAD`
    is left alone: it is one number of points per bar that says neither of which moment nor what a point is, so no ask
    price could be made of it that was ever quoted.
    """

    archive = True
    chunk: timedelta | None = None

    def __init__(self, path: Path, timezone: str | None = None) -> None:
        """Remember the file; it is read at each fetch.

        Args:
            path: the file.
            timezone: name of the clock its times were read from, for times that do not say it themselves; see
                `times.to_utc`.
        """
        self.path, self.timezone = path, timezone

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return the file's bars; see `CandleSource`.

        Raises:
            BadFile: the file is missing, empty or not readable, a column or a value is not what it should be, or the
                prices cannot be those of the pair.
        """
        bars = self._read()
        require_plausible(bars, symbol, self.path)
        if since_utc is not None:
            bars = bars.filter(pl.col("ts_utc") >= _literal(since_utc))
        if until_utc is not None:
            bars = bars.filter(pl.col("ts_utc") <= _literal(until_utc) - pl.duration(seconds=timeframe.seconds))
        return bars

    def _read(self) -> pl.DataFrame:
        table = read_table(self.path)
        names = find_columns(table.columns, self.path)
        if table.is_empty():
            raise BadFile(self.path, "the table is empty; expected at least one bar")
        try:
            return self._bars(table, names)
        except BadFile as error:
            if error.row is None or not header_again(table, error.row):
                raise
            joined = "the header stands here once more: were two files joined? leave it out"
            raise BadFile(self.path, joined, error.row) from None

    def _bars(self, table: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
        column, times = _times(table, names)
        utc = to_utc(times, column=column, timezone=self.timezone, path=self.path)
        wanted = [*PRICES, "volume", *(name for name in ASK_PRICES if name in names)]
        numbers = [
            _numbers(table[names[name]], name, self.path)
            if name in names
            else pl.Series(name, [None] * table.height, dtype=pl.Float64)
            for name in wanted
        ]
        return pl.DataFrame([utc.alias("ts_utc"), *numbers]).select(*SCHEMA, *wanted[5:])


def _literal(moment: datetime) -> pl.Expr:
    return pl.lit(moment_to_utc(moment).astype(datetime)).dt.replace_time_zone("UTC")


def _times(table: pl.DataFrame, names: dict[str, str]) -> tuple[str, pl.Series]:
    """Return the column of times and its name in the file; a date and a time of day become one text."""
    if "ts_utc" in names:
        times = table[names["ts_utc"]]
        return names["ts_utc"], times.cast(pl.String) if _is_coded(times) else times
    date, clock = (pl.col(names[key]).cast(pl.String).str.strip_chars() for key in ("date", "time"))
    return f"{names['date']} {names['time']}", table.select(pl.concat_str(date, clock, separator=" ")).to_series()


def _is_coded(values: pl.Series) -> bool:
    """Return whether these are texts held as numbers of a dictionary."""
    return isinstance(values.dtype, pl.Categorical | pl.Enum)


def _numbers(values: pl.Series, name: str, path: Path) -> pl.Series:
    """Return float64; an empty cell is null, which the quality suite counts.

    A float32 becomes the decimal it is printed as, not the nearest float64 to its bits.

    Raises:
        BadFile: a cell holds text, or the column holds no numbers at all.
    """
    column = values.name
    if _is_coded(values) or values.dtype == pl.Float32:
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        texts = values.str.strip_chars()
        texts = texts.set(texts == "", None)
        numbers = texts.cast(pl.Float64, strict=False)
        bad = numbers.is_null() & texts.is_not_null()
        if bad.any():
            row = int(bad.arg_true()[0])
            raise BadFile(path, "expected a number with a decimal point", row + 1, column, texts[row])
        return numbers.alias(name)
    if not (values.dtype.is_numeric() or values.dtype == pl.Null):
        raise BadFile(path, f"holds {values.dtype}, expected numbers", column=column)
    return values.cast(pl.Float64).alias(name)
