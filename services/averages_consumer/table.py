"""Table `hourly_averages`: what it holds, and how an average becomes a row. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from hourglass.averages import HourlyAverage
from hourglass.readings import MILLI

#: https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags
_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        value = value.astimezone(UTC).replace(microsecond=0)
        return f"{value:%Y-%m-%dT%H:%M:%SZ}" if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        at = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        return at.astimezone(UTC)


_schema = sa.MetaData()
hourly_averages = sa.Table(
    "hourly_averages",
    _schema,
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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRow:
    """One row of `hourly_averages`; the fields are its columns, in order.

    hour: the hour's start
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

    @property
    def start_ms(self) -> int:
        return milliseconds(self.hour)


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
        "trace_id": _trace_id(average.traceparent),
        "entry_id": average.entry_id,
        "loaded_at": loaded_at,
    }


def _trace_id(traceparent: str) -> str | None:
    found = _TRACEPARENT.match(traceparent)
    return found[1] if found else None


def moment(ms: int) -> datetime:
    """The moment `ms` after the epoch."""
    return _EPOCH + timedelta(milliseconds=ms)


def milliseconds(at: datetime) -> int:
    """Milliseconds from the epoch to `at`."""
    return (at - _EPOCH) // timedelta(milliseconds=1)
