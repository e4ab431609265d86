"""One way to ask an HTTP provider: bounded in time, patient where that helps, and silent about secrets."""

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlsplit

from forexgpt_core.adapters.providers.pace import Pace
from forexgpt_core.candles.provider_errors import (
    KeyRefused,
    Passing,
    ProviderError,
    RateLimited,
    Unreachable,
    UnreadableAnswer,
)

if TYPE_CHECKING:
    import httpx

_RETRIED = (429, 500, 502, 503, 504)
_LONGEST_BODY = 64 * 2**20
_HOPS = 3
_TITLE = re.compile(r"(?is)<title[^>]*>(.*?)</title>")

Refuse = Callable[[int, str], ProviderError | None]
"""Given the status and the beginning of an answer without secrets, say why it is none, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an answer is waited for, and how often it is asked for again.

    Attributes:
        connect_seconds: until a connection stands.
        read_seconds: until the next part of an answer.
        attempts: how often one question is asked at most.
        first_wait_seconds: upper end of the first random wait; each later one doubles it.
        longest_wait_seconds: no single wait is longer; a provider that asks for more is told to the user instead.
        total_seconds: after this no attempt begins any more and none goes on.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    attempts: int = 6
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 75.0
    total_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, was {self.attempts}")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpGetter:
    """Asks one provider by GET.

    Asked again: when no connection stands, nothing comes in time, an answer breaks off, and at 429, 500, 502, 503 and
    504, after a wait drawn at random from 0 to a doubling limit ("full jitter"), or the one that Retry-After names.
    Never asked again: any other status, and an answer that is complete but wrong.

    Redirects are followed within the same host only. Secrets travel in headers or in the query, and are added below
    the level at which requests are logged, shown or put into errors.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        *,
        secret_headers: Mapping[str, str] | None = None,
        secret_params: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        pace: Pace | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Remember how to ask; no connection is opened before the first question.

        Args:
            provider: its name in errors.
            base_url: address that every path is put behind.
            secret_headers: headers that carry a secret; it follows the first blank of the value, if there is one.
            secret_params: parts of the query that are secret.
            patience: how long and how often.
            pace: how many questions in what time, counting repeated ones.
            sleep: does the waiting.
            clock: seconds that only ever go forward.
            rng: draws the waits.
        """
        self.provider, self._base_url = provider, base_url.rstrip("/")
        self._headers, self._params = dict(secret_headers or {}), dict(secret_params or {})
        self._secrets = [*(v.partition(" ")[2] or v for v in self._headers.values()), *self._params.values()]
        self._patience, self._pace = patience or Patience(), pace
        self._sleep, self._clock, self._rng = sleep, clock, rng or random.Random()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider!r}, {self.host!r})"

    @property
    def host(self) -> str:
        """Return the host and port asked, without user name and password."""
        try:
            return urlsplit(self._base_url).netloc.rpartition("@")[2]
        except ValueError:
            return ""

    def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        asked: str,
        missing_ok: bool = False,
        refuse: Refuse = lambda status, text: None,
    ) -> bytes | None:
        """Return the body of a complete answer, or None for a 404 where `missing_ok`.

        Args:
            path: put behind the base address.
            params: query, without secrets.
            asked: what is asked for, for errors.
            missing_ok: whether 404 is an answer like any other.
            refuse: recognises what the provider says in its own words; RateLimited with a wait is waited for.

        Raises:
            ProviderError: no answer, or one that refuses or is no data.
        """
        began = self._clock()
        for wait_limit in self._wait_limits():
            problem = self._try(path, params or {}, asked, missing_ok, refuse, began + self._patience.total_seconds)
            if not isinstance(problem, ProviderError):
                return problem
            if wait_limit is None or not isinstance(problem, Passing):
                raise problem from None
            self._wait(problem, wait_limit, began)
        raise AssertionError("the last wait limit is None")

    def redact(self, text: str) -> str:
        """Return `text` on one line with every secret replaced."""
        for secret in self._secrets:
            for form in (secret, quote_plus(secret)):
                text = text.replace(form, "***") if form else text
        return " ".join(text.split())

    def _wait_limits(self) -> Iterator[float | None]:
        patience = self._patience
        for n in range(patience.attempts - 1):
            yield min(patience.longest_wait_seconds, patience.first_wait_seconds * 2**n)
        yield None

    def _wait(self, problem: Passing, limit: float, began: float) -> None:
        """Sleep before the next attempt, or raise the problem where there is no time left for one."""
        patience, wanted = self._patience, problem.wait_seconds
        wait = self._rng.uniform(0, limit) if wanted is None else wanted + self._rng.uniform(0, 0.1 * wanted)
        left = began + patience.total_seconds - self._clock()
        if (wanted is not None and wanted > patience.longest_wait_seconds) or wait >= left:
            raise problem from None
        self._sleep(wait)

    def _try(
        self,
        path: str,
        params: Mapping[str, str],
        asked: str,
        missing_ok: bool,
        refuse: Refuse,
        deadline: float,
    ) -> bytes | ProviderError | None:
        """Return the body, None for what is missing, or what went wrong in this attempt."""
        import httpx

        if self._pace is not None:
            self._pace.wait()
        try:
            answer = self._ask(f"{self._base_url}/{path.lstrip('/')}", params, deadline)
        except ProviderError as problem:
            return problem
        except (httpx.TransportError, httpx.DecodingError) as error:
            return self._no_answer(error, asked)
        except (httpx.InvalidURL, ValueError):
            return self._error(ProviderError, asked, "its address is none", "correct the provider's address")
        return self._judge(answer, asked, missing_ok, refuse)

    def _judge(self, answer: _Answer, asked: str, missing_ok: bool, refuse: Refuse) -> bytes | ProviderError | None:
        text = self.redact(answer.body[:4000].decode("utf-8", "replace"))
        if answer.status == 404 and missing_ok:
            return None
        refused = refuse(answer.status, text)
        if refused is not None:
            return refused
        if answer.status != 200:
            return self._bad_status(answer, asked, text)
        page = answer.body.lstrip()[:1] == b"<" or "text/html" in answer.headers.get("content-type", "")
        if page and answer.body:
            mend = "look at the address in a browser: a sign-in page or a block may stand before the data"
            return self._error(UnreadableAnswer, asked, f"an HTML page came{_title(text)} instead of data", mend)
        return answer.body

    def _bad_status(self, answer: _Answer, asked: str, text: str) -> ProviderError:
        status, said = answer.status, _quoted(text)
        if status in _RETRIED:
            wait = retry_after_seconds(answer.headers.get("retry-after"))
            told = "" if wait is None else f", to be asked again after {wait:.0f} s"
            kind, meaning = (RateLimited, " (too many requests)") if status == 429 else (Unreachable, "")
            mend = "wait and run it again: what was fetched is kept"
            return kind(self.provider, asked, f"HTTP {status}{meaning} came{told}{said}", mend, wait)
        if status in (401, 403) and self._secrets:
            return self._error(KeyRefused, asked, f"the key was refused (HTTP {status}){said}", "check the key")
        return self._error(ProviderError, asked, f"HTTP {status} came{said}", "this is not worth trying again as it is")

    def _no_answer(self, error: Exception, asked: str) -> ProviderError:
        import httpx

        name, reason = type(error).__name__, self.redact(str(error))
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            came = f"the question could not be put ({name})"  # its text may repeat a header
            return self._error(ProviderError, asked, came, "check the provider's address and key")
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            came = f"{self.host} did not prove who it is (certificate not trusted)"
            return self._error(ProviderError, asked, came, "check the address, and any proxy between")
        came = {
            "ConnectError": f"{self.host} could not be reached ({reason})",
            "ConnectTimeout": f"{self.host} did not answer the connection in time",
            "ReadTimeout": f"{self.host} did not answer in time",
            "RemoteProtocolError": f"the answer of {self.host} broke off ({reason})",
        }.get(name, f"the connection to {self.host} failed ({name}: {reason})")
        return self._error(Unreachable, asked, came, "check the network, then run it again: what was fetched is kept")

    def _error(self, kind: type[ProviderError], asked: str, came: str, mend: str) -> ProviderError:
        return kind(self.provider, asked, came, mend)

    def _ask(self, url: str, params: Mapping[str, str], deadline: float) -> _Answer:
        """Return the complete answer, after redirects within the host."""
        import httpx

        target = httpx.URL(url).copy_merge_params(params)
        for _ in range(_HOPS + 1):
            with self._client.stream("GET", target) as response:
                if not response.has_redirect_location:
                    return _Answer(response.status_code, response.headers, self._body(response, deadline))
                to = response.url.join(response.headers["location"])
                if to.host != target.host or (target.scheme == "https" and to.scheme != "https"):
                    came = f"the answer pointed to another host ({to.host}, {to.scheme})"
                    raise ProviderError(self.provider, url, came, "set the provider's address if it has moved")
                target = self._without_secrets(to)
        raise ProviderError(self.provider, url, "the answer pointed in circles", "check the provider's address")

    def _without_secrets(self, url: "httpx.URL") -> "httpx.URL":
        """Return an address that a provider gave, which may repeat what it was asked with."""
        for name in self._params:
            url = url.copy_remove_param(name)
        return url

    def _body(self, response: "httpx.Response", deadline: float) -> bytes:
        import httpx

        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if self._clock() > deadline:  # each part came in time, all of them together did not
                raise httpx.ReadTimeout("too slow")
            if len(body) > _LONGEST_BODY:
                came = f"more than {_LONGEST_BODY >> 20} MB came"
                raise UnreadableAnswer(self.provider, response.url.path, came, "check the provider's address")
        return bytes(body)

    @cached_property
    def _client(self) -> "httpx.Client":
        import httpx

        traffic = logging.getLogger("httpcore")
        if traffic.level == logging.NOTSET:
            traffic.setLevel(logging.INFO)  # below that it repeats headers as they came, and those may repeat a key
        patience = self._patience
        timeout = httpx.Timeout(patience.read_seconds, connect=patience.connect_seconds)
        return httpx.Client(
            transport=_keyed_transport(self._headers, self._params, proxy=_proxy(self._base_url)),
            timeout=timeout,
            follow_redirects=False,
            headers={"user-agent": "forexgpt"},
        )


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """Return the wait that a Retry-After header asks for, given in seconds or as an HTTP date; None if neither.

    >>> retry_after_seconds("Wed, 21 Oct 2015 07:28:10 GMT", datetime(2015, 10, 21, 7, 28, tzinfo=UTC))
    10.0
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - (now or datetime.now(UTC))).total_seconds())


def _keyed_transport(headers: Mapping[str, str], params: Mapping[str, str], proxy: str | None) -> "httpx.BaseTransport":
    """Return a transport that adds the secrets to what is sent, so that the request others see has none."""
    import httpx

    class Keyed(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent = httpx.Request(
                request.method,
                request.url.copy_merge_params(params),
                headers=[*request.headers.raw, *((k.encode(), v.encode()) for k, v in headers.items())],
                extensions=request.extensions,
            )
            return super().handle_request(sent)

    return Keyed(proxy=proxy)


def _proxy(url: str) -> str | None:
    """Return the proxy that the machine's settings name for an address; never one for this machine itself."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _quoted(text: str) -> str:
    words = re.sub(r"<[^>]*>", " ", text) if text.lstrip().startswith("<") else text
    single = " ".join(words.split())
    return f" saying '{single[:160]}'" if single else ""


def _title(text: str) -> str:
    found = _TITLE.search(text)
    return f" ('{' '.join(found.group(1).split())[:80]}')" if found else ""
