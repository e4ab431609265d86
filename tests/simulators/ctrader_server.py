"""A cTrader on loopback: TLS, real messages, both login gates, rate limits, and every fault that a test scripts.

It is written from the protocol's published facts and recorded behaviour, and shares with the client nothing but the
message classes, of which one process can hold only one set. A later stage adds requests by putting handlers into
`CTraderServer.handlers`: a handler takes the connection and the message and returns the answers to send.
"""

import asyncio
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

from forexgpt_core.adapters.ctrader.messages import schema
from forexgpt_core.adapters.ctrader.pacing import Clock, SystemClock
from tests.simulators.ctrader_limits import HISTORICAL, Quota, Rates
from tests.simulators.ctrader_market import Boundaries, Market

CAP = 15_000_000
UNAUTHENTICATED = ("ProtoOAApplicationAuthReq", "ProtoHeartbeatEvent", "ProtoOAVersionReq")
BEFORE_ACCOUNT = (*UNAUTHENTICATED, "ProtoOAGetAccountListByAccessTokenReq", "ProtoOAAccountAuthReq")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request instead of, before or after its answer.

    Attributes:
        kind: "disconnect" before answering, "silence", "garbage" (a frame that is no message, then the answer),
            "unreadable" (an answer whose payload is no message), "slow" (answered after a pause), "half" (half the
            answer's frame, then the end), "oversize" (a length above the cap), "error" (refused with `code`),
            "logged_out" (the login is lost, then the request is handled), "none".
    """

    kind: str = "none"
    code: str = ""
    description: str = ""
    retry_after: int | None = None
    pause_s: float = 0.05
    carrier: str = "ProtoOAErrorRes"


@dataclass(kw_only=True)
class Access:
    """Who may come in. Accounts are numbers with whether they are live."""

    client_id: str = "client-1"
    client_secret: str = "s3cret-of-the-application"
    token: str = "t0ken-of-the-user"
    accounts: dict[int, bool] = field(default_factory=lambda: {111: False, 222: True})
    live_server: bool = False
    unauthorised_as_invalid_request: bool = False


@dataclass(frozen=True)
class Received:
    """A message a client sent."""

    connection: int
    name: str
    message: Any
    client_msg_id: str
    at: float


class Peer:
    """One client's connection, as the server sees it."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, rates: Rates) -> None:
        self.number, self.writer, self.rates = number, writer, rates
        self.application = False
        self.accounts: set[int] = set()
        self.heard = 0.0

    def send(self, name: str, payload: bytes, client_msg_id: str = "") -> None:
        self.write(frame(schema().payload_type(name), payload, client_msg_id))

    def write(self, data: bytes) -> None:
        if not self.writer.transport.is_closing():
            self.writer.write(data)


def frame(payload_type: int, payload: bytes, client_msg_id: str = "") -> bytes:
    """Return one frame of the wire, built by hand."""
    envelope = schema().make("ProtoMessage", payloadType=payload_type, payload=payload)
    if client_msg_id:
        envelope.clientMsgId = client_msg_id
    body = envelope.SerializeToString()
    return struct.pack("!I", len(body)) + body


Answers = Iterable[tuple[str, bytes]]
Handler = Callable[[Peer, Any], Answers]


class CTraderServer:
    """The server. Everything a client sent is in `received`; `plaintext` counts the bytes that TLS let through."""

    def __init__(
        self,
        tls: SSLContext,
        market: Market | None = None,
        *,
        access: Access | None = None,
        clock: Clock | None = None,
        quota: Quota | None = None,
        heartbeat_s: float = 25.0,
        cut_off_s: float = 30.0,
        idle_clock: Clock | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            clock: for request rates, the quota and the bar that is forming.
            cut_off_s: a client's silence after which it is cut off; live servers do so somewhere between 10 and 30.
            idle_clock: for heartbeats and the cut-off.
        """
        self.tls, self.market, self.access = tls, market or Market(), access or Access()
        self.clock, self.quota = clock or SystemClock(), quota
        self.heartbeat_s, self.cut_off_s, self.idle_clock = heartbeat_s, cut_off_s, idle_clock or SystemClock()
        self.port = 0
        self.received: list[Received] = []
        self.plaintext = self.dropped_frames = self.refused = self.cut_off = 0
        self.peers: list[Peer] = []
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._arrived: asyncio.Event = asyncio.Event()
        self.handlers: dict[str, Handler] = {
            "ProtoOAApplicationAuthReq": self._application,
            "ProtoOAGetAccountListByAccessTokenReq": self._list_accounts,
            "ProtoOAAccountAuthReq": self._account,
            "ProtoOAVersionReq": lambda peer, message: [_made("ProtoOAVersionRes", version="100")],
            "ProtoOASymbolsListReq": self._symbols,
            "ProtoOASymbolByIdReq": self._symbol_details,
            "ProtoOAGetTrendbarsReq": self._trendbars,
            "ProtoHeartbeatEvent": lambda peer, message: [],  # never echoed
        }

    def script(self, name: str, *faults: Fault) -> None:
        """Let these befall the coming requests of this name, one each."""
        self.faults[name] += faults

    def names(self) -> list[str]:
        """Return the names of everything received, in order."""
        return [received.name for received in self.received]

    def count(self, name: str) -> int:
        return self.names().count(name)

    async def seen(self, name: str, times: int = 1) -> None:
        """Wait, in the server's own loop, until this many messages of a name have come."""
        async with asyncio.timeout(30):
            while self.count(name) < times:
                self._arrived.clear()
                await self._arrived.wait()

    def heartbeat(self) -> None:
        """Send one to every client."""
        self.push("ProtoHeartbeatEvent", schema().make("ProtoHeartbeatEvent").SerializeToString())

    def push(self, name: str, payload: bytes, client_msg_id: str = "") -> None:
        """Send an event to every client, with the id of whoever caused it."""
        for peer in self.peers:
            peer.send(name, payload, client_msg_id)

    def log_out(self) -> None:
        """Take every account's login away and say nothing, as live servers do now and then."""
        for peer in self.peers:
            peer.accounts.clear()

    @asynccontextmanager
    async def running(self) -> Any:
        """Serve inside the caller's event loop."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for peer in self.peers:
                peer.writer.transport.abort()
            await asyncio.sleep(0)

    @contextmanager
    def in_thread(self) -> Iterator["CTraderServer"]:
        """Serve from a thread of its own, for clients that block."""
        ready, loop = threading.Event(), asyncio.new_event_loop()
        stop = asyncio.Event()

        async def serve() -> None:
            async with self.running():
                ready.set()
                await stop.wait()

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
        thread.start()
        assert ready.wait(30), "the simulated server did not start"
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(30)
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers) + 1, writer, Rates(self.clock.monotonic))
        peer.heard = self.idle_clock.monotonic()
        self.peers.append(peer)
        tasks = [asyncio.create_task(self._beat(peer)), asyncio.create_task(self._watch(peer))]
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                body = await self._read_frame(reader)
                peer.heard = self.idle_clock.monotonic()
                if body is not None:
                    await self._handle(peer, body)
        for task in tasks:
            task.cancel()
        writer.transport.abort()

    async def _beat(self, peer: Peer) -> None:
        while True:
            await self.idle_clock.sleep(self.heartbeat_s)
            peer.send("ProtoHeartbeatEvent", schema().make("ProtoHeartbeatEvent").SerializeToString())

    async def _watch(self, peer: Peer) -> None:
        while (left := peer.heard + self.cut_off_s - self.idle_clock.monotonic()) > 0:
            await self.idle_clock.sleep(left)
        self.cut_off += 1
        peer.writer.transport.abort()

    async def _read_frame(self, reader: asyncio.StreamReader) -> bytes | None:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        self.plaintext += 4
        if length > CAP:
            self.dropped_frames += 1
            while length:
                piece = await reader.read(min(length, 1 << 20))
                if not piece:
                    raise ConnectionResetError
                length -= len(piece)
            return None
        body = await reader.readexactly(length)
        self.plaintext += length
        return body

    async def _handle(self, peer: Peer, body: bytes) -> None:
        envelope = schema().make("ProtoMessage")
        try:
            envelope.ParseFromString(body)
            known = schema().by_type.get(envelope.payloadType)
            message = None if known is None else known.FromString(envelope.payload)
        except Exception:
            self.dropped_frames += 1
            return
        name = schema().name_of(envelope.payloadType)
        ident = envelope.clientMsgId
        self.received.append(Received(peer.number, name, message, ident, self.clock.monotonic()))
        self._arrived.set()
        fault = self.faults[name].popleft() if self.faults[name] else Fault()
        await self._answer(peer, name, message, ident, fault)

    async def _answer(self, peer: Peer, name: str, message: Any, ident: str, fault: Fault) -> None:
        if fault.kind == "silence":
            return
        if fault.kind == "disconnect":
            peer.writer.transport.abort()
            return
        if fault.kind == "slow":
            await asyncio.sleep(fault.pause_s)
        if fault.kind == "logged_out":
            peer.accounts.clear()
        if fault.kind == "garbage":
            peer.write(struct.pack("!I", 5) + b"\xff\xff\xff\xff\xff")
        if fault.kind == "oversize":
            peer.write(struct.pack("!I", CAP + 1))
            return
        if fault.kind == "error":
            answers = [refusal(fault.code, fault.description, fault.retry_after, fault.carrier)]
        else:
            answers = list(self._answers(peer, name, message))
        for answer, payload in answers:
            if fault.kind == "unreadable":
                payload = b"\xff\xff\xff"
            data = frame(schema().payload_type(answer), payload, ident)
            if fault.kind == "half":
                peer.write(data[: len(data) // 2])
                peer.writer.close()
                return
            peer.write(data)

    def _answers(self, peer: Peer, name: str, message: Any) -> Answers:
        if name not in UNAUTHENTICATED and not peer.application:
            return [refusal("CH_CLIENT_NOT_AUTHENTICATED", "Client is not authenticated")]
        if name != "ProtoHeartbeatEvent" and not peer.rates.admits(name):
            self.refused += 1
            return [refusal("BLOCKED_PAYLOAD_TYPE", "You have been rate limited", 1)]
        if name in HISTORICAL and self.quota is not None and not self.quota.admits(self.clock.monotonic()):
            self.refused += 1
            return [refusal("BLOCKED_PAYLOAD_TYPE", "History quota", self.quota.retry_after_s)]
        if name not in BEFORE_ACCOUNT and message.ctidTraderAccountId not in peer.accounts:
            if self.access.unauthorised_as_invalid_request:
                return [refusal("INVALID_REQUEST", "Trading account is not authorized")]
            return [refusal("ACCOUNT_NOT_AUTHORIZED", "Account is not authorized in this channel")]
        if name not in self.handlers:
            return [refusal("UNSUPPORTED_MESSAGE", name, carrier="ProtoErrorRes")]
        return self.handlers[name](peer, message)

    def _application(self, peer: Peer, message: Any) -> Answers:
        if (message.clientId, message.clientSecret) != (self.access.client_id, self.access.client_secret):
            return [refusal("CH_CLIENT_AUTH_FAILURE", "clientId or clientSecret is incorrect")]
        if peer.application:
            return [refusal("CH_CLIENT_ALREADY_AUTHENTICATED", "Open API application is already authorized")]
        peer.application = True
        return [_made("ProtoOAApplicationAuthRes")]

    def _list_accounts(self, peer: Peer, message: Any) -> Answers:
        if message.accessToken != self.access.token:
            return [refusal("CH_ACCESS_TOKEN_INVALID", "Invalid access token")]
        accounts = [
            schema().make("ProtoOACtidTraderAccount", ctidTraderAccountId=number, isLive=is_live)
            for number, is_live in self.access.accounts.items()
        ]
        return [
            _made(
                "ProtoOAGetAccountListByAccessTokenRes",
                accessToken=message.accessToken,
                permissionScope=1,
                ctidTraderAccount=accounts,
            )
        ]

    def _account(self, peer: Peer, message: Any) -> Answers:
        number = message.ctidTraderAccountId
        if message.accessToken != self.access.token:
            return [refusal("CH_ACCESS_TOKEN_INVALID", "Invalid access token")]
        if self.access.accounts.get(number) is not self.access.live_server:
            return [refusal("CANT_ROUTE_REQUEST", "Cannot route request")]
        if number in peer.accounts:
            return [refusal("ALREADY_LOGGED_IN", "Trading account is already authorized in this channel")]
        peer.accounts.add(number)
        return [_made("ProtoOAAccountAuthRes", ctidTraderAccountId=number)]

    def _symbols(self, peer: Peer, message: Any) -> Answers:
        light = [
            schema().make("ProtoOALightSymbol", symbolId=s.symbol_id, symbolName=s.name, enabled=s.enabled)
            for s in self.market.symbols
        ]
        return [_made("ProtoOASymbolsListRes", ctidTraderAccountId=message.ctidTraderAccountId, symbol=light)]

    def _symbol_details(self, peer: Peer, message: Any) -> Answers:
        found = [self.market.symbol(number) for number in message.symbolId]
        if None in found:
            return [refusal("SYMBOL_NOT_FOUND", "Unknown symbol id")]
        full = [
            schema().make(
                "ProtoOASymbol", symbolId=s.symbol_id, digits=s.digits, pipPosition=s.pip_position,
                lotSize=10_000_000, minVolume=100_000, stepVolume=100_000, scheduleTimeZone="Europe/Moscow",
            )
            for s in found if s is not None
        ]  # fmt: skip
        return [_made("ProtoOASymbolByIdRes", ctidTraderAccountId=message.ctidTraderAccountId, symbol=full)]

    def _trendbars(self, peer: Peer, message: Any) -> Answers:
        if self.market.symbol(message.symbolId) is None:
            return [refusal("SYMBOL_NOT_FOUND", "Unknown symbol id")]
        try:
            payload = self.market.trendbars(message, self.clock.now_utc())
        except Boundaries:
            return [refusal("INCORRECT_BOUNDARIES", "fromTimestamp must not be after toTimestamp")]
        return [("ProtoOAGetTrendbarsRes", payload)]


def refusal(
    code: str, description: str = "", retry_after: int | None = None, carrier: str = "ProtoOAErrorRes"
) -> tuple[str, bytes]:
    """Return an error message; `retryAfter` is a field that the message classes do not know."""
    name, payload = _made(carrier, errorCode=code, description=description)
    if retry_after is not None:
        payload += bytes([6 << 3]) + _varint(retry_after)
    return name, payload


def _made(name: str, **fields: object) -> tuple[str, bytes]:
    return name, schema().make(name, **fields).SerializeToString()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))
