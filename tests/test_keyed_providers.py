"""Tiingo and Alpha Vantage, spoken by servers on loopback: their formats, their limits and their ways to refuse."""

import json
import logging
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from candle_source_contract import CandleSourceContract
from polars.testing import assert_frame_equal
from simulators.bars import walk_bars
from simulators.feeds import AlphaVantage, Tiingo
from simulators.http import Answer, Simulator

from forexgpt_core.adapters.providers.alpha_vantage import AlphaVantageSource
from forexgpt_core.adapters.providers.http import HttpGetter, Patience
from forexgpt_core.adapters.providers.tiingo import TiingoSource
from forexgpt_core.candles.provider_errors import (
    KeyMissing,
    KeyRefused,
    ProviderError,
    QuotaUsedUp,
    RateLimited,
    UnknownSymbol,
    Unreachable,
    UnreadableAnswer,
)
from forexgpt_core.candles.resampling import resample
from forexgpt_core.candles.source import CandleSource
from forexgpt_core.domain.bars import SCHEMA
from forexgpt_core.domain.clock import Timeframe
from forexgpt_core.errors import UnknownName

M1, M5, H1, H4, D1, W1 = (Timeframe(name) for name in ("M1", "M5", "H1", "H4", "D1", "W1"))
KEY = "k3y-0123456789"
NOW = datetime(2018, 7, 10, 7, 30, tzinfo=UTC)  # a Tuesday
BEGIN = datetime(2018, 6, 12, 3, tzinfo=UTC)  # in the middle of a trading day
HOURS = walk_bars(H1, BEGIN, NOW)  # the last one, 07:00 to 08:00, is still forming
MINUTES = walk_bars(M1, datetime(2018, 7, 1, tzinfo=UTC), NOW)
BARE = [*SCHEMA]


def bare(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(BARE).with_columns(volume=pl.lit(None, dtype=pl.Float64))


def getter(provider: str, url: str, naps: list[float] | None, read_seconds: float, **secrets: Any) -> HttpGetter:
    taken = [] if naps is None else naps
    patience = Patience(connect_seconds=10.0, read_seconds=read_seconds, attempts=3)
    return HttpGetter(provider, url, patience=patience, sleep=taken.append, rng=random.Random(1), **secrets)


def tiingo(url: str, naps: list[float] | None = None, *, key: str = KEY, read_seconds: float = 10.0) -> TiingoSource:
    asks = getter("tiingo", url, naps, read_seconds, secret_headers={"authorization": f"Token {key}"})
    return TiingoSource(key, start=BEGIN.date(), getter=asks, now=lambda: NOW)


def alpha(
    url: str, naps: list[float] | None = None, *, key: str = KEY, read_seconds: float = 10.0
) -> AlphaVantageSource:
    asks = getter("alpha_vantage", url, naps, read_seconds, secret_params={"apikey": key})
    return AlphaVantageSource(key, getter=asks, now=lambda: NOW)


def patience_for(fault: object) -> float:
    """Return how long to wait for an answer: long on a busy machine, but not for one that never comes."""
    return 0.5 if fault == "slow" else 10.0


TIINGO = Tiingo({("eurusd", "1hour"): HOURS, ("eurusd", "1min"): MINUTES}, KEY)
ALPHA = AlphaVantage({("EURUSD", "60min"): HOURS, ("EURUSD", "1min"): MINUTES}, KEY)
Make = Callable[..., TiingoSource | AlphaVantageSource]
BOTH = pytest.mark.parametrize(("make", "answer"), [(tiingo, TIINGO), (alpha, ALPHA)], ids=["tiingo", "alpha_vantage"])


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Simulator]]:
    running: list[Simulator] = []

    def start(answer: Answer) -> Simulator:
        running.append(Simulator(answer).__enter__())
        return running[-1]

    yield start
    for one in running:
        one.__exit__(None, None, None)


Serve = Callable[[Answer], Simulator]


class TestTiingoHours(CandleSourceContract):
    now_utc = NOW

    @pytest.fixture
    def source(self, serve: Serve) -> CandleSource:
        return tiingo(serve(TIINGO).url)


class TestTiingoMinutes(CandleSourceContract):
    timeframe, now_utc, since_utc = M1, NOW, datetime(2018, 7, 9, tzinfo=UTC)

    @pytest.fixture
    def source(self, serve: Serve) -> CandleSource:
        return tiingo(serve(TIINGO).url)


class TestTiingoFourHours(CandleSourceContract):
    timeframe, now_utc, since_utc = H4, NOW, datetime(2018, 6, 12, 9, tzinfo=UTC)

    @pytest.fixture
    def source(self, serve: Serve) -> CandleSource:
        return tiingo(serve(TIINGO).url)


