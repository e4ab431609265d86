"""An account's session: both logins, the right environment, lost logins, refusals that pass, and secrets kept."""

import asyncio
import logging
import pickle
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forexgpt_core.adapters.ctrader.errors import (
    BrokenLine,
    CannotConnect,
    CTraderError,
    NotAuthenticated,
    Refused,
    WrongEnvironment,
)
from forexgpt_core.adapters.ctrader.messages import schema
from forexgpt_core.adapters.ctrader.pacing import Patience
from forexgpt_core.adapters.ctrader.session import Session
from forexgpt_core.adapters.ctrader.symbols import choose, find_symbol
from forexgpt_core.adapters.ctrader.transport import Answered, NotSent, Timings
from forexgpt_core.errors import BadInput, NotReady, UnknownName
from forexgpt_core.settings import CTraderSettings, load_ctrader_settings
from tests.simulators.certificates import TestAuthority
from tests.simulators.clocks import JumpingClock
from tests.simulators.ctrader_market import Listed, Market
from tests.simulators.ctrader_server import Access, CTraderServer, Fault

LOGIN = ["ProtoOAApplicationAuthReq", "ProtoOAGetAccountListByAccessTokenReq", "ProtoOAAccountAuthReq"]
SYMBOLS = "ProtoOASymbolsListReq"
SECRETS = (Access().client_secret, Access().token)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("certificates"))


