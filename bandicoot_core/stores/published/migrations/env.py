"""What Alembic runs to apply migrations: over the connection that upgrade.py hands in, within its transaction."""

from alembic import context

from bandicoot_core.stores.published.tables import SCHEMA

context.configure(connection=context.config.attributes["connection"], version_table_schema=SCHEMA)
with context.begin_transaction():
    context.run_migrations()
