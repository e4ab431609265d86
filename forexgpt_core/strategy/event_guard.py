"""No new position around a release: one rule, read by the backtest and by the live loop alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Times
from forexgpt_core.domain.events import at_least
from forexgpt_core.errors import BadInput
from forexgpt_core.features.events import MINUTE, around, stretches, unknown_week

Bools = NDArray[np.bool_]
_LONGEST_MINUTES = 1_440


@dataclass(frozen=True, slots=True, kw_only=True)
class EventGuard:
    """When no position is opened because of the economic calendar; exits are never held back.

    Attributes:
        event_minutes_before, event_minutes_after: no entry from so long before an event until so long after it, both
            ends included; 0 and 0 switch the guard off. At most a day each.
        impact: least impact of the events that count, "low", "medium" or "high".
    """

    event_minutes_before: int = 0
    event_minutes_after: int = 0
    impact: str = "high"

    def __post_init__(self) -> None:
        for name in ("event_minutes_before", "event_minutes_after"):
            if not 0 <= getattr(self, name) <= _LONGEST_MINUTES:
                raise BadInput(f"guard.{name} must lie in 0 to {_LONGEST_MINUTES}, was {getattr(self, name)}")
        try:
            at_least(self.impact)
        except BadInput as error:
            raise BadInput(f"guard.{error}") from None

    def __getitem__(self, key: str) -> object:
        return getattr(self, key)

    @property
    def on(self) -> bool:
        """Return whether anything is held back."""
        return self.event_minutes_before > 0 or self.event_minutes_after > 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldBack:
    """Where entries are held back, and why.

    Attributes:
        event: (n,) an event of either currency is near.
        unknown: (n,) no event of either currency is known for the seven days to come, so none may be presumed absent.
    """

    event: Bools
    unknown: Bools

    @property
    def any(self) -> Bools:
        """Return where no position may be opened."""
        return self.event | self.unknown


def held_back(moments_utc: Times, events: pl.DataFrame, currencies: Sequence[str], guard: EventGuard) -> HeldBack:
    """Return where the guard holds entries back; nowhere when it is off.

    Args:
        moments_utc: (n,) when entries would be decided: bar closes.
        events: revisions of `domain.events.EVENT_SCHEMA` from a day before the first moment to a week after the last.
        currencies: base and quote of the pair.
    """
    known = np.asarray(moments_utc, dtype="datetime64[us]").astype(np.int64)
    if not guard.on:
        nowhere = np.zeros(known.size, dtype=np.bool_)
        return HeldBack(event=nowhere, unknown=nowhere)
    near = stretches(events, currencies, at_least(guard.impact))
    before, after = guard.event_minutes_before * MINUTE, guard.event_minutes_after * MINUTE
    return HeldBack(
        event=around(known, near, before, after),
        unknown=unknown_week(known, stretches(events, currencies, None)),
    )
