"""One verified TLS connection to cTrader on which requests find their answers.

A request has exactly one of three outcomes, and the difference between the last two is what keeps an order from being
sent twice: `NotSent` may be repeated freely, `Answered` holds the server's word (a refusal is an answer too), and after
`OutcomeUnknown` only the state of the account can tell what happened.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from forexgpt_core.adapters.ctrader.errors import BrokenLine, CannotConnect, Untrusted
from forexgpt_core.adapters.ctrader.frames import Envelope, FrameDecoder, encode, open_envelope
from forexgpt_core.adapters.ctrader.messages import Message, schema
from forexgpt_core.adapters.ctrader.pacing import Clock, Pace
from forexgpt_core.errors import BadInput, NotReady

_log = logging.getLogger(__name__)
_HEARTBEAT = "ProtoHeartbeatEvent"
_HISTORICAL = ("ProtoOAGetTrendbarsReq", "ProtoOAGetTickDataReq", "ProtoOADealListReq", "ProtoOAOrderListReq")
_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request left; it may be repeated freely."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The server answered this request; look into the message, it may be a refusal."""

    message: Message


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The request may or may not have been carried out. Never repeat it blindly: read the account's state."""

    reason: str


Outcome: TypeAlias = NotSent | Answered | OutcomeUnknown


