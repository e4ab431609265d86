"""Features of the economic calendar: how near releases are, and how the last ones surprised.

A row reads what was known at its time and nothing later: a schedule from when it was announced until it was changed or
called off, an outcome from its release on. Events without a time of day are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forexgpt_core.domain.clock import Times
from forexgpt_core.domain.events import EVERY, at_least
from forexgpt_core.errors import BadInput

Columns = dict[str, NDArray[np.float64]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MINUTE = 60_000_000  # microseconds
WEEK = 7 * 24 * 60 * MINUTE
_NEVER = np.iinfo(np.int64).max // 2
_LARGEST = 10.0  # standard deviations; one misprint should not outweigh every other row
_ROUNDING = 1e-9  # a variance below this share of the squares is rounding: the past surprises were all alike
_BOUNDS = {
    "cap_minutes": (1, 10_080),
    "window_minutes": (1, 1_440),
    "ahead_hours": (1, 168),
    "least_surprises": (2, 1_000),
    "half_life_minutes": (1, 100_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFeatures:
    """How the columns are made; every number is whole.

    Attributes:
        impact: least impact of an event whose distance and surprise count, "low", "medium" or "high".
        cap_minutes: distances and ages beyond this are this; 1 to 10080.
        window_minutes: half-width of "around a high-impact event"; 1 to 1440.
        ahead_hours: how far ahead high-impact events are counted; 1 to 168.
        least_surprises: past surprises of a title before one is scaled by their spread; 2 to 1000.
        half_life_minutes: after this the last surprise weighs half; 1 to 100000.
    """

    impact: str = "medium"
    cap_minutes: int = 1_440
    window_minutes: int = 30
    ahead_hours: int = 24
    least_surprises: int = 8
    half_life_minutes: int = 240

    def __post_init__(self) -> None:
        at_least(self.impact)
        for field in fields(self):
            if field.name == "impact":
                continue
            value, (low, high) = getattr(self, field.name), _BOUNDS[field.name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise BadInput(f"events {field.name} must be a whole number from {low} to {high}, was {value!r}")


def event_columns(
    known_utc: Times, events: pl.DataFrame, currencies: Sequence[str], options: EventFeatures | None = None
) -> Columns:
    """Return the calendar as columns; each value reads events announced, and outcomes released, by its row's time.

    Where no event of either currency is known for the coming week, the calendar itself is unknown and the columns of
    the schedule are NaN. A surprise says how far the outcome lay from the forecast, in standard deviations of the
    surprises of the same title before it; which way that moves a price is left to the model. Of outcomes released
    together the largest surprise stands.

    Args:
        known_utc: (n,) times at which rows are known (bar closes), in any order.
        events: every revision that could matter, of `domain.events.EVENT_SCHEMA`; others are ignored.
        currencies: base and quote of the pair.

    Returns:
        Columns (n,): event_next_minutes, event_since_minutes (capped), event_near_high (0 or 1), event_high_ahead
        (a count), and for base and quote event_surprise_* (decayed) and event_surprise_age_* (minutes, capped), NaN
        before the first surprise.

    Raises:
        BadInput: a time is missing.
    """
    chosen = options or EventFeatures()
    known = _microseconds(known_utc)
    relevant = stretches(events, currencies, at_least(chosen.impact))
    high = stretches(events, currencies, ("high",))
    cap, window = chosen.cap_minutes * MINUTE, chosen.window_minutes * MINUTE
    ahead = chosen.ahead_hours * 60 * MINUTE
    schedule = {
        "event_next_minutes": _minutes(_next(known, relevant, cap), cap),
        "event_since_minutes": _minutes(_since(known, relevant, cap), cap),
        "event_near_high": around(known, high, window, window).astype(np.float64),
        "event_high_ahead": _covering(known, high, high.scheduled - ahead, high.scheduled).astype(np.float64),
    }
    unknown = unknown_week(known, stretches(events, currencies, None))
    columns: Columns = {name: np.where(unknown, np.nan, values) for name, values in schedule.items()}
    for place, currency in zip(("base", "quote"), currencies, strict=True):
        columns |= _surprise_columns(known, events, currency, place, chosen)
    return columns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretches:
    """From when until when each revision of a schedule was known to stand; microseconds since 1970, UTC.

    Attributes:
        scheduled: (m,) increasing.
        announced, until: (m,) the revision holds in [announced, until).
    """

    scheduled: Ints
    announced: Ints
    until: Ints


def stretches(events: pl.DataFrame, currencies: Sequence[str], impacts: Sequence[str] | None) -> Stretches:
    """Return when the events of some currencies (and those of ALL) were known to stand, of some impacts or of any."""
    until = pl.col("announced_utc").shift(-1).over("event_id")
    standing = (
        events.sort("event_id", "revision")
        .with_columns(until_utc=until)
        .filter(
            pl.col("timed") & ~pl.col("cancelled"),
            pl.col("currency").is_in([*currencies, EVERY]),
            pl.lit(True) if impacts is None else pl.col("impact").is_in(list(impacts)),
        )
        .sort("scheduled_utc", "event_id", "revision")
    )
    return Stretches(
        scheduled=_physical(standing["scheduled_utc"]),
        announced=_physical(standing["announced_utc"]),
        until=_physical(standing["until_utc"].to_physical().fill_null(_NEVER)),
    )


def around(known: Ints, events: Stretches, before: int, after: int) -> Bools:
    """Return where a known event lies at most `after` microseconds back or `before` ahead, both ends included."""
    return np.asarray(_covering(known, events, events.scheduled - before, events.scheduled + after + 1) > 0)


def unknown_week(known: Ints, events: Stretches) -> Bools:
    """Return where no event at all is known for the seven days to come."""
    return np.asarray(_covering(known, events, events.scheduled - WEEK, events.scheduled) == 0)


def _covering(known: Ints, events: Stretches, start: Ints, stop: Ints) -> Ints:
    """Return how many events' spans [start, stop) cover each time while the event is known to stand."""
    first, last = np.maximum(start, events.announced), np.minimum(stop, events.until)
    real = first < last
    opened = np.searchsorted(np.sort(first[real]), known, side="right")
    closed = np.searchsorted(np.sort(last[real]), known, side="right")
    return (opened - closed).astype(np.int64)


