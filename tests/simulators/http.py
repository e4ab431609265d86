"""A provider on loopback: a threaded HTTP server that answers from a function and fails where it is told to."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

HTML = b"<!DOCTYPE html><html><head><title>Please sign in</title></head><body>Hotel network</body></html>"


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Asked], Reply]


@dataclass
class Fault:
    """What goes wrong, for how many more requests whose path and query hold `where`.

    Kinds: "slow" (nothing comes for longer than anybody waits), "cut_off" (half the body, then the connection ends),
    "truncated" (half the body as if it were all), "html", "empty", "redirect" (to `headers["location"]`), or a status.
    """

    kind: str | int
    times: int = 1
    where: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Simulator:
    """Serves until its `with` block ends.

    Attributes:
        url: base address.
        asked: every request, in order of arrival.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        simulator = self

        class Handler(_Handler):
            owner = simulator

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, kind: str | int, times: int = 1, where: str = "", **more: object) -> None:
        """Script a fault; faults that fit are spent in the order they were given."""
        self._faults.append(Fault(kind, times, where, **more))  # type: ignore[arg-type]

    def stop_failing(self) -> None:
        """Forget the faults that are left."""
        self._faults.clear()

    def count(self, where: str = "") -> int:
        """Return how many requests had `where` in their path."""
        return sum(where in asked.path for asked in self.asked)

    def take_fault(self, asked: Asked, whole: str) -> Fault | None:
        with self._lock:
            self.asked.append(asked)
            for fault in self._faults:
                if fault.times > 0 and fault.where in whole:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    owner: Simulator

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = Asked(parts.path, dict(parse_qsl(parts.query)), {k.lower(): v for k, v in self.headers.items()})
        fault = self.owner.take_fault(asked, self.path)
        if fault is None:
            self._send(self.owner.answer(asked))
        elif fault.kind == "slow":
            self.owner.stopping.wait(3.0)  # longer than the tests' read timeout
        elif fault.kind == "html":
            self._send(Reply(HTML, headers={"content-type": "text/html"}))
        elif fault.kind == "empty":
            self._send(Reply(b""))
        elif fault.kind == "redirect":
            self._send(Reply(b"", 302, fault.headers))
        elif fault.kind == "truncated":
            body = self.owner.answer(asked).body
            self._send(Reply(body[: len(body) // 2]))
        elif fault.kind == "cut_off":
            reply = self.owner.answer(asked)
            self._send(Reply(reply.body[: len(reply.body) // 2], reply.status), length=len(reply.body))
        elif fault.kind == "answer":
            self._send(Reply(fault.body, headers=fault.headers))
        else:
            self._send(Reply(fault.body, int(fault.kind), fault.headers))

    def _send(self, reply: Reply, length: int | None = None) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body) if length is None else length))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""
