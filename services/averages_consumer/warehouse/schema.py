"""Migrates the warehouse's schema with Alembic; the versions are in `migrations`."""

from __future__ import annotations

import logging
import time

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from hourglass.errors import ConfigurationError

log = logging.getLogger(__name__)

#: Not Alembic's default name: other applications in the same database may use that.
VERSION_TABLE = "hourglass_schema_version"
#: Key of the advisory lock; any number that no other program uses.
_LOCK = 0x686F7572
#: One second in total, the time that other statements wait for a lock.
_WRITE_AHEAD_TRIES = 100
_WRITE_AHEAD_PAUSE_S = 0.01


def bring_up_to_date(connection: sa.Connection) -> None:
    """Create or migrate the schema in the transaction of `connection`.

    A lock serialises concurrent processes; all but the first then find the schema up to date and
    only read it. Raises ConfigurationError, SQLAlchemyError.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    else:
        _write_ahead(connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # the line below reports the migration
    config = _config(connection)
    versions = ScriptDirectory.from_config(config)
    found = version_of(connection)
    if found == versions.get_current_head():
        return
    if found is not None and found not in {each.revision for each in versions.walk_revisions()}:
        raise ConfigurationError(
            f"the warehouse has schema version {found} of a newer Hourglass: run that release"
        )
    command.upgrade(config, "head")
    log.info("migrated the warehouse's schema to version %s", versions.get_current_head())


def _write_ahead(connection: sa.Connection) -> None:
    """Switch an SQLite file to write-ahead logging, so that readers do not block the writer. The
    setting is stored in the file.

    The statement needs an exclusive lock and ignores the busy time-out, so it fails at once while
    another process reads or makes the same change; hence the retries.
    """
    for left in reversed(range(_WRITE_AHEAD_TRIES)):
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            busy = getattr(error.orig, "sqlite_errorname", "") == "SQLITE_BUSY"
            if not busy or not left:
                raise
        time.sleep(_WRITE_AHEAD_PAUSE_S)


def version_of(connection: sa.Connection) -> str | None:
    """The version of the existing schema; None if there is none."""
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def newest_version() -> str | None:
    """The schema version of this program."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "averages_consumer.warehouse:migrations")
    return config