class Bench:
    """A server, the settings that fit it, and a clock that jumps over every wait."""

    def __init__(self, authority: TestAuthority, **server: Any) -> None:
        self.clock = JumpingClock()
        self.server = CTraderServer(authority.good, clock=self.clock, **server)
        self.authority = authority
        self.overrides: dict[str, Any] = {}

    def session(self, **options: Any) -> Session:
        settings = CTraderSettings(
            host="localhost", port=self.server.port, ca_file=self.authority.file, account_id=111,
            client_id="client-1", client_secret=SECRETS[0], access_token=SECRETS[1], refresh_token="r3fresh",
        )  # fmt: skip
        timings = Timings(request_s=options.pop("request_s", 30.0))
        return Session(replace(settings, **self.overrides), clock=self.clock, timings=timings, **options)

    def run(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def work() -> None:
            async with asyncio.timeout(60), self.server.running():
                await scenario()

        asyncio.run(work())


async def symbols(session: Session) -> int:
    answer = await session.ask("the list of symbols", SYMBOLS)
    return len(answer.symbol)


class TestLogin:
    def test_it_proves_the_application_then_sees_the_accounts_then_logs_in(self, authority: TestAuthority) -> None:
        bench = Bench(authority)

        async def scenario() -> None:
            async with bench.session() as session:
                assert await symbols(session) == 1
            assert bench.server.names() == [*LOGIN, SYMBOLS]

        bench.run(scenario)

    @pytest.mark.parametrize(
        ("overrides", "says", "last"),
        [
            ({"client_secret": "wrong"}, "check FOREXGPT_CTRADER_CLIENT_ID and FOREXGPT_CTRADER_CLIENT_SECRET", 0),
            ({"access_token": "wrong"}, "get a new access token .* FOREXGPT_CTRADER_ACCESS_TOKEN", 1),
            ({"account_id": 5}, r"the token serves 111 \(demo\), 222 \(live\); .*ctidTraderAccountId", 1),
            ({"account_id": 222}, r"222 \(live\); FOREXGPT_CTRADER_ENVIRONMENT is demo", 1),
        ],
    )
    def test_a_wrong_credential_is_told_at_once_and_no_more_is_sent(
        self, authority: TestAuthority, overrides: dict[str, Any], says: str, last: int
    ) -> None:
        bench = Bench(authority)
        bench.overrides = overrides

        async def scenario() -> None:
            with pytest.raises(NotAuthenticated, match=says) as refused:
                async with bench.session():
                    pytest.fail("nobody logged in")
            assert "\n" not in str(refused.value)
            assert bench.server.names() == LOGIN[: last + 1]
            assert bench.clock.waits == []

        bench.run(scenario)

    def test_the_wrong_host_for_the_account_is_not_waited_for(self, authority: TestAuthority) -> None:
        bench = Bench(authority, access=Access(live_server=True))

        async def scenario() -> None:
            with pytest.raises(WrongEnvironment, match=r"CANT_ROUTE_REQUEST .*; is it a demo account\?"):
                async with bench.session():
                    pytest.fail("nobody logged in")
            assert bench.server.names() == LOGIN
            assert bench.clock.waits == []

        bench.run(scenario)

    def test_a_login_that_is_blocked_for_a_while_is_repeated(self, authority: TestAuthority) -> None:
        bench = Bench(authority)
        bench.server.script(LOGIN[2], Fault(kind="error", code="CH_SERVER_NOT_REACHABLE"))

        async def scenario() -> None:
            async with bench.session() as session:
                assert await symbols(session) == 1
            assert bench.server.count(LOGIN[2]) == 2

        bench.run(scenario)

    def test_who_cannot_be_reached_is_told_at_once(self, authority: TestAuthority) -> None:
        bench = Bench(authority)

        async def scenario() -> None:
            bench.overrides = {"port": 1}
            with pytest.raises(CannotConnect, match="no connection to localhost:1"):
                async with bench.session():
                    pytest.fail("nobody answered")
            assert bench.clock.waits == []

        bench.run(scenario)


class TestLostLogin:
    @pytest.mark.parametrize("as_invalid_request", [False, True])
    def test_a_login_lost_under_way_is_made_again_and_the_request_repeated(
        self, authority: TestAuthority, as_invalid_request: bool
    ) -> None:
        bench = Bench(authority, access=Access(unauthorised_as_invalid_request=as_invalid_request))

        async def scenario() -> None:
            async with bench.session() as session:
                bench.server.log_out()
                assert await symbols(session) == 1
            assert bench.server.names() == [*LOGIN, SYMBOLS, *LOGIN, SYMBOLS]
            assert {r.connection for r in bench.server.received} == {1}, "the line was up, so it is kept"

        bench.run(scenario)

    @pytest.mark.parametrize("event", ["ProtoOAAccountDisconnectEvent", "ProtoOAAccountsTokenInvalidatedEvent"])
    def test_an_event_that_ends_the_login_is_heeded_before_the_next_request(
        self, authority: TestAuthority, event: str
    ) -> None:
        bench = Bench(authority)
        many = event.startswith("ProtoOAAccountsToken")

        def payload(account: int) -> bytes:
            key = "ctidTraderAccountIds" if many else "ctidTraderAccountId"
            return bytes(schema().make(event, **{key: [account] if many else account}).SerializeToString())

        async def scenario() -> None:
            heard: list[str] = []
            async with bench.session(on_event=lambda e: heard.append(e.name)) as session:
                bench.server.push(event, payload(999))
                assert await symbols(session) == 1
                assert bench.server.names() == [*LOGIN, SYMBOLS], "another account's logout is not ours"
                bench.server.log_out()
                bench.server.push(event, payload(111))
                request = schema().make(SYMBOLS, ctidTraderAccountId=111)
                while len(heard) < 2:
                    await asyncio.sleep(0.001)
                assert await session.request(request) == NotSent("the account is not logged in")
                assert await symbols(session) == 1
                assert isinstance(await session.request(request), Answered)
            assert bench.server.names()[4:] == [*LOGIN, SYMBOLS, SYMBOLS]
            assert "ProtoOARefreshTokenReq" not in bench.server.names()

        bench.run(scenario)

    def test_requests_at_the_same_time_make_one_connection_and_one_login(self, authority: TestAuthority) -> None:
        bench = Bench(authority)

        async def scenario() -> None:
            async with bench.session() as session:
                await session.close()
                assert await asyncio.gather(*(symbols(session) for _ in range(5))) == [1] * 5
            assert [r.name for r in bench.server.received if r.connection == 2] == [*LOGIN, *[SYMBOLS] * 5]
            assert len(bench.server.peers) == 2

        bench.run(scenario)

    def test_a_login_that_is_lost_again_and_again_is_given_up(self, authority: TestAuthority) -> None:
        bench = Bench(authority)
        bench.server.script(SYMBOLS, *[Fault(kind="error", code="ACCOUNT_NOT_AUTHORIZED")] * 10)

        async def scenario() -> None:
            async with bench.session() as session:
                with pytest.raises(Refused, match="the list of symbols: ACCOUNT_NOT_AUTHORIZED"):
                    await symbols(session)
            assert bench.server.count(SYMBOLS) == 4

        bench.run(scenario)


class TestPatience:
    def test_a_blocked_payload_type_is_asked_again_after_ever_longer_waits(self, authority: TestAuthority) -> None:
        bench = Bench(authority)
        blocked = [Fault(kind="error", code="BLOCKED_PAYLOAD_TYPE", retry_after=seconds) for seconds in (1, 1, 1, 50)]
        bench.server.script(SYMBOLS, *blocked)

        async def scenario() -> None:
            async with bench.session() as session:
                assert await symbols(session) == 1
            assert bench.server.count(SYMBOLS) == 5
            first, second, third, fourth = bench.clock.waits
            assert first == 1, "the server's own second, when our jitter is below it"
            assert 1.5 <= second <= 2
            assert 3 <= third <= 4, "not the second that the server asks for"
            assert fourth == 50

        bench.run(scenario)

    def test_a_block_without_end_is_given_up_when_the_budget_is_spent(self, authority: TestAuthority) -> None:
        bench = Bench(authority)
        bench.server.script(SYMBOLS, *[Fault(kind="error", code="REQUEST_FREQUENCY_EXCEEDED")] * 99)

        async def scenario() -> None:
            async with bench.session() as session:
                with pytest.raises(Refused, match="REQUEST_FREQUENCY_EXCEEDED"):
                    await symbols(session)
            assert 700 < sum(bench.clock.waits) <= 900
            assert max(bench.clock.waits) <= 120

        bench.run(scenario)

    def test_a_refusal_for_good_is_not_repeated(self, authority: TestAuthority) -> None:
        bench = Bench(authority)
        bench.server.script(SYMBOLS, Fault(kind="error", code="ENTITY_NOT_FOUND", carrier="ProtoErrorRes"))

        async def scenario() -> None:
            async with bench.session() as session:
                with pytest.raises(Refused, match="cTrader refused the list of symbols: ENTITY_NOT_FOUND"):
                    await symbols(session)
            assert bench.server.count(SYMBOLS) == 1

        bench.run(scenario)

    @pytest.mark.parametrize("kind", ["disconnect", "half", "oversize"])
    def test_a_broken_line_is_made_again_with_everything_that_belongs_to_it(
        self, authority: TestAuthority, kind: str
    ) -> None:
        bench = Bench(authority)
        bench.server.script(SYMBOLS, Fault(kind=kind), Fault(kind=kind))

        async def scenario() -> None:
            async with bench.session() as session:
                assert await symbols(session) == 1
            assert bench.server.names() == [*LOGIN, SYMBOLS] * 3
            assert [r.connection for r in bench.server.received if r.name == SYMBOLS] == [1, 2, 3]

        bench.run(scenario)

    def test_an_answer_that_never_comes_is_asked_for_again(self, authority: TestAuthority) -> None:
        bench = Bench(authority)
        bench.server.script(SYMBOLS, Fault(kind="silence"), Fault(kind="garbage"))

        async def scenario() -> None:
            async with bench.session(request_s=1.0) as session:
                assert await symbols(session) == 1
            assert bench.server.count(SYMBOLS) == 2

        bench.run(scenario)

    def test_a_line_that_breaks_every_time_is_given_up(self, authority: TestAuthority) -> None:
        bench = Bench(authority)
        bench.server.script(SYMBOLS, *[Fault(kind="disconnect")] * 10)

        async def scenario() -> None:
            async with bench.session(patience=Patience(reconnects=2)) as session:
                with pytest.raises(BrokenLine, match="no answer to the list of symbols: the "):
                    await symbols(session)
            assert bench.server.count(SYMBOLS) == 3

        bench.run(scenario)

    def test_a_server_that_cuts_idle_clients_off_is_reached_again(self, authority: TestAuthority) -> None:
        bench = Bench(authority, cut_off_s=0.05)

        async def scenario() -> None:
            async with bench.session() as session:
                while not all(peer.writer.transport.is_closing() for peer in bench.server.peers):
                    await asyncio.sleep(0.01)
                assert await symbols(session) == 1

        bench.run(scenario)


class TestSecrets:
    def test_what_the_server_repeats_of_them_is_struck_out(
        self, authority: TestAuthority, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench(authority)
        repeated = f"bad request: {SECRETS[0]} {SECRETS[1]} r3fresh"
        bench.server.script(LOGIN[0], Fault(kind="error", code="INVALID_REQUEST", description=repeated))
        bench.server.script(SYMBOLS, Fault(kind="error", code=f"X{SECRETS[1]}", description=repeated))
        found: list[CTraderError] = []
        caplog.set_level(logging.DEBUG)

        async def scenario() -> None:
            for _ in range(2):
                with pytest.raises(Refused) as refused:
                    async with bench.session() as session:
                        await symbols(session)
                found.append(refused.value)

        bench.run(scenario)
        texts = [str(found), caplog.text, *(f"{e} {e!r} {e.args} {pickle.loads(pickle.dumps(e))}" for e in found)]
        assert "bad request: *** *** ***" in str(found[0])
        for text in texts:
            assert not any(secret in text for secret in (*SECRETS, "r3fresh"))

    def test_the_settings_do_not_show_them(self) -> None:
        env = {
            f"FOREXGPT_CTRADER_{name}": f"hidden-{name}"
            for name in ("CLIENT_ID", "CLIENT_SECRET", "ACCESS_TOKEN", "REFRESH_TOKEN")
        }
        shown = load_ctrader_settings(env)
        assert "hidden" not in repr(shown) + str(shown)
        assert len(shown.secrets()) == 3


class TestSettings:
    def test_defaults_are_the_demo_environment(self) -> None:
        settings = load_ctrader_settings({})
        assert (settings.environment, settings.host, settings.port) == ("demo", "demo.ctraderapi.com", 5035)
        assert load_ctrader_settings({"FOREXGPT_CTRADER_ENVIRONMENT": "Live"}).host == "live.ctraderapi.com"
        named = load_ctrader_settings({"FOREXGPT_CTRADER_HOST": "localhost", "FOREXGPT_CTRADER_CA_FILE": "/x/ca.pem"})
        assert (named.host, named.ca_file) == ("localhost", Path("/x/ca.pem"))

    def test_what_is_missing_is_named_in_one_line(self) -> None:
        settings = load_ctrader_settings({"FOREXGPT_CTRADER_CLIENT_ID": "a", "FOREXGPT_CTRADER_ACCOUNT_ID": "5"})
        with pytest.raises(NotReady) as refused:
            settings.require()
        assert str(refused.value) == (
            "cTrader cannot be used: FOREXGPT_CTRADER_CLIENT_SECRET, FOREXGPT_CTRADER_ACCESS_TOKEN are not set in the"
            " environment"
        )
        with pytest.raises(NotReady):
            Session(settings)

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("ENVIRONMENT", "paper", "must be demo or live, was 'paper'"),
            ("PORT", "https", "PORT must be a whole number"),
            ("PORT", "70000", "between 1 and 65535"),
            ("ACCOUNT_ID", "my-token-by-mistake", "ACCOUNT_ID must be a whole number, has 19 characters"),
        ],
    )
    def test_a_bad_value_is_refused_without_showing_a_secret_put_in_the_wrong_place(
        self, name: str, value: str, says: str
    ) -> None:
        with pytest.raises(BadInput, match=says) as refused:
            load_ctrader_settings({f"FOREXGPT_CTRADER_{name}": value})
        assert "my-token" not in str(refused.value)


