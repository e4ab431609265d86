"""Everything a file of candles can get wrong: one clear line, or a counted quarantine, and never a wrong candle.

Each case writes a real file, which is read, judged and cleaned as the `candles` asset does it. What comes out is
compared with the bars that the file was made from: none may differ, and what is missing must have been counted.
"""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.lake import Lake
from forexgpt_core.adapters.providers.files import FileSource
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.quality import Verdict, judge
from forexgpt_core.cli.main import main
from forexgpt_core.domain.bars import PRICES, SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput

H1 = Timeframe.H1
DATA = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
Content = bytes | str
Spoil = Callable[[pl.DataFrame], Content]
Command = Callable[..., tuple[int, str, str]]


def walk(bars: int, first: str = "2018-01-01T22", start: float = 1.2) -> pl.DataFrame:
    """Return lawful H1 bars without a gap, prices to five decimals as a venue quotes them."""
    rng = np.random.default_rng(11)
    begin = np.datetime64(first, "us")
    opens = expected_opens(begin, begin + np.timedelta64(bars * 7 // 5 + 100, "h"), H1)[:bars]
    close = np.round(start * np.exp(np.cumsum(rng.normal(0, 5e-4, bars))), 5)
    open_ = np.concatenate([[start], close[:-1]])
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": open_,
            "high": np.round(np.maximum(open_, close) + 2e-4, 5),
            "low": np.round(np.minimum(open_, close) - 2e-4, 5),
            "close": close,
            "volume": rng.integers(1, 500, bars).astype(np.float64),
        },
        schema=SCHEMA,
    )


TRUTH = walk(5000)  # 41 weeks of 2018, with both changes of the American and European clocks in spring


class Refused(BadInput):
    """What a person reads when the quality suite says no."""


def ingest(path: Path, timezone: str | None, timeframe: Timeframe, symbol: str) -> tuple[Verdict, pl.DataFrame, dict]:
    raw = FileSource(path, timezone).fetch(symbol, timeframe, since_utc=None, until_utc=None)
    verdict = judge(raw, timeframe)
    if not verdict.passed:
        raise Refused("; ".join(failure.line for failure in verdict.failures))
    cleaned = clean(raw, timeframe)
    assert raw.height == cleaned.bars.height + sum(cleaned.dropped.values()), "every row is kept or counted"
    return verdict, cleaned.bars, {reason: n for reason, n in cleaned.dropped.items() if n}


# ---------------------------------------------------------------------------------------------------------------------
# How files are written
# ---------------------------------------------------------------------------------------------------------------------


