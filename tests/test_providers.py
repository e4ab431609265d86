"""Providers of candles: one contract for all, and every way a file can be wrong."""

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from candle_source_contract import CandleSourceContract
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forexgpt_core.adapters.providers.files import FileSource
from forexgpt_core.adapters.providers.sample import SampleSource
from forexgpt_core.adapters.source_files.refusal import BadFile
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.source import CandleSource
from forexgpt_core.domain.bars import PRICES as BID
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe, expected_opens
from forexgpt_core.errors import BadInput, UnknownName

H1 = Timeframe.H1
REFERENCE = Path(__file__).parents[1].parent / "shared" / "data" / "fx" / "EURUSD_H1.parquet"


def walk(bars: int) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    start = np.datetime64("2018-10-26T00:00", "us")  # across a weekend on which European clocks go back
    opens = expected_opens(start, start + np.timedelta64(2 * bars + 100, "h"), H1)[:bars]
    close = np.round(1.1 + rng.normal(0, 1e-3, bars), 5)
    return pl.DataFrame(
        {
            "ts_utc": pl.Series(opens).dt.replace_time_zone("UTC"),
            "open": close,
            "high": close + 0.0005,
            "low": close - 0.0005,
            "close": close,
            "volume": rng.integers(1, 9, bars).astype(np.float64),
        },
        schema=SCHEMA,
    )


def everything(source: CandleSource) -> pl.DataFrame:
    return source.fetch("EURUSD", H1, since_utc=None, until_utc=None)


