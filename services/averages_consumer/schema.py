"""The warehouse's schema: brought up to date by Alembic, whose versions are in `migrations`."""

from __future__ import annotations

import logging
import time

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from hourglass.errors import Misconfigured

log = logging.getLogger(__name__)

#: A name of its own: a database may have other applications in it, with versions of theirs.
VERSION_TABLE = "hourglass_schema_version"
#: Any number that no other program takes.
_LOCK = 0x686F7572
#: A second in all, as other statements wait for a lock.
_WRITE_AHEAD_TRIES = 100
_WRITE_AHEAD_PAUSE_S = 0.01


def bring_up_to_date(connection: sa.Connection) -> None:
    """Make the schema what this program needs, all or nothing, within the transaction that
    `connection` begins here: processes that try at once do it in turn, and all but one find it
    done. What is up to date is only read. Raises Misconfigured, SQLAlchemyError.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    else:
        _write_ahead(connection)
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


def _write_ahead(connection: sa.Connection) -> None:
    """Let readers and the writer of a SQLite file work side by side, which the file remembers.

    The change needs the file for itself for a moment, and alone of all statements it does not
    wait: it fails while another process reads, or makes the same change.
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
