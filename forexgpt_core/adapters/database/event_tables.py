"""The table of the economic calendar: revisions of events, none ever changed."""

import sqlalchemy as sa
from sqlalchemy import Column, Index, String, Table

from forexgpt_core.adapters.database.columns import UtcTime, metadata
from forexgpt_core.adapters.database.tables import one_of
from forexgpt_core.domain.events import CURRENCIES, IMPACTS

economic_event_table = Table(
    "economic_event",
    metadata,
    Column("event_id", String(16), nullable=False),
    Column("revision", sa.Integer, nullable=False),
    Column("scheduled_utc", UtcTime, nullable=False),
    Column("timed", sa.Boolean, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("impact", String(7), nullable=False),
    Column("title", sa.Text, nullable=False),
    Column("cancelled", sa.Boolean, nullable=False),
    Column("unit", String(8), nullable=False),
    Column("actual", sa.Double),
    Column("forecast", sa.Double),
    Column("previous", sa.Double),
    Column("actual_text", sa.Text),
    Column("forecast_text", sa.Text),
    Column("previous_text", sa.Text),
    Column("announced_utc", UtcTime, nullable=False),
    Column("released_utc", UtcTime),
    Column("uid", sa.Text),
    Column("sequence", sa.Integer, nullable=False),
    Column("source", sa.Text, nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    sa.PrimaryKeyConstraint("event_id", "revision"),
    one_of("currency", CURRENCIES),
    one_of("impact", IMPACTS),
    sa.CheckConstraint("revision >= 1", name="revision"),
    sa.CheckConstraint("released_utc IS NULL OR released_utc >= scheduled_utc", name="released_utc"),
    Index("ix_economic_event_currency_scheduled_utc", "currency", "scheduled_utc"),
    Index("ix_economic_event_uid", "uid"),
)
