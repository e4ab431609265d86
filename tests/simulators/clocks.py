"""Clocks for tests: one that moves when it is told to, one that jumps over every wait."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

START = datetime(2019, 9, 28, 12, tzinfo=UTC)


class ManualClock:
    """Time stands still until `advance`; whoever sleeps wakes in order. For one event loop."""

    def __init__(self, now_utc: datetime = START) -> None:
        self._start, self._elapsed = now_utc, 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_utc(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let this much time pass, stopping at each waking to let it have its effect."""
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not future.done():
                future.set_result(None)
                await settle()
        self._elapsed = end
        await settle()


class JumpingClock:
    """Every wait is over at once, and time has passed as if it had been waited for. Safe to share between threads."""

    def __init__(self, now_utc: datetime = START) -> None:
        self._start, self._elapsed = now_utc, 0.0
        self.waits: list[float] = []

    def now_utc(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def skip(self, seconds: float) -> None:
        self._elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.skip(seconds)
        await asyncio.sleep(0)


async def settle() -> None:
    """Let everything that is ready in this loop run."""
    for _ in range(10):
        await asyncio.sleep(0)
