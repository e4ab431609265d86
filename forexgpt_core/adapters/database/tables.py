"""Tables of settings, training, scores, searches and deployments; orders stand in `live_tables`."""

import sqlalchemy as sa
from sqlalchemy import Column, Index, String, Table, UniqueConstraint

from forexgpt_core.adapters.database.columns import BigId, UtcTime, metadata
from forexgpt_core.optimisation.studies import STATES as STUDY_STATES

SCORE_COLUMNS = (
    "crps", "crps_reference", "skill", "skill_low", "skill_high", "dm_p",
    "coverage_50", "coverage_80", "coverage_90", "coverage_95", "width_90",
    "direction", "rmse", "mae", "mape",
    "sharpe", "win_rate", "profit_factor", "max_drawdown",
)  # fmt: skip
RUN_STATES = ("running", "completed", "failed", "interrupted")
SCORE_SOURCES = ("evaluation", "live", "backtest")


def one_of(column: str, names: tuple[str, ...]) -> sa.CheckConstraint:
    """Return a constraint that a column holds one of these names."""
    listed = ", ".join(f"'{name}'" for name in names)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def _symbol() -> Column[str]:
    return Column("symbol", String(10), sa.ForeignKey("instrument.symbol"), nullable=False)


def _timeframe() -> Column[str]:
    return Column("timeframe", String(3), nullable=False)


instrument_table = Table(
    "instrument",
    metadata,
    Column("symbol", String(10), primary_key=True),
    Column("base", String(3), nullable=False),
    Column("quote", String(3), nullable=False),
    Column("pip", sa.Double, nullable=False),
    Column("digits", sa.Integer, nullable=False),
    Column("lot_units", sa.Integer, nullable=False),
)

symbol_settings_table = Table(
    "symbol_settings",
    metadata,
    _symbol(),
    Column("version", sa.Integer, nullable=False),
    Column("hash12", String(12), nullable=False),
    Column("document", sa.JSON, nullable=False),
    Column("saved_by", String(200), nullable=False),
    Column("saved_utc", UtcTime, nullable=False),
    sa.PrimaryKeyConstraint("symbol", "version"),
)

training_run_table = Table(
    "training_run",
    metadata,
    Column("id", BigId, primary_key=True),
    _symbol(),
    _timeframe(),
    Column("family", String(40), nullable=False),
    Column("state", String(12), nullable=False),
    Column("started_utc", UtcTime, nullable=False),
    Column("finished_utc", UtcTime),
    Column("seconds", sa.Double),
    Column("data_version", String(80), nullable=False),
    Column("seed", sa.BigInteger, nullable=False),
    Column("hyperparameters", sa.JSON, nullable=False),
    Column("hardware", sa.JSON, nullable=False),
    Column("run_key", String(80)),
    Column("error", sa.Text),
    one_of("state", RUN_STATES),
    Index("ix_training_run_symbol_timeframe_family", "symbol", "timeframe", "family"),
)

