"""Paper accounts and fills of earlier releases go on: their numbers stay, and what nobody kept is not invented."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from forexgpt_core.adapters.database.columns import Exact
from forexgpt_core.adapters.database.engine import Database, open_database
from forexgpt_core.adapters.database.paper import DatabaseLedger
from forexgpt_core.adapters.database.schema import downgrade, upgrade
from forexgpt_core.domain.costs import Costs
from forexgpt_core.domain.orders import exact_price
from forexgpt_core.live.paper import PaperBroker

ACCOUNT, COSTS = "paper:old", Costs(spread_pips=0.0, slippage_pips=0.0, commission_per_lot=0.0, stop_out=0.5)
OLD = (
    "INSERT INTO paper_account (account, symbol, balance, last_bar_utc, last_close, deals, side, lots, entry_price,"
    " opened_utc, stop_price, take_profit_price, opened_by) VALUES ('paper:old', 'EURUSD', '1000.5',"
    " '2018-01-03 08:00:00', 1.2, 1, 'buy', '0.1', '1.2000123456', '2018-01-03 08:00:00', '1.19', '1.22', 'id')",
    "INSERT INTO paper_order (client_order_id, account, action, side, lots, stop_price, take_profit_price,"
    " after_bar_utc, state, reason) VALUES ('id', 'paper:old', 'enter', 'buy', '0.1', '1.19', '1.22',"
    " '2018-01-03 07:00:00', 'FILLED', '')",
    "INSERT INTO paper_deal (fill_id, account, client_order_id, symbol, side, lots, price, commission, filled_utc,"
    " reason) VALUES ('paper:old/00000001', 'paper:old', 'id', 'EURUSD', 'buy', '0.1', '1.2000123456', '0.35',"
    " '2018-01-03 08:00:00', 'market')",
)


def bars(*closes: float) -> pl.DataFrame:
    start = datetime(2018, 1, 3, 8, tzinfo=UTC)
    hours = [start + timedelta(hours=n) for n in range(len(closes))]
    times = pl.Series("ts_utc", hours, dtype=pl.Datetime("us", "UTC"))
    prices = {name: list(closes) for name in ("open", "high", "low", "close")}
    return pl.DataFrame({"ts_utc": times, **prices, "volume": [1.0] * len(closes)})


def kept(database: Database, table: str) -> Mapping[str, object]:
    with database.read() as connection:
        return dict(connection.execute(sa.text(f"SELECT * FROM {table}")).mappings().one())


def test_an_open_paper_account_survives_the_migration_both_ways(database_url: str) -> None:
    upgrade(database_url)
    downgrade(database_url, "0007")
    database = open_database(database_url)
    with database.write() as connection:
        for statement in OLD:
            connection.execute(sa.text(statement))
    before = kept(database, "paper_account")
    upgrade(database_url)
    venue = PaperBroker(DatabaseLedger(database), symbol="EURUSD", costs=COSTS, cash=1.0, account=ACCOUNT)
    view = venue.advance(bars(1.2), after_fill_id=None)
    assert (view.equity, view.used_margin) == (Decimal("1000.5"), 0)
    assert view.position is not None
    assert (view.position.entry_price, view.position.trail_distance) == (Decimal("1.2000123456"), None)
    assert [(fill.commission, fill.profit, fill.swap) for fill in view.fills] == [(Decimal("0.35"), None, None)]
    downgrade(database_url, "0007")
    assert kept(database, "paper_account") == {**before, "last_close": None}
    upgrade(database_url)
    view = venue.advance(bars(1.2, 1.201), after_fill_id=None)
    assert view.equity == Decimal("1000.5") + Decimal("9.876544")
    database.close()


@given(price=st.floats(0.5, 1e6))
def test_a_price_is_kept_to_the_last_bit(price: float) -> None:
    assert float(exact_price(price)) == price


def test_both_databases_give_prices_and_large_money_back_as_they_were(database_url: str) -> None:
    """A price that came back as another number would be another level."""
    table = sa.Table("probe", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("value", Exact))
    rng = np.random.default_rng(1)
    values = [exact_price(price) for price in np.exp(rng.uniform(np.log(0.5), np.log(3_000), 60))]
    values.append(Decimal("12345678901234.1234567890123456"))
    database = open_database(database_url)
    with database.write() as connection:
        table.create(connection)
        connection.execute(sa.insert(table), [{"id": n, "value": value} for n, value in enumerate(values)])
    with database.read() as connection:
        assert connection.execute(sa.select(table.c.value).order_by(table.c.id)).scalars().all() == values
    database.close()
