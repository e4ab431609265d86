"""Dukascopy's data feed, spoken by a server on loopback, with real candles where there are any."""

import lzma
import random
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from candle_source_contract import CandleSourceContract
from polars.testing import assert_frame_equal
from simulators.bars import walk_bars
from simulators.feeds import Dukascopy, packed
from simulators.http import Asked, Reply, Simulator

from forexgpt_core.adapters.providers.bi5 import (
    BID_AND_ASK,
    BadBi5,
    points_per_unit,
    read_candles,
    read_ticks,
    unpack,
)
from forexgpt_core.adapters.providers.dukascopy import DukascopySource
from forexgpt_core.adapters.providers.http import HttpGetter, Patience
from forexgpt_core.candles.cleaning import clean
from forexgpt_core.candles.provider_errors import ProviderError, Unreachable, UnreadableAnswer
from forexgpt_core.candles.resampling import resample
from forexgpt_core.candles.source import CandleSource, left_out
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.domain.instruments import INSTRUMENTS, instrument
from forexgpt_core.errors import UnknownName

M1, H1, H4, D1, W1 = Timeframe.M1, Timeframe.H1, Timeframe.H4, Timeframe.D1, Timeframe.W1
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "fx"
NOW = datetime(2018, 7, 10, 7, 30, tzinfo=UTC)  # a Tuesday
BEGIN = datetime(2018, 7, 2, tzinfo=UTC)
MINUTES = walk_bars(M1, BEGIN, NOW, missing=0.003)
YEN = walk_bars(M1, datetime(2018, 7, 5, tzinfo=UTC), datetime(2018, 7, 6, tzinfo=UTC), points=1000)
FEED = Dukascopy({"EURUSD": MINUTES, "USDJPY": YEN}, today=NOW.date(), fill=True)


def quick(url: str, now: datetime = NOW, *, read_seconds: float = 10.0, **options: object) -> DukascopySource:
    patience = Patience(connect_seconds=10.0, read_seconds=read_seconds, attempts=3)
    getter = HttpGetter("dukascopy", url, patience=patience, sleep=lambda seconds: None, rng=random.Random(1))
    return DukascopySource(start=BEGIN.date(), getter=getter, now=lambda: now, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Simulator]:
    with Simulator(FEED) as running:
        yield running


@pytest.fixture
def server() -> Iterator[Simulator]:
    with Simulator(FEED) as running:
        yield running


def fetch(source: CandleSource, since: datetime, until: datetime | None, timeframe: Timeframe = M1) -> pl.DataFrame:
    return source.fetch("EURUSD", timeframe, since_utc=since, until_utc=until)


class TestMinutes(CandleSourceContract):
    timeframe, has_ask, now_utc = M1, True, NOW
    since_utc = NOW - timedelta(hours=20)

    @pytest.fixture
    def source(self, shared_server: Simulator) -> CandleSource:
        return quick(shared_server.url)


class TestHours(CandleSourceContract):
    timeframe, has_ask, now_utc = H1, True, NOW

    @pytest.fixture
    def source(self, shared_server: Simulator) -> CandleSource:
        return quick(shared_server.url)


# ---------------------------------------------------------------------------------------------------------------------
# The files
# ---------------------------------------------------------------------------------------------------------------------


def test_a_record_of_known_bytes_is_read_in_the_order_open_close_low_high() -> None:
    raw = struct.pack(">5if", 120, 117_010, 117_020, 117_000, 117_030, 12.5)
    bars = read_candles(lzma.compress(raw, format=lzma.FORMAT_ALONE), date(2018, 7, 2), 100_000)
    assert bars.schema == SCHEMA
    assert bars.rows() == [(datetime(2018, 7, 2, 0, 2, tzinfo=UTC), 1.1701, 1.1703, 1.17, 1.1702, 12.5)]


