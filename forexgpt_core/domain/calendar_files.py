"""What a calendar file may leave out, and what reading one gives, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from forexgpt_core.domain.events import CURRENCIES, IMPACTS, CalendarEntry
from forexgpt_core.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarOptions:
    """What a file may leave out.

    Attributes:
        timezone: IANA name of the clock its times were read from, for times that do not say it themselves.
        currency, impact: of every event, for a file that has no column for them; None where the file must say it.
        dates: "dmy" or "mdy" for dates such as 01/02/2018 that could be either; None where the file must show it.
    """

    timezone: str | None = None
    currency: str | None = None
    impact: str | None = None
    dates: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("currency", CURRENCIES), ("impact", IMPACTS), ("dates", ("dmy", "mdy"))):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise BadInput(f"unknown {name} '{value}'; known: {', '.join(known)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarFile:
    """The events of a file.

    Attributes:
        entries: in the file's order.
        left_out: how many events of other currencies than ours it has, by currency.
    """

    entries: tuple[CalendarEntry, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def unreadable_figures(self) -> int:
        """Return how many figures are kept as text because they are no number in their event's unit."""
        return sum(entry.figures.unreadable for entry in self.entries)

    @property
    def untimed(self) -> int:
        """Return how many events have no time of day; they are stored, but neither features nor the guard use them."""
        return sum(not entry.timed for entry in self.entries)
