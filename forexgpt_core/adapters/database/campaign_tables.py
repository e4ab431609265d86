"""Tables of training campaigns: what was to be tried, and what came of each member."""

import sqlalchemy as sa
from sqlalchemy import Column, Index, String, Table

from forexgpt_core.adapters.database.columns import UtcTime, metadata
from forexgpt_core.adapters.database.tables import one_of
from forexgpt_core.optimisation.campaign_records import STATES

campaign_table = Table(
    "campaign",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("hash12", String(12), nullable=False),
    Column("document", sa.JSON, nullable=False),
    Column("basis", sa.JSON, nullable=False),
    Column("state", String(12), nullable=False),
    Column("details", sa.JSON, nullable=False),
    Column("error", sa.Text),
    Column("run_key", String(80)),
    Column("started_utc", UtcTime, nullable=False),
    Column("finished_utc", UtcTime),
    one_of("state", STATES),
)

campaign_member_table = Table(
    "campaign_member",
    metadata,
    Column("campaign", String(32), sa.ForeignKey("campaign.name"), nullable=False),
    Column("hash12", String(12), nullable=False),
    Column("number", sa.Integer, nullable=False),
    Column("symbol", String(10), sa.ForeignKey("instrument.symbol"), nullable=False),
    Column("timeframe", String(3), nullable=False),
    Column("family", String(40), nullable=False),
    Column("document", sa.JSON, nullable=False),
    Column("state", String(12), nullable=False),
    Column("error", sa.Text),
    Column("result_hash", String(16)),
    Column("fold_keys", sa.JSON, nullable=False),
    Column("rows", sa.Integer),
    Column("scores", sa.JSON, nullable=False),
    Column("kept_for", sa.JSON(none_as_null=True)),
    Column("started_utc", UtcTime),
    Column("finished_utc", UtcTime),
    sa.PrimaryKeyConstraint("campaign", "hash12"),
    one_of("state", STATES),
    sa.CheckConstraint("state <> 'completed' OR result_hash IS NOT NULL", name="result_hash"),
    Index("ix_campaign_member_symbol", "symbol"),
)
