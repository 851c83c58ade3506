"""The warehouse: table `hourly_averages`, one row per hour, in SQLite or PostgreSQL.

    HourglassError
    ├── Misconfigured             no URL of a warehouse, driver not installed, cannot be used
    └── WarehouseAway             it does not answer now: try again
        └── WarehouseUnusable     it answers, and a person has to put something right
            └── LoginRefused      which another process may have put right: end

No message shows a password.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
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
from hourglass.averages import HourlyAverage
from hourglass.errors import HourglassError, Misconfigured

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
#: Below what a service has to finish its batch in, after SIGTERM.
_BUSY_TIMEOUT_MS = 1000
#: A server that vanished without a word is noticed within some ten seconds.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "hourglass-averages-consumer",
}
#: What a statement may take, and half of it for a lock, where neither the URL nor the server says
#: how long: well below what makes a worker count as stuck. A warehouse that is slow is away, and
#: asked again.
PATIENCE_MS = 20_000
_LIMIT = sa.text(
    "SELECT set_config(name, ms, true) "
    "FROM (VALUES ('statement_timeout', :statement), ('lock_timeout', :lock)) AS limits (name, ms) "
    "WHERE current_setting(name) = '0'"
)
#: Of the options that a URL may have for libpq.
_SECRET_OPTIONS = ("password", "sslpassword", "oauth_client_secret")
#: Of a URL for SQLite; with `uri` they are SQLite's own.
_SQLITE_OPTIONS = {
    "timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements",
}  # fmt: skip
#: SQLite's answers that a person has to put right.
_UNUSABLE_FILE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_NOTADB", "SQLITE_PERM")
_WHERE = "HOURGLASS_WAREHOUSE_URL or its file"
#: PostgreSQL's answers that a person has to put right, by their code.
_UNUSABLE_ROLE = {
    "42501": "GRANT CREATE ON SCHEMA public to the role, or let its owner run an averages consumer "
    "first and GRANT SELECT, INSERT, UPDATE ON hourly_averages, SELECT ON hourglass_schema_version",
    "3F000": "give the role a schema in its search_path, and GRANT CREATE on it",
    "25006": f"give the primary server in {_WHERE}, and a role that may write "
    "(default_transaction_read_only off)",
}


class WarehouseAway(HourglassError):
    """The warehouse does not answer at the moment; nothing was changed, try again."""


class WarehouseUnusable(WarehouseAway):
    """It answers, and refuses what waiting alone does not change; the message has the remedy."""

    exit_code = 2


class LoginRefused(WarehouseUnusable):
    """This process's user and password do not let it in, and it will have no others."""


#: Those to the login have no code that the driver passes on; with what they mean and what to do.
_UNUSABLE_LOGIN: Sequence[tuple[str, type[WarehouseAway], str]] = (
    (
        (
            r"password authentication failed|no password supplied|no pg_hba\.conf entry"
            r"|is not permitted to log in|role \".*\" does not exist|permission denied for database"
        ),
        LoginRefused,
        f"check user and password in {_WHERE}, and that the user may log in there",
    ),
    (
        r"database \".*\" does not exist",
        WarehouseUnusable,
        f"create the database, or give another one in {_WHERE}",
    ),
    (r"connection is bad: invalid ", WarehouseUnusable, _URL_REMEDY),
)


