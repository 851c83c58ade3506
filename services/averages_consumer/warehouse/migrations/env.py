"""Alembic's environment: it uses the connection and the transaction of the caller."""

from alembic import context

from averages_consumer.warehouse.schema import VERSION_TABLE
from averages_consumer.warehouse.table import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
