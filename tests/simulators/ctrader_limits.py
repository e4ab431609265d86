"""Request rates of a simulated cTrader, counted per connection over the last second, and its quota of history."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

HISTORICAL = ("ProtoOAGetTrendbarsReq", "ProtoOAGetTickDataReq")


@dataclass(kw_only=True)
class Quota:
    """History requests allowed in any window of time, over all connections; with how long to wait when it is used up.

    `retry_after_s` is small on purpose: live servers say so, and whoever obeys it alone uses up every attempt.
    """

    requests: int = 60
    window_s: float = 60.0
    retry_after_s: int = 1
    used: deque[float] = field(default_factory=deque)

    def admits(self, now: float) -> bool:
        while self.used and self.used[0] <= now - self.window_s:
            self.used.popleft()
        if len(self.used) >= self.requests:
            return False
        self.used.append(now)
        return True


class Rates:
    """The limits of one connection."""

    def __init__(self, monotonic: Callable[[], float], other: int = 50, historical: int = 5) -> None:
        self._monotonic = monotonic
        self._limits = {True: (historical, deque[float]()), False: (other, deque[float]())}

    def admits(self, name: str) -> bool:
        limit, times = self._limits[name in HISTORICAL]
        now = self._monotonic()
        while times and times[0] <= now - 1:
            times.popleft()
        times.append(now)
        return len(times) <= limit
