"""Table `hourly_averages`, its rows, and the statement that writes them. Pure.

A row of revision 0 is the published average. With --revisions, a row of a higher revision also
includes late readings in its observations, sum, average, minimum and maximum; subtracting them
gives the published result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from hourglass.cluster.published import Result
from hourglass.model.averages import HourlyAverage, HourRecord, mean_milli_f
from hourglass.model.readings import MILLI, degrees

#: https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags
_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_the_second(at: datetime) -> datetime:
    """The time in UTC without microseconds. Raises ValueError for a time without a time zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).replace(microsecond=0)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """Aware datetimes, to the second: timestamptz in PostgreSQL; in SQLite text that sorts by time
    and that its date functions understand (2025-01-01T00:00:00Z)."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.Text())
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        value = to_the_second(value)
        return f"{value:%Y-%m-%dT%H:%M:%SZ}" if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        at = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        return at.astimezone(UTC)


metadata = sa.MetaData()
hourly_averages = sa.Table(
    "hourly_averages",
    metadata,
    sa.Column("hour", UtcTime, primary_key=True),
    sa.Column("average_temp_f", sa.Double, nullable=False),
    sa.Column("sum_milli_f", sa.BigInteger, nullable=False),
    sa.Column("min_temp_f", sa.Double, nullable=False),
    sa.Column("max_temp_f", sa.Double, nullable=False),
    sa.Column("observations", sa.BigInteger, nullable=False),
    sa.Column("devices", sa.BigInteger, nullable=False),
    sa.Column("late", sa.BigInteger, nullable=False),
    sa.Column("sealed_by", sa.Text, nullable=False),
    sa.Column("trace_id", sa.Text),
    sa.Column("entry_id", sa.Text, nullable=False),
    sa.Column("loaded_at", UtcTime, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("late_sum_milli_f", sa.BigInteger, nullable=False, server_default=sa.text("0")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRow:
    """One row of `hourly_averages`; the fields are its columns, in order.

    hour: the hour's start
    late: readings that arrived after the hour was sealed, as known when the row was written;
        included in the average from revision 1 on
    late_sum_milli_f: sum of the late readings that the average includes
    revision: number of updates with late readings
    trace_id: trace that sealed the hour; None if it was not traced
    loaded_at: time at which these values were loaded; loading the same values again keeps it
    """

    hour: datetime
    average_temp_f: float
    sum_milli_f: int
    min_temp_f: float
    max_temp_f: float
    observations: int
    devices: int
    late: int
    sealed_by: str
    trace_id: str | None
    entry_id: str
    loaded_at: datetime
    revision: int = 0
    late_sum_milli_f: int = 0

    @property
    def start_ms(self) -> int:
        return milliseconds(self.hour)

    @property
    def published(self) -> Result:
        """The published result of the hour."""
        late = self.late if self.revision else 0
        return Result(self.observations - late, self.sum_milli_f - self.late_sum_milli_f)

    @property
    def revision_line(self) -> str:
        """The terminal line of a row that was revised with late readings."""
        average = degrees(mean_milli_f(self.sum_milli_f, self.observations))
        return (
            f"Average temperature for {self.hour:%Y/%m/%d} at {self.hour.hour} is {average}F "
            f"in the warehouse from now on: revision {self.revision}, with {self.late} late "
            f"({self.observations} observations)."
        )


def row_of(average: HourlyAverage, loaded_at: datetime) -> dict[str, Any]:
    return {
        "hour": average.start,
        "average_temp_f": average.mean_milli_f / MILLI,
        "sum_milli_f": average.sum_milli_f,
        "min_temp_f": average.min_milli_f / MILLI,
        "max_temp_f": average.max_milli_f / MILLI,
        "observations": average.count,
        "devices": average.devices,
        "late": average.late,
        "sealed_by": average.sealed_by,
        "trace_id": trace_id_of(average.traceparent),
        "entry_id": average.entry_id,
        "loaded_at": to_the_second(loaded_at),
        "revision": 0,
        "late_sum_milli_f": 0,
    }


def upsert_statement(dialect: str) -> sa.Insert:
    """The upsert statement. It replaces a row if the published result differs, or if the row is not
    revised and any value differs.

    For PostgreSQL it takes all rows as one JSON parameter, several times as fast as row by row.
    """
    table = hourly_averages
    insert = sqlite.insert(table)
    if dialect == "postgresql":
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


def revised(row: HourRow, record: HourRecord) -> HourRow | None:
    """The next revision of the row, with all late readings of its hour; None if the record has no
    more late readings than the row, or differs from the published result."""
    late_before = row.late if row.revision else 0
    if record.late <= late_before or row.published != Result(record.count, record.sum_milli_f):
        return None
    count, total = record.count + record.late, record.sum_milli_f + record.late_sum_milli_f
    late_range = (record.late_min_milli_f, record.late_max_milli_f)
    milli_f = [record.min_milli_f, record.max_milli_f, *(f for f in late_range if f is not None)]
    return replace(
        row,
        average_temp_f=mean_milli_f(total, count) / MILLI,
        sum_milli_f=total,
        min_temp_f=min(milli_f) / MILLI,
        max_temp_f=max(milli_f) / MILLI,
        observations=count,
        late=record.late,
        late_sum_milli_f=record.late_sum_milli_f,
        revision=row.revision + 1,
    )


def trace_id_of(traceparent: str) -> str | None:
    """The trace id in a traceparent; None if the text is not one."""
    found = _TRACEPARENT.match(traceparent)
    return found[1] if found else None


def moment(ms: int) -> datetime:
    """The moment `ms` after the epoch."""
    return _EPOCH + timedelta(milliseconds=ms)


def milliseconds(at: datetime) -> int:
    """Milliseconds from the epoch to `at`."""
    return (at - _EPOCH) // timedelta(milliseconds=1)
