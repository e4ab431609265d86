"""A small rate limiter: at most so many questions in any period."""

import threading
import time
from collections import deque
from collections.abc import Callable


class Pace:
    """Let at most `most` callers through in any `period_seconds`; the others wait their turn. Safe between threads."""

    def __init__(
        self,
        most: int,
        period_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if most < 1 or not period_seconds > 0:
            raise ValueError(f"a pace needs at least 1 question and a period above 0, was {most} in {period_seconds}")
        self._period_seconds, self._clock, self._sleep = period_seconds, clock, sleep
        self._turns: deque[float] = deque(maxlen=most)
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the caller's turn has come."""
        with self._lock:  # the turn is reserved at once, the waiting is done outside
            now = self._clock()
            full = len(self._turns) == self._turns.maxlen
            turn = max(now, self._turns[0] + self._period_seconds) if full else now
            self._turns.append(turn)
        if turn > now:
            self._sleep(turn - now)
