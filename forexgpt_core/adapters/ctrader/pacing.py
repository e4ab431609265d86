"""Time and patience: a clock that tests can replace, the request rates, and how long to wait after a refusal."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is, and waiting."""

    def now_utc(self) -> datetime:
        """Return the time of day."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment; they never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now_utc(self) -> datetime:
        """Return the time of day."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        await asyncio.sleep(seconds)


class TokenBucket:
    """Let `burst` requests go at once and `per_second` after that, first come, first served.

    In any second at most `burst + per_second - 1` go; with burst 1 they go at even distances, so what a slow network
    bunches together stays under a limit a little above the rate.
    """

    def __init__(self, per_second: float, burst: int, clock: Clock) -> None:
        self._gap, self._burst, self._clock = 1 / per_second, burst, clock
        self._due = clock.monotonic()  # when the bucket would be full again, had nothing gone since

    def reserve(self, within_s: float | None = None) -> float | None:
        """Take a place and return how many seconds to wait for it; None, taking none, if it is later than `within_s`.

        A place that is then not used is lost, which errs on the slow side.
        """
        now = self._clock.monotonic()
        due = max(now, self._due)
        wait = max(0.0, due - now - (self._burst - 1) * self._gap)
        if within_s is not None and wait > within_s:
            return None
        self._due = due + self._gap
        return wait

    async def admit(self, within_s: float | None = None) -> bool:
        """Wait for a place, or return False at once if it is later than `within_s`."""
        wait = self.reserve(within_s)
        if wait:
            await self._clock.sleep(wait)
        return wait is not None


@dataclass(frozen=True, slots=True)
class Pace:
    """The two rates of one connection: 5 historical and 50 other requests per second are allowed, we stay below."""

    history: TokenBucket
    other: TokenBucket

    @classmethod
    def of(cls, clock: Clock) -> "Pace":
        """Return at most 4 historical and 40 other requests in any second."""
        return cls(history=TokenBucket(4, 1, clock), other=TokenBucket(30, 11, clock))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to try again.

    Attributes:
        first_s: first wait; each further one is twice as long.
        longest_s: longest wait of our own choosing.
        budget_s: sum of all waits for one request.
        reconnects: connections made anew for one request.
    """

    first_s: float = 1.0
    longest_s: float = 120.0
    budget_s: float = 900.0
    reconnects: int = 5


class Backoff:
    """The waits of one request. They grow whatever the server says: obeying small hints alone drains a quota."""

    def __init__(self, patience: Patience, jitter: Callable[[], float] = random.random) -> None:
        self._patience, self._jitter, self._next = patience, jitter, patience.first_s
        self.spent_s = 0.0

    def wait_s(self, at_least: float = 0.0) -> float | None:
        """Return the next wait, up to a quarter shorter by chance, or None when the budget does not cover it."""
        wait = max(self._next * (1 - self._jitter() / 4), at_least)
        self._next = min(2 * self._next, self._patience.longest_s)
        if self.spent_s + wait > self._patience.budget_s:
            return None
        self.spent_s += wait
        return wait
