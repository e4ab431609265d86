"""Figures as calendars print them: "213K", "-0.3%", "$1,234.5B" become numbers; what cannot be read stays text."""

import re
from dataclasses import dataclass

_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "mn": 1e6, "mln": 1e6, "b": 1e9, "bn": 1e9, "bln": 1e9, "t": 1e12, "tn": 1e12}
_ABSENT = frozenset({"", "-", "--", "—", "–", "n/a", "na", "nan", "null", "none", "tba", "tbd"})
_MONEY = "$€£¥"
_SHAPE = re.compile(
    rf"^(?P<sign>[+\-]?)\s*[{_MONEY}]?\s*(?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d*\.?\d+|\d+\.)"
    rf"\s*(?P<scale>[a-z]*)\s*(?P<unit>%?)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Actual, forecast and previous of one event, all in one unit.

    Attributes:
        unit: "%" or "" (a plain number; thousands, millions and so on are multiplied out, money signs dropped).
        actual, forecast, previous: numbers, None where there is none or it could not be read.
        actual_text, forecast_text, previous_text: as they were printed, None where nothing stood there.
    """

    unit: str = ""
    actual: float | None = None
    forecast: float | None = None
    previous: float | None = None
    actual_text: str | None = None
    forecast_text: str | None = None
    previous_text: str | None = None

    @property
    def texts(self) -> tuple[str | None, str | None, str | None]:
        """Return the three as printed."""
        return self.actual_text, self.forecast_text, self.previous_text

    @property
    def unreadable(self) -> int:
        """Return how many figures stand there and are no number in the event's unit."""
        numbers = (self.actual, self.forecast, self.previous)
        return sum(text is not None and number is None for text, number in zip(self.texts, numbers, strict=True))

    def completed(self, newer: "Figures") -> "Figures":
        """Return `newer` with what it lacks taken from here, so a file without a figure erases none."""
        merged = (new if new is not None else old for new, old in zip(newer.texts, self.texts, strict=True))
        return read_figures(*merged)


def read_figures(actual: str | None, forecast: str | None, previous: str | None) -> Figures:
    """Return three printed figures as numbers of one unit, that of the first one that can be read.

    A figure in another unit than that ("0.2%" beside "5K") is kept as text only, so no two numbers of an event are
    ever compared across units. A comma is read between thousands and nowhere else.

    >>> read_figures("213K", "195K", "n/a").actual
    213000.0
    >>> read_figures("2.98|2.5", None, None).unreadable
    1
    """
    texts = [_present(text) for text in (actual, forecast, previous)]
    read = [None if text is None else _number(text) for text in texts]
    unit = next((found[1] for found in read if found is not None), "")
    numbers = [found[0] if found is not None and found[1] == unit else None for found in read]
    return Figures(
        unit=unit,
        actual=numbers[0],
        forecast=numbers[1],
        previous=numbers[2],
        actual_text=texts[0],
        forecast_text=texts[1],
        previous_text=texts[2],
    )


def _present(text: str | None) -> str | None:
    stripped = "" if text is None else " ".join(text.split())
    return None if stripped.casefold() in _ABSENT else stripped


def _number(text: str) -> tuple[float, str] | None:
    found = _SHAPE.match(text.replace("−", "-"))
    if found is None or found["scale"].casefold() not in _SCALES:
        return None
    value = float(found["digits"].replace(",", "")) * _SCALES[found["scale"].casefold()]
    return (-value if found["sign"] == "-" else value), found["unit"]
