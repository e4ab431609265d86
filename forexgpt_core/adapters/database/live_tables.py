"""Tables of the live loop: forecasts, decisions, the order journal, and the paper venue's own books."""

import sqlalchemy as sa
from sqlalchemy import Column, Index, String, Table, UniqueConstraint

from forexgpt_core.adapters.database.columns import BigId, Exact, UtcTime, metadata
from forexgpt_core.adapters.database.tables import one_of
from forexgpt_core.domain.orders import OrderState, Side, TradingState

QUANTILE_COLUMNS = ("q025", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q975")
_SIDES = tuple(side.value for side in Side)
_STATES = tuple(state.value for state in OrderState)


def _symbol() -> Column[str]:
    return Column("symbol", String(10), sa.ForeignKey("instrument.symbol"), nullable=False)


def _deployment(*, nullable: bool = False) -> Column[str]:
    return Column("deployment_id", String(40), sa.ForeignKey("deployment.deployment_id"), nullable=nullable)


def _positive_lots() -> sa.CheckConstraint:
    return sa.CheckConstraint("CAST(lots AS NUMERIC) > 0", name="lots")  # lots are text on SQLite


forecast_table = Table(
    "forecast",
    metadata,
    Column("id", BigId, primary_key=True),
    _deployment(nullable=True),
    Column("bundle_hash", String(64), nullable=False),
    Column("family", String(40), nullable=False),
    _symbol(),
    Column("timeframe", String(3), nullable=False),
    Column("origin_utc", UtcTime, nullable=False),
    Column("horizon_bars", sa.Integer, nullable=False),
    *(Column(name, sa.Double, nullable=False) for name in QUANTILE_COLUMNS),
    Column("scale", sa.Double, nullable=False),
    Column("latency_ms", sa.Double, nullable=False),
    Column("input_hash", String(64), nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    Column("realised_return", sa.Double),
    Column("matured_utc", UtcTime),
    Column("calibrator", String(80)),
    Column("calibrator_version", sa.BigInteger),
    UniqueConstraint("bundle_hash", "symbol", "timeframe", "origin_utc", "horizon_bars", name="uq_forecast_origin"),
    Index("ix_forecast_symbol_timeframe_matured_utc", "symbol", "timeframe", "matured_utc"),
)

calibrator_state_table = Table(
    "calibrator_state",
    metadata,
    _symbol(),
    Column("timeframe", String(3), nullable=False),
    Column("bundle_hash", String(64), nullable=False),
    Column("version", sa.BigInteger, nullable=False),
    Column("calibrator", String(80), nullable=False),
    Column("as_of_utc", UtcTime, nullable=False),
    Column("document", sa.JSON, nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    sa.PrimaryKeyConstraint("symbol", "timeframe", "bundle_hash", "version"),
    UniqueConstraint("symbol", "timeframe", "bundle_hash", "as_of_utc", name="uq_calibrator_state_as_of"),
    sa.CheckConstraint("version >= 1", name="version"),
)

live_decision_table = Table(
    "live_decision",
    metadata,
    _deployment(),
    Column("bar_close_utc", UtcTime, nullable=False),
    Column("account", String(60), nullable=False),
    _symbol(),
    Column("action", String(10), nullable=False),
    Column("side", String(4)),
    Column("probability", sa.Double),
    Column("reason", sa.Text, nullable=False),
    Column("vetoes", sa.JSON, nullable=False),
    Column("family", String(40)),
    Column("equity", Exact, nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    sa.PrimaryKeyConstraint("deployment_id", "bar_close_utc"),
)

order_intent_table = Table(
    "order_intent",
    metadata,
    Column("client_order_id", String(50), primary_key=True),
    Column("account", String(60), nullable=False),
    _deployment(),
    _symbol(),
    Column("bar_close_utc", UtcTime, nullable=False),
    Column("action", String(10), nullable=False),
    Column("side", String(4), nullable=False),
    Column("lots", Exact, nullable=False),
    Column("intended_price", Exact, nullable=False),
    Column("stop_price", Exact),
    Column("take_profit_price", Exact),
    Column("expires_utc", UtcTime, nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("state", String(14), nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    Column("trail_distance", sa.Double),
    one_of("side", _SIDES),
    one_of("state", _STATES),
    _positive_lots(),
    Index("ix_order_intent_account_state", "account", "state"),
    Index("ix_order_intent_deployment_id", "deployment_id"),
)

order_event_table = Table(
    "order_event",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("client_order_id", String(50), sa.ForeignKey("order_intent.client_order_id"), nullable=False),
    Column("state", String(14), nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("lease_epoch", sa.BigInteger),
    Column("recorded_utc", UtcTime, nullable=False),
    one_of("state", _STATES),
    Index("ix_order_event_client_order_id", "client_order_id"),
)

fill_table = Table(
    "fill",
    metadata,
    Column("fill_id", String(80), primary_key=True),
    Column("account", String(60), nullable=False),
    Column("client_order_id", String(50), sa.ForeignKey("order_intent.client_order_id"), nullable=False),
    _symbol(),
    Column("side", String(4), nullable=False),
    Column("lots", Exact, nullable=False),
    Column("price", Exact, nullable=False),
    Column("commission", Exact, nullable=False),
    Column("filled_utc", UtcTime, nullable=False),
    Column("reason", String(20), nullable=False),
    Column("recorded_utc", UtcTime, nullable=False),
    Column("profit", Exact),
    Column("swap", Exact),
    one_of("side", _SIDES),
    _positive_lots(),
    Index("ix_fill_account_fill_id", "account", "fill_id"),
    Index("ix_fill_client_order_id", "client_order_id"),
)

position_table = Table(
    "position",
    metadata,
    Column("account", String(60), nullable=False),
    _symbol(),
    Column("side", String(4), nullable=False),
    Column("lots", Exact, nullable=False),
    Column("entry_price", Exact, nullable=False),
    Column("opened_utc", UtcTime, nullable=False),
    Column("stop_price", Exact),
    Column("take_profit_price", Exact),
    Column("trail_distance", sa.Double),
    sa.PrimaryKeyConstraint("account", "symbol"),
    one_of("side", _SIDES),
    _positive_lots(),
)

live_lease_table = Table(
    "live_lease",
    metadata,
    Column("account", String(60), primary_key=True),
    Column("owner", String(120), nullable=False),
    Column("epoch", sa.BigInteger, nullable=False),
    Column("expires_utc", UtcTime, nullable=False),
)

trading_state_table = Table(
    "trading_state",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("scope", String(60), nullable=False),
    Column("state", String(10), nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("changed_by", String(200), nullable=False),
    Column("changed_utc", UtcTime, nullable=False),
    one_of("state", tuple(state.value for state in TradingState)),
    Index("ix_trading_state_scope_id", "scope", "id"),
)

adherence_metric_table = Table(
    "adherence_metric",
    metadata,
    Column("id", BigId, primary_key=True),
    _deployment(),
    Column("recorded_utc", UtcTime, nullable=False),
    Column("intents", sa.Integer, nullable=False),
    Column("filled", sa.Integer, nullable=False),
    Column("rejected", sa.Integer, nullable=False),
    Column("expired", sa.Integer, nullable=False),
    Column("fill_ratio", sa.Double),
    Column("rejection_rate", sa.Double),
    Column("slippage_mean_pips", sa.Double),
    Column("slippage_std_pips", sa.Double),
    Column("slippage_max_pips", sa.Double),
    Index("ix_adherence_metric_deployment_id", "deployment_id"),
)

paper_account_table = Table(
    "paper_account",
    metadata,
    Column("account", String(60), primary_key=True),
    _symbol(),
    Column("balance", Exact, nullable=False),
    Column("last_bar_utc", UtcTime),
    Column("deals", sa.BigInteger, nullable=False),
    Column("side", String(4)),
    Column("lots", Exact),
    Column("entry_price", Exact),
    Column("opened_utc", UtcTime),
    Column("stop_price", Exact),
    Column("take_profit_price", Exact),
    Column("opened_by", String(50)),
    Column("trail_distance", sa.Double),
    Column("equity", Exact, nullable=False),
    Column("margin", Exact, nullable=False),
    Column("swap", Exact, nullable=False),
)

paper_order_table = Table(
    "paper_order",
    metadata,
    Column("client_order_id", String(50), primary_key=True),
    Column("account", String(60), sa.ForeignKey("paper_account.account"), nullable=False),
    Column("action", String(10), nullable=False),
    Column("side", String(4), nullable=False),
    Column("lots", Exact, nullable=False),
    Column("stop_price", Exact),
    Column("take_profit_price", Exact),
    Column("after_bar_utc", UtcTime, nullable=False),
    Column("state", String(14), nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("trail_distance", sa.Double),
    one_of("state", _STATES),
    Index("ix_paper_order_account_state", "account", "state"),
)

paper_deal_table = Table(
    "paper_deal",
    metadata,
    Column("fill_id", String(80), primary_key=True),
    Column("account", String(60), sa.ForeignKey("paper_account.account"), nullable=False),
    Column("client_order_id", String(50), sa.ForeignKey("paper_order.client_order_id"), nullable=False),
    _symbol(),
    Column("side", String(4), nullable=False),
    Column("lots", Exact, nullable=False),
    Column("price", Exact, nullable=False),
    Column("commission", Exact, nullable=False),
    Column("filled_utc", UtcTime, nullable=False),
    Column("reason", String(20), nullable=False),
    Column("profit", Exact),
    Column("swap", Exact),
    Index("ix_paper_deal_account_fill_id", "account", "fill_id"),
)