model_version_table = Table(
    "model_version",
    metadata,
    Column("id", BigId, primary_key=True),
    _symbol(),
    _timeframe(),
    Column("family", String(40), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("bundle_hash", String(64), nullable=False),
    Column("parent_hash", String(64)),
    Column("data_version", String(80), nullable=False),
    Column("training_run_id", BigId, sa.ForeignKey("training_run.id")),
    Column("mlflow_run_id", String(64)),
    Column("stage", String(20), nullable=False),
    Column("created_utc", UtcTime, nullable=False),
    UniqueConstraint("symbol", "timeframe", "family", "kind", "bundle_hash", name="uq_model_version_bundle"),
)

performance_metric_table = Table(
    "performance_metric",
    metadata,
    Column("id", BigId, primary_key=True),
    _symbol(),
    _timeframe(),
    Column("family", String(40), nullable=False),
    Column("bundle_hash", String(64), nullable=False),
    Column("source", String(12), nullable=False),
    Column("horizon_bars", sa.Integer, nullable=False),
    Column("day", sa.Date),
    Column("n", sa.Integer, nullable=False),
    *(Column(name, sa.Double) for name in SCORE_COLUMNS),
    Column("details", sa.JSON, nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    one_of("source", SCORE_SOURCES),
    Index("ix_performance_metric_bundle", "symbol", "timeframe", "family", "source", "bundle_hash"),
)

ensemble_weight_table = Table(
    "ensemble_weight",
    metadata,
    Column("bundle_hash", String(64), nullable=False),
    _symbol(),
    _timeframe(),
    Column("regime", String(40), nullable=False),
    Column("horizon_bars", sa.Integer, nullable=False),
    Column("family", String(40), nullable=False),
    Column("weight", sa.Double, nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    sa.PrimaryKeyConstraint("symbol", "timeframe", "bundle_hash", "regime", "horizon_bars", "family"),
    sa.CheckConstraint("weight >= 0 AND weight <= 1", name="weight"),
)

regime_table = Table(
    "regime",
    metadata,
    _symbol(),
    _timeframe(),
    Column("bundle_hash", String(64), nullable=False),
    Column("origin_utc", UtcTime, nullable=False),
    Column("regime", String(40), nullable=False),
    Column("volatility_low", sa.Double, nullable=False),
    Column("volatility_high", sa.Double, nullable=False),
    Column("trend_band", sa.Double, nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    sa.PrimaryKeyConstraint("symbol", "timeframe", "bundle_hash", "origin_utc"),
    sa.CheckConstraint("volatility_low <= volatility_high", name="volatility"),
    Index("ix_regime_symbol_timeframe_origin_utc", "symbol", "timeframe", "origin_utc"),
)

strategy_config_table = Table(
    "strategy_config",
    metadata,
    Column("hash12", String(12), primary_key=True),
    Column("document", sa.JSON, nullable=False),
    Column("first_seen_utc", UtcTime, nullable=False),
)

optimisation_study_table = Table(
    "optimisation_study",
    metadata,
    Column("id", BigId, primary_key=True),
    _symbol(),
    _timeframe(),
    Column("bundle_hash", String(64), nullable=False),
    Column("method", String(40), nullable=False),
    Column("data_version", String(80), nullable=False),
    Column("seed", sa.BigInteger, nullable=False),
    Column("costs", sa.JSON, nullable=False),
    Column("details", sa.JSON, nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    Column("key", String(64)),
    Column("identity", sa.JSON(none_as_null=True)),
    Column("state", String(12), nullable=False, server_default="finished"),
    Column("error", sa.Text),
    Column("started_utc", UtcTime),
    Column("finished_utc", UtcTime),
    one_of("state", STUDY_STATES),
    Index("ix_optimisation_study_symbol_timeframe", "symbol", "timeframe"),
    Index("uq_optimisation_study_key", "key", unique=True),
)

optimisation_trial_table = Table(
    "optimisation_trial",
    metadata,
    Column("study_id", BigId, sa.ForeignKey("optimisation_study.id"), nullable=False),
    Column("number", sa.Integer, nullable=False),
    Column("config_hash", String(12), sa.ForeignKey("strategy_config.hash12"), nullable=False),
    Column("in_sample", sa.JSON(none_as_null=True)),
    Column("out_of_sample", sa.JSON(none_as_null=True)),
    Column("on_front", sa.Boolean, nullable=False),
    Column("front_place", sa.Integer),
    Column("attempts", sa.Integer, nullable=False),
    Column("worker", String(80)),
    Column("leased_until_utc", UtcTime),
    sa.PrimaryKeyConstraint("study_id", "config_hash"),
)

deployment_table = Table(
    "deployment",
    metadata,
    Column("deployment_id", String(40), primary_key=True),
    _symbol(),
    _timeframe(),
    Column("bundle_hash", String(64), nullable=False),
    Column("config_hash", String(12), sa.ForeignKey("strategy_config.hash12"), nullable=False),
    Column("costs", sa.JSON, nullable=False),
    Column("approved_by", String(200), nullable=False),
    Column("approved_utc", UtcTime, nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("allow_no_skill", sa.Boolean, nullable=False),
    Column("skill", sa.JSON(none_as_null=True)),
    Column("active", sa.Boolean, nullable=False),
    Column("ended_utc", UtcTime),
    Index(
        "uq_deployment_active_symbol",
        "symbol",
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    ),
)