class TestAlphaVantageHours(CandleSourceContract):
    now_utc = NOW

    @pytest.fixture
    def source(self, serve: Serve) -> CandleSource:
        return alpha(serve(ALPHA).url)


class TestAlphaVantageFourHours(CandleSourceContract):
    timeframe, now_utc = H4, NOW

    @pytest.fixture
    def source(self, serve: Serve) -> CandleSource:
        return alpha(serve(ALPHA).url)


# ---------------------------------------------------------------------------------------------------------------------
# Formats
# ---------------------------------------------------------------------------------------------------------------------


@BOTH
def test_the_bars_are_those_of_the_provider_without_the_one_still_forming(
    serve: Serve, make: Make, answer: Answer
) -> None:
    bars = make(serve(answer).url).fetch("EURUSD", H1, since_utc=None, until_utc=None)
    assert HOURS["ts_utc"][-1] == datetime(2018, 7, 10, 7, tzinfo=UTC)
    assert_frame_equal(bars, bare(HOURS)[:-1], check_exact=True)


@BOTH
@pytest.mark.parametrize("timeframe", [H4, D1, W1])
def test_longer_bars_start_at_seventeen_new_york(
    serve: Serve, make: Make, answer: Answer, timeframe: Timeframe
) -> None:
    since = datetime(2018, 6, 12, 21, tzinfo=UTC)
    bars = make(serve(answer).url).fetch("EURUSD", timeframe, since_utc=since, until_utc=None)
    whole = bare(HOURS).filter(pl.col("ts_utc") >= since)
    built = resample(whole, H1, timeframe, known_until_utc=NOW)
    assert_frame_equal(bars, built.filter(pl.col("ts_utc") >= since) if timeframe is not W1 else built[1:])
    local = bars["ts_utc"].dt.convert_time_zone("America/New_York").dt.hour()
    assert set(local) <= ({17} if timeframe is not H4 else {17, 21, 1, 5, 9, 13})


def test_tiingo_gets_its_key_and_whole_days_in_pages_that_no_limit_cuts(serve: Serve) -> None:
    server = serve(TIINGO)
    since, until = datetime(2018, 7, 1, 22, tzinfo=UTC), datetime(2018, 7, 9, 23, tzinfo=UTC)
    bars = tiingo(server.url).fetch("EURUSD", M1, since_utc=since, until_utc=until)
    assert_frame_equal(bars, bare(MINUTES.filter(pl.col("ts_utc").is_between(since, until, closed="left"))))
    assert [(a.params["startDate"], a.params["endDate"]) for a in server.asked] == [
        ("2018-07-01", "2018-07-05"),
        ("2018-07-05", "2018-07-09"),
        ("2018-07-09", "2018-07-10"),
    ]
    assert {a.params["resampleFreq"] for a in server.asked} == {"1min"}
    assert {a.headers["authorization"] for a in server.asked} == {f"Token {KEY}"}
    assert all("token" not in a.params for a in server.asked)


def test_alpha_vantage_is_asked_for_a_short_answer_where_that_is_enough(serve: Serve) -> None:
    server = serve(ALPHA)
    source = alpha(server.url)
    newest = source.fetch("EURUSD", H1, since_utc=NOW - timedelta(hours=30), until_utc=None)
    assert_frame_equal(newest, source.fetch("EURUSD", H1, since_utc=None, until_utc=None).tail(newest.height))
    assert [asked.params["outputsize"] for asked in server.asked] == ["compact", "full"]
    assert {(a.params["from_symbol"], a.params["to_symbol"], a.params["apikey"]) for a in server.asked} == {
        ("EUR", "USD", KEY)
    }


def test_alpha_vantage_times_are_read_in_the_zone_the_answer_states(serve: Serve) -> None:
    eastern = AlphaVantage(ALPHA.bars, KEY, zone="US/Eastern")
    bars = alpha(serve(eastern).url).fetch("EURUSD", H1, since_utc=None, until_utc=None)
    assert_frame_equal(bars, bare(HOURS)[:-1], check_exact=True)


def test_a_day_that_began_before_the_history_is_left_out_and_counted(serve: Serve) -> None:
    source = alpha(serve(ALPHA).url)
    bars = source.fetch("EURUSD", D1, since_utc=None, until_utc=None)
    assert bars["ts_utc"][0] == datetime(2018, 6, 12, 21, tzinfo=UTC)
    assert source.left_out == {"partial_first": 1}


