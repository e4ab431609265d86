"""Asking over HTTP: patient where that helps, never where it does not, and silent about secrets."""

import logging
import pickle
import random
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from simulators.http import Reply, Simulator

from forexgpt_core.adapters.providers.http import HttpGetter, Patience, retry_after_seconds
from forexgpt_core.adapters.providers.pace import Pace
from forexgpt_core.candles.provider_errors import (
    KeyRefused,
    Passing,
    ProviderError,
    QuotaUsedUp,
    RateLimited,
    Unreachable,
    UnreadableAnswer,
)

SECRET = "s3cr3t/key+value"
BODY = b"seven,eight,nine" * 500
QUICK = Patience(connect_seconds=10.0, read_seconds=10.0, attempts=4, first_wait_seconds=1.0)


class Naps:
    """Waits that are written down instead of waited for."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@pytest.fixture
def server() -> Iterator[Simulator]:
    with Simulator(lambda asked: Reply(BODY)) as running:
        yield running


@pytest.fixture
def naps() -> Naps:
    return Naps()


Make = Callable[..., HttpGetter]


@pytest.fixture
def make(server: Simulator, naps: Naps) -> Make:
    def getter(url: str = "", **options: object) -> HttpGetter:
        chosen = {"patience": QUICK, "sleep": naps, "rng": random.Random(1), **options}
        return HttpGetter("feed", url or server.url, secret_params={"apikey": SECRET}, **chosen)  # type: ignore[arg-type]

    return getter


def ask(getter: HttpGetter, **options: object) -> bytes | None:
    return getter.get("bars", {"pair": "EUR/USD"}, asked="EURUSD H1", **options)  # type: ignore[arg-type]


def test_an_answer_is_asked_for_once_with_the_secret_and_the_rest_of_the_query(server: Simulator, make: Make) -> None:
    assert ask(make()) == BODY
    (asked,) = server.asked
    assert asked.path == "/bars"
    assert asked.params == {"pair": "EUR/USD", "apikey": SECRET}


def test_a_secret_header_arrives(server: Simulator) -> None:
    ask(HttpGetter("feed", server.url + "/", secret_headers={"authorization": f"Token {SECRET}"}))
    assert server.asked[0].headers["authorization"] == f"Token {SECRET}"
    assert server.asked[0].headers["user-agent"] == "forexgpt"


@pytest.mark.parametrize("fault", ["slow", "cut_off", 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again_and_recovered(server: Simulator, make: Make, naps: Naps, fault: str) -> None:
    server.fail(fault, times=2)
    assert ask(make(patience=Patience(read_seconds=0.5 if fault == "slow" else 10.0, attempts=4))) == BODY
    assert server.count() == 3
    assert len(naps.taken) == 2
    assert 0 <= naps.taken[0] <= 1.0
    assert 0 <= naps.taken[1] <= 2.0


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("slow", Unreachable, r"127\.0\.0\.1:\d+ did not answer in time; .*what was fetched is kept"),
        ("cut_off", Unreachable, r"the answer of 127\.0\.0\.1:\d+ broke off"),
        (429, RateLimited, r"HTTP 429 \(too many requests\) came"),
        (503, Unreachable, r"HTTP 503 came"),
    ],
)
def test_what_does_not_pass_is_given_up_after_the_attempts(
    server: Simulator, make: Make, naps: Naps, fault: str, kind: type[Passing], told: str
) -> None:
    server.fail(fault, times=99)
    with pytest.raises(kind, match=rf"^feed: asked for EURUSD H1, {told}"):
        ask(make(patience=Patience(read_seconds=0.2 if fault == "slow" else 10.0, attempts=3)))
    assert server.count() == 3
    assert len(naps.taken) == 2


@pytest.mark.parametrize(("status", "kind"), [(400, ProviderError), (401, KeyRefused), (403, KeyRefused)])
def test_what_stays_wrong_is_never_asked_again(
    server: Simulator, make: Make, naps: Naps, status: int, kind: type[ProviderError]
) -> None:
    server.fail(status, times=9, body=b'{"detail": "no\n way"}')
    with pytest.raises(kind, match=rf"HTTP {status}.* saying '.*no way.*'") as refused:
        ask(make())
    assert (server.count(), naps.taken) == (1, [])
    assert "\n" not in str(refused.value)


def test_a_404_is_missing_where_that_is_lawful_and_refused_elsewhere(server: Simulator, make: Make) -> None:
    server.fail(404, times=2)
    assert ask(make(), missing_ok=True) is None
    with pytest.raises(ProviderError, match="HTTP 404"):
        ask(make())
    assert server.count() == 2


def test_html_in_place_of_data_is_told_with_its_title_and_not_asked_again(server: Simulator, make: Make) -> None:
    server.fail("html")
    with pytest.raises(UnreadableAnswer, match=r"an HTML page came \('Please sign in'\) instead of data; look at"):
        ask(make())
    assert server.count() == 1


def test_an_empty_answer_is_an_answer(server: Simulator, make: Make) -> None:
    server.fail("empty")
    assert ask(make()) == b""


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_in_seconds_and_as_a_date(server: Simulator, make: Make, naps: Naps, form: str) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=60)
    server.fail(429, headers={"retry-after": "60" if form == "seconds" else format_datetime(moment, usegmt=True)})
    assert ask(make()) == BODY
    assert len(naps.taken) == 1
    assert 30 <= naps.taken[0] <= 66


def test_a_retry_after_beyond_the_longest_wait_is_told_at_once(server: Simulator, make: Make, naps: Naps) -> None:
    server.fail(429, headers={"retry-after": "3600"})
    with pytest.raises(RateLimited, match="to be asked again after 3600 s") as refused:
        ask(make())
    assert (server.count(), naps.taken, refused.value.wait_seconds) == (1, [], 3600.0)


@pytest.mark.parametrize("header", [None, "", "soon", "Wed, 99 Foo 2015"])
def test_a_retry_after_that_cannot_be_read_is_none(header: str | None) -> None:
    assert retry_after_seconds(header) is None


def test_no_attempt_begins_when_the_time_is_over(server: Simulator, make: Make) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    server.fail(503, times=99, headers={"retry-after": "40"})
    with pytest.raises(Unreachable, match="HTTP 503"):
        ask(make(clock=lambda: clock[0], sleep=sleep, patience=Patience(attempts=50, total_seconds=100)))
    assert server.count() == 3
    assert clock[0] < 100


def test_an_answer_that_trickles_in_is_ended_with_the_time(server: Simulator, make: Make) -> None:
    ticks = iter(range(0, 10_000, 200))
    with pytest.raises(Unreachable, match="did not answer in time"):
        ask(make(clock=lambda: float(next(ticks)), patience=Patience(total_seconds=100)))


def test_nobody_there_is_told_in_one_line(make: Make, naps: Naps) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port} could not be reached .*; check the network"):
        ask(make(f"http://127.0.0.1:{port}"))
    assert len(naps.taken) == 3


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1", "127.0.0.1:80", "http://[::1"])
def test_an_address_that_is_none_is_told_without_asking_again(naps: Naps, url: str) -> None:
    with pytest.raises(ProviderError, match="address") as refused:
        ask(HttpGetter("feed", url, patience=QUICK, sleep=naps))
    assert naps.taken == []
    assert "\n" not in str(refused.value)


def test_a_redirect_stays_within_the_host_and_leaves_the_secret_out_of_the_address(
    server: Simulator, make: Make
) -> None:
    server.fail("redirect", headers={"location": f"/moved?pair=x&apikey={SECRET}"})
    assert ask(make()) == BODY
    assert [asked.path for asked in server.asked] == ["/bars", "/moved"]
    assert server.asked[1].params == {"pair": "x", "apikey": SECRET}


def test_a_redirect_to_another_host_is_refused_and_the_secret_does_not_go_there(server: Simulator, make: Make) -> None:
    with Simulator(lambda asked: Reply(b"mine")) as other:
        server.fail("redirect", headers={"location": other.url.replace("127.0.0.1", "localhost") + "/x"})
        with pytest.raises(ProviderError, match=r"pointed to another host \(localhost"):
            ask(make())
        assert other.count() == 0


def test_redirects_in_circles_end(server: Simulator, make: Make) -> None:
    server.fail("redirect", times=99, headers={"location": "/bars"})
    with pytest.raises(ProviderError, match="pointed in circles"):
        ask(make())
    assert server.count() == 4


def test_what_a_provider_says_in_its_own_words_ends_it_or_is_waited_for(
    server: Simulator, make: Make, naps: Naps
) -> None:
    def refuse(status: int, text: str) -> ProviderError | None:
        if "slower" in text:
            return RateLimited("feed", "EURUSD H1", text, "wait", 60.0)
        return QuotaUsedUp("feed", "EURUSD H1", text, "wait") if "enough" in text else None

    server.fail("answer", body=b"slower")
    server.fail("answer", body=b"enough for today")
    with pytest.raises(QuotaUsedUp, match="enough for today"):
        ask(make(), refuse=refuse)
    assert server.count() == 2
    assert len(naps.taken) == 1
    assert 60 <= naps.taken[0] <= 66


@pytest.mark.parametrize("fault", ["slow", "cut_off", "html", 400, 401, 403, 404, 429, 500, "redirect"])
def test_no_error_log_or_repr_shows_the_secret(
    server: Simulator, make: Make, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"location": f"http://localhost/?apikey={SECRET}"} if fault == "redirect" else {}
    server.fail(fault, times=9, headers=headers, body=f"We have detected your API key as {SECRET}".encode())
    getter = make(patience=Patience(read_seconds=0.2 if fault == "slow" else 10.0, attempts=2))
    with pytest.raises(ProviderError) as refused:
        ask(getter)
    shown = [repr(getter), str(refused.value), repr(refused.value), str(vars(refused.value)), caplog.text]
    assert all("s3cr3t" not in text for text in shown)
    assert "HTTP Request: GET" in caplog.text or fault in ("slow", "cut_off")
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert "\n" not in str(refused.value)


def test_a_key_that_no_header_can_hold_is_told_without_showing_it(server: Simulator, naps: Naps) -> None:
    getter = HttpGetter("feed", server.url, secret_headers={"authorization": "Token s3cr3t\nmore"}, sleep=naps)
    with pytest.raises(ProviderError, match="check the provider's address and key") as refused:
        ask(getter)
    assert "s3cr3t" not in str(refused.value)
    assert server.count() == 0


def test_errors_survive_pickling() -> None:
    error = RateLimited("feed", "EURUSD", "HTTP 429 came", "wait", 5.0)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.wait_seconds) == (RateLimited, str(error), 5.0)


def test_a_pace_lets_so_many_through_in_any_period() -> None:
    clock, naps = [100.0], Naps()
    pace = Pace(2, 10.0, clock=lambda: clock[0], sleep=naps)
    for _ in range(5):
        pace.wait()
    assert naps.taken == [10.0, 10.0, 20.0]
    clock[0] = 131.0
    pace.wait()
    assert len(naps.taken) == 3


def test_every_attempt_waits_for_its_turn(server: Simulator, make: Make) -> None:
    turns = Naps()
    server.fail(503, times=2)
    ask(make(pace=Pace(1, 10.0, clock=lambda: 0.0, sleep=turns)))
    assert turns.taken == [10.0, 20.0]


@pytest.mark.parametrize(("most", "period"), [(0, 1.0), (1, 0.0)])
def test_a_pace_of_nothing_is_refused(most: int, period: float) -> None:
    with pytest.raises(ValueError, match="at least 1 question"):
        Pace(most, period)