def listed(*names: str, disabled: tuple[str, ...] = ()) -> list[Any]:
    make = schema().make
    return [
        make("ProtoOALightSymbol", symbolId=number, symbolName=name, enabled=name not in disabled)
        for number, name in enumerate(names, 1)
    ]


class TestSymbols:
    @pytest.mark.parametrize(
        ("names", "disabled", "taken"),
        [
            (("GBPUSD", "EURUSD"), (), "EURUSD"),
            (("EUR/USD", "EURUSD.r"), (), "EUR/USD"),
            (("EURUSDX", "#EURUSD.r"), (), "#EURUSD.r"),
            (("EURUSD", "EUR/USD"), ("EURUSD",), "EUR/USD"),
            (("EURUSD", "GBPUSD"), ("EURUSD",), "EURUSD"),
        ],
    )
    def test_the_pair_is_found_however_the_broker_writes_it(
        self, names: tuple[str, ...], disabled: tuple[str, ...], taken: str
    ) -> None:
        assert choose("EURUSD", listed(*names, disabled=disabled)).symbolName == taken

    @pytest.mark.parametrize(
        ("names", "says"),
        [
            (("GBPUSD", "EURUSB"), "serves no symbol EURUSD; did you mean EURUSB"),
            (("XAUUSD.x", "NAS100"), "serves no symbol EURUSD; it serves 2 others"),
            (("EURUSD.a", "EURUSD.b"), "under several names: EURUSD.a, EURUSD.b"),
        ],
    )
    def test_what_is_not_there_or_not_clear_is_refused(self, names: tuple[str, ...], says: str) -> None:
        with pytest.raises(UnknownName, match=says):
            choose("EURUSD", listed(*names))

    def test_more_than_five_digits_are_refused(self, authority: TestAuthority) -> None:
        market = Market(symbols=[Listed(symbol_id=4, name="EURUSD", digits=6), Listed(symbol_id=5, name="USDJPY.x")])
        market.symbols[1].digits = 3
        bench = Bench(authority, market=market)

        async def scenario() -> None:
            async with bench.session() as session:
                with pytest.raises(BadInput, match="EURUSD has 6 decimals, prices of cTrader carry at most 5"):
                    await find_symbol(session, "EUR/USD")
                yen = await find_symbol(session, "usd/jpy")
                assert (yen.symbol_id, yen.name, yen.digits, yen.lot_size) == (5, "USDJPY.x", 3, 10_000_000)

        bench.run(scenario)
