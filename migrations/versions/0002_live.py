"""Journal the live loop: forecasts, decisions, intents, events, fills, leases, and the paper venue's own books.

Order events, fills, decisions and changes of the trading state are history: triggers refuse to change or delete them,
and intents cannot be deleted. Touches no existing row. Downgrading drops the journal.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows itself for INTEGER alone
EXACT = sa.Numeric(24, 10).with_variant(sa.String(40), "sqlite")  # SQLite has no decimal type: text keeps every digit

KNOWN_STATE = (
    "state IN ('INTENT', 'SENDING', 'ACKED', 'PARTIAL', 'FILLED', 'CANCELLED', 'REJECTED', 'EXPIRED', 'UNKNOWN', "
    "'NEVER_ARRIVED')"
)
APPEND_ONLY = ("order_event", "fill", "live_decision", "trading_state", "paper_deal")
NEVER_DELETED = ("order_intent",)


def upgrade() -> None:
    op.create_table(
        "live_lease",
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_utc", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_live_lease"),
    )
    op.create_table(
        "trading_state",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("scope", sa.String(length=60), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.Column("changed_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint("state IN ('ACTIVE', 'REDUCING', 'HALTED')", name=op.f("ck_trading_state_state")),
        sa.PrimaryKeyConstraint("id", name="pk_trading_state"),
    )
    op.create_index("ix_trading_state_scope_id", "trading_state", ["scope", "id"], unique=False)
    op.create_table(
        "paper_account",
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("balance", EXACT, nullable=False),
        sa.Column("last_bar_utc", UTC_TIME, nullable=True),
        sa.Column("last_close", sa.Double(), nullable=True),
        sa.Column("deals", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.String(length=4), nullable=True),
        sa.Column("lots", EXACT, nullable=True),
        sa.Column("entry_price", EXACT, nullable=True),
        sa.Column("opened_utc", UTC_TIME, nullable=True),
        sa.Column("stop_price", EXACT, nullable=True),
        sa.Column("take_profit_price", EXACT, nullable=True),
        sa.Column("opened_by", sa.String(length=50), nullable=True),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_paper_account_instrument"),
        sa.PrimaryKeyConstraint("account", name="pk_paper_account"),
    )
    op.create_table(
        "position",
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("side", sa.String(length=4), nullable=False),
        sa.Column("lots", EXACT, nullable=False),
        sa.Column("entry_price", EXACT, nullable=False),
        sa.Column("opened_utc", UTC_TIME, nullable=False),
        sa.Column("stop_price", EXACT, nullable=True),
        sa.Column("take_profit_price", EXACT, nullable=True),
        sa.CheckConstraint("side IN ('buy', 'sell')", name=op.f("ck_position_side")),
        sa.CheckConstraint("CAST(lots AS NUMERIC) > 0", name=op.f("ck_position_lots")),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_position_instrument"),
        sa.PrimaryKeyConstraint("account", "symbol", name="pk_position"),
    )
    op.create_table(
        "adherence_metric",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.Column("intents", sa.Integer(), nullable=False),
        sa.Column("filled", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("expired", sa.Integer(), nullable=False),
        sa.Column("fill_ratio", sa.Double(), nullable=True),
        sa.Column("rejection_rate", sa.Double(), nullable=True),
        sa.Column("slippage_mean_pips", sa.Double(), nullable=True),
        sa.Column("slippage_std_pips", sa.Double(), nullable=True),
        sa.Column("slippage_max_pips", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.deployment_id"], name="fk_adherence_metric_deployment"),
        sa.PrimaryKeyConstraint("id", name="pk_adherence_metric"),
    )
    op.create_index("ix_adherence_metric_deployment_id", "adherence_metric", ["deployment_id"], unique=False)
    op.create_table(
        "forecast",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("deployment_id", sa.String(length=40), nullable=True),
        sa.Column("bundle_hash", sa.String(length=64), nullable=False),
        sa.Column("family", sa.String(length=40), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("timeframe", sa.String(length=3), nullable=False),
        sa.Column("origin_utc", UTC_TIME, nullable=False),
        sa.Column("horizon_bars", sa.Integer(), nullable=False),
        sa.Column("q025", sa.Double(), nullable=False),
        sa.Column("q05", sa.Double(), nullable=False),
        sa.Column("q10", sa.Double(), nullable=False),
        sa.Column("q25", sa.Double(), nullable=False),
        sa.Column("q50", sa.Double(), nullable=False),
        sa.Column("q75", sa.Double(), nullable=False),
        sa.Column("q90", sa.Double(), nullable=False),
        sa.Column("q95", sa.Double(), nullable=False),
        sa.Column("q975", sa.Double(), nullable=False),
        sa.Column("scale", sa.Double(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("input_hash", sa.String(length=64), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.Column("realised_return", sa.Double(), nullable=True),
        sa.Column("matured_utc", UTC_TIME, nullable=True),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.deployment_id"], name="fk_forecast_deployment"),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_forecast_instrument"),
        sa.PrimaryKeyConstraint("id", name="pk_forecast"),
        sa.UniqueConstraint(
            "bundle_hash", "symbol", "timeframe", "origin_utc", "horizon_bars", name="uq_forecast_origin"
        ),
    )
    op.create_index(
        "ix_forecast_symbol_timeframe_matured_utc", "forecast", ["symbol", "timeframe", "matured_utc"], unique=False
    )
    op.create_table(
        "live_decision",
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("bar_close_utc", UTC_TIME, nullable=False),
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("side", sa.String(length=4), nullable=True),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("vetoes", sa.JSON(), nullable=False),
        sa.Column("family", sa.String(length=40), nullable=True),
        sa.Column("equity", EXACT, nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.deployment_id"], name="fk_live_decision_deployment"),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_live_decision_instrument"),
        sa.PrimaryKeyConstraint("deployment_id", "bar_close_utc", name="pk_live_decision"),
    )
    op.create_table(
        "order_intent",
        sa.Column("client_order_id", sa.String(length=50), nullable=False),
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("bar_close_utc", UTC_TIME, nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("side", sa.String(length=4), nullable=False),
        sa.Column("lots", EXACT, nullable=False),
        sa.Column("intended_price", EXACT, nullable=False),
        sa.Column("stop_price", EXACT, nullable=True),
        sa.Column("take_profit_price", EXACT, nullable=True),
        sa.Column("expires_utc", UTC_TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=14), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint("side IN ('buy', 'sell')", name=op.f("ck_order_intent_side")),
        sa.CheckConstraint(
            KNOWN_STATE,
            name=op.f("ck_order_intent_state"),
        ),
        sa.CheckConstraint("CAST(lots AS NUMERIC) > 0", name=op.f("ck_order_intent_lots")),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.deployment_id"], name="fk_order_intent_deployment"),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_order_intent_instrument"),
        sa.PrimaryKeyConstraint("client_order_id", name="pk_order_intent"),
    )
    op.create_index("ix_order_intent_account_state", "order_intent", ["account", "state"], unique=False)
    op.create_index("ix_order_intent_deployment_id", "order_intent", ["deployment_id"], unique=False)
    op.create_table(
        "paper_order",
        sa.Column("client_order_id", sa.String(length=50), nullable=False),
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("side", sa.String(length=4), nullable=False),
        sa.Column("lots", EXACT, nullable=False),
        sa.Column("stop_price", EXACT, nullable=True),
        sa.Column("take_profit_price", EXACT, nullable=True),
        sa.Column("after_bar_utc", UTC_TIME, nullable=False),
        sa.Column("state", sa.String(length=14), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            KNOWN_STATE,
            name=op.f("ck_paper_order_state"),
        ),
        sa.ForeignKeyConstraint(["account"], ["paper_account.account"], name="fk_paper_order_paper_account"),
        sa.PrimaryKeyConstraint("client_order_id", name="pk_paper_order"),
    )
    op.create_index("ix_paper_order_account_state", "paper_order", ["account", "state"], unique=False)
    op.create_table(
        "fill",
        sa.Column("fill_id", sa.String(length=80), nullable=False),
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("client_order_id", sa.String(length=50), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("side", sa.String(length=4), nullable=False),
        sa.Column("lots", EXACT, nullable=False),
        sa.Column("price", EXACT, nullable=False),
        sa.Column("commission", EXACT, nullable=False),
        sa.Column("filled_utc", UTC_TIME, nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint("side IN ('buy', 'sell')", name=op.f("ck_fill_side")),
        sa.CheckConstraint("CAST(lots AS NUMERIC) > 0", name=op.f("ck_fill_lots")),
        sa.ForeignKeyConstraint(["client_order_id"], ["order_intent.client_order_id"], name="fk_fill_order_intent"),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_fill_instrument"),
        sa.PrimaryKeyConstraint("fill_id", name="pk_fill"),
    )
    op.create_index("ix_fill_account_fill_id", "fill", ["account", "fill_id"], unique=False)
    op.create_index("ix_fill_client_order_id", "fill", ["client_order_id"], unique=False)
    op.create_table(
        "order_event",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("client_order_id", sa.String(length=50), nullable=False),
        sa.Column("state", sa.String(length=14), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), nullable=True),
        sa.Column("recorded_utc", UTC_TIME, nullable=False),
        sa.CheckConstraint(
            KNOWN_STATE,
            name=op.f("ck_order_event_state"),
        ),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["order_intent.client_order_id"], name="fk_order_event_order_intent"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_order_event"),
    )
    op.create_index("ix_order_event_client_order_id", "order_event", ["client_order_id"], unique=False)
    op.create_table(
        "paper_deal",
        sa.Column("fill_id", sa.String(length=80), nullable=False),
        sa.Column("account", sa.String(length=60), nullable=False),
        sa.Column("client_order_id", sa.String(length=50), nullable=False),
        sa.Column("symbol", sa.String(length=10), nullable=False),
        sa.Column("side", sa.String(length=4), nullable=False),
        sa.Column("lots", EXACT, nullable=False),
        sa.Column("price", EXACT, nullable=False),
        sa.Column("commission", EXACT, nullable=False),
        sa.Column("filled_utc", UTC_TIME, nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["paper_account.account"], name="fk_paper_deal_paper_account"),
        sa.ForeignKeyConstraint(["client_order_id"], ["paper_order.client_order_id"], name="fk_paper_deal_paper_order"),
        sa.ForeignKeyConstraint(["symbol"], ["instrument.symbol"], name="fk_paper_deal_instrument"),
        sa.PrimaryKeyConstraint("fill_id", name="pk_paper_deal"),
    )
    op.create_index("ix_paper_deal_account_fill_id", "paper_deal", ["account", "fill_id"], unique=False)
    for table in APPEND_ONLY:
        _refuse(table, "UPDATE")
        _refuse(table, "DELETE")
    for table in NEVER_DELETED:
        _refuse(table, "DELETE")


def downgrade() -> None:
    op.drop_table("paper_deal")
    op.drop_table("order_event")
    op.drop_table("fill")
    op.drop_table("paper_order")
    op.drop_table("order_intent")
    op.drop_table("live_decision")
    op.drop_table("forecast")
    op.drop_table("adherence_metric")
    op.drop_table("position")
    op.drop_table("paper_account")
    op.drop_table("trading_state")
    op.drop_table("live_lease")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")


def _refuse(table: str, change: str) -> None:
    name = f"{table}_refuses_{change.lower()}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {change} ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()")