def test_hours_outside_the_week_never_reach_a_longer_bar_and_are_counted(serve: Serve) -> None:
    stub = HOURS[:1].with_columns(ts_utc=pl.lit(datetime(2018, 6, 16, 3, tzinfo=UTC)).cast(SCHEMA["ts_utc"]))
    bars = pl.concat([HOURS, stub]).sort("ts_utc")
    since = datetime(2018, 6, 13, 21, tzinfo=UTC)
    source = tiingo(serve(Tiingo({("eurusd", "1hour"): bars}, KEY)).url)
    days = source.fetch("EURUSD", D1, since_utc=since, until_utc=None)
    assert source.left_out == {"H1_outside_week": 1}
    assert_frame_equal(days, tiingo(serve(TIINGO).url).fetch("EURUSD", D1, since_utc=since, until_utc=None))


# ---------------------------------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------------------------------

HOURLY = "Error: You have run over your hourly request allocation. Please upgrade at https://api.tiingo.com/pricing."
BURST = "Thank you for using Alpha Vantage! Please consider spreading out your free API requests more sparingly"
DAILY = f"We have detected your API key as {KEY} and our standard API rate limit is 25 requests per day."
NOTE = "Our standard API call frequency is 5 calls per minute and 500 calls per day."
PREMIUM = "Thank you for using Alpha Vantage! This is a premium endpoint. You may subscribe to any of the premium plans"


def body(document: object) -> bytes:
    return json.dumps(document).encode()


REFUSED = [
    (tiingo, 429, body({"detail": HOURLY}), RateLimited, "questions of this hour are used up; run it again in an hour"),
    (tiingo, 429, body({"detail": HOURLY.replace("hourly", "daily")}), QuotaUsedUp, "this day or month are used up"),
    (tiingo, 200, b"You have run over your 500 symbol look up for this month.", QuotaUsedUp, "day or month"),
    (tiingo, 401, body({"detail": "Invalid token."}), KeyRefused, r"\(HTTP 401\); check FOREXGPT_TIINGO_KEY"),
    (tiingo, 200, body({"detail": "Please supply a token"}), KeyRefused, "check FOREXGPT_TIINGO_KEY"),
    (tiingo, 404, body({"detail": "Not found."}), UnknownSymbol, "the pair is not known there"),
    (tiingo, 400, body({"detail": "no such date"}), ProviderError, "HTTP 400 came saying"),
    (tiingo, 200, body({"other": 1}), UnreadableAnswer, "no list of bars came but"),
    (tiingo, 200, body([{"date": "2018-07-02T00:00:00.000Z", "open": 1}]), UnreadableAnswer, "no list of bars"),
    (
        tiingo,
        200,
        body([{"date": "2018-07-02T00:00:00.000Z", "open": "x", "high": 1, "low": 1, "close": 1}]),
        UnreadableAnswer,
        "values cannot be read",
    ),
    (
        tiingo,
        200,
        body([{"date": None, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0}]),
        UnreadableAnswer,
        "1 of 1 bars came without a time",
    ),
    (alpha, 200, body({"Information": DAILY}), QuotaUsedUp, "questions of this day are used up; run it again tomorrow"),
    (alpha, 200, body({"Information": PREMIUM}), KeyRefused, r"plan does not include it \(premium\)"),
    (alpha, 200, body({"Error Message": "Invalid API call."}), UnknownSymbol, "does not know this pair or interval"),
    (
        alpha,
        200,
        body({"Error Message": "the parameter apikey is invalid"}),
        KeyRefused,
        "check FOREXGPT_ALPHA_VANTAGE",
    ),
    (alpha, 200, body({"Information": "We moved."}), ProviderError, "the API says '.*We moved"),
    (alpha, 200, b"[]", UnreadableAnswer, r"no 'Time Series FX \(60min\)' with its 'Meta Data' came"),
    (alpha, 200, body({"Meta Data": {}, "Time Series FX (60min)": {}}), UnreadableAnswer, "time zone is ''"),
    (
        alpha,
        200,
        body({"Meta Data": {"7. Time Zone": "UTC"}, "Time Series FX (60min)": {"x": {"1. open": "1"}}}),
        UnreadableAnswer,
        "bars came without 1. open",
    ),
    (
        alpha,
        200,
        body(
            {
                "Meta Data": {"7. Time Zone": "UTC"},
                "Time Series FX (60min)": {
                    "2018-07-02 noon": {"1. open": "1", "2. high": "a", "3. low": "1", "4. close": "1"}
                },
            }
        ),
        UnreadableAnswer,
        "1 prices and 1 times of 1 bars cannot be read",
    ),
]


