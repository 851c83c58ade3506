"""The warehouse: table `hourly_averages`, one row per hour, in SQLite or PostgreSQL.

    HourglassError
    ├── ConfigurationError             invalid URL, driver not installed, or unusable at start-up
    └── WarehouseAway             the warehouse does not answer: try again
        └── WarehouseUnusable     it answers, but rejects requests until a person fixes the cause
            └── LoginRefused      it rejects user or password: exit, a restart reads new ones

No message contains a password.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    ProgrammingError,
    SQLAlchemyError,
)

from averages_consumer.schema import bring_up_to_date, newest_version, version_of
from averages_consumer.table import HourRow, hourly_averages, milliseconds, moment, row_of
from hourglass.errors import ConfigurationError, HourglassError
from hourglass.model.averages import HourlyAverage

log = logging.getLogger(__name__)

_SQLITE, _POSTGRESQL = "sqlite+pysqlite", "postgresql+psycopg"
#: The schemes a URL may have.
_DRIVERS = {
    "sqlite": _SQLITE,
    _SQLITE: _SQLITE,
    "postgresql": _POSTGRESQL,
    "postgres": _POSTGRESQL,
    _POSTGRESQL: _POSTGRESQL,
}
_URL_REMEDY = (
    "set HOURGLASS_WAREHOUSE_URL to sqlite:///FILE or postgresql://user:password@host/database"
)
_FILE_REMEDY = (
    "its folder must exist and be writable, and the file must be an SQLite database: "
    "check HOURGLASS_WAREHOUSE_URL"
)
#: Shorter than the time a service has to finish its batch after SIGTERM.
_BUSY_TIMEOUT_MS = 1000
#: Detects a server that disappeared without closing the connection within about ten seconds.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "hourglass-averages-consumer",
}
#: Statement time-out, unless the URL or the server sets one; the lock time-out is half of it. It is
#: well below the time after which a worker counts as stuck. A statement that takes longer fails
#: with WarehouseAway and is tried again.
PATIENCE_MS = 20_000
_LIMIT = sa.text(
    "SELECT set_config(name, ms, true) "
    "FROM (VALUES ('statement_timeout', :statement), ('lock_timeout', :lock)) AS limits (name, ms) "
    "WHERE current_setting(name) = '0'"
)
#: The options of libpq in a URL that are secret.
_SECRET_OPTIONS = ("password", "sslpassword", "oauth_client_secret")
#: The options that an SQLite URL may have; with `uri` SQLite itself parses them.
_SQLITE_OPTIONS = {
    "timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements",
}  # fmt: skip
#: SQLite errors that persist until a person fixes the cause.
_UNUSABLE_FILE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_NOTADB", "SQLITE_PERM")
_WHERE = "HOURGLASS_WAREHOUSE_URL or its file"
#: PostgreSQL errors that persist until a person fixes the cause: SQLSTATE and remedy.
_UNUSABLE_ROLE = {
    "42501": "GRANT CREATE ON SCHEMA public to the role, or let its owner run an averages consumer "
    "first and GRANT SELECT, INSERT, UPDATE ON hourly_averages, SELECT ON hourglass_schema_version",
    "3F000": "give the role a schema in its search_path, and GRANT CREATE on it",
    "25006": f"give the primary server in {_WHERE}, and a role that may write "
    "(default_transaction_read_only off)",
}


class WarehouseAway(HourglassError):
    """The warehouse does not answer; nothing was changed, try again."""


class WarehouseUnusable(WarehouseAway):
    """The warehouse answers, but rejects requests for a reason that a retry does not fix; the
    message has the remedy."""

    exit_code = 2


class LoginRefused(WarehouseUnusable):
    """The warehouse rejects this process's user or password, which it reads only at start-up."""


#: Log-in errors, for which the driver passes on no SQLSTATE: pattern, error and remedy.
_UNUSABLE_LOGIN: Sequence[tuple[str, type[WarehouseAway], str]] = (
    (
        (
            r"password authentication failed|no password supplied|no pg_hba\.conf entry"
            r"|is not permitted to log in|role \".*\" does not exist|permission denied for database"
        ),
        LoginRefused,
        f"check user and password in {_WHERE}, and that this user may log in",
    ),
    (
        r"database \".*\" does not exist",
        WarehouseUnusable,
        f"create the database, or set another one in {_WHERE}",
    ),
    (r"connection is bad: invalid ", WarehouseUnusable, _URL_REMEDY),
)


