"""The warehouse: creates its schema, and reads and writes the rows of `hourly_averages`."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from averages_consumer.warehouse.connect import (
    POSTGRESQL,
    SQLITE,
    URL_REMEDY,
    WarehouseUnreachable,
    WarehouseUnusable,
    engine,
    explained,
    parse,
    shown,
)
from averages_consumer.warehouse.schema import bring_up_to_date, newest_version, version_of
from averages_consumer.warehouse.table import (
    HourRow,
    hourly_averages,
    milliseconds,
    moment,
    row_of,
    upsert_statement,
)
from hourglass.errors import ConfigurationError
from hourglass.model.averages import HourlyAverage

log = logging.getLogger(__name__)

#: Statement time-out, unless the URL or the server sets one; the lock time-out is half of it. It is
#: well below the time after which a worker counts as stuck. A statement that takes longer fails
#: with WarehouseUnreachable and is tried again.
PATIENCE_MS = 20_000
_LIMIT = sa.text(
    "SELECT set_config(name, ms, true) "
    "FROM (VALUES ('statement_timeout', :statement), ('lock_timeout', :lock)) AS limits (name, ms) "
    "WHERE current_setting(name) = '0'"
)


class Warehouse:
    """A warehouse. Thread-safe. Use it as a context manager, or call `close`."""

    def __init__(self, url: str, *, patience_ms: int = PATIENCE_MS) -> None:
        """Does not connect yet. Raises ConfigurationError.

        patience_ms: statement time-out of PostgreSQL
        """
        self._url = parse(url)
        self._limits = {"statement": str(patience_ms), "lock": str(patience_ms // 2)}
        self.shown = shown(sa.make_url(url))
        self._engine = engine(self._url)
        self._upsert = upsert_statement(self._engine.dialect.name)
        self._file = self._url.drivername == SQLITE and "uri" not in self._url.query
        #: Device and inode of the file that `create` created or found.
        self._created: tuple[int, int] | None = None

    def create(self) -> None:
        """Create or migrate the schema. Concurrent calls, also of other processes, are safe.

        Raises ConfigurationError if a person has to fix the cause, WarehouseUnreachable.
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

        Raises ConfigurationError if not, WarehouseUnreachable.
        """
        if self._file and not self._on_disk():  # connecting would create it
            raise ConfigurationError(f"no warehouse exists at {self.shown}: {URL_REMEDY}")
        with self._transaction() as connection:
            found = version_of(connection)
        if found != newest_version():
            raise ConfigurationError(
                f"the warehouse {self.shown} has schema version {found or 'none'}, not "
                f"{newest_version()}: start an averages consumer of this version, which migrates it"
            )

    def upsert(self, averages: Sequence[HourlyAverage], loaded_at: datetime) -> None:
        """Insert or update the rows of these hours in one transaction. Raises WarehouseUnreachable.

        Rows with the same values, and revised rows of the same published result, do not change.
        """
        # Sorted by hour, so that two processes that write the same hours do not deadlock.
        by_hour = {average.start_ms: average for average in averages}
        rows = [row_of(by_hour[hour], loaded_at) for hour in sorted(by_hour)]
        if not rows:
            return
        with self._transaction() as connection:
            self._write(connection, rows)

    def _write(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        is_postgresql = self._url.drivername == POSTGRESQL
        in_one = {"rows": msgspec.json.encode(rows).decode()} if is_postgresql else rows
        connection.execute(self._upsert, in_one)

    def revise(self, rows: Sequence[HourRow], revised_at: datetime) -> list[HourRow]:
        """Replace the previous revisions of these rows; return the rows it replaced. The others
        were already revised by another process. Raises WarehouseUnreachable."""
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

        Raises WarehouseUnreachable.
        """
        hour = hourly_averages.c.hour
        with self._transaction() as connection:
            found = connection.scalars(sa.select(hour).where(hour >= moment(from_ms)))
            return {milliseconds(start) for start in found}

    def among(self, hours: AbstractSet[int]) -> AbstractSet[int]:
        """Those of `hours` that are in the warehouse. Raises WarehouseUnreachable."""
        return hours & self.hours(min(hours)) if hours else frozenset()

    def rows(self, from_ms: int, to_ms: int) -> Iterator[HourRow]:
        """The rows of the hours from `from_ms` (inclusive) to `to_ms` (exclusive), in order,
        fetched in chunks. Raises WarehouseUnreachable."""
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

        Raises WarehouseUnreachable.
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
            raise WarehouseUnreachable(str(error)) from error
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
                if self._url.drivername == POSTGRESQL:
                    # Not as connection options, which a connection pooler may reject.
                    connection.execute(_LIMIT, self._limits)
                yield connection
        except SQLAlchemyError as error:
            raise explained(error, self._url) from error
