"""The schema goes up and down on both databases, equals the tables in code, and survives a crowd at the start."""

import subprocess
import sys
import time

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from forexgpt_core.adapters.database import live_tables, schema
from forexgpt_core.adapters.database.engine import VERSION_TABLE, open_database
from forexgpt_core.adapters.database.schema import current_revision, downgrade, newest_revision, upgrade
from forexgpt_core.domain.instruments import INSTRUMENTS
from forexgpt_core.errors import StoreError


def tables_of(url: str) -> set[str]:
    database = open_database(url)
    with database.read() as connection:
        names = set(sa.inspect(connection).get_table_names())
    database.close()
    return names - {VERSION_TABLE}


def test_up_down_up_leaves_the_newest_schema(database_url: str) -> None:
    upgrade(database_url)
    full = tables_of(database_url)
    assert full == set(live_tables.metadata.tables)
    downgrade(database_url, "0001")
    assert full - tables_of(database_url) >= {"order_intent", "fill", "forecast"}
    downgrade(database_url, "base")
    assert tables_of(database_url) == set()
    upgrade(database_url)
    assert tables_of(database_url) == full


def test_the_migrated_schema_equals_the_tables_in_code(database_url: str) -> None:
    upgrade(database_url)
    database = open_database(database_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": VERSION_TABLE})
        assert compare_metadata(context, live_tables.metadata) == []
    database.close()


def test_every_constraint_and_index_has_the_name_it_has_in_code(database_url: str) -> None:
    upgrade(database_url)
    database = open_database(database_url)
    with database.read() as connection:
        inspector = sa.inspect(connection)
        for table in live_tables.metadata.sorted_tables:
            found = {c["name"] for c in inspector.get_check_constraints(table.name)}
            found |= {c["name"] for c in inspector.get_foreign_keys(table.name)}
            found |= {c["name"] for c in inspector.get_unique_constraints(table.name)}
            found |= {i["name"] for i in inspector.get_indexes(table.name)}
            found |= {inspector.get_pk_constraint(table.name)["name"]}
            wanted = {sa.schema.conv(str(c.name)) for c in [*table.constraints, *table.indexes]}
            assert wanted <= found, table.name
            assert None not in found, table.name
    database.close()


def test_upgrading_twice_changes_nothing_and_every_pair_is_known(database_url: str) -> None:
    upgrade(database_url)
    upgrade(database_url)
    database = open_database(database_url)
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM instrument")).scalar_one() == len(INSTRUMENTS)
    assert current_revision(database) == newest_revision()
    database.close()


def test_history_cannot_be_rewritten(database_url: str) -> None:
    upgrade(database_url)
    database = open_database(database_url)
    with database.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO trading_state (scope, state, reason, changed_by, changed_utc) "
                "VALUES ('all', 'HALTED', 'test', 'me', '2018-01-01 00:00:00')"
            )
        )
    for change in ("UPDATE trading_state SET state = 'ACTIVE'", "DELETE FROM trading_state"):
        with pytest.raises(StoreError, match="append-only"), database.write() as connection:
            connection.execute(sa.text(change))
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT state FROM trading_state")).scalars().all() == ["HALTED"]
    database.close()


def test_a_schema_from_the_future_is_refused(database_url: str) -> None:
    upgrade(database_url)
    database = open_database(database_url)
    with database.write() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer than this ForexGPT"):
        upgrade(database_url)
    database.close()


def test_a_migration_that_fails_leaves_nothing_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(schema, "_seed_instruments", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        upgrade(database_url)
    assert tables_of(database_url) == set()


@pytest.mark.slow
def test_eight_processes_starting_at_once_all_come_up(database_url: str) -> None:
    script = (
        "import sys, time\n"
        "from forexgpt_core.adapters.database.schema import upgrade\n"
        "import alembic.command\n"
        "time.sleep(max(0.0, float(sys.argv[2]) - time.time()))\n"
        "upgrade(sys.argv[1])\n"
    )
    start = str(time.time() + 4)
    crowd = [
        subprocess.Popen([sys.executable, "-c", script, database_url, start], stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    errors = [process.communicate(timeout=60)[1] for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 8, errors
    assert "deployment" in tables_of(database_url)
