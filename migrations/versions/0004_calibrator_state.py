"""Keep the state of adaptive calibrators, and which calibrator made each live forecast.

A state is a version per step, none ever overwritten, so two processes cannot both step it and a forecast can be traced
to the state that made it. Forecasts stored before do not say what calibrated them: their new columns are null, and on
PostgreSQL adding them rewrites no row. Downgrading drops the states; live forecasting then begins again with the ones
in the bundles.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "calibrator_state",
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("calibrator", sa.String(length=80), nullable=False),
        sa.Column("as_of_utc", UTC_TIME, nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint("version >= 1", name=op.f("ck_calibrator_state_version")),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_calibrator_state_instrument"),
        sa.PrimaryKeyConstraint("symbol", "timeframe", "bundle_hash", "version", name="pk_calibrator_state"),
        sa.UniqueConstraint("symbol", "timeframe", "bundle_hash", "as_of_utc", name="uq_calibrator_state_as_of"),
    )
    op.add_column("forecast", sa.Column("calibrator", sa.String(length=80), nullable=True))
    op.add_column("forecast", sa.Column("calibrator_version", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("forecast", "calibrator_version")
    op.drop_column("forecast", "calibrator")
    op.drop_table("calibrator_state")