def test_a_stream_that_states_its_length_needs_no_end_mark() -> None:
    marked = packed(">5if", [(60 * n, 117_000 + n % 7, 117_001, 117_000, 117_009, n) for n in range(1440)])
    stated = marked[:5] + struct.pack("<Q", 1440 * 24) + marked[13:]
    assert unpack(marked) == unpack(stated) == unpack(stated[:-3])
    for cut_off in (marked[:-3], stated[:-20], stated[:2000]):
        with pytest.raises(BadBi5, match="is cut off"):
            unpack(cut_off)
    assert unpack(b"") == b""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<html>", "is no LZMA stream"),
        (
            packed(">5if", [(60 * n, 117_000, 117_001, 117_000, 117_001, n) for n in range(99)])[:200],
            "is cut off after",
        ),
        (packed(">5i", [(0, 1, 1, 1, 1)]), "holds 20 bytes, expected records of 24"),
        (packed(">5if", [(86_400, 1, 1, 1, 1, 1.0)]), "holds 1 of 1 times outside the day"),
        (packed(">5if", [(-60, 1, 1, 1, 1, 1.0)]), "holds 1 of 1 times outside the day"),
    ],
)
def test_what_is_no_file_of_candles_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(BadBi5, match=told):
        read_candles(content, date(2018, 7, 2), 100_000)


def test_ticks_outside_their_hour_are_refused() -> None:
    with pytest.raises(BadBi5, match="1 of 1 times outside the hour"):
        read_ticks(packed(">3i2f", [(3_600_000, 2, 1, 1.0, 1.0)]), NOW, 100_000)


def test_prices_are_scaled_by_pair() -> None:
    scales = {symbol: points_per_unit(pair) for symbol, pair in INSTRUMENTS.items()}
    assert {symbol for symbol, points in scales.items() if points == 1000} == {
        *(s for s in INSTRUMENTS if s.endswith("JPY")),
        "XAUUSD",
    }
    assert scales["EURUSD"] == 100_000
    assert points_per_unit(instrument("USD/JPY")) == 1000


# ---------------------------------------------------------------------------------------------------------------------
# Days, hours and what is left out
# ---------------------------------------------------------------------------------------------------------------------


def test_the_bars_are_those_of_the_feed_bit_for_bit_and_the_fillers_are_counted(shared_server: Simulator) -> None:
    source = quick(shared_server.url)
    since, until = datetime(2018, 7, 5, tzinfo=UTC), datetime(2018, 7, 9, tzinfo=UTC)  # a weekend inside
    bars = fetch(source, since, until)
    truth = MINUTES.filter(pl.col("ts_utc").is_between(since, until, closed="left")).select(list(BID_AND_ASK))
    assert_frame_equal(bars, truth, check_exact=True)
    assert left_out(source) == {"filler": 3 * 1440 - truth.height}  # Thursday, Friday, Sunday; no Saturday was asked
    assert clean(bars, M1).dropped_bars == 0


def test_yen_prices_have_three_decimals(shared_server: Simulator) -> None:
    bars = quick(shared_server.url).fetch("USD/JPY", M1, since_utc=YEN["ts_utc"][0], until_utc=YEN["ts_utc"][99])
    assert_frame_equal(bars, YEN[:99].select(list(BID_AND_ASK)), check_exact=True)


def test_the_current_day_comes_from_ticks_of_whole_hours(server: Simulator) -> None:
    source = quick(server.url)
    bars = fetch(source, datetime(2018, 7, 10, tzinfo=UTC), None)
    hours = MINUTES.filter(
        pl.col("ts_utc").is_between(datetime(2018, 7, 10, tzinfo=UTC), NOW.replace(minute=0), "left")
    )
    assert_frame_equal(bars, hours.select(list(BID_AND_ASK)), check_exact=True)
    assert server.count("candles") == 0
    assert server.count("ticks") == 7