class TestSample(CandleSourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> CandleSource:
        return SampleSource()

    def test_it_is_the_sample_of_the_package(self, source: CandleSource) -> None:
        bars = everything(source)
        assert bars.height == 5000
        assert bars.row(0) == (datetime(2017, 4, 19, 9, tzinfo=UTC), 1.0716, 1.0722, 1.07083, 1.07219, 1413.0)
        assert bars["ts_utc"][-1] == datetime(2018, 2, 7, 15, tzinfo=UTC)

    def test_its_weeks_open_at_seventeen_in_new_york_and_two_stubs_stand_outside(self, source: CandleSource) -> None:
        ts = everything(source)["ts_utc"]
        opens = ts.filter((ts - ts.shift()) > timedelta(hours=24)).dt.convert_time_zone("America/New_York")
        sundays = opens.filter(opens.dt.weekday() == 7)
        assert (opens.len(), sundays.len()) == (42, 40)
        assert (sundays.dt.hour() == 17).all()
        assert clean(everything(source), H1).dropped["outside_week"] == 2

    @pytest.mark.skipif(not REFERENCE.is_file(), reason=f"no independent candles at {REFERENCE}")
    def test_in_every_week_it_agrees_best_with_an_independent_utc_feed_unshifted(self, source: CandleSource) -> None:
        reference = pl.read_parquet(REFERENCE).select("ts_utc", reference="close")
        distances = []
        for hours in range(-3, 4):
            shifted = everything(source).with_columns(
                ts_utc=pl.col("ts_utc") + pl.duration(hours=hours), stamped="ts_utc"
            )
            joined = shifted.join(reference, on="ts_utc")
            week, pips = pl.col("stamped").dt.truncate("1w"), (pl.col("close") - pl.col("reference")).abs() * 1e4
            distances.append(joined.group_by(week=week).agg(pips=pips.median(), hours=pl.lit(hours)))
        best = pl.concat(distances).sort("pips").group_by("week").first()
        assert best.height == 43
        assert best["hours"].unique().to_list() == [0]
        assert best["pips"].max() < 1.0

    @pytest.mark.parametrize(("symbol", "timeframe"), [("GBPUSD", H1), ("EURUSD", Timeframe.M15)])
    def test_anything_else_is_refused(self, source: CandleSource, symbol: str, timeframe: Timeframe) -> None:
        with pytest.raises(UnknownName, match=f"EURUSD H1 only, not {symbol} {timeframe}"):
            source.fetch(symbol, timeframe, since_utc=None, until_utc=None)

    def test_it_does_not_import_the_package(self) -> None:
        program = (
            "import sys\nfrom forexgpt_core.adapters.providers.sample import SampleSource, TIMEFRAME\n"
            "SampleSource().fetch('EURUSD', TIMEFRAME, since_utc=None, until_utc=None)\n"
            "print([m for m in ('backtesting', 'bokeh', 'pandas') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "[]\n"


class TestParquet(CandleSourceContract):
    any_symbol = True

    @pytest.fixture
    def source(self, tmp_path: Path) -> CandleSource:
        walk(300).write_parquet(tmp_path / "bars.parquet")
        return FileSource(tmp_path / "bars.parquet")


class TestCsv(CandleSourceContract):
    any_symbol = True

    @pytest.fixture
    def source(self, tmp_path: Path) -> CandleSource:
        walk(300).write_csv(tmp_path / "bars.csv")
        return FileSource(tmp_path / "bars.csv")


def on_clock(form: str, zone: str, ahead_hours: int = 0) -> pl.DataFrame:
    """Return the bars with their times as text on a zone's clock."""
    clock = pl.col("ts_utc").dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.offset_by(f"{ahead_hours}h")
    return walk(300).with_columns(clock.dt.strftime(form).alias("ts_utc"), pl.col("volume").cast(pl.Int64))


class TestHistDataZip(CandleSourceContract):
    any_symbol = True

    @pytest.fixture
    def source(self, tmp_path: Path) -> CandleSource:
        text = on_clock("%Y%m%d %H%M%S", "Etc/GMT+5").write_csv(separator=";", include_header=False)
        with zipfile.ZipFile(tmp_path / "bars.zip", "w") as packed:
            packed.writestr("DAT_ASCII_EURUSD_H1_2018.csv", text)
            packed.writestr("DAT_ASCII_EURUSD_H1_2018.txt", "gaps: none")
        return FileSource(tmp_path / "bars.zip", "Etc/GMT+5")


class TestMetaTrader(CandleSourceContract):
    any_symbol = True

    @pytest.fixture
    def source(self, tmp_path: Path) -> CandleSource:
        table = on_clock("%Y.%m.%d\t%H:%M:%S", "America/New_York", 7)
        rows = table.write_csv(separator="\t", include_header=False, quote_style="never")
        header = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\n"
        (tmp_path / "bars.csv").write_text(header + rows)
        return FileSource(tmp_path / "bars.csv", "America/New_York+7")


class TestBidAndAsk(CandleSourceContract):
    any_symbol = has_ask = True

    @pytest.fixture
    def source(self, tmp_path: Path) -> CandleSource:
        quoted = walk(300).with_columns((pl.col(name) + 0.0002).alias(f"ask_{name}") for name in BID)
        quoted.write_csv(tmp_path / "bars.csv")
        return FileSource(tmp_path / "bars.csv")


# ---------------------------------------------------------------------------------------------------------------------
# What a CSV may look like
# ---------------------------------------------------------------------------------------------------------------------

Read = Callable[..., pl.DataFrame]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(content: str | bytes, timezone: str | None = None, name: str = "bars.csv") -> pl.DataFrame:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return everything(FileSource(path, timezone))

    return write_and_read


NOON = datetime(2018, 7, 2, 12, tzinfo=UTC)
PRICES = ",1,2,0.5,1.5,7\n"


@pytest.mark.parametrize(
    ("text", "timezone"),
    [
        ("ts_utc,open,high,low,close,volume\n2018-07-02 12:00" + PRICES, None),
        ("ts_utc,open,high,low,close,volume\n2018-07-02 12:00" + PRICES, "UTC"),
        ("Time,Open,High,Low,Close,Volume\n2018-07-02T12:00:00Z" + PRICES, None),
        ("TIMESTAMP,OPEN,HIGH,LOW,CLOSE,VOLUME\n2018-07-02T12:00:00.000000+00:00" + PRICES, None),
        ("datetime,o,h,l,c,v\n2018-07-02 14:00:00+0200" + PRICES, None),
        ("datetime,o,h,l,c,v\n2018-07-02 06:30:00-05:30" + PRICES, None),
        ("date,open,high,low,close,vol\n2018-07-02 08:00" + PRICES, "America/New_York"),
        (",Open,High,Low,Close,Volume\n2018-07-02 12:00:00" + PRICES, "UTC"),
        ("time,open,high,low,close,volume\n1530532800" + PRICES, None),
        ("time,open,high,low,close,volume\n1530532800000" + PRICES, None),
        ("time,open,high,low,close,volume\n20180702 120000" + PRICES, "UTC"),
        ("time,open,high,low,close,volume\n2018/07/02 12:00" + PRICES, "UTC"),
        ("Date,Time,Open,High,Low,Close,Volume\n2018-07-02,12:00" + PRICES, "UTC"),
        ("\ufefftime;open;high;low;close;volume\r\n2018-07-02 12:00;1;2;0.5;1.5;7\r\n", "UTC"),
        (
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
            "2018.07.02\t15:00:00\t1\t2\t0.5\t1.5\t7\t0\t12\n",
            "Europe/Helsinki",
        ),
        ('"time","open","high","low","close","volume"\n"2018-07-02T12:00Z","1","2"," .5","1.5","7e0"\n\n', None),
    ],
)
def test_the_usual_shapes_of_csv_are_read(read: Read, text: str, timezone: str | None) -> None:
    assert read(text, timezone).rows() == [(NOON, 1.0, 2.0, 0.5, 1.5, 7.0)]


def test_a_file_without_volume_has_none_and_ask_prices_are_kept(read: Read) -> None:
    bars = read("time,open,high,low,close,ask_open,ask_high,ask_low,ask_close\n2018-07-02T12:00Z,1,2,.5,1,3,4,2,3\n")
    assert bars.row(0) == (NOON, 1.0, 2.0, 0.5, 1.0, None, 3.0, 4.0, 2.0, 3.0)


def test_order_repeats_and_empty_prices_are_left_for_the_judge(read: Read) -> None:
    header, later, earlier = "time,open,high,low,close\n", "2018-07-02T13:00Z,1,2,.5,\n", "2018-07-02T12:00Z,1,2,.5,1\n"
    bars = read(header + later + earlier + earlier)
    assert bars["ts_utc"].to_list() == [NOON + timedelta(hours=1), NOON, NOON]
    assert bars["close"].to_list() == [None, 1.0, 1.0]


HEADER = "time,open,high,low,close\n"
GOOD = "2018-07-02T12:00Z,1,2,.5,1\n"
WRONG = [
    ("", None, r"file is empty; expected a header"),
    (HEADER, None, r"table is empty; expected at least one bar"),
    ("time,open,high,close\n" + GOOD, None, r"no column for 'low'; found time, open, high, close"),
    ("open,high,low,close\n1,2,3,4\n", None, r"no column for the time .*found open, high, low, close"),
    ("time,timestamp,open,high,low,close\n" + GOOD, None, r"columns time, timestamp all claim to hold 'ts_utc'"),
    ("time,open,open,high,low,close\n" + GOOD, None, r"column 'open' stands there 2 times"),
    (HEADER + GOOD + "2018-07-02T13:00Z,1,high,.5,1\n", None, r"row 2, column 'high', value 'high': expected a number"),
    (HEADER + '2018-07-02T12:00Z,"1,5",2,.5,1\n', None, r"row 1, column 'open', value '1,5': .*decimal point"),
    (HEADER + GOOD + "2018-07-02T13:00Z,1,2,.5,1,9\n", None, r"row 2.*has 6 fields, expected the 5 of the header"),
    (HEADER + "2018-07-02T12:00Z,1,2\n", None, r"row 1.*has 3 fields, expected the 5 of the header"),
    (HEADER + "2018-07-02 12:00,1,2,.5,1\n", None, r"times have no time zone; pass --timezone .*e\.g\. UTC"),
    (
        HEADER + "2018-07-02 12:00,1,2,.5,1\n",
        "Mars/Olympus",
        r"unknown time zone 'Mars/Olympus'; expected an IANA",
    ),
    (HEADER + GOOD, "Europe/Berlin", r"say their own zone: leave out --timezone Europe/Berlin"),
    (HEADER + "1530532800,1,2,.5,1\n", "Europe/Berlin", r"say their own zone"),
    ("ts_utc,open,high,low,close\n2018-07-02 12:00,1,2,.5,1\n", "Europe/Berlin", r"say their own zone"),
    (HEADER + "02/07/2018 12:00,1,2,.5,1\n", "UTC", r"row 1, column 'time', value '02/07/2018 12:00': expected a time"),
    (HEADER + GOOD + "2018-02-30T12:00Z,1,2,.5,1\n", None, r"row 2, column 'time', value '2018-02-30T12:00Z'"),
    (HEADER + GOOD + ",1,2,.5,1\n", None, r"row 2, column 'time', value ''"),
    (HEADER + GOOD + "2018-07-02T13:00,1,2,.5,1\n", None, r"row 2.*'2018-07-02T13:00': other rows say their offset"),
    (HEADER + "1918-07-02T12:00Z,1,2,.5,1\n", None, r"row 1.*expected a time between 1990 and 2059"),
    (HEADER + "2018-10-28 02:30,1,2,.5,1\n", "Europe/Berlin", r"row 1.*hour happened twice in Europe/Berlin"),
    (HEADER + "2018-03-25 02:30,1,2,.5,1\n", "Europe/Berlin", r"row 1.*no such hour in Europe/Berlin"),
    (b"\xff\xfe\x00\x01\n\x80\x81", None, r"not readable as CSV"),
]


@pytest.mark.parametrize(("content", "timezone", "complaint"), WRONG)
def test_a_wrong_csv_is_refused_in_one_line(
    read: Read, content: str | bytes, timezone: str | None, complaint: str
) -> None:
    with pytest.raises(BadFile, match=complaint) as refused:
        read(content, timezone)
    assert isinstance(refused.value, BadInput)
    assert str(refused.value).startswith("bars.csv: ")
    assert "\n" not in str(refused.value)


def test_a_refusal_carries_its_place_and_survives_pickling(read: Read) -> None:
    with pytest.raises(BadFile) as refused:
        read(HEADER + GOOD + "2018-07-02T13:00Z,1,high,.5,1\n")
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.row, again.column, again.value, str(again)) == (2, "high", "high", str(refused.value))


def test_a_missing_file_and_broken_parquet_are_refused(read: Read, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="there is no file"):
        everything(FileSource(tmp_path / "nowhere.csv"))
    for content in (b"text", b"PAR1 and no more"):
        with pytest.raises(BadFile, match="not readable as Parquet"):
            read(content, name="bars.parquet")


@pytest.mark.parametrize(
    ("times", "timezone"),
    [
        (pl.Series([NOON], dtype=pl.Datetime("ns", "UTC")), None),
        (pl.Series([NOON], dtype=pl.Datetime("us", "Asia/Tokyo")), None),
        (pl.Series([datetime(2018, 7, 2, 14)], dtype=pl.Datetime("ms")), "Europe/Berlin"),
        (pl.Series(["2018-07-02T12:00:00Z"]), None),
        (pl.Series([1530532800]), None),
        (pl.Series([1530532800 * 10**9]), None),
    ],
)
def test_parquet_times_of_every_type_become_utc(tmp_path: Path, times: pl.Series, timezone: str | None) -> None:
    table = pl.DataFrame({"Time": times, "Open": [1], "High": [2.0], "Low": ["0.5"], "Close": [1.5]})
    table.write_parquet(tmp_path / "bars.parquet")
    bars = everything(FileSource(tmp_path / "bars.parquet", timezone))
    assert bars.rows() == [(NOON, 1.0, 2.0, 0.5, 1.5, None)]
    assert bars.schema == SCHEMA


@pytest.mark.parametrize(
    ("column", "values", "complaint"),
    [
        ("Time", [datetime(2018, 7, 2)], "no time zone"),
        ("Time", [1.5], "holds Float64, expected times"),
        ("Close", [True], "column 'Close': holds Boolean, expected numbers"),
        ("Close", ["abc"], "row 1, column 'Close', value 'abc'"),
    ],
)
def test_parquet_columns_of_the_wrong_type_are_refused(
    tmp_path: Path, column: str, values: list[object], complaint: str
) -> None:
    table = pl.DataFrame({"Time": [NOON], "Open": [1.0], "High": [2.0], "Low": [0.5], "Close": [1.5]})
    table.with_columns(pl.Series(column, values)).write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(BadFile, match=complaint):
        everything(FileSource(tmp_path / "bars.parquet"))


@given(zone=st.sampled_from(["UTC", "Europe/Helsinki", "America/New_York", "Asia/Tokyo"]), bars=st.integers(1, 300))
@settings(deadline=None, max_examples=20)
def test_a_clock_of_any_zone_is_undone_exactly(zone: str, bars: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, truth = tmp_path_factory.mktemp("zone") / "bars.csv", walk(bars)
    local = pl.col("ts_utc").dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.strftime("%Y-%m-%d %H:%M:%S")
    truth.select(local.alias("time"), *list(SCHEMA)[1:]).write_csv(path)
    assert_frame_equal(everything(FileSource(path, zone)), truth)
