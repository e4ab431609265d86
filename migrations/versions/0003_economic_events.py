"""Keep the economic calendar as revisions of events, so it can be read as it was known at any moment.

Touches no existing row and locks no existing table. Downgrading drops the stored events; the files they came from can
be imported again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "economic_event",
        sa.Column("event_id", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("scheduled_utc", UTC_TIME, nullable=False),
        sa.Column("timed", sa.Boolean(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("impact", sa.String(length=7), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("unit", sa.String(length=8), nullable=False),
        sa.Column("actual", sa.Double(), nullable=True),
        sa.Column("forecast", sa.Double(), nullable=True),
        sa.Column("previous", sa.Double(), nullable=True),
        sa.Column("actual_text", sa.Text(), nullable=True),
        sa.Column("forecast_text", sa.Text(), nullable=True),
        sa.Column("previous_text", sa.Text(), nullable=True),
        sa.Column("announced_utc", UTC_TIME, nullable=False),
        sa.Column("released_utc", UTC_TIME, nullable=True),
        sa.Column("uid", sa.Text(), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint(
            "currency IN ('EUR', 'GBP', 'AUD', 'NZD', 'USD', 'CAD', 'CHF', 'JPY', 'ALL')",
            name=op.f("ck_economic_event_currency"),
        ),
        sa.CheckConstraint("impact IN ('low', 'medium', 'high', 'holiday')", name=op.f("ck_economic_event_impact")),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_economic_event_revision")),
        sa.CheckConstraint(
            "released_utc IS NULL OR released_utc >= scheduled_utc", name=op.f("ck_economic_event_released_utc")
        ),
        sa.PrimaryKeyConstraint("event_id", "revision", name="pk_economic_event"),
    )
    op.create_index(
        "ix_economic_event_currency_scheduled_utc", "economic_event", ["currency", "scheduled_utc"], unique=False
    )
    op.create_index("ix_economic_event_uid", "economic_event", ["uid"], unique=False)


def downgrade() -> None:
    op.drop_table("economic_event")
