"""Keep training campaigns and every member they tried, so that one goes on where it stopped and trials are counted.

Touches no existing row and locks no existing table. Downgrading drops what campaigns recorded; forecasts they kept stay
in the lake.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)
STATES = "state IN ('planned', 'running', 'completed', 'failed')"


def upgrade() -> None:
    op.create_table(
        "campaign",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("hash12", sa.String(length=12), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("basis", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("run_key", sa.String(length=80), nullable=True),
        sa.Column("started_utc", UTC_TIME, nullable=False),
        sa.Column("finished_utc", UTC_TIME, nullable=True),
        sa.CheckConstraint(STATES, name=op.f("ck_campaign_state")),
        sa.PrimaryKeyConstraint("name", name="pk_campaign"),
    )
    op.create_table(
        "campaign_member",
        sa.Column("campaign", sa.String(length=32), nullable=False),
        sa.Column("hash12", sa.String(length=12), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("family", sa.String(length=40), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("result_hash", sa.String(length=16), nullable=True),
        sa.Column("fold_keys", sa.JSON(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("kept_for", sa.JSON(), nullable=True),
        sa.Column("started_utc", UTC_TIME, nullable=True),
        sa.Column("finished_utc", UTC_TIME, nullable=True),
        sa.CheckConstraint(STATES, name=op.f("ck_campaign_member_state")),
        sa.CheckConstraint(
            "state <> 'completed' OR result_hash IS NOT NULL", name=op.f("ck_campaign_member_result_hash")
        ),
        sa.PrimaryKeyConstraint("campaign", "hash12", name="pk_campaign_member"),
        sa.ForeignKeyConstraint(["campaign"], ["campaign.name"], name="fk_campaign_member_campaign"),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_campaign_member_instrument"),
    )
    op.create_index("ix_campaign_member_symbol", "campaign_member", ["symbol"], unique=False)


def downgrade() -> None:
    op.drop_table("campaign_member")
    op.drop_table("campaign")