class Warehouse:
    """A warehouse; safe to share between threads. Use it as a context manager, or `close` it."""

    def __init__(self, url: str, *, patience_ms: int = PATIENCE_MS) -> None:
        """Connects to nothing yet. Raises Misconfigured.

        patience_ms: how long PostgreSQL may work at a statement
        """
        self._url = _parse(url)
        self._limits = {"statement": str(patience_ms), "lock": str(patience_ms // 2)}
        self.shown = _shown(sa.make_url(url))
        self._engine = _engine(self._url)
        self._upsert = _upsert(self._url.drivername)
        self._file = self._url.drivername == _SQLITE and "uri" not in self._url.query
        #: Which file `create` made or found: device and inode.
        self._created: tuple[int, int] | None = None

    def create(self) -> None:
        """Make the schema, or bring it up to date, however many processes try at once.

        Raises Misconfigured for what a person has to put right, WarehouseAway.
        """
        if self._file:
            # For its owner alone; without one, what cannot be made is found out below.
            with suppress(OSError):
                os.close(os.open(str(self._url.database), os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with self._connected() as connection:
                bring_up_to_date(connection)
                # Whether rows can be written is found out now, not with the first average.
                nothing = sa.update(hourly_averages).where(sa.false())
                connection.execute(nothing.values(late=hourly_averages.c.late))
            self._created = self._on_disk()
        except WarehouseUnusable as error:
            raise Misconfigured(str(error)) from error

    def expect(self) -> None:
        """Raises Misconfigured unless the schema is there and as this program needs it,
        WarehouseAway."""
        if self._file and not self._on_disk():  # connecting would make it
            raise Misconfigured(f"there is no warehouse at {self.shown}: {_URL_REMEDY}")
        with self._transaction() as connection:
            found = version_of(connection)
        if found != newest_version():
            raise Misconfigured(
                f"the warehouse {self.shown} has schema version {found or 'none'}, not "
                f"{newest_version()}: an averages consumer of this version brings it up to date"
            )

    def upsert(self, averages: Sequence[HourlyAverage], loaded_at: datetime) -> None:
        """Make the rows of these hours be these averages, all or none. Rows that are so already,
        or were revised since, stay as they are. Raises WarehouseAway."""
        # In order of hour: two processes that write the same hours then wait, and never deadlock.
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
        """Put these rows in place of those of the revision before; which of them it did. Another
        process may have been first. Raises WarehouseAway."""
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
        """The hours (ms since the epoch) that are here, from `from_ms` on. Raises WarehouseAway."""
        hour = hourly_averages.c.hour
        with self._transaction() as connection:
            found = connection.scalars(sa.select(hour).where(hour >= moment(from_ms)))
            return {milliseconds(start) for start in found}

    def rows(self, from_ms: int, to_ms: int) -> Iterator[HourRow]:
        """The rows of the hours from `from_ms` on and before `to_ms`, in order, fetched a few at
        a time. Raises WarehouseAway."""
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
        """The latest hour (ms since the epoch) that is here. Raises WarehouseAway."""
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
        """An open connection would go on with a file that was removed or replaced, and what it
        writes would be lost with it."""
        if not self._created or self._on_disk() == self._created:
            return
        self._engine.dispose()
        try:
            self.create()
        except Misconfigured as error:  # to end is for the start alone
            raise WarehouseAway(str(error)) from error
        log.warning("the file of the warehouse %s was removed or replaced", self.shown)

    def _on_disk(self) -> tuple[int, int] | None:
        """Which file the path leads to; None if to none, or if the warehouse is no file."""
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
                    # Not by the connection's options, which a pooler in between may refuse.
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
        raise Misconfigured(f"the warehouse's URL cannot be read: {_URL_REMEDY}") from None
    if "@" in url and parsed.get_backend_name() != "sqlite" and not _is_escaped(url, parsed):
        raise Misconfigured(
            "the warehouse's URL has an @ too many: escape the password (%40 is @, %2F is /, "
            f"%23 is #, %3F is ?) in {_WHERE}"
        )
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise Misconfigured(f"the warehouse cannot be {parsed.drivername}: {_URL_REMEDY}")
    if driver == _SQLITE and parsed.database in (None, "", ":memory:"):
        raise Misconfigured(f"a warehouse in memory ends with its process: {_URL_REMEDY}")
    return parsed.set(drivername=driver)


def _is_escaped(url: str, parsed: sa.URL) -> bool:
    """Whether the only @ ends the credentials. What a password has after another one would be
    taken for the host, or for the database, and shown."""
    return url.count("@") == 1 and parsed.username is not None


def _shown(url: sa.URL) -> str:
    """Without its secrets, wherever in it they stand."""
    hidden = {name: "hidden" for name in _SECRET_OPTIONS if name in url.query}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(url: sa.URL) -> Iterator[str]:
    if url.password:
        yield str(url.password)
    for name in _SECRET_OPTIONS:
        yield from url.normalized_query.get(name, ())


def _engine(url: sa.URL) -> sa.Engine:
    """Raises Misconfigured."""
    try:
        if url.drivername == _POSTGRESQL:
            options = _postgresql_options(url)
            url = url.difference_update_query(["prepare_threshold"])
        else:
            options = _sqlite_options(url)
        # An hour may lie between two batches: long enough for a connection to have died unseen.
        return sa.create_engine(url, connect_args=options, pool_pre_ping=True, hide_parameters=True)
    except ImportError as error:
        raise Misconfigured(
            f"the driver for PostgreSQL is not installed ({error}): pip install 'psycopg[binary]'"
        ) from None
    except (ArgumentError, ValueError):
        raise Misconfigured(
            f"an option in the warehouse's URL has a value it cannot have: {_URL_REMEDY}"
        ) from None


def _postgresql_options(url: sa.URL) -> Mapping[str, Any]:
    """For the driver, besides what the URL has for libpq. Raises ImportError, ValueError,
    Misconfigured."""
    from psycopg.pq import Conninfo

    known = {each.keyword.decode() for each in Conninfo.get_defaults()}
    _refuse_unknown(url, known | {"prepare_threshold"})
    options = {name: value for name, value in _POSTGRESQL_OPTIONS.items() if name not in url.query}
    # A pooler in transaction mode has another server for the next transaction, where nothing is
    # prepared, or something else under the same name.
    threshold = url.query.get("prepare_threshold")
    return {**options, "prepare_threshold": None if threshold is None else int(str(threshold))}


def _sqlite_options(url: sa.URL) -> Mapping[str, Any]:
    """Raises Misconfigured."""
    if "uri" not in url.query:
        _refuse_unknown(url, _SQLITE_OPTIONS)
    return {} if "timeout" in url.query else {"timeout": _BUSY_TIMEOUT_MS / 1000}


def _refuse_unknown(url: sa.URL, known: Collection[str]) -> None:
    if unknown := sorted(set(url.query) - set(known)):
        raise Misconfigured(
            f"the warehouse's URL has an option that there is not ({', '.join(unknown)}): "
            f"{_URL_REMEDY}"
        )


def _upsert(driver: str) -> sa.Insert:
    """A row gives way to what was published anew with another result, and is else changed only
    while it is not revised.

    PostgreSQL takes all rows in one statement, as JSON: several times as fast as one by one.
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
    """Whether waiting may help, and if not, what does."""
    if not isinstance(error, DBAPIError):
        return WarehouseAway, ""
    # sqlite3 has a name for each error; psycopg, a code for those the server sent.
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
    """What the driver says, on one line, without a secret."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    first = said.strip().partition("\n")[0]
    for secret in filter(None, _secrets(url)):
        first = first.replace(secret, "***")
    return first