@dataclass(frozen=True, slots=True)
class Event:
    """A message that no waiting request claimed, or one that both answers a request and tells news.

    Attributes:
        client_msg_id: the originator's id, which may belong to another client or to a request that no longer waits.
    """

    name: str
    message: Message
    client_msg_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds that a connection waits for what."""

    connect_s: float = 20.0
    request_s: float = 20.0
    heartbeat_s: float = 9.0  # our silence after which we send one: one every 10 s is asked for
    silence_s: float = 90.0  # the server's silence after which the connection is dead
    close_s: float = 5.0


class Connection:
    """A connection that is up until it is lost; afterwards it only says why, and another one must be made.

    Requests are answered by their own id, a fresh UUID each, so their number in flight is free. The rates of `pace` are
    kept before a request is written, and its time for an answer begins when it is written. When the connection is lost,
    whatever waits learns it at once. Heartbeats are sent after our own silence and never in answer to one. What a
    handler of events raises is logged and counted, and harms nothing.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        clock: Clock,
        pace: Pace,
        timings: Timings,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._clock, self._pace, self._timings, self._on_event = clock, pace, timings, on_event
        self._pending: dict[str, asyncio.Future[Outcome]] = {}
        self._heard = self._spoke = clock.monotonic()
        self.lost: str | None = None
        self.counts: Counter[str] = Counter()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._keep_alive())]

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        clock: Clock,
        pace: Pace,
        ca_file: Path | None = None,
        timings: Timings | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> "Connection":
        """Connect, having verified that the server is `host`.

        Args:
            ca_file: the only certificate authority to trust; None for those of the system.

        Raises:
            Untrusted: the certificate is not valid for this host.
            CannotConnect: nobody answers there.
            NotReady: `ca_file` is not there or holds no certificate.
        """
        timings = timings or Timings()
        where = f"{host}:{port}"
        context = _context(ca_file)
        try:
            async with asyncio.timeout(timings.connect_s):
                reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message or "not valid"
            raise Untrusted(
                f"{where} shows a certificate that is not to be trusted ({reason}); nothing was sent. If this server is"
                " yours, FOREXGPT_CTRADER_CA_FILE names the authority that signed it"
            ) from None
        except TimeoutError:
            raise CannotConnect(f"no connection to {where} within {timings.connect_s:g} s") from None
        except (OSError, ssl.SSLError) as error:
            raise CannotConnect(f"no connection to {where}: {error.strerror or error}") from None
        return cls(reader, writer, clock=clock, pace=pace, timings=timings, on_event=on_event)

    async def request(
        self, message: Message, *, timeout_s: float | None = None, send_within_s: float | None = None
    ) -> Outcome:
        """Send a message and return its outcome; raises nothing of the network's.

        Args:
            timeout_s: seconds to wait for the answer once it is written; None for the connection's own.
            send_within_s: longest wait for the request rate; a request that would wait longer is not sent.
        """
        name = str(message.DESCRIPTOR.name)
        client_msg_id = str(uuid4())
        try:
            frame = encode(Envelope(schema().payload_type(name), message.SerializeToString(), client_msg_id))
        except BadInput as error:
            return NotSent(str(error))
        bucket = self._pace.history if name in _HISTORICAL else self._pace.other
        if not await bucket.admit(send_within_s):
            return NotSent(f"the request rate lets it go only after more than {send_within_s:g} s")
        if self.lost is not None or self._writer.transport.is_closing():
            return NotSent(self.lost or "the connection is closing")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._pending[client_msg_id] = answer
        try:
            self._write(frame)
            return await self._within(answer, self._timings.request_s if timeout_s is None else timeout_s)
        finally:
            self._pending.pop(client_msg_id, None)

    async def close(self) -> None:
        """End the connection; whatever still waits learns that its outcome is unknown."""
        self._lose("the connection was closed by us", abort=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writer.close()
        with suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(self._timings.close_s):
                await self._writer.wait_closed()

    def _write(self, frame: bytes) -> None:
        """Hand over a whole frame; frames never interleave. The request rates bound what can pile up unsent."""
        self._writer.write(frame)
        self._spoke = self._clock.monotonic()

    async def _within(self, answer: "asyncio.Future[Outcome]", seconds: float) -> Outcome:
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        both: list[asyncio.Future[Any]] = [answer, timer]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return answer.result() if answer.done() else OutcomeUnknown(f"no answer within {seconds:g} s")

    async def _read(self) -> None:
        decoder = FrameDecoder()
        try:
            while piece := await self._reader.read(_PIECE):
                for body in decoder.feed(piece):
                    self._heard = self._clock.monotonic()
                    self._receive(body)
            self._lose("the server closed the connection")
        except (OSError, ssl.SSLError, BrokenLine) as error:
            self._lose(f"the connection broke: {error}")
        except Exception as error:  # a fault of ours: nobody may be left waiting for it
            _log.exception("reading from cTrader failed")
            self._lose(f"reading failed: {type(error).__name__}")

    async def _keep_alive(self) -> None:
        while self.lost is None:
            speak, dead = self._spoke + self._timings.heartbeat_s, self._heard + self._timings.silence_s
            now = self._clock.monotonic()
            if now >= dead:
                self._lose(f"the server has been silent for {self._timings.silence_s:g} s")
            elif now >= speak:
                heartbeat = schema().make(_HEARTBEAT).SerializeToString()
                self._write(encode(Envelope(schema().payload_type(_HEARTBEAT), heartbeat, "")))
            else:
                await self._clock.sleep(min(speak, dead) - now)

    def _lose(self, reason: str, *, abort: bool = True) -> None:
        """Remember why the connection is gone and tell everyone who waits."""
        if self.lost is not None:
            return
        self.lost = reason
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result(OutcomeUnknown(reason))
        if abort:
            self._writer.transport.abort()

    def _receive(self, body: bytes) -> None:
        envelope = open_envelope(body)
        if envelope is None:
            self._count("unreadable_frames")
            return
        waiting = self._pending.get(envelope.client_msg_id)
        known = schema().by_type.get(envelope.payload_type)
        message = None if known is None else _parsed(known, envelope.payload)
        if message is None:
            self._count("unknown_messages" if known is None else "unreadable_messages")
            if waiting is not None and not waiting.done():
                waiting.set_result(OutcomeUnknown(f"the answer, of type {envelope.payload_type}, cannot be read"))
            return
        name = str(message.DESCRIPTOR.name)
        answers = waiting is not None and not waiting.done()
        if waiting is not None and answers:
            waiting.set_result(Answered(message))
        if name != _HEARTBEAT and (not answers or name.endswith("Event")):
            self._tell(Event(name, message, envelope.client_msg_id))

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # a handler's fault must cost neither the connection nor an answer
            self._count("handler_errors")
            _log.exception("a handler failed on %s", event.name)

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        _log.warning("cTrader: %s, %d so far", what.replace("_", " "), self.counts[what])


def _parsed(known: type[Message], payload: bytes) -> Message | None:
    """Return the message, leniently: servers newer than 0.9.2 leave out fields that it calls required."""
    message = known()
    try:
        message.ParseFromString(payload)
    except Exception:  # protobuf's DecodeError, or a ValueError about text that is not UTF-8
        return None
    return message


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise NotReady(
            f"FOREXGPT_CTRADER_CA_FILE names {ca_file}, which cannot be read as PEM certificates: {error}"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
