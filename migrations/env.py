"""Run migrations on the connection that `forexgpt_core.adapters.database.schema` hands over, in its transaction."""

from alembic import context

from forexgpt_core.adapters.database import campaign_tables, event_tables, live_tables, tables
from forexgpt_core.adapters.database.engine import VERSION_TABLE

assert tables.metadata is live_tables.metadata is event_tables.metadata is campaign_tables.metadata
connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run migrations with forexgpt_core.adapters.database.schema.upgrade(url), which takes the lock")
context.configure(
    connection=connection, target_metadata=tables.metadata, transactional_ddl=True, version_table=VERSION_TABLE
)
context.run_migrations()