def csv(table: pl.DataFrame, *, separator: str = ",", header: bool = True, eol: str = "\n") -> str:
    """Return a table as CSV text, times as ISO with Z unless they are text already."""
    iso = pl.col(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    named = table.rename({"ts_utc": "time"}, strict=False)
    return named.with_columns(iso).write_csv(separator=separator, include_header=header, line_terminator=eol)


def local(table: pl.DataFrame, zone: str, form: str = "%Y-%m-%d %H:%M", ahead_hours: int = 0) -> pl.DataFrame:
    """Return the table with times as text on a zone's clock, which may stand some hours ahead."""
    clock = pl.col("ts_utc").dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.offset_by(f"{ahead_hours}h")
    return table.with_columns(clock.dt.strftime(form).alias("ts_utc"))


def parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def packed(name: str, content: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
        file.writestr("report.txt", "gaps: none")
    return buffer.getvalue()


def cell(table: pl.DataFrame, row: int, column: str, text: str) -> pl.DataFrame:
    """Return the table with a text in one cell (rows from 1), the whole column as text."""
    values = table[column].cast(pl.String).to_list()
    values[row - 1] = text
    return table.with_columns(pl.Series(column, values, dtype=pl.String))


def put(table: pl.DataFrame, row: int, **values: pl.Expr | float | None) -> pl.DataFrame:
    """Return the table with other values in one row (from 1)."""
    here = pl.int_range(pl.len()) == row - 1
    new = {k: v if isinstance(v, pl.Expr) else pl.lit(v, dtype=pl.Float64) for k, v in values.items()}
    return table.with_columns(pl.when(here).then(v).otherwise(pl.col(k)).alias(k) for k, v in new.items())


def swapped(table: pl.DataFrame, every: int = 1) -> pl.DataFrame:
    """Return the table with high and low exchanged in every so-manieth row."""
    here = pl.int_range(pl.len()) % every == every // 2
    return table.with_columns(
        high=pl.when(here).then("low").otherwise("high"), low=pl.when(here).then("high").otherwise("low")
    )


def metatrader(table: pl.DataFrame) -> pl.DataFrame:
    day, clock = pl.col("ts_utc").str.slice(0, 10), pl.col("ts_utc").str.slice(11)
    return local(table, "America/New_York", "%Y.%m.%d %H:%M:%S", 7).select(
        day.alias("<DATE>"),
        clock.alias("<TIME>"),
        *(pl.col(name).alias(f"<{name.upper()}>") for name in PRICES),
        pl.col("volume").cast(pl.Int64).alias("<TICKVOL>"),
        pl.lit(0).alias("<VOL>"),
        pl.lit(12).alias("<SPREAD>"),
    )


def metatrader4(table: pl.DataFrame) -> str:
    four = metatrader(table).drop("<VOL>", "<SPREAD>").with_columns(pl.col("<TIME>").str.slice(0, 5))
    return csv(four, header=False, eol="\r\n")


def histdata(table: pl.DataFrame) -> str:
    ascii_ = local(table, "America/New_York", "%Y%m%d %H%M%S").with_columns(pl.col("volume").cast(pl.Int64))
    return csv(ascii_, separator=";", header=False)


def texts(table: pl.DataFrame, change: Callable[[pl.Expr], pl.Expr]) -> pl.DataFrame:
    """Return the table with every price as a changed text."""
    return table.with_columns(change(pl.col(PRICES).cast(pl.String)))


# ---------------------------------------------------------------------------------------------------------------------
# Cases
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file. Exactly one of three ends: `refused`, or bars equal to the truth but for the rows counted in `dropped`.

    Attributes:
        refused: pattern of the one line that is said.
        dropped: rows put aside, by reason.
        lost: bars of the truth that are not there any more.
        warned: pattern of the warning; "" for none.
        without: columns that the file does not have, null in the bars.
    """

    spoil: Spoil
    refused: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    warned: str = ""
    without: tuple[str, ...] = ()
    truth: pl.DataFrame = field(default_factory=lambda: TRUTH)
    timezone: str | None = None
    timeframe: Timeframe = H1
    symbol: str = "EURUSD"
    suffix: str = ".csv"


GARBAGE = np.random.default_rng(1).bytes(50_000)
SHORT = TRUTH.head(300)
YEN = SHORT.with_columns(pl.col(PRICES) * 100)
DECADE = walk(62_000, "2008-01-01T22")
BAR = "2018-07-02 12:00,1.2,1.3,1.1,1.2,5\n"

REFUSED: dict[str, Case] = {
    # no table
    "an empty file": Case(spoil=lambda t: b"", refused="the file is empty; expected a header"),
    "blank lines only": Case(spoil=lambda t: "\n\n\n", refused="the file is empty"),
    "zero bars": Case(spoil=lambda t: csv(t.head(0)), refused="the table is empty; expected at least one bar"),
    "zero bars in Parquet": Case(spoil=lambda t: parquet(t.head(0)), refused="the table is empty", suffix=".parquet"),
    "binary garbage": Case(spoil=lambda t: GARBAGE, refused="not readable as CSV"),
    "a run of zero bytes": Case(spoil=lambda t: b"\0" * 4096, refused="begins with binary data"),
    "garbage in Parquet": Case(spoil=lambda t: b"PAR1" + GARBAGE, refused="not readable as Parquet", suffix=".parquet"),
    "half of a Parquet": Case(spoil=lambda t: parquet(t)[:9000], refused="not readable as Parquet", suffix=".parquet"),
    "text in other letters": Case(spoil=lambda t: csv(t).encode("utf-16"), refused="not readable as CSV .UTF-8"),
    "a web page": Case(spoil=lambda t: "<!DOCTYPE html>\n<html></html>\n", refused="no column for 'open'; found <!DOC"),
    "a workbook": Case(
        spoil=lambda t: packed("xl/sheet1.xml", ""), refused="holds no CSV file.*save a workbook as CSV"
    ),
    "a broken ZIP": Case(spoil=lambda t: packed("a.csv", csv(t))[:500], refused="not readable as CSV", suffix=".zip"),
    # columns
    "a column twice": Case(
        spoil=lambda t: csv(t).replace("volume", "open", 1), refused="column 'open' stands there 2 times"
    ),
    "a column missing": Case(spoil=lambda t: csv(t.drop("low")), refused="no column for 'low'; found time, open, high"),
    "two columns of times": Case(
        spoil=lambda t: csv(t.with_columns(timestamp="ts_utc")), refused="time, timestamp all claim to hold 'ts_utc'"
    ),
    "the header once more": Case(
        spoil=lambda t: csv(t.head(9)) + csv(t.tail(-9)), refused="row 10: the header stands here once more.*joined"
    ),
    "the header once more in another file": Case(
        spoil=lambda t: csv(t.head(9)) + csv(t.tail(-9).select("ts_utc", *PRICES)),
        refused="row 10.*has 5 fields, expected the 6 of the header",
    ),
    "separators behind some rows": Case(
        spoil=lambda t: csv(t).replace("Z,1.2", "Z,,1.2", 3),
        refused="row 1.*has 7 fields, expected the 6 of the header",
    ),
    "numbers nobody named": Case(spoil=lambda t: BAR.replace(",5", ",5,6"), refused="no header and 6 numbers"),
    "a line cut off": Case(spoil=lambda t: csv(t)[:-9], refused="row 5000.*has 5 fields, expected the 6 of the header"),
    "a line cut off without a header": Case(
        spoil=lambda t: histdata(t)[:-6],
        timezone="UTC",
        refused="row 5000.*has 5 fields, expected the 6 of the first row",
    ),
    # times
    "no time zone": Case(
        spoil=lambda t: csv(local(t, "America/New_York")),
        refused=r"no time zone; pass --timezone.*by the file's clock 41 of 41 weeks begin on Sunday 17:00; the market",
    ),
    "no time zone in Parquet": Case(
        spoil=lambda t: parquet(t.with_columns(pl.col("ts_utc").dt.replace_time_zone(None)).rename({"ts_utc": "time"})),
        refused="no time zone; pass --timezone",
        suffix=".parquet",
    ),
    "HistData without its zone": Case(spoil=histdata, refused="no time zone.*weeks begin on Sunday 17:00"),
    "a zone nobody knows": Case(
        spoil=lambda t: BAR, timezone="EET+DST", refused="unknown time zone 'EET.DST'; expected an IANA name"
    ),
    "a zone for times that have one": Case(spoil=csv, timezone="Asia/Tokyo", refused="say their own zone: leave out"),
    "two time zones, one of them not said": Case(
        spoil=lambda t: csv(
            pl.concat([t.head(9).pipe(local, "UTC", "%Y-%m-%dT%H:%MZ"), t.tail(-9).pipe(local, "UTC")])
        ),
        refused="row 10.*other rows say their offset from UTC and this one does not",
    ),
    "two time zones, neither said": Case(
        spoil=lambda t: csv(
            pl.concat([t.head(2500).pipe(local, "UTC"), t.tail(2500).pipe(local, "UTC", ahead_hours=7)])
        ),
        timezone="UTC",
        refused="must lie in the FX week.*is the time zone right",
    ),
    "an hour that happened twice": Case(
        spoil=lambda t: "2018-10-28 02:30,1.2,1.3,1.1,1.2,5\n",
        timezone="Europe/Berlin",
        refused="row 1, column 'time', value '2018-10-28 02:30': this hour happened twice in Europe/Berlin",
    ),
    "an hour that never happened": Case(
        spoil=lambda t: "2018-03-25 02:30,1.2,1.3,1.1,1.2,5\n",
        timezone="Europe/Berlin",
        refused="row 1.*there was no such hour in Europe/Berlin",
    ),
    "an hour that never happened on a shifted clock": Case(
        spoil=lambda t: "2018-03-11 09:30,1.2,1.3,1.1,1.2,5\n",
        timezone="America/New_York+7",
        refused=r"no such hour in America/New_York\+7",
    ),
    "day before month": Case(
        spoil=lambda t: csv(local(t, "UTC", "%d/%m/%Y %H:%M")), timezone="UTC", refused="row 1.*expected a time such as"
    ),
    "a day that is none": Case(
        spoil=lambda t: csv(cell(local(t, "UTC"), 77, "ts_utc", "2018-02-30 12:00")),
        timezone="UTC",
        refused="row 77, column 'time', value '2018-02-30 12:00': expected a time",
    ),
    "a time missing": Case(
        spoil=lambda t: csv(cell(local(t, "UTC"), 77, "ts_utc", "")), timezone="UTC", refused="row 77.*expected a time"
    ),
    # numbers
    "text deep in ten years": Case(
        spoil=lambda t: csv(cell(t, 61_234, "close", "n/a")),
        truth=DECADE,
        refused="row 61234, column 'close', value 'n/a': expected a number",
    ),
    "text deep in ten years of Parquet": Case(
        spoil=lambda t: parquet(cell(t, 61_234, "high", "-")),
        truth=DECADE,
        suffix=".parquet",
        refused="row 61234, column 'high', value '-': expected a number",
    ),
    "a whole column of text": Case(
        spoil=lambda t: csv(t.with_columns(volume=pl.lit("many"))),
        truth=DECADE,
        refused="row 1, column 'volume', value 'many': expected a number",
    ),
    "a decimal comma": Case(
        spoil=lambda t: csv(texts(t, lambda p: p.str.replace(".", ",", literal=True)), separator=";"),
        refused="row 1, column 'open', value '1,2': expected a number with a decimal point",
    ),
    "a decimal comma without a header": Case(
        spoil=lambda t: "20180102 120000;1,20037;1,20100;1,20037;1,20100;0\n",
        timezone="UTC",
        refused="value '1,20037': expected a number with a decimal point",
    ),
    "thousands separators": Case(
        spoil=lambda t: csv(t.with_columns(volume=pl.lit("1,234"))), refused="column 'volume', value '1,234': expected"
    ),
    "prices in points": Case(
        spoil=lambda t: csv(t.with_columns((pl.col(PRICES) * 1e5).round().cast(pl.Int64))),
        refused="row 1, column 'close', value '1.*: not a price of EURUSD.*points of 0.00001: divide the prices by",
    ),
    "yen in points": Case(
        spoil=lambda t: csv(t.with_columns((pl.col(PRICES) * 1e3).round().cast(pl.Int64))),
        symbol="USDJPY",
        truth=YEN,
        refused="not a price of USDJPY, expected 20 to 1000; it looks like points of 0.001: divide the prices by 1,000",
    ),
    "another pair": Case(spoil=csv, truth=YEN, refused="not a price of EURUSD, expected 0.1 to 10; is it another pair"),
    # what the rows say together
    "high and low swapped in the whole file": Case(
        spoil=lambda t: csv(swapped(t)), refused="bar must satisfy low <= open, close <= high; 5000 of 5000 do not"
    ),
    "high and low swapped in many rows": Case(
        spoil=lambda t: csv(swapped(t, 20)), refused="bar must satisfy low <= open, close <= high; 250 of 5000 do not"
    ),
    "prices in another order without a header": Case(
        spoil=lambda t: csv(local(t, "UTC").select("ts_utc", "close", "low", "high", "open"), header=False),
        timezone="UTC",
        refused="bar must satisfy low <= open, close <= high; 5000 of 5000",
    ),
    "nan in many rows": Case(
        spoil=lambda t: csv(t.with_columns(close=pl.lit("nan"))), refused="close must be given; 5000 of 5000 do not"
    ),
    "newest first": Case(spoil=lambda t: csv(t.reverse()), refused="must not go back .sort the source oldest first"),
    "in no order": Case(
        spoil=lambda t: csv(t.sample(fraction=1, shuffle=True, seed=1)), refused="must not go back .sort the source"
    ),
    "everything twice": Case(spoil=lambda t: csv(t) + csv(t, header=False), refused="ts_utc must be unique; 10000 of"),
    "a longer timeframe than stated": Case(
        spoil=csv, timeframe=Timeframe.M15, refused="bars must be present on ordinary trading days; 1[45]... of"
    ),
    "a shorter timeframe than stated": Case(
        spoil=csv, timeframe=Timeframe.H4, refused="grid .is the timeframe right.*; 3750 of 5000"
    ),
    "mixed timeframes": Case(
        spoil=lambda t: csv(
            pl.concat([t, t.tail(200).with_columns(pl.col("ts_utc") + timedelta(minutes=15))]).sort("ts_utc")
        ),
        refused="must lie on the timeframe's grid .is the timeframe right.*; 200 of 5200",
    ),
    "the four-hour grid of a broker": Case(
        spoil=lambda t: csv(t.filter(pl.col("ts_utc").dt.hour() % 4 == 3)),
        timeframe=Timeframe.H4,
        refused="H4, D1 and W1 bars start at 17:00 New York",
    ),
    "a year left out": Case(
        spoil=lambda t: csv(pl.concat([t.head(500), t.tail(500)])), refused="bars must be present.*4000 of 5"
    ),
}

STUBS = TRUTH.filter(pl.col("ts_utc").diff(-1) < pl.duration(hours=-24)).head(20)
SPELL = pl.col("ts_utc").is_between(pl.datetime(2018, 5, 5, time_zone="UTC"), pl.datetime(2018, 5, 26, time_zone="UTC"))

COUNTED: dict[str, Case] = {
    "high and low swapped in one row": Case(
        spoil=lambda t: csv(put(t, 99, high=pl.col("low"), low=pl.col("high"))), dropped={"impossible": 1}, lost=1
    ),
    "a price of zero": Case(spoil=lambda t: csv(put(t, 99, low=0.0)), dropped={"impossible": 1}, lost=1),
    "a negative price": Case(spoil=lambda t: csv(put(t, 99, low=-1.2)), dropped={"impossible": 1}, lost=1),
    "an empty price": Case(spoil=lambda t: csv(put(t, 99, close=None)), dropped={"impossible": 1}, lost=1),
    "nan as text": Case(spoil=lambda t: csv(cell(t, 99, "close", "NaN")), dropped={"impossible": 1}, lost=1),
    "infinity as text": Case(spoil=lambda t: csv(cell(t, 99, "high", "inf")), dropped={"impossible": 1}, lost=1),
    "two exact repeats": Case(
        spoil=lambda t: csv(pl.concat([t, t[98:100]]).sort("ts_utc", maintain_order=True)), dropped={"exact_repeat": 2}
    ),
    "two conflicting repeats": Case(
        spoil=lambda t: csv(pl.concat([t, t[98:100].with_columns(volume=0.0)]).sort("ts_utc", maintain_order=True)),
        dropped={"conflicting_repeat": 2},
    ),
    "stub bars at the weekly close": Case(
        spoil=lambda t: csv(pl.concat([t, STUBS.with_columns(pl.col("ts_utc") + timedelta(hours=1))]).sort("ts_utc")),
        dropped={"outside_week": 20},
    ),
    "a bar of a shorter timeframe": Case(
        spoil=lambda t: csv(
            pl.concat([t, t[98:99].with_columns(pl.col("ts_utc") + timedelta(minutes=1))]).sort("ts_utc")
        ),
        dropped={"off_grid": 1},
    ),
    "a bar out of order": Case(spoil=lambda t: csv(pl.concat([t[:98], t[99:101], t[98:99], t[101:]]))),
    "a hole of 103 hours": Case(spoil=lambda t: csv(pl.concat([t[:1000], t[1103:]])), lost=103),
    "no first hour in any week": Case(
        spoil=lambda t: csv(t.filter((pl.col("ts_utc").diff() < pl.duration(hours=24)).fill_null(True))), lost=41
    ),
    "flat bars": Case(spoil=csv, truth=TRUTH.with_columns(high=pl.col("close"), low=pl.col("close"), open="close")),
}

READ: dict[str, Case] = {
    "generic CSV": Case(spoil=csv),
    "Windows line ends and a byte order mark": Case(spoil=lambda t: b"\xef\xbb\xbf" + csv(t, eol="\r\n").encode()),
    "separators behind every row": Case(spoil=lambda t: csv(t, eol=",\n")),
    "blank lines before, between and behind": Case(spoil=lambda t: "\n\n" + csv(t).replace("\n", "\n\n") + "\n"),
    "blank lines without a header": Case(
        spoil=lambda t: "\n \n" + histdata(t).replace("\n", "\r\n\r\n"), timezone="America/New_York"
    ),
    "quoted numbers": Case(
        spoil=lambda t: texts(t, lambda p: p).rename({"ts_utc": "time"}).write_csv(quote_style="always")
    ),
    "spaces around numbers": Case(spoil=lambda t: csv(texts(t, lambda p: p.str.pad_start(9).str.pad_end(11)))),
    "scientific notation": Case(spoil=lambda t: csv(texts(t, lambda p: p + "e0"))),
    "semicolons": Case(spoil=lambda t: csv(t, separator=";")),
    "tabs": Case(spoil=lambda t: csv(t, separator="\t")),
    "other columns": Case(spoil=lambda t: csv(t.with_columns(comment=pl.lit("-")))),
    "a symbol with a slash": Case(spoil=csv, symbol="eur/usd"),
    "volume missing": Case(spoil=lambda t: csv(t.drop("volume")), without=("volume",)),
    "volume empty": Case(spoil=lambda t: csv(t.with_columns(volume=None)), without=("volume",)),
    "one bar": Case(spoil=csv, truth=TRUTH.head(1)),
    "one bar without a header": Case(spoil=histdata, truth=TRUTH.head(1), timezone="America/New_York"),
    "two time zones, both said": Case(
        spoil=lambda t: csv(
            pl.concat([t.head(99).pipe(local, "UTC", "%FT%TZ"), t.tail(-99).pipe(local, "Asia/Tokyo", "%FT%T+09:00")])
        )
    ),
    "seconds since 1970": Case(spoil=lambda t: csv(t.with_columns(pl.col("ts_utc").dt.epoch("s")))),
    "HistData, generic ASCII": Case(spoil=histdata, timezone="America/New_York"),
    "HistData, as downloaded": Case(
        spoil=lambda t: packed("DAT_ASCII_EURUSD_M1_2018.csv", histdata(t)), timezone="America/New_York", suffix=".zip"
    ),
    "HistData, MetaTrader": Case(
        spoil=lambda t: csv(
            local(t, "America/New_York", "%Y.%m.%d,%H:%M").with_columns(pl.col("volume").cast(pl.Int64)), header=False
        ).replace('"', ""),
        timezone="America/New_York",
    ),
    "MetaTrader 5": Case(spoil=lambda t: csv(metatrader(t), separator="\t"), timezone="America/New_York+7"),
    "MetaTrader 5 without its header": Case(
        spoil=lambda t: csv(metatrader(t), separator="\t", header=False), timezone="America/New_York+7"
    ),
    "MetaTrader 4": Case(spoil=metatrader4, timezone="America/New_York+7"),
    "a clock on the European dates": Case(
        spoil=lambda t: csv(local(t, "Europe/London", ahead_hours=-5)), timezone="Europe/London-5"
    ),
    "Parquet": Case(spoil=parquet, suffix=".parquet"),
    "Parquet under another name": Case(spoil=parquet, suffix=".dat"),
    "Parquet with nanoseconds": Case(spoil=lambda t: parquet(t.cast({"ts_utc": pl.Datetime("ns", "UTC")}))),
    "Parquet with milliseconds of another zone": Case(
        spoil=lambda t: parquet(
            t.with_columns(pl.col("ts_utc").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ms"))
        )
    ),
    "Parquet with a naive clock": Case(
        spoil=lambda t: parquet(
            t.select(
                pl.col("ts_utc").dt.convert_time_zone("Europe/Helsinki").dt.replace_time_zone(None).alias("time"),
                *PRICES,
            )
        ),
        timezone="Europe/Helsinki",
        without=("volume",),
    ),
    "Parquet with decimals": Case(
        spoil=lambda t: parquet(t.with_columns(pl.col(PRICES).round(5).cast(pl.Decimal(12, 5)))), suffix=".parquet"
    ),
    "Parquet with float32": Case(spoil=lambda t: parquet(t.cast(dict.fromkeys(PRICES, pl.Float32)))),
    "Parquet with dictionaries": Case(
        spoil=lambda t: parquet(
            texts(t, lambda p: p)
            .with_columns(
                pl.col(PRICES).cast(pl.Categorical),
                pl.col("ts_utc").dt.strftime("%FT%TZ").cast(pl.Categorical).alias("time"),
            )
            .drop("ts_utc")
        )
    ),
}

CONTRADICTED: dict[str, Case] = {
    "a clock that stood at UTC+3 for three weeks": Case(
        spoil=lambda t: csv(
            t.with_columns(pl.when(SPELL).then(pl.col("ts_utc").dt.offset_by("3h")).otherwise("ts_utc").alias("ts_utc"))
        ),
        warned="opens at 20:00 New York instead of 17:00 in 3 of 4. weeks, from 2018-05-07 to 2018-05-21",
    ),
    "HistData read as its documentation says": Case(
        spoil=histdata,
        timezone="EST",
        warned="opens at 18:00 New York instead of 17:00 in 3. of 4. weeks, all in American summer time",
    ),
    "MetaTrader read on European dates": Case(
        spoil=lambda t: csv(metatrader(t), separator="\t"),
        timezone="Europe/Helsinki",
        warned="opens at 18:00 New York instead of 17:00 in 2 of 40 weeks, all while only one of America and Europe",
    ),
}


def file_of(case: Case, folder: Path) -> Path:
    content = case.spoil(case.truth)
    path = folder / f"bars{case.suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_clear_line(name: str, tmp_path: Path) -> None:
    case = REFUSED[name]
    with pytest.raises(BadInput, match=case.refused) as refusal:
        ingest(file_of(case, tmp_path), case.timezone, case.timeframe, case.symbol)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1500


@pytest.mark.parametrize("name", [*READ, *COUNTED])
def test_no_candle_is_wrong_and_every_row_is_accounted_for(name: str, tmp_path: Path) -> None:
    case = (READ | COUNTED)[name]
    verdict, bars, dropped = ingest(file_of(case, tmp_path), case.timezone, case.timeframe, case.symbol)
    expected = case.truth.with_columns(pl.lit(None, dtype=pl.Float64).alias(column) for column in case.without)
    kept = expected.join(bars, on="ts_utc", how="semi")
    assert_frame_equal(bars, kept, check_exact=True)
    assert expected.height - kept.height == case.lost
    assert dropped == case.dropped
    assert verdict.warnings == ()


@pytest.mark.parametrize("name", CONTRADICTED)
def test_a_clock_that_contradicts_the_market_is_warned_of(name: str, tmp_path: Path) -> None:
    case = CONTRADICTED[name]
    raw = FileSource(file_of(case, tmp_path), case.timezone).fetch("EURUSD", H1, since_utc=None, until_utc=None)
    (warning,) = judge(raw, H1).warnings
    assert re.search(case.warned, warning), warning


def test_decimals_are_exact() -> None:
    assert Decimal(str(TRUTH["close"][7])).as_tuple().exponent >= -5, "the cases compare to the last digit"


# ---------------------------------------------------------------------------------------------------------------------
# The real files, with the defects their description counts: rows outside the week, repeats, a foreign grid
# ---------------------------------------------------------------------------------------------------------------------

REAL = {
    **{f"{pair}_M1": (0, 0) for pair in ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD")},
    "AUDJPY_H1": (19, 2),
    "AUDUSD_H1": (26, 2),
    "EURGBP_H1": (25, 2),
    "EURJPY_H1": (19, 2),
    "GBPJPY_H1": (20, 2),
    "GBPUSD_H1": (21, 2),
    "USDCAD_H1": (36, 2),
    "USDJPY_H1": (27, 2),
    "EURUSD_H1": (0, 0),
    "NZDUSD_H1": (0, 0),
}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real candles at {DATA}")
@pytest.mark.parametrize("name", REAL)
def test_real_files_pass_and_lose_exactly_what_is_known_of_them(name: str) -> None:
    outside, repeats = REAL[name]
    verdict, bars, dropped = ingest(DATA / f"{name}.parquet", None, Timeframe(name[-2:]), name[:6])
    wanted = {"outside_week": outside, "conflicting_repeat": repeats}
    assert dropped == {reason: count for reason, count in wanted.items() if count}
    assert verdict.warnings == ()
    raw = pl.read_parquet(DATA / f"{name}.parquet")
    assert bars.join(raw, on=bars.columns, how="anti", nulls_equal=True).is_empty(), "no bar was altered"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real candles at {DATA}")
def test_a_real_file_on_a_brokers_four_hour_grid_is_refused() -> None:
    with pytest.raises(Refused, match="must lie on the timeframe's grid"):
        ingest(DATA / "EURUSD_H4.parquet", None, Timeframe.H4, "EURUSD")


# ---------------------------------------------------------------------------------------------------------------------
# The same through the real command
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a verb as the console script does, in this process; returns exit code, stdout and stderr."""
    mask = os.umask(0o077)
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    yield run
    os.umask(mask)


def test_the_command_refuses_in_one_line_and_warns_in_its_answer(command: Command, tmp_path: Path) -> None:
    points = file_of(REFUSED["prices in points"], tmp_path)
    code, out, err = command("candles", "import", str(points), "--symbol", "GBP/USD")
    assert (code, out, err.strip().count("\n")) == (1, "", 0)
    assert "looks like points of 0.00001: divide the prices by 100,000 first" in err
    assert Lake(str(tmp_path / "home" / "lake")).symbols("candles") == []

    broker = file_of(CONTRADICTED["MetaTrader read on European dates"], tmp_path)
    options = ("--symbol", "GBP/USD", "--timezone", "Europe/Helsinki", "--json")
    code, out, err = command("candles", "import", str(broker), *options)
    assert code == 0, err
    assert "is the time zone right?" in json.loads(out)["warning"]

    one = file_of(READ["one bar"], tmp_path)
    code, out, err = command("candles", "import", str(one), "--symbol", "EUR/USD", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["symbol"], facts["bars"]) == ("EURUSD", 1)
    assert "warning" not in facts
