"""Record settings, training, scores, searches and deployments.

The first schema: it touches no existing row. Downgrading drops every record.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows itself for INTEGER alone


def upgrade() -> None:
    op.create_table(
        "instrument",
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("base", sa.String(length=3), nullable=False),
        sa.Column("quote", sa.String(length=3), nullable=False),
        sa.Column("pip", sa.Double(), nullable=False),
        sa.Column("digits", sa.Integer(), nullable=False),
        sa.Column("lot_units", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", name="pk_instrument"),
    )
    op.create_table(
        "strategy_config",
        sa.Column("hash12", sa.String(length=12), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("first_seen_utc", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("hash12", name="pk_strategy_config"),
    )
    op.create_table(
        "deployment",
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("config_hash", sa.String(length=12), nullable=False),
        sa.Column("costs", sa.JSON(), nullable=False),
        sa.Column("approved_by", sa.String(length=200), nullable=False),
        sa.Column("approved_utc", UTC_TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("allow_no_skill", sa.Boolean(), nullable=False),
        sa.Column("skill", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("ended_utc", UTC_TIME, nullable=True),
        sa.ForeignKeyConstraint(["config_hash"], ["strategy_config.hash12"], name="fk_deployment_strategy_config"),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_deployment_instrument"),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_deployment"),
    )
    op.create_index(
        "uq_deployment_active_symbol",
        "deployment",
        ["symbol"],
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    )
    op.create_table(
        "ensemble_weight",
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("regime", sa.String(length=40), nullable=False),
        sa.Column("horizon_bars", sa.Integer(), nullable=False),
        sa.Column("family", sa.String(length=40), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint("weight >= 0 AND weight <= 1", name=op.f("ck_ensemble_weight_weight")),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_ensemble_weight_instrument"),
        sa.PrimaryKeyConstraint(
            "symbol", "timeframe", "bundle_hash", "regime", "horizon_bars", "family", name="pk_ensemble_weight"
        ),
    )
    op.create_table(
        "optimisation_study",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=40), nullable=False),
        sa.Column("data_version", sa.String(length=80), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("costs", sa.JSON(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_optimisation_study_instrument"),
        sa.PrimaryKeyConstraint("id", name="pk_optimisation_study"),
    )
    op.create_index(
        "ix_optimisation_study_symbol_timeframe", "optimisation_study", ["symbol", "timeframe"], unique=False
    )
    op.create_table(
        "performance_metric",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("family", sa.String(length=40), nullable=False),
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("horizon_bars", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("crps", sa.Double(), nullable=True),
        sa.Column("crps_reference", sa.Double(), nullable=True),
        sa.Column("skill", sa.Double(), nullable=True),
        sa.Column("skill_low", sa.Double(), nullable=True),
        sa.Column("skill_high", sa.Double(), nullable=True),
        sa.Column("dm_p", sa.Double(), nullable=True),
        sa.Column("coverage_50", sa.Double(), nullable=True),
        sa.Column("coverage_80", sa.Double(), nullable=True),
        sa.Column("coverage_90", sa.Double(), nullable=True),
        sa.Column("coverage_95", sa.Double(), nullable=True),
        sa.Column("width_90", sa.Double(), nullable=True),
        sa.Column("direction", sa.Double(), nullable=True),
        sa.Column("rmse", sa.Double(), nullable=True),
        sa.Column("mae", sa.Double(), nullable=True),
        sa.Column("mape", sa.Double(), nullable=True),
        sa.Column("sharpe", sa.Double(), nullable=True),
        sa.Column("win_rate", sa.Double(), nullable=True),
        sa.Column("profit_factor", sa.Double(), nullable=True),
        sa.Column("max_drawdown", sa.Double(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint("source IN ('evaluation', 'live', 'backtest')", name=op.f("ck_performance_metric_source")),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_performance_metric_instrument"),
        sa.PrimaryKeyConstraint("id", name="pk_performance_metric"),
    )
    op.create_index(
        "ix_performance_metric_bundle",
        "performance_metric",
        ["symbol", "timeframe", "family", "source", "bundle_hash"],
        unique=False,
    )
    op.create_table(
        "symbol_settings",
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("hash12", sa.String(length=12), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("saved_by", sa.String(length=200), nullable=False),
        sa.Column("saved_utc", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_symbol_settings_instrument"),
        sa.PrimaryKeyConstraint("symbol", "version", name="pk_symbol_settings"),
    )
    op.create_table(
        "training_run",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("family", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("started_utc", UTC_TIME, nullable=False),
        sa.Column("finished_utc", UTC_TIME, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("data_version", sa.String(length=80), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("hyperparameters", sa.JSON(), nullable=False),
        sa.Column("hardware", sa.JSON(), nullable=False),
        sa.Column("run_key", sa.String(length=80), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'completed', 'failed', 'interrupted')", name=op.f("ck_training_run_state")
        ),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_training_run_instrument"),
        sa.PrimaryKeyConstraint("id", name="pk_training_run"),
    )
    op.create_index(
        "ix_training_run_symbol_timeframe_family", "training_run", ["symbol", "timeframe", "family"], unique=False
    )
    op.create_table(
        "model_version",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("family", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("parent_hash", sa.String(length=64), nullable=True),
        sa.Column("data_version", sa.String(length=80), nullable=False),
        sa.Column("training_run_id", BIG_ID, nullable=True),
        sa.Column("mlflow_run_id", sa.String(length=64), nullable=True),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("created_utc", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_model_version_instrument"),
        sa.ForeignKeyConstraint(["training_run_id"], ["training_run.id"], name="fk_model_version_training_run"),
        sa.PrimaryKeyConstraint("id", name="pk_model_version"),
        sa.UniqueConstraint("symbol", "timeframe", "family", "kind", "bundle_hash", name="uq_model_version_bundle"),
    )
    op.create_table(
        "optimisation_trial",
        sa.Column("study_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("config_hash", sa.String(length=12), nullable=False),
        sa.Column("in_sample", sa.JSON(), nullable=False),
        sa.Column("out_of_sample", sa.JSON(), nullable=True),
        sa.Column("on_front", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["config_hash"], ["strategy_config.hash12"], name="fk_optimisation_trial_strategy_config"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["optimisation_study.id"], name="fk_optimisation_trial_optimisation_study"
        ),
        sa.PrimaryKeyConstraint("study_id", "number", name="pk_optimisation_trial"),
    )


def downgrade() -> None:
    op.drop_table("optimisation_trial")
    op.drop_table("model_version")
    op.drop_table("training_run")
    op.drop_table("symbol_settings")
    op.drop_table("performance_metric")
    op.drop_table("optimisation_study")
    op.drop_table("ensemble_weight")
    op.drop_table("deployment")
    op.drop_table("strategy_config")
    op.drop_table("instrument")
