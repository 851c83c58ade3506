"""Table `hourly_averages`: what it holds, and how an average becomes a row. Pure.

A row is what was published, revision 0, or, where that is asked for, what late readings made of it
since. Then its observations, sum, average, minimum and maximum have these in them, and what was
published is what is left without them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from hourglass.averages import HourlyAverage, HourRecord, mean_milli_f
from hourglass.publication import Result
from hourglass.readings import MILLI

#: https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags
_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_the_second(at: datetime) -> datetime:
    """In UTC, as the table has it. Raises ValueError for a time without a time zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).replace(microsecond=0)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """Aware datetimes, to the second: timestamptz, and where there is none, text that sorts by
    time and that SQLite's date functions understand (2025-01-01T00:00:00Z)."""

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
    late: readings that came after the hour was sealed, as far as known when the row was written;
        in the average from revision 1 on
    late_sum_milli_f: their sum, as far as it is in the average
    revision: how often late readings were taken into the row
    trace_id: of the trace that sealed the hour; None if none was made
    loaded_at: when these values came in; loading the same ones again does not change it
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
        """What was published of the hour."""
        late = self.late if self.revision else 0
        return Result(self.observations - late, self.sum_milli_f - self.late_sum_milli_f)


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


def revised(row: HourRow, record: HourRecord) -> HourRow | None:
    """The row with the late readings of its hour in it; None if none came since it was written.

    A record of something else than what was published has no say, and what was taken in is not
    given up again.
    """
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
    """None if it is no traceparent."""
    found = _TRACEPARENT.match(traceparent)
    return found[1] if found else None


def moment(ms: int) -> datetime:
    """The moment `ms` after the epoch."""
    return _EPOCH + timedelta(milliseconds=ms)


def milliseconds(at: datetime) -> int:
    """Milliseconds from the epoch to `at`."""
    return (at - _EPOCH) // timedelta(milliseconds=1)
