"""Candles from a CSV or Parquet file. Everything is read as it stands, or refused with the row that is wrong."""

import csv
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.adapters.source_files.times import to_utc
from forexgpt_core.domain.bars import ASK_PRICES, PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.clock import to_utc as moment_to_utc

_TIMES = ("ts_utc", "time", "datetime", "date_time", "timestamp", "ts", "time_utc", "datetime_utc", "timestamp_utc")
_PARQUET = b"PAR1"
_ALIASES = {
    "open": ("open", "o", "bid_open", "bidopen"),
    "high": ("high", "h", "bid_high", "bidhigh"),
    "low": ("low", "l", "bid_low", "bidlow"),
    "close": ("close", "c", "bid_close", "bidclose"),
    "volume": ("volume", "v", "vol", "tick_volume", "tickvolume", "tickvol", "tickqty"),
    **{name: (name, name.replace("_", "")) for name in ASK_PRICES},
}


class FileSource:
    """One file with the candles of one pair and timeframe; what pair that is, the caller knows.

    CSV needs a header, separated by comma, semicolon or tab; Parquet the same columns. Names are read in any case and
    with or without the angle brackets of MetaTrader: a time (`time`, `date`, `datetime`, `timestamp`, `ts_utc`, or
    `date` and `time` in two columns, or a first column without a name), `open`, `high`, `low`, `close`, and optionally
    `volume` and `ask_open` to `ask_close`. Other columns are left alone. Decimals have a point.
    """

    archive = True
    chunk: timedelta | None = None

    def __init__(self, path: Path, timezone: str | None = None) -> None:
        """Remember the file; it is read at each fetch.

        Args:
            path: the file.
            timezone: IANA name of the clock its times were read from, for times that do not say it themselves.
        """
        self.path, self.timezone = path, timezone

    def fetch(
        self, symbol: str, timeframe: Timeframe, *, since_utc: datetime | None, until_utc: datetime | None
    ) -> pl.DataFrame:
        """Return the file's bars; see `CandleSource`.

        Raises:
            BadFile: the file is missing, empty or not readable, or a column or a value is not what it should be.
        """
        bars = self._read()
        if since_utc is not None:
            bars = bars.filter(pl.col("ts_utc") >= _literal(since_utc))
        if until_utc is not None:
            bars = bars.filter(pl.col("ts_utc") <= _literal(until_utc) - pl.duration(seconds=timeframe.seconds))
        return bars

    def _read(self) -> pl.DataFrame:
        table = _table(self.path)
        names = _columns(table.columns, self.path)
        if table.is_empty():
            raise BadFile(self.path, "the table is empty; expected at least one bar")
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


def _table(path: Path) -> pl.DataFrame:
    """Return the whole file; a CSV as text, so that nothing is guessed."""
    if not path.is_file():
        raise BadFile(path, f"there is no file {path}")
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == _PARQUET
        if not parquet and path.suffix.lower() in (".parquet", ".pq"):
            raise BadFile(path, "not readable as Parquet: it does not begin as a Parquet file does")
        return pl.read_parquet(path, hive_partitioning=False) if parquet else _csv(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        kind = "Parquet" if parquet else "CSV (UTF-8 text with a header, separated by comma, semicolon or tab)"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadFile(path, f"not readable as {kind}: {reason}") from error


def _csv(path: Path) -> pl.DataFrame:
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline(100_000)
    if not header.strip():
        raise BadFile(path, "the file is empty; expected a header and at least one bar")
    separator = max(",;\t", key=header.count)
    names = next(csv.reader([header], delimiter=separator))
    schema = dict.fromkeys(_distinct(names, path), pl.String())
    _columns(list(schema), path)  # a wrong header is told before a wrong row
    try:
        rows = pl.read_csv(path, separator=separator, has_header=False, skip_rows=1, schema=schema)
    except pl.exceptions.PolarsError:
        _refuse_ragged(path, separator, len(names))
        raise
    return rows.filter(~pl.all_horizontal(pl.all().is_null()))  # a blank line is no row


def _refuse_ragged(path: Path, separator: str, fields: int) -> None:
    """Refuse the first row whose number of fields is not that of the header, if there is one."""
    lines = pl.read_csv(path, separator="\x01", quote_char=None, has_header=False, skip_rows=1).to_series()
    found = lines.str.count_matches(separator, literal=True) + 1
    bad = ((found != fields) & (lines.str.strip_chars() != "")).arg_true()
    if bad.len():
        row = int(bad[0])
        raise BadFile(path, f"has {found[row]} fields, expected the {fields} of the header", row + 1, None, lines[row])


def _distinct(names: list[str], path: Path) -> list[str]:
    stripped = [name.strip() for name in names]
    for name in stripped:
        if stripped.count(name) > 1:
            raise BadFile(path, f"the column '{name}' stands there {stripped.count(name)} times; expected it once")
    return stripped


def _columns(columns: list[str], path: Path) -> dict[str, str]:
    """Return which column of the file holds what: `ts_utc`, or `date` and `time`, the prices, the volume.

    Raises:
        BadFile: a column is missing, or two columns claim to hold the same.
    """
    plain = {name: name.strip().strip("<>").strip().lower().replace(" ", "_") for name in columns}
    found = {target: [c for c, key in plain.items() if key in aliases] for target, aliases in _ALIASES.items()}
    if {"date", "time"} <= set(plain.values()):
        found |= {key: [c for c, plain_key in plain.items() if plain_key == key] for key in ("date", "time")}
    else:
        unnamed = columns[:1] if columns and not plain[columns[0]] else []
        found["ts_utc"] = [c for c, key in plain.items() if key in (*_TIMES, "date")] or unnamed
    ticks = [c for c in found["volume"] if plain[c].startswith("tick")]
    found["volume"] = ticks or found["volume"]  # MetaTrader exports both, and currencies have no other volume
    for target, candidates in found.items():
        if len(candidates) > 1:
            raise BadFile(path, f"the columns {', '.join(candidates)} all claim to hold '{target}'; expected one")
        if not candidates and target in (*PRICES, "ts_utc"):
            shapes = " (time, datetime, timestamp, ts_utc, or date and time)" if target == "ts_utc" else ""
            what = f"the time{shapes}" if shapes else f"'{target}'"
            raise BadFile(path, f"there is no column for {what}; found {', '.join(columns) or 'none'}")
    return {target: candidates[0] for target, candidates in found.items() if candidates}


def _times(table: pl.DataFrame, names: dict[str, str]) -> tuple[str, pl.Series]:
    """Return the column of times and its name in the file; a date and a time of day become one text."""
    if "ts_utc" in names:
        return names["ts_utc"], table[names["ts_utc"]]
    date, clock = (pl.col(names[key]).cast(pl.String).str.strip_chars() for key in ("date", "time"))
    return f"{names['date']} {names['time']}", table.select(pl.concat_str(date, clock, separator=" ")).to_series()


def _numbers(values: pl.Series, name: str, path: Path) -> pl.Series:
    """Return float64; an empty cell is null, which the quality suite counts.

    Raises:
        BadFile: a cell holds text, or the column holds no numbers at all.
    """
    column = values.name
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