def test_a_bar_whose_last_hour_has_not_come_yet_is_not_given() -> None:
    late = Dukascopy({"EURUSD": MINUTES}, today=NOW.date(), last_hour=datetime(2018, 7, 10, 4, tzinfo=UTC))
    with Simulator(late) as server:
        source = quick(server.url)
        assert fetch(source, NOW - timedelta(days=1), None, M1)["ts_utc"].max() < datetime(2018, 7, 10, 5, tzinfo=UTC)
        assert fetch(source, NOW - timedelta(days=1), None, H1)["ts_utc"][-1] == datetime(2018, 7, 10, 4, tzinfo=UTC)
        assert fetch(source, NOW - timedelta(days=1), None, H4)["ts_utc"][-1] == datetime(2018, 7, 10, 1, tzinfo=UTC)
    assert fetch_h4_later() == datetime(2018, 7, 10, 1, tzinfo=UTC)


def fetch_h4_later() -> datetime:
    """Return the last H4 bar when every hour is there: 05:00 to 09:00 is still forming."""
    with Simulator(FEED) as server:
        return fetch(quick(server.url), NOW - timedelta(days=1), None, H4)["ts_utc"][-1]


def test_a_day_that_is_over_but_has_no_file_yet_comes_from_ticks() -> None:
    now = datetime(2018, 7, 10, 0, 20, tzinfo=UTC)
    late = Dukascopy({"EURUSD": MINUTES}, today=now.date(), late=[date(2018, 7, 9)])
    with Simulator(late) as server:
        bars = fetch(quick(server.url, now), datetime(2018, 7, 8, tzinfo=UTC), None)
    with Simulator(FEED) as server:
        truth = fetch(quick(server.url), datetime(2018, 7, 8, tzinfo=UTC), now.replace(minute=0))
    assert_frame_equal(bars, truth, check_exact=True)


def test_a_holiday_long_past_without_a_file_has_no_bars_and_no_ticks_are_asked(server: Simulator) -> None:
    server.answer = lambda asked: Reply(b"", 404) if "/05/" in asked.path else FEED(asked)
    since, until = datetime(2018, 7, 4, 23, tzinfo=UTC), datetime(2018, 7, 6, 1, tzinfo=UTC)
    bars = fetch(quick(server.url), since, until)
    assert set(bars["ts_utc"].dt.date()) == {date(2018, 7, 4), date(2018, 7, 6)}
    assert server.count("ticks") == 0


def test_a_minute_without_ask_has_none_and_is_counted(server: Simulator) -> None:
    lacking = pl.col("ts_utc").dt.minute() == 7
    asks = [pl.when(~lacking).then(name).alias(name) for name in MINUTES.columns if name.startswith("ask")]
    server.answer = Dukascopy({"EURUSD": MINUTES.with_columns(asks)}, today=NOW.date())
    source, since = quick(server.url), datetime(2018, 7, 5, tzinfo=UTC)
    bars = fetch(source, since, since + timedelta(hours=24))
    lacking_bars = bars.filter(lacking)
    assert lacking_bars["ask_open"].null_count() == lacking_bars.height > 20
    assert source.left_out == {"no_ask": lacking_bars.height}
    assert bars.filter(~lacking)["ask_close"].null_count() == 0


def test_a_day_without_an_ask_file_keeps_its_bid(server: Simulator) -> None:
    server.fail(404, times=9, where="05/ASK")
    source, since = quick(server.url), datetime(2018, 7, 5, tzinfo=UTC)
    bars = fetch(source, since, since + timedelta(hours=24))
    assert bars.height > 1400
    assert bars["ask_open"].null_count() == bars.height == source.left_out["no_ask"]
    assert bars.schema == BID_AND_ASK


def test_ask_minutes_that_no_bid_stands_beside_are_counted(server: Simulator) -> None:
    server.fail(404, times=9, where="05/BID")
    source, since = quick(server.url), datetime(2018, 7, 5, tzinfo=UTC)
    assert fetch(source, since, since + timedelta(hours=24)).is_empty()
    assert source.left_out["ask_without_bid"] > 1400


