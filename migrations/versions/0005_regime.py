"""Keep the market regime at each origin with its thresholds, so weights by regime can be traced afterwards.

Touches no existing row and locks no existing table. Downgrading drops the recorded regimes; they follow again from the
candles and the bundles.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "regime",
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("origin_utc", UTC_TIME, nullable=False),
        sa.Column("regime", sa.String(length=40), nullable=False),
        sa.Column("volatility_low", sa.Double(), nullable=False),
        sa.Column("volatility_high", sa.Double(), nullable=False),
        sa.Column("trend_band", sa.Double(), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint("volatility_low <= volatility_high", name=op.f("ck_regime_volatility")),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name=op.f("fk_regime_instrument")),
        sa.PrimaryKeyConstraint("symbol", "timeframe", "bundle_hash", "origin_utc", name=op.f("pk_regime")),
    )
    op.create_index("ix_regime_symbol_timeframe_origin_utc", "regime", ["symbol", "timeframe", "origin_utc"])


def downgrade() -> None:
    op.drop_table("regime")
