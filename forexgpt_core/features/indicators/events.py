"""The economic calendar beside the pair; see `features.events` for what counts as known when."""

import polars as pl

from forexgpt_core.domain.clock import bar_close
from forexgpt_core.domain.events import EVENT_SCHEMA, RANKED, currencies_of
from forexgpt_core.features.events import EventFeatures, event_columns
from forexgpt_core.features.indicator import Bars, Columns, Family, Parameter, window

FAMILY = Family("events")
_IMPACT = Parameter(default=2, least=1, most=3)  # low, medium, high: the least that counts


def _columns(b: Bars, impact: int, **options: int) -> Columns:
    events = pl.DataFrame(schema=EVENT_SCHEMA) if b.events is None else b.events
    chosen = EventFeatures(impact=RANKED[impact - 1], **options)
    return event_columns(bar_close(b.ts_utc, b.timeframe), events, currencies_of(b.symbol), chosen)


@FAMILY.indicator(
    *("event_next_minutes", "event_since_minutes", "event_near_high", "event_high_ahead"),
    per_row=True,
    needs="events",
    impact=_IMPACT,
    cap_minutes=window(1_440, least=1, most=10_080),
    window_minutes=window(30, least=1, most=1_440),
    ahead_hours=window(24, least=1, most=168),
)
def event_schedule(b: Bars, impact: int, cap_minutes: int, window_minutes: int, ahead_hours: int) -> Columns:
    """Minutes to the next and since the last event, whether a high-impact one is near, and how many lie ahead."""
    return _columns(b, impact, cap_minutes=cap_minutes, window_minutes=window_minutes, ahead_hours=ahead_hours)


@FAMILY.indicator(
    *("event_surprise_base", "event_surprise_age_base", "event_surprise_quote", "event_surprise_age_quote"),
    per_row=True,
    needs="events",
    impact=_IMPACT,
    cap_minutes=window(1_440, least=1, most=10_080),
    least_surprises=window(8, least=2, most=1_000),
    half_life_minutes=window(240, least=1, most=100_000),
)
def event_surprise(b: Bars, impact: int, cap_minutes: int, least_surprises: int, half_life_minutes: int) -> Columns:
    """Last outcome less its forecast, in deviations of earlier ones of its title, decayed, and its age in minutes."""
    return _columns(
        b, impact, cap_minutes=cap_minutes, least_surprises=least_surprises, half_life_minutes=half_life_minutes
    )