def test_repeated_and_impossible_minutes_arrive_as_they_are_and_ask_repeats_are_counted(server: Simulator) -> None:
    good, bad = (0, 117_000, 117_001, 116_990, 117_009, 1.0), (60, 117_000, 117_001, 117_005, 116_990, 1.0)

    def answer(asked: Asked) -> Reply:
        return Reply(packed(">5if", [good, good, bad])) if "/2018/06/05/" in asked.path else FEED(asked)

    server.answer = answer
    source, since = quick(server.url), datetime(2018, 7, 5, tzinfo=UTC)
    bars = fetch(source, since, since + timedelta(hours=24))
    assert bars["ts_utc"].dt.minute().to_list() == [0, 0, 1]
    assert source.left_out == {"ask_repeat": 1}
    assert clean(bars, M1).dropped == {**dict.fromkeys(clean(bars, M1).dropped, 0), "impossible": 1, "exact_repeat": 1}


@pytest.mark.parametrize("timeframe", [Timeframe.M5, H1, H4, D1, W1])
def test_longer_bars_are_the_minutes_resampled_from_seventeen_new_york(
    shared_server: Simulator, timeframe: Timeframe
) -> None:
    source = quick(shared_server.url)
    since = datetime(2018, 7, 2, 21, tzinfo=UTC) if timeframe is not W1 else datetime(2018, 7, 8, 21, tzinfo=UTC)
    bars = fetch(source, since, None, timeframe)
    minutes = fetch(source, since, None)
    assert_frame_equal(bars, resample(minutes, M1, timeframe, known_until_utc=NOW.replace(minute=0)))
    if timeframe in (H4, D1):
        local = bars["ts_utc"].dt.convert_time_zone("America/New_York").dt.hour()
        assert set(local) == ({17} if timeframe is D1 else {17, 21, 1, 5, 9, 13})


def test_the_week_is_closed_on_the_weekend() -> None:
    now = datetime(2018, 7, 7, 12, tzinfo=UTC)
    with Simulator(Dukascopy({"EURUSD": MINUTES}, today=now.date())) as server:
        source = quick(server.url, now)
        days = fetch(source, datetime(2018, 7, 2, 21, tzinfo=UTC), None, D1)
    assert days["ts_utc"].to_list() == [datetime(2018, 7, d, 21, tzinfo=UTC) for d in (2, 3, 4, 5)]


def test_progress_tells_every_file(server: Simulator) -> None:
    told: list[tuple[int, int, str]] = []
    since = datetime(2018, 7, 3, tzinfo=UTC)
    fetch(quick(server.url, progress=lambda *state: told.append(state)), since, since + timedelta(days=3))
    assert [state[:2] for state in told] == [(n, 6) for n in range(1, 7)]
    assert {path for _, _, path in told} == {asked.path[1:] for asked in server.asked}


def test_an_unknown_pair_is_refused_before_anything_is_asked(server: Simulator) -> None:
    with pytest.raises(UnknownName, match="did you mean EURUSD"):
        quick(server.url).fetch("USDEUR", M1, since_utc=BEGIN, until_utc=None)
    assert server.count() == 0


# ---------------------------------------------------------------------------------------------------------------------
# Faults
# ---------------------------------------------------------------------------------------------------------------------

DAY = datetime(2018, 7, 5, tzinfo=UTC)
FILE = "datafeed/EURUSD/2018/06/05/BID_candles_min_1.bi5"


def one_day(server: Simulator, fault: str) -> pl.DataFrame:
    source = quick(server.url, read_seconds=0.5 if fault == "slow" else 10.0)
    return fetch(source, DAY, DAY + timedelta(days=1))


@pytest.mark.parametrize("fault", ["slow", "cut_off", 429, 500, 503, "truncated", "empty"])
def test_a_passing_fault_costs_one_more_question_and_nothing_else(server: Simulator, fault: str) -> None:
    server.fail(fault, where="BID")
    bars = one_day(server, fault)
    assert server.count("BID") == 2
    assert server.count("ASK") == 1
    truth = MINUTES.filter(pl.col("ts_utc").is_between(DAY, DAY + timedelta(days=1), closed="left"))
    assert_frame_equal(bars, truth.select(list(BID_AND_ASK)), check_exact=True)