def _next(known: Ints, events: Stretches, cap: int) -> Ints:
    """Return the distance to the nearest known event ahead, `cap` where none is that near."""
    start, stop = np.maximum(events.scheduled - cap, events.announced), np.minimum(events.scheduled, events.until)
    nearest = _painted(known, start[::-1], stop[::-1], events.scheduled[::-1])
    return np.where(nearest == _NEVER, cap, nearest - known)


def _since(known: Ints, events: Stretches, cap: int) -> Ints:
    """Return the distance to the newest event that took place as far as was known, `cap` where none is that near."""
    start = np.maximum(events.scheduled, events.announced)
    newest = _painted(known, start, np.minimum(events.scheduled + cap, events.until), events.scheduled)
    return np.where(newest == _NEVER, cap, known - newest)


def _painted(known: Ints, start: Ints, stop: Ints, value: Ints) -> Ints:
    """Return at each time the value of the last of the spans [start, stop) that cover it; _NEVER where none does."""
    real = start < stop
    start, stop, value = start[real], stop[real], value[real]
    edges = np.unique(np.concatenate((start, stop)))
    cells = np.full(edges.size + 1, _NEVER, dtype=np.int64)
    first, last = np.searchsorted(edges, start) + 1, np.searchsorted(edges, stop) + 1
    for a, b, shown in zip(first.tolist(), last.tolist(), value.tolist()):  # over events, never over bars
        cells[a:b] = shown
    return cells[np.searchsorted(edges, known, side="right")]


def _surprise_columns(known: Ints, events: pl.DataFrame, currency: str, place: str, options: EventFeatures) -> Columns:
    surprises = scaled_surprises(events, currency, options)
    released = _physical(surprises["known_utc"])
    row = np.searchsorted(released, known, side="right") - 1
    seen = row >= 0
    if not released.size:
        nothing = np.full(known.size, np.nan)
        return {f"event_surprise_{place}": nothing, f"event_surprise_age_{place}": nothing.copy()}
    at = np.maximum(row, 0)
    age = np.maximum(known - released[at], 0) / MINUTE
    decayed = surprises["surprise"].to_numpy()[at] * 0.5 ** (age / options.half_life_minutes)
    return {
        f"event_surprise_{place}": np.where(seen, decayed, np.nan),
        f"event_surprise_age_{place}": np.where(seen, np.minimum(age, options.cap_minutes), np.nan),
    }


def scaled_surprises(events: pl.DataFrame, currency: str, options: EventFeatures) -> pl.DataFrame:
    """Return `known_utc, surprise`, the largest one per moment, increasing in time.

    An outcome is the first one published of each event, with the forecast that stood then; later corrections do not
    count. It is scaled by the standard deviation of the surprises of its title that were known strictly before it, and
    cut off at ten of them; where those were all alike it has no scale and is left out.
    """
    title = pl.col("title").str.to_lowercase().str.strip_chars()
    gap, earlier = pl.col("gap"), pl.col("n")
    variance = (pl.col("squares") - pl.col("total") ** 2 / earlier) / (earlier - 1)
    spread = pl.when(variance > _ROUNDING * pl.col("squares")).then(variance).sqrt()
    return (
        events.filter(
            pl.col("currency") == currency,
            ~pl.col("cancelled"),
            pl.col("impact").is_in(list(at_least(options.impact))),
            pl.col("released_utc").is_not_null() & pl.col("actual_text").is_not_null(),
        )
        .sort("event_id", "revision")
        .unique("event_id", keep="first", maintain_order=True)
        .select(
            "event_id",
            "revision",
            "scheduled_utc",
            title=title,
            gap=pl.col("actual") - pl.col("forecast"),
            known_utc=pl.max_horizontal("released_utc", "announced_utc"),
        )
        .drop_nulls("gap")
        .sort("title", "known_utc", "scheduled_utc", "event_id")
        .with_columns(
            n=pl.int_range(pl.len()).over("title").cast(pl.Float64),
            total=gap.cum_sum().over("title") - gap,
            squares=(gap**2).cum_sum().over("title") - gap**2,
        )
        .with_columns(pl.col("n", "total", "squares").first().over("title", "known_utc"))
        .filter(earlier >= options.least_surprises)
        .select("known_utc", "title", surprise=gap / spread)
        .drop_nulls("surprise")
        .with_columns(pl.col("surprise").clip(-_LARGEST, _LARGEST))
        .sort("known_utc", pl.col("surprise").abs(), "title")
        .unique("known_utc", keep="last", maintain_order=True)
        .select("known_utc", "surprise")
    )


def _microseconds(times: Times) -> Ints:
    values = np.asarray(times, dtype="datetime64[us]")
    if np.isnat(values).any():
        raise BadInput("the calendar was asked for a time that is missing")
    return values.astype(np.int64)


def _physical(times: pl.Series) -> Ints:
    return times.to_physical().to_numpy().astype(np.int64)


def _minutes(distance: Ints, cap: int) -> Floats:
    return np.minimum(distance, cap) / MINUTE
