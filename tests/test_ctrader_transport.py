"""One connection to cTrader: the three outcomes of a request, silence and heartbeats, and who is trusted."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forexgpt_core.adapters.ctrader.errors import CannotConnect, Untrusted, refusal_in
from forexgpt_core.adapters.ctrader.frames import CAP
from forexgpt_core.adapters.ctrader.messages import Message, schema
from forexgpt_core.adapters.ctrader.pacing import Backoff, Pace, Patience, TokenBucket
from forexgpt_core.adapters.ctrader.transport import (
    Answered,
    Connection,
    Event,
    NotSent,
    OutcomeUnknown,
    Timings,
)
from forexgpt_core.errors import NotReady
from tests.simulators.certificates import TestAuthority
from tests.simulators.clocks import JumpingClock, ManualClock, settle
from tests.simulators.ctrader_server import CTraderServer, Fault, frame

APPLICATION = "ProtoOAApplicationAuthReq"
LIST = "ProtoOAGetAccountListByAccessTokenReq"
HEARTBEAT = "ProtoHeartbeatEvent"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("certificates"))


def login(server: CTraderServer) -> Message:
    return schema().make(APPLICATION, clientId=server.access.client_id, clientSecret=server.access.client_secret)


def accounts(server: CTraderServer) -> Message:
    return schema().make(LIST, accessToken=server.access.token)


class Line:
    """A server and a client in one event loop, on a clock that the test moves."""

    def __init__(self, server: CTraderServer, authority: TestAuthority, clock: ManualClock) -> None:
        self.server, self.authority, self.clock = server, authority, clock
        self.events: list[Event] = []

    async def connect(self, on_event: Callable[[Event], None] | None = None, **options: Any) -> Connection:
        return await Connection.open(
            "localhost", self.server.port, ca_file=self.authority.file, clock=self.clock,
            pace=options.pop("pace", Pace.of(self.clock)), on_event=on_event or self.events.append, **options,
        )  # fmt: skip


def on_a_line(authority: TestAuthority, scenario: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
    @asynccontextmanager
    async def line() -> AsyncIterator[Line]:
        async with CTraderServer(authority.good).running() as server:
            yield Line(server, authority, ManualClock())

    async def run() -> None:
        async with asyncio.timeout(60), line() as prepared:
            await scenario(prepared)

    asyncio.run(run())


class TestOutcomes:
    def test_an_answer_finds_its_request_among_many(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            await connection.request(login(line.server))
            line.server.script(LIST, Fault(kind="slow"), Fault(kind="none"))
            slow, quick, wrong = await asyncio.gather(
                connection.request(accounts(line.server)),
                connection.request(accounts(line.server)),
                connection.request(schema().make(LIST, accessToken="another")),
            )
            assert isinstance(slow, Answered)
            assert isinstance(quick, Answered)
            assert [a.ctidTraderAccountId for a in quick.message.ctidTraderAccount] == [111, 222]
            assert isinstance(wrong, Answered), "a refusal is an answer"
            refusal = refusal_in(wrong.message)
            assert refusal is not None
            assert refusal.code == "CH_ACCESS_TOKEN_INVALID"
            ids = [received.client_msg_id for received in line.server.received]
            assert len(set(ids)) == len(ids) == 4
            await connection.close()

        on_a_line(authority, scenario)

    def test_a_line_that_dies_under_a_request_leaves_it_unknown_at_once(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            line.server.script(APPLICATION, Fault(kind="disconnect"))
            outcome = await connection.request(login(line.server))  # no time passes on this clock
            assert isinstance(outcome, OutcomeUnknown)
            assert connection.lost is not None
            assert line.server.count(APPLICATION) == 1
            again = await connection.request(login(line.server))
            assert again == NotSent(connection.lost)
            assert line.server.count(APPLICATION) == 1, "not sent means no byte of it left"
            await connection.close()

        on_a_line(authority, scenario)

    def test_half_an_answer_is_no_answer(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            line.server.script(APPLICATION, Fault(kind="half"))
            assert isinstance(await connection.request(login(line.server)), OutcomeUnknown)
            await connection.close()

        on_a_line(authority, scenario)

    def test_no_answer_in_time_is_unknown_and_a_late_one_is_still_heard(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            line.server.script(APPLICATION, Fault(kind="silence"))
            waiting = asyncio.create_task(connection.request(login(line.server), timeout_s=5))
            await line.server.seen(APPLICATION)
            await line.clock.advance(4.9)
            assert not waiting.done()
            await line.clock.advance(0.2)
            assert await waiting == OutcomeUnknown("no answer within 5 s")
            ident = line.server.received[-1].client_msg_id
            line.server.push("ProtoOAApplicationAuthRes", b"", ident)
            await connection.request(login(line.server))
            assert [(e.name, e.client_msg_id) for e in line.events] == [("ProtoOAApplicationAuthRes", ident)]
            await connection.close()

        on_a_line(authority, scenario)

    def test_the_time_to_answer_begins_when_the_request_is_written(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            slow = TokenBucket(0.1, 1, line.clock)
            connection = await line.connect(pace=Pace(history=slow, other=slow))
            assert isinstance(await connection.request(login(line.server)), Answered)
            queued = asyncio.create_task(connection.request(accounts(line.server), timeout_s=5))
            refused = await connection.request(accounts(line.server), send_within_s=3)
            assert refused == NotSent("the request rate lets it go only after more than 3 s")
            await settle()
            assert line.server.count(LIST) == 0
            await line.clock.advance(10)  # twice the time it has for an answer
            assert isinstance(await queued, Answered)
            await connection.close()

        on_a_line(authority, scenario)

    def test_a_request_in_the_queue_of_a_dead_line_was_not_sent(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            slow = TokenBucket(0.1, 1, line.clock)
            connection = await line.connect(pace=Pace(history=slow, other=slow))
            line.server.script(APPLICATION, Fault(kind="disconnect"))
            first = asyncio.create_task(connection.request(login(line.server)))
            await settle()
            queued = asyncio.create_task(connection.request(accounts(line.server)))
            assert isinstance(await first, OutcomeUnknown)
            await line.clock.advance(10)
            assert isinstance(await queued, NotSent)
            assert line.server.count(LIST) == 0
            await connection.close()

        on_a_line(authority, scenario)

    def test_closing_tells_whoever_waits(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            line.server.script(APPLICATION, Fault(kind="silence"))
            waiting = asyncio.create_task(connection.request(login(line.server)))
            await line.server.seen(APPLICATION)
            await connection.close()
            assert await waiting == OutcomeUnknown("the connection was closed by us")

        on_a_line(authority, scenario)

    def test_a_message_too_long_for_a_frame_is_not_sent(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            outcome = await connection.request(schema().make(LIST, accessToken="x" * CAP))
            assert isinstance(outcome, NotSent)
            assert isinstance(await connection.request(login(line.server)), Answered)
            await connection.close()

        on_a_line(authority, scenario)


class TestHostileServer:
    def test_a_frame_that_is_no_message_is_counted_and_passed_over(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            line.server.script(APPLICATION, Fault(kind="garbage"))
            assert isinstance(await connection.request(login(line.server)), Answered)
            assert connection.counts["unreadable_frames"] == 1
            await connection.close()

        on_a_line(authority, scenario)

    def test_an_unreadable_answer_leaves_the_outcome_unknown(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            line.server.script(APPLICATION, Fault(kind="unreadable"))
            outcome = await connection.request(login(line.server))
            assert outcome == OutcomeUnknown("the answer, of type 2101, cannot be read")
            assert connection.lost is None
            await connection.close()

        on_a_line(authority, scenario)

    def test_an_announced_frame_above_the_cap_ends_the_line(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            line.server.script(APPLICATION, Fault(kind="oversize"))
            outcome = await connection.request(login(line.server))
            assert isinstance(outcome, OutcomeUnknown)
            assert "15,000,001 bytes" in outcome.reason
            await connection.close()

        on_a_line(authority, scenario)

    def test_a_message_of_an_unknown_type_harms_nothing(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            await connection.request(login(line.server))
            line.server.peers[0].write(frame(9999, b"\x08\x01"))
            assert isinstance(await connection.request(accounts(line.server)), Answered)
            assert connection.counts["unknown_messages"] == 1
            await connection.close()

        on_a_line(authority, scenario)

    def test_a_handler_that_fails_costs_neither_the_line_nor_an_answer(self, authority: TestAuthority) -> None:
        async def scenario(line: Line) -> None:
            heard: list[str] = []

            def handler(event: Event) -> None:
                heard.append(event.name)
                raise RuntimeError("a bug in a handler")

            connection = await line.connect(handler)
            await connection.request(login(line.server))
            event = schema().make("ProtoOAAccountDisconnectEvent", ctidTraderAccountId=111)
            line.server.push("ProtoOAAccountDisconnectEvent", event.SerializeToString(), "of-another-client")
            assert isinstance(await connection.request(accounts(line.server)), Answered)
            assert heard == ["ProtoOAAccountDisconnectEvent"]
            assert connection.counts["handler_errors"] == 1
            await connection.close()

        on_a_line(authority, scenario)


class TestSilence:
    @pytest.mark.parametrize("cut_off_s", [10, 30])
    def test_an_idle_line_lives_at_a_strict_and_at_a_lenient_server(
        self, authority: TestAuthority, cut_off_s: float
    ) -> None:
        async def scenario() -> None:
            clock = ManualClock()
            server = CTraderServer(authority.good, cut_off_s=cut_off_s, idle_clock=clock)
            async with asyncio.timeout(60), server.running():
                connection = await Line(server, authority, clock).connect()
                await connection.request(login(server))
                for times in range(1, 21):  # three minutes
                    await clock.advance(9.1)
                    await server.seen(HEARTBEAT, times)
                assert (server.cut_off, connection.lost) == (0, None)
                await connection.close()

        asyncio.run(scenario())

    def test_a_client_that_says_nothing_is_cut_off_and_learns_it(self, authority: TestAuthority) -> None:
        async def scenario() -> None:
            clock = ManualClock()
            server = CTraderServer(authority.good, idle_clock=clock)
            async with asyncio.timeout(60), server.running():
                connection = await Line(server, authority, clock).connect(timings=Timings(heartbeat_s=1000))
                await connection.request(login(server))
                await clock.advance(31)
                while connection.lost is None:
                    await asyncio.sleep(0.001)
                assert server.cut_off == 1
                assert isinstance(await connection.request(accounts(server)), NotSent)
                await connection.close()

        asyncio.run(scenario())

    def test_a_heartbeat_follows_nine_seconds_of_our_silence_and_none_answers_the_servers(
        self, authority: TestAuthority
    ) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            await settle()
            await line.clock.advance(8)
            await connection.request(login(line.server))
            await line.clock.advance(8)
            line.server.heartbeat()
            await connection.request(accounts(line.server))
            assert line.server.count(HEARTBEAT) == 0, "we spoke, and the server's heartbeat is not echoed"
            await line.clock.advance(9.1)
            await line.server.seen(HEARTBEAT, 1)
            await line.clock.advance(9.1)
            await line.server.seen(HEARTBEAT, 2)
            assert line.server.count(HEARTBEAT) == 2
            assert line.events == []
            await connection.close()

        on_a_line(authority, scenario)

    def test_a_server_silent_for_ninety_seconds_is_dead_and_a_heartbeat_keeps_it_alive(
        self, authority: TestAuthority
    ) -> None:
        async def scenario(line: Line) -> None:
            connection = await line.connect()
            await settle()
            await line.clock.advance(60)
            await connection.request(login(line.server))
            await line.clock.advance(60)
            assert connection.lost is None
            line.server.script(LIST, Fault(kind="silence"))
            waiting = asyncio.create_task(connection.request(accounts(line.server), timeout_s=1000))
            await line.server.seen(LIST)
            await line.clock.advance(31)
            assert await waiting == OutcomeUnknown("the server has been silent for 90 s")
            await connection.close()

        on_a_line(authority, scenario)


class TestPace:
    @settings(deadline=None, max_examples=50)
    @given(pauses=st.lists(st.floats(0, 0.6), min_size=30, max_size=120))
    def test_no_second_sees_more_than_four_historical_and_forty_other_requests(self, pauses: list[float]) -> None:
        clock = JumpingClock()
        pace = Pace.of(clock)
        for bucket, most in ((pace.history, 4), (pace.other, 40)):
            sent: list[float] = []
            for pause in (*pauses, *[0.0] * 60):
                clock.skip(pause)
                wait = bucket.reserve()
                assert wait is not None
                sent.append(clock.monotonic() + wait)
            assert sent == sorted(sent)
            crowd = max(sum(first <= other < first + 1 - 1e-9 for other in sent) for first in sent)
            assert crowd <= most

    def test_a_burst_after_a_rest_goes_at_once(self) -> None:
        bucket = Pace.of(ManualClock()).other
        assert [bucket.reserve() for _ in range(11)] == [0.0] * 11
        assert bucket.reserve(within_s=0.01) is None
        wait = bucket.reserve()
        assert wait == pytest.approx(1 / 30)

    def test_waits_double_up_to_two_minutes_and_end_with_the_budget(self) -> None:
        backoff, waits = Backoff(Patience(), jitter=lambda: 0.0), []
        while (wait := backoff.wait_s(at_least=3)) is not None:
            waits.append(wait)
        assert waits[:8] == [3, 3, 4, 8, 16, 32, 64, 120]
        assert set(waits[8:]) == {120}
        assert sum(waits) <= 900 < sum(waits) + 120


class TestTrust:
    @pytest.mark.parametrize("profile", ["self-signed", "wrong-name", "expired"])
    def test_a_bad_certificate_is_refused_before_a_byte_is_sent(self, authority: TestAuthority, profile: str) -> None:
        async def scenario() -> None:
            async with CTraderServer(authority.server_context(profile)).running() as server:
                line = Line(server, authority, ManualClock())
                with pytest.raises(Untrusted, match=r"localhost:\d+ shows a certificate .*nothing was sent") as refused:
                    await line.connect()
                assert "\n" not in str(refused.value)
                await asyncio.sleep(0.05)  # what could arrive, would
                assert (server.plaintext, server.received, server.peers) == (0, [], [])

        asyncio.run(scenario())

    def test_without_its_authority_the_server_is_not_trusted(self, authority: TestAuthority) -> None:
        async def scenario() -> None:
            clock = ManualClock()
            async with CTraderServer(authority.good).running() as server:
                with pytest.raises(Untrusted):
                    await Connection.open("localhost", server.port, clock=clock, pace=Pace.of(clock))
                assert server.plaintext == 0

        asyncio.run(scenario())

    def test_an_old_tls_is_refused(self, authority: TestAuthority) -> None:
        async def scenario() -> None:
            old = authority.server_context()
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
            async with CTraderServer(old).running() as server:
                with pytest.raises(CannotConnect):
                    await Line(server, authority, ManualClock()).connect()
                assert server.plaintext == 0

        with pytest.warns(DeprecationWarning, match="TLSv1"):
            asyncio.run(scenario())

    def test_nobody_there_and_a_server_that_never_shakes_hands_are_told_apart_from_distrust(
        self, authority: TestAuthority
    ) -> None:
        async def scenario() -> None:
            async with CTraderServer(authority.good).running() as server:
                line = Line(server, authority, ManualClock())
            with pytest.raises(CannotConnect, match="no connection to localhost") as refused:
                await line.connect()
            assert not isinstance(refused.value, Untrusted)
            mute = await asyncio.start_server(lambda reader, writer: asyncio.sleep(5), "127.0.0.1", 0)
            line.server.port = mute.sockets[0].getsockname()[1]
            with pytest.raises(CannotConnect, match=r"within 0\.2 s"):
                await line.connect(timings=Timings(connect_s=0.2))
            mute.close()

        asyncio.run(scenario())

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_ca_file_that_is_none_is_told(self, tmp_path: Path, content: str | None) -> None:
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        clock = ManualClock()
        with pytest.raises(NotReady, match="FOREXGPT_CTRADER_CA_FILE names"):
            asyncio.run(Connection.open("localhost", 1, ca_file=file, clock=clock, pace=Pace.of(clock)))
