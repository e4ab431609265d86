"""Frames on the wire: a 4-byte big-endian length, then a ProtoMessage that says what it holds and whose it is."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from forexgpt_core.adapters.ctrader.errors import BrokenLine
from forexgpt_core.adapters.ctrader.messages import schema
from forexgpt_core.errors import BadInput

CAP = 15_000_000  # bytes of one frame, without its length
_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One frame, opened: the payload is still serialised."""

    payload_type: int
    payload: bytes
    client_msg_id: str


def encode(envelope: Envelope) -> bytes:
    """Return the frame of an envelope.

    Raises:
        BadInput: it is longer than the protocol allows; the server would drop it without an answer.
    """
    fields: dict[str, object] = {"payloadType": envelope.payload_type, "payload": envelope.payload}
    if envelope.client_msg_id:
        fields["clientMsgId"] = envelope.client_msg_id
    body: bytes = schema().make("ProtoMessage", **fields).SerializeToString()
    if len(body) > CAP:
        raise BadInput(f"a message of {len(body):,} bytes does not fit a frame of at most {CAP:,}")
    return _LENGTH.pack(len(body)) + body


def open_envelope(body: bytes) -> Envelope | None:
    """Return what a frame's body holds; None where it is not a ProtoMessage with a payload type."""
    message = schema().make("ProtoMessage")
    try:
        message.ParseFromString(body)
    except Exception:  # protobuf's DecodeError, or a ValueError about text that is not UTF-8
        return None
    if not message.IsInitialized():
        return None
    return Envelope(int(message.payloadType), bytes(message.payload), str(message.clientMsgId))


class FrameDecoder:
    """Cut a stream of bytes, arriving in pieces of any size, into the bodies of frames.

    Nothing is allocated on the word of a claimed length: the buffer holds what arrived, which is at most one frame and
    one piece.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield each body that is now complete.

        Raises:
            BrokenLine: a length above the cap; nothing after it can be understood.
        """
        self._buffer += piece
        start = 0
        try:
            while len(self._buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > CAP:
                    raise BrokenLine(f"the server announced a frame of {length:,} bytes; at most {CAP:,} are lawful")
                end = start + _LENGTH.size + length
                if len(self._buffer) < end:
                    return
                body = bytes(self._buffer[start + _LENGTH.size : end])
                start = end
                yield body
        finally:
            del self._buffer[:start]