class Warehouse:
    """A warehouse. Thread-safe. Use it as a context manager, or call `close`."""

    def __init__(self, url: str, *, patience_ms: int = PATIENCE_MS) -> None:
        """Does not connect yet. Raises ConfigurationError.

        patience_ms: statement time-out of PostgreSQL
        """
        self._url = _parse(url)
        self._limits = {"statement": str(patience_ms), "lock": str(patience_ms // 2)}
        self.shown = _shown(sa.make_url(url))
        self._engine = _engine(self._url)
        self._upsert = _upsert(self._url.drivername)
        self._file = self._url.drivername == _SQLITE and "uri" not in self._url.query
        #: Device and inode of the file that `create` created or found.
        self._created: tuple[int, int] | None = None

    def create(self) -> None:
        """Create or migrate the schema. Concurrent calls, also of other processes, are safe.

        Raises ConfigurationError if a person has to fix the cause, WarehouseAway.
        """
        if self._file:
            # Only the owner may read the file. A failure shows up below, with its reason.
            with suppress(OSError):
                os.close(os.open(str(self._url.database), os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with self._connected() as connection:
                bring_up_to_date(connection)
                # Check write permission now, not with the first average.
                nothing = sa.update(hourly_averages).where(sa.false())
                connection.execute(nothing.values(late=hourly_averages.c.late))
            self._created = self._on_disk()
        except WarehouseUnusable as error:
            raise ConfigurationError(str(error)) from error

    def expect(self) -> None:
        """Check that the schema exists and has this program's version.

        Raises ConfigurationError if not, WarehouseAway.
        """
        if self._file and not self._on_disk():  # connecting would create it
            raise ConfigurationError(f"no warehouse exists at {self.shown}: {_URL_REMEDY}")
        with self._transaction() as connection:
            found = version_of(connection)
        if found != newest_version():
            raise ConfigurationError(
                f"the warehouse {self.shown} has schema version {found or 'none'}, not "
                f"{newest_version()}: start an averages consumer of this version, which migrates it"
            )

    def upsert(self, averages: Sequence[HourlyAverage], loaded_at: datetime) -> None:
        """Insert or update the rows of these hours in one transaction. Rows with the same values,
        and revised rows of the same published result, do not change. Raises WarehouseAway."""
        # Sorted by hour, so that two processes that write the same hours do not deadlock.
        by_hour = {average.start_ms: average for average in averages}
        rows = [row_of(by_hour[hour], loaded_at) for hour in sorted(by_hour)]
        if not rows:
            return
        with self._transaction() as connection:
            self._write(connection, rows)

    def _write(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        is_postgresql = self._url.drivername == _POSTGRESQL
        in_one = {"rows": msgspec.json.encode(rows).decode()} if is_postgresql else rows
        connection.execute(self._upsert, in_one)

    def revise(self, rows: Sequence[HourRow], revised_at: datetime) -> list[HourRow]:
        """Replace the previous revisions of these rows; return the rows it replaced. The others
        were already revised by another process. Raises WarehouseAway."""
        table = hourly_averages
        done: list[HourRow] = []
        with self._transaction() as connection:
            for row in sorted(rows, key=lambda row: row.hour):
                values = {**asdict(row), "loaded_at": revised_at}
                changed = connection.execute(
                    sa.update(table)
                    .where(table.c.hour == row.hour, table.c.revision == row.revision - 1)
                    .values(values)
                )
                if changed.rowcount:
                    done.append(row)
        return done

    def hours(self, from_ms: int = 0) -> set[int]:
        """The hours (ms since the epoch) in the warehouse that start at `from_ms` or later.

        Raises WarehouseAway.
        """
        hour = hourly_averages.c.hour
        with self._transaction() as connection:
            found = connection.scalars(sa.select(hour).where(hour >= moment(from_ms)))
            return {milliseconds(start) for start in found}

    def among(self, hours: AbstractSet[int]) -> AbstractSet[int]:
        """Those of `hours` that are in the warehouse. Raises WarehouseAway."""
        return hours & self.hours(min(hours)) if hours else frozenset()

    def rows(self, from_ms: int, to_ms: int) -> Iterator[HourRow]:
        """The rows of the hours from `from_ms` (inclusive) to `to_ms` (exclusive), in order,
        fetched in chunks. Raises WarehouseAway."""
        hour = hourly_averages.c.hour
        query = (
            sa.select(hourly_averages)
            .where(hour >= moment(from_ms), hour < moment(to_ms))
            .order_by(hour)
            .execution_options(yield_per=1000)
        )
        with self._transaction() as connection:
            for row in connection.execute(query).mappings():
                yield HourRow(**row)

    def last_hour(self) -> int | None:
        """The latest hour (ms since the epoch) in the warehouse; None if it is empty.

        Raises WarehouseAway.
        """
        with self._transaction() as connection:
            last = connection.scalar(sa.select(sa.func.max(hourly_averages.c.hour)))
            return None if last is None else milliseconds(last)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Generator[sa.Connection]:
        self._follow_the_file()
        with self._connected() as connection:
            yield connection

    def _follow_the_file(self) -> None:
        """Reconnect if the SQLite file was removed or replaced. An open connection would continue
        to write to the old file, and the rows would be lost."""
        if not self._created or self._on_disk() == self._created:
            return
        self._engine.dispose()
        try:
            self.create()
        except ConfigurationError as error:  # fatal only at start-up; here the caller tries again
            raise WarehouseAway(str(error)) from error
        log.warning("the warehouse's file %s was removed or replaced: reopened", self.shown)

    def _on_disk(self) -> tuple[int, int] | None:
        """Device and inode of the warehouse's file; None if it does not exist or is not a file."""
        if not self._file:
            return None
        try:
            found = Path(str(self._url.database)).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _connected(self) -> Generator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                if self._url.drivername == _POSTGRESQL:
                    # Not as connection options, which a connection pooler may reject.
                    connection.execute(_LIMIT, self._limits)
                yield connection
        except SQLAlchemyError as error:
            reason = _reason(error, self._url)
            kind, remedy = _remedy(error)
            if kind is WarehouseAway:
                raise WarehouseAway(
                    f"the warehouse {self.shown} does not answer: {reason}"
                ) from error
            raise kind(f"the warehouse {self.shown} cannot be used: {reason}: {remedy}") from error


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"the warehouse's URL is not valid: {_URL_REMEDY}") from None
    if "@" in url and parsed.get_backend_name() != "sqlite" and not _is_escaped(url, parsed):
        raise ConfigurationError(
            "the warehouse's URL has more than one @: escape the password (%40 is @, %2F is /, "
            f"%23 is #, %3F is ?) in {_WHERE}"
        )
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigurationError(f"{parsed.drivername} is not a supported warehouse: {_URL_REMEDY}")
    if driver == _SQLITE and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(f"a warehouse in memory would be lost at exit: {_URL_REMEDY}")
    return parsed.set(drivername=driver)


def _is_escaped(url: str, parsed: sa.URL) -> bool:
    """Whether the only @ ends the credentials. Otherwise a part of the password would be parsed as
    the host or the database, and be shown in messages."""
    return url.count("@") == 1 and parsed.username is not None


def _shown(url: sa.URL) -> str:
    """The URL with all its secrets hidden."""
    hidden = {name: "hidden" for name in _SECRET_OPTIONS if name in url.query}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(url: sa.URL) -> Iterator[str]:
    if url.password:
        yield str(url.password)
    for name in _SECRET_OPTIONS:
        yield from url.normalized_query.get(name, ())


def _engine(url: sa.URL) -> sa.Engine:
    """Raises ConfigurationError."""
    try:
        if url.drivername == _POSTGRESQL:
            options = _postgresql_options(url)
            url = url.difference_update_query(["prepare_threshold"])
        else:
            options = _sqlite_options(url)
        # Batches may be an hour apart, so each connection is tested before use (pool_pre_ping).
        return sa.create_engine(url, connect_args=options, pool_pre_ping=True, hide_parameters=True)
    except ImportError as error:
        raise ConfigurationError(
            f"the driver for PostgreSQL is not installed ({error}): pip install 'psycopg[binary]'"
        ) from None
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"an option in the warehouse's URL has an invalid value: {_URL_REMEDY}"
        ) from None


def _postgresql_options(url: sa.URL) -> Mapping[str, Any]:
    """Arguments for the driver, in addition to the libpq options in the URL.

    Raises ImportError, ValueError, ConfigurationError.
    """
    from psycopg.pq import Conninfo

    known = {each.keyword.decode() for each in Conninfo.get_defaults()}
    _refuse_unknown(url, known | {"prepare_threshold"})
    options = {name: value for name, value in _POSTGRESQL_OPTIONS.items() if name not in url.query}
    # No prepared statements by default: behind a pooler in transaction mode the next transaction
    # may run on another server connection, which does not have them.
    threshold = url.query.get("prepare_threshold")
    return {**options, "prepare_threshold": None if threshold is None else int(str(threshold))}


def _sqlite_options(url: sa.URL) -> Mapping[str, Any]:
    """Raises ConfigurationError."""
    if "uri" not in url.query:
        _refuse_unknown(url, _SQLITE_OPTIONS)
    return {} if "timeout" in url.query else {"timeout": _BUSY_TIMEOUT_MS / 1000}


def _refuse_unknown(url: sa.URL, known: Collection[str]) -> None:
    if unknown := sorted(set(url.query) - set(known)):
        raise ConfigurationError(
            f"the warehouse's URL has an unknown option ({', '.join(unknown)}): {_URL_REMEDY}"
        )


def _upsert(driver: str) -> sa.Insert:
    """The upsert statement. It replaces a row if the published result differs, or if the row is not
    revised and any value differs.

    For PostgreSQL it takes all rows as one JSON parameter, several times as fast as row by row.
    """
    table = hourly_averages
    insert = sqlite.insert(table)
    if driver == _POSTGRESQL:
        columns = [sa.column(column.name, column.type) for column in table.columns]
        encoded = sa.cast(sa.bindparam("rows", type_=sa.Text), postgresql.JSON)
        rows = sa.func.json_to_recordset(encoded).table_valued(*columns, name="rows")
        ordered = sa.select(rows.render_derived(with_types=True)).order_by("hour")
        insert = postgresql.insert(table).from_select(table.columns.keys(), ordered)
    new = insert.excluded
    values = [column for column in table.columns if column.name not in ("hour", "loaded_at")]
    is_revised = table.c.revision > 0
    late = sa.case((is_revised, table.c.late), else_=0)
    another_result = sa.or_(
        table.c.observations - late != new.observations,
        table.c.sum_milli_f - table.c.late_sum_milli_f != new.sum_milli_f,
    )
    return insert.on_conflict_do_update(
        index_elements=[table.c.hour],
        set_={column.name: new[column.name] for column in table.columns},
        where=sa.or_(
            another_result,
            ~is_revised & sa.or_(*(each.is_distinct_from(new[each.name]) for each in values)),
        ),
    )


def _remedy(error: SQLAlchemyError) -> tuple[type[WarehouseAway], str]:
    """The error to raise, and its remedy; empty for WarehouseAway, for which a retry may help."""
    if not isinstance(error, DBAPIError):
        return WarehouseAway, ""
    # sqlite3 names each error; psycopg has an SQLSTATE for errors that the server sent.
    if getattr(error.orig, "sqlite_errorname", "").startswith(_UNUSABLE_FILE):
        return WarehouseUnusable, _FILE_REMEDY
    code = getattr(error.orig, "sqlstate", "unknown")
    if isinstance(error, ProgrammingError) and not code:
        return WarehouseUnusable, _URL_REMEDY
    if code in _UNUSABLE_ROLE:
        return WarehouseUnusable, _UNUSABLE_ROLE[code]
    message = str(error.orig)
    found = [(kind, remedy) for sign, kind, remedy in _UNUSABLE_LOGIN if re.search(sign, message)]
    return found[0] if found else (WarehouseAway, "")


def _reason(error: SQLAlchemyError, url: sa.URL) -> str:
    """The first line of the driver's message, with secrets replaced by ***."""
    message = str(error.orig if isinstance(error, DBAPIError) else error)
    first = message.strip().partition("\n")[0]
    for secret in filter(None, _secrets(url)):
        first = first.replace(secret, "***")
    return first