@pytest.mark.parametrize(
    ("fault", "questions", "kind", "told"),
    [
        ("slow", 3, Unreachable, "did not answer in time"),
        ("cut_off", 3, Unreachable, "broke off"),
        (503, 3, Unreachable, "HTTP 503 came"),
        ("truncated", 2, UnreadableAnswer, r"the file is cut off after \d+ bytes, twice"),
        ("html", 1, UnreadableAnswer, r"an HTML page came \('Please sign in'\)"),
        (403, 1, ProviderError, "HTTP 403"),
    ],
)
def test_a_lasting_fault_is_one_line_that_names_the_file_and_gives_nothing(
    server: Simulator, fault: str, questions: int, kind: type[ProviderError], told: str
) -> None:
    server.fail(fault, times=99, where="BID")
    with pytest.raises(kind, match=rf"^dukascopy: asked for {FILE}, .*{told}") as refused:
        one_day(server, fault)
    assert server.count("BID") == questions
    assert "\n" not in str(refused.value)


def test_a_day_that_stays_empty_has_no_bars(server: Simulator) -> None:
    server.fail("empty", times=99)
    assert one_day(server, "empty").is_empty()
    assert server.count("BID") == 2


def test_the_first_failure_ends_a_long_download(server: Simulator) -> None:
    server.fail(403, times=9999)
    with pytest.raises(ProviderError, match="HTTP 403"):
        fetch(quick(server.url), datetime(2017, 1, 1, tzinfo=UTC), NOW)
    assert server.count() < 20  # of 786


# ---------------------------------------------------------------------------------------------------------------------
# Real candles
# ---------------------------------------------------------------------------------------------------------------------


def real(name: str) -> pl.DataFrame:
    path = REAL / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"no real candles at {path}")
    return pl.read_parquet(path).with_columns(volume=pl.col("volume").fill_null(1.0))


Serve = Callable[[pl.DataFrame, str], DukascopySource]


def test_real_minutes_come_back_bar_for_bar() -> None:
    since, until = datetime(2018, 3, 8, tzinfo=UTC), datetime(2018, 3, 14, tzinfo=UTC)  # American clocks change inside
    truth = real("EURUSD_M1").filter(pl.col("ts_utc").is_between(since, until, closed="left"))
    assert truth.height > 5000
    with Simulator(Dukascopy({"EURUSD": truth}, today=date(2018, 4, 1))) as server:
        source = quick(server.url, datetime(2018, 4, 1, tzinfo=UTC))
        bars = fetch(source, since, until)
        hours = fetch(source, since, until, H1)
    assert_frame_equal(bars.select(list(SCHEMA)), truth.select(list(SCHEMA)), check_exact=True)
    assert bars["ask_open"].null_count() == bars.height
    assert_frame_equal(hours.select(list(SCHEMA)), resample(truth, M1, H1, known_until_utc=until))


@pytest.mark.parametrize("symbol", ["EURUSD", "NZDUSD"])
def test_real_bid_and_ask_come_back_bar_for_bar(symbol: str) -> None:
    ask = real(f"ask/{symbol}_H1").rename({name: f"ask_{name}" for name in ("open", "high", "low", "close")})
    both = real(f"{symbol}_H1").join(ask.drop("volume"), on="ts_utc")
    since, until = datetime(2018, 2, 1, tzinfo=UTC), datetime(2018, 2, 14, tzinfo=UTC)
    truth = both.filter(pl.col("ts_utc").is_between(since, until, closed="left")).select(list(BID_AND_ASK))
    with Simulator(Dukascopy({symbol: truth}, today=date(2018, 4, 1))) as server:
        source = quick(server.url, datetime(2018, 4, 1, tzinfo=UTC))
        bars = source.fetch(symbol, H1, since_utc=since, until_utc=until)
    assert bars.height > 200
    assert_frame_equal(bars, truth, check_exact=True)
    assert (bars["ask_close"] >= bars["close"]).all()
