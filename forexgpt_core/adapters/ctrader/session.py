"""One account's session: connect, prove who we are, ask, and begin again where the line or the login was lost."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from forexgpt_core.adapters.ctrader.errors import (
    BrokenLine,
    CannotConnect,
    NotAuthenticated,
    Refusal,
    Refused,
    Remedy,
    Untrusted,
    WrongEnvironment,
    refusal_in,
)
from forexgpt_core.adapters.ctrader.messages import Message, schema
from forexgpt_core.adapters.ctrader.pacing import Backoff, Clock, Pace, Patience, SystemClock
from forexgpt_core.adapters.ctrader.transport import Answered, Connection, Event, NotSent, Outcome, Timings
from forexgpt_core.settings import CTraderSettings

_T = TypeVar("_T")
_RENEWALS = 3  # authentications anew for one request; more of them would be a loop
_LOGGED_OUT = (
    "ProtoOAAccountDisconnectEvent",
    "ProtoOAAccountsTokenInvalidatedEvent",
    "ProtoOAClientDisconnectEvent",
)
_NEW_TOKEN = (
    "get a new access token for this application and set FOREXGPT_CTRADER_ACCESS_TOKEN (a refresh token is single use,"
    " so it is never used up for reading history)"
)


class Session:
    """An authenticated account on one connection, used as an async context manager.

    `ask` is for requests that change nothing: it repeats them over a lost line, a lost login and a passing refusal.
    `request` is for all others: one attempt, three outcomes.

    Whatever the server writes about an error passes through `redacted`, because it may repeat what we sent.
    """

    def __init__(
        self,
        settings: CTraderSettings,
        *,
        clock: Clock | None = None,
        line_clock: Clock | None = None,
        timings: Timings | None = None,
        patience: Patience | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Remember everything; nothing is sent before it is entered.

        Args:
            clock: for the waits of our own choosing: request rates and backoff.
            line_clock: for what the line demands: heartbeats, silence and time for an answer.
        """
        settings.require()
        self.settings = settings
        self._clock, self._line_clock = clock or SystemClock(), line_clock or SystemClock()
        self._timings, self._patience = timings or Timings(), patience or Patience()
        self._listener = on_event
        self._connection: Connection | None = None
        self._authenticated = False
        self._making_ready = asyncio.Lock()

    @property
    def account_id(self) -> int:
        """Return the account's number, the ctidTraderAccountId of every message."""
        return self.settings.account_id or 0

    async def __aenter__(self) -> "Session":
        try:
            await self._connect()  # once: who cannot be reached now is told at once
            await self._retried(self._ready)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection, if there is one."""
        connection, self._connection, self._authenticated = self._connection, None, False
        if connection is not None:
            await connection.close()

    async def ask(self, doing: str, name: str, **fields: object) -> Message:
        """Send a request that changes nothing about this account, and return the answer.

        Args:
            doing: what is asked for, in words that complete "cTrader refused ...".
            name: the request's message, ending in Req; its answer ends in Res.

        Raises:
            Refused: for good, or for longer than we are patient.
            BrokenLine: the line broke, or no answer came, again and again.
            CannotConnect: the line broke and cannot be made again.
        """
        message = schema().make(name, ctidTraderAccountId=self.account_id, **fields)

        async def once() -> Message:
            await self._ready()
            answer = await self._answer(doing, message)
            refusal = refusal_in(answer)
            if refusal is not None:
                raise Refused(doing, self._clean(refusal))
            return answer

        return await self._retried(once)

    async def request(self, message: Message, *, send_within_s: float | None = None) -> Outcome:
        """Send any request once, on the connection as it is now."""
        if self._connection is None or not self._authenticated:
            return NotSent("the account is not logged in")
        return await self._connection.request(message, send_within_s=send_within_s)

    def redacted(self, text: str) -> str:
        """Return a text of the server's without any secret it may repeat."""
        for secret in self.settings.secrets():
            text = text.replace(secret, "***")
        return text

    async def _retried(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        backoff, renewals, breaks = Backoff(self._patience), 0, 0
        while True:
            problem: BrokenLine | CannotConnect | Refused
            try:
                return await attempt()
            except (Untrusted, WrongEnvironment):
                raise
            except (BrokenLine, CannotConnect) as error:
                breaks += 1
                problem, at_least, again = error, 0.0, breaks <= self._patience.reconnects
            except Refused as error:
                remedy = error.refusal.remedy
                lost_login = remedy is Remedy.AUTHENTICATE and not isinstance(error, NotAuthenticated)
                if lost_login and renewals < _RENEWALS:
                    renewals += 1
                    self._authenticated = False
                    continue
                problem, at_least, again = error, float(error.refusal.retry_after_s or 0), remedy is Remedy.LATER
            wait = backoff.wait_s(at_least) if again else None
            if wait is None:
                raise problem
            await self._clock.sleep(wait)

    async def _ready(self) -> None:
        async with self._making_ready:  # of several requests that find the login lost, one makes it again
            if self._connection is None or self._connection.lost is not None:
                await self._connect()
            if not self._authenticated:
                await self._authenticate()

    async def _connect(self) -> None:
        await self.close()
        self._connection = await Connection.open(
            self.settings.host,
            self.settings.port,
            ca_file=self.settings.ca_file,
            clock=self._line_clock,
            pace=Pace.of(self._clock),
            timings=self._timings,
            on_event=self._hear,
        )

    async def _authenticate(self) -> None:
        """Prove the application, see that the token serves the account here, and log the account in."""
        own = self.settings
        await self._prove(
            "the application's login",
            "check FOREXGPT_CTRADER_CLIENT_ID and FOREXGPT_CTRADER_CLIENT_SECRET",
            "ProtoOAApplicationAuthReq",
            clientId=own.client_id,
            clientSecret=own.client_secret,
        )
        token = {"accessToken": own.access_token}
        served = await self._prove("the list of accounts", _NEW_TOKEN, "ProtoOAGetAccountListByAccessTokenReq", **token)
        self._check_account(served)
        number = {"ctidTraderAccountId": self.account_id}
        await self._prove(
            f"the login of account {self.account_id}", _NEW_TOKEN, "ProtoOAAccountAuthReq", **number, **token
        )
        self._authenticated = True

    async def _prove(self, doing: str, advice: str, name: str, **fields: object) -> Message:
        answer = await self._answer(doing, schema().make(name, **fields))
        refusal = refusal_in(answer)
        if refusal is None or refusal.remedy is Remedy.ALREADY:
            return answer
        if refusal.code == "CANT_ROUTE_REQUEST":
            advice = f"is it a {self.settings.environment} account? FOREXGPT_CTRADER_ENVIRONMENT is demo or live"
            raise WrongEnvironment(doing, self._clean(refusal), advice)
        heeded = refusal.remedy in (Remedy.AUTHENTICATE, Remedy.HALT)
        raise NotAuthenticated(doing, self._clean(refusal), advice if heeded else "")

    def _check_account(self, served: Message) -> None:
        """See that the account is one of the token's, in this environment, before its token goes there."""
        live = {int(a.ctidTraderAccountId): bool(a.isLive) for a in served.ctidTraderAccount}
        listed = ", ".join(f"{number} ({_environment(is_live)})" for number, is_live in sorted(live.items())) or "none"
        doing = f"the login of account {self.account_id}"
        if self.account_id not in live:
            advice = f"the token serves {listed}; FOREXGPT_CTRADER_ACCOUNT_ID is the ctidTraderAccountId, not the login"
            raise NotAuthenticated(doing, Refusal(code="CH_CTID_TRADER_ACCOUNT_NOT_FOUND"), advice)
        if _environment(live[self.account_id]) != self.settings.environment:
            advice = f"the token serves {listed}; FOREXGPT_CTRADER_ENVIRONMENT is {self.settings.environment}"
            raise WrongEnvironment(doing, Refusal(code="CANT_ROUTE_REQUEST"), advice)

    async def _answer(self, doing: str, message: Message) -> Message:
        """Return the answer to one attempt, be it a refusal; for requests that may be repeated."""
        if self._connection is None:
            raise BrokenLine(f"cTrader gave no answer to {doing}: there is no connection")
        outcome = await self._connection.request(message)
        if not isinstance(outcome, Answered):
            raise BrokenLine(f"cTrader gave no answer to {doing}: {outcome.reason}")
        name = str(outcome.message.DESCRIPTOR.name)
        expected = str(message.DESCRIPTOR.name).removesuffix("Req") + "Res"
        if name != expected and refusal_in(outcome.message) is None:
            raise BrokenLine(f"cTrader answered {doing} with {name} instead of {expected}")
        return outcome.message

    def _hear(self, event: Event) -> None:
        if event.name in _LOGGED_OUT and self._about_us(event.message):
            self._authenticated = False
        if self._listener is not None:
            self._listener(event)

    def _about_us(self, message: Message) -> bool:
        if hasattr(message, "ctidTraderAccountIds"):
            return self.account_id in message.ctidTraderAccountIds
        return getattr(message, "ctidTraderAccountId", self.account_id) == self.account_id

    def _clean(self, refusal: Refusal) -> Refusal:
        return replace(refusal, code=self.redacted(refusal.code), description=self.redacted(refusal.description))


def _environment(is_live: bool) -> str:
    return "live" if is_live else "demo"
