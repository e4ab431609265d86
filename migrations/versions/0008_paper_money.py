"""Let paper trading count as the backtest does: trailing stops, margin, swap, and prices to the last bit.

A price keeps sixteen decimals in place of ten, which from 0.5 on is the very number that was reckoned with; PostgreSQL
rewrites the journal's tables for them, SQLite keeps text and has room. Fills of earlier releases do not say what they
realised (NULL). A paper position that an earlier release opened ties up no margin, so the broker closes it when its
equity is gone and not before; until its next bar its account shows the balance as equity. Downgrading rounds to ten
decimals and drops the rest; a trailing stop then stays where it stands.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

EXACT = sa.Numeric(32, 16).with_variant(sa.String(40), "sqlite")  # SQLite has no decimal type: text keeps every digit
TRAILED = ("order_intent", "position", "paper_account", "paper_order")
REALISED = ("fill", "paper_deal")
RECKONED = ("equity", "margin", "swap")
DECIMALS = {
    "live_decision": ("equity",),
    "order_intent": ("lots", "intended_price", "stop_price", "take_profit_price"),
    "fill": ("lots", "price", "commission"),
    "position": ("lots", "entry_price", "stop_price", "take_profit_price"),
    "paper_account": ("balance", "lots", "entry_price", "stop_price", "take_profit_price"),
    "paper_order": ("lots", "stop_price", "take_profit_price"),
    "paper_deal": ("lots", "price", "commission"),
}


def upgrade() -> None:
    _keep_decimals(sa.Numeric(32, 16))
    for table in TRAILED:
        op.add_column(table, sa.Column("trail_distance", sa.Double(), nullable=True))
    for table in REALISED:
        for name in ("profit", "swap"):
            op.add_column(table, sa.Column(name, EXACT, nullable=True))
    for name in RECKONED:
        op.add_column("paper_account", sa.Column(name, EXACT, nullable=False, server_default="0"))
    op.execute("UPDATE paper_account SET equity = balance")
    op.drop_column("paper_account", "last_close")


def downgrade() -> None:
    op.add_column("paper_account", sa.Column("last_close", sa.Double(), nullable=True))
    for name in RECKONED:
        op.drop_column("paper_account", name)
    for table in REALISED:
        for name in ("profit", "swap"):
            op.drop_column(table, name)
    for table in TRAILED:
        op.drop_column(table, "trail_distance")
    _keep_decimals(sa.Numeric(24, 10))


def _keep_decimals(kind: sa.Numeric) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, names in DECIMALS.items():
        for name in names:
            op.alter_column(table, name, type_=kind)
