"""The warehouse's schema: brought up to date by Alembic, whose versions are in `migrations`."""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from hourglass.errors import Misconfigured

log = logging.getLogger(__name__)

#: A name of its own: a database may have other applications in it, with versions of theirs.
VERSION_TABLE = "hourglass_schema_version"
#: Any number that no other program takes.
_LOCK = 0x686F7572


def bring_up_to_date(connection: sa.Connection) -> None:
    """Make the schema what this program needs, all or nothing, within the transaction that
    `connection` begins here: processes that try at once do it in turn, and all but one find it
    done. What is up to date is only read. Raises Misconfigured, SQLAlchemyError.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    else:
        # Readers and the writer do not wait for one another; the file remembers it.
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # what it did is said below
    config = _config(connection)
    versions = ScriptDirectory.from_config(config)
    found = version_of(connection)
    if found == versions.get_current_head():
        return
    if found is not None and found not in {each.revision for each in versions.walk_revisions()}:
        raise Misconfigured(
            f"the warehouse's schema is of a newer Hourglass (version {found}): run that one"
        )
    command.upgrade(config, "head")
    log.info("the warehouse's schema is version %s now", versions.get_current_head())


def version_of(connection: sa.Connection) -> str | None:
    """The version of the schema that is there; None if there is none."""
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def newest_version() -> str | None:
    """The version that this program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "averages_consumer:migrations")
    return config