@pytest.mark.parametrize(("make", "status", "answer", "kind", "told"), REFUSED)
def test_what_a_provider_refuses_in_its_own_words_is_one_line_asked_once(
    serve: Serve, make: Make, status: int, answer: bytes, kind: type[ProviderError], told: str
) -> None:
    server = serve(TIINGO if make is tiingo else ALPHA)
    server.fail("answer" if status == 200 else status, times=9, body=answer)
    naps: list[float] = []
    with pytest.raises(kind, match=told) as refused:
        make(server.url, naps).fetch("EURUSD", H1, since_utc=NOW - timedelta(days=3), until_utc=None)
    assert type(refused.value) is kind
    assert (server.count(), naps) == (1, [])
    assert "\n" not in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("note", [{"Note": NOTE}, {"Information": BURST}])
def test_alpha_vantage_that_wants_fewer_questions_a_minute_is_given_a_minute(
    serve: Serve, note: dict[str, str]
) -> None:
    server, naps = serve(ALPHA), []  # type: ignore[var-annotated]
    server.fail("answer", body=body(note))
    bars = alpha(server.url, naps).fetch("EURUSD", H1, since_utc=None, until_utc=None)
    assert bars.height == HOURS.height - 1
    assert len(naps) == 1
    assert 60 <= naps[0] <= 66


def test_an_empty_list_is_no_bars(serve: Serve) -> None:
    server = serve(TIINGO)
    server.fail("answer", body=b"[]")
    nothing = tiingo(server.url).fetch("EURUSD", H1, since_utc=NOW - timedelta(days=3), until_utc=None)
    assert nothing.is_empty()
    assert nothing.schema == SCHEMA


@BOTH
@pytest.mark.parametrize("fault", ["slow", "cut_off", 429, 500, 503])
def test_a_passing_fault_is_recovered(serve: Serve, make: Make, answer: Answer, fault: str) -> None:
    server = serve(answer)
    server.fail(fault, headers={"retry-after": "2"} if fault == 429 else {})
    naps: list[float] = []
    source = make(server.url, naps, read_seconds=patience_for(fault))
    bars = source.fetch("EURUSD", H1, since_utc=NOW - timedelta(days=3), until_utc=None)
    assert_frame_equal(bars, bare(HOURS)[:-1].tail(bars.height))
    assert server.count() == 2
    assert fault != 429 or 2 <= naps[0] <= 2.2


@BOTH
@pytest.mark.parametrize(
    ("fault", "questions", "kind"),
    [
        ("slow", 3, Unreachable),
        ("cut_off", 3, Unreachable),
        (429, 3, RateLimited),
        (500, 3, Unreachable),
        (403, 1, KeyRefused),
        (400, 1, ProviderError),
        ("html", 1, UnreadableAnswer),
        ("truncated", 1, UnreadableAnswer),
        ("empty", 1, UnreadableAnswer),
    ],
)
def test_a_lasting_fault_is_one_line_without_the_key(
    serve: Serve,
    make: Make,
    answer: Answer,
    fault: str,
    questions: int,
    kind: type[ProviderError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(answer)
    server.fail(fault, times=99, body=f"your key {KEY}".encode())
    source = make(server.url, read_seconds=patience_for(fault))
    with pytest.raises(kind) as refused:
        source.fetch("EURUSD", H1, since_utc=NOW - timedelta(days=3), until_utc=None)
    assert server.count() == questions
    assert "EURUSD H1" in str(refused.value)
    assert "\n" not in str(refused.value)
    for shown in (str(refused.value), repr(refused.value), repr(source), repr(vars(source)), caplog.text):
        assert KEY not in shown


@pytest.mark.parametrize(
    ("source", "variable"), [(TiingoSource, "FOREXGPT_TIINGO_KEY"), (AlphaVantageSource, "FOREXGPT_ALPHA_VANTAGE_KEY")]
)
@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_the_variable_is_named(source: type[TiingoSource], variable: str, key: str | None) -> None:
    with pytest.raises(KeyMissing, match=rf"no key is set; set {variable} \(a free key: https://"):
        source(key)


@BOTH
def test_a_wrong_key_is_told_as_such(serve: Serve, make: Make, answer: Answer) -> None:
    server = serve(answer)
    with pytest.raises(KeyRefused, match="check FOREXGPT_"):
        make(server.url, key="wr0ng").fetch("EURUSD", H1, since_utc=NOW - timedelta(days=3), until_utc=None)
    assert server.count() == 1


@BOTH
def test_a_pair_the_provider_does_not_have_is_unknown(serve: Serve, make: Make, answer: Answer) -> None:
    with pytest.raises(UnknownSymbol, match="GBPUSD H1") as refused:
        make(serve(answer).url).fetch("GBP/USD", H1, since_utc=NOW - timedelta(days=3), until_utc=None)
    assert isinstance(refused.value, UnknownName)
