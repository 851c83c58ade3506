"""An hour as it is sealed, and the average as it stands on the averages' stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from hourglass.model.keys import HOUR_MS, iso
from hourglass.model.readings import MILLI, TRACEPARENT, degrees, milli_f

#: What an integer of a warehouse holds, and the last moment a datetime does.
_LARGEST = 2**63 - 1
LAST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRecord:
    """What one hour of one partition amounts to, or of all partitions of its day.

    sum_milli_f, min_milli_f, max_milli_f: thousandths of a degree Fahrenheit
    late: readings that came after the hour was sealed; not in `count`
    late_min_milli_f, late_max_milli_f: the least and the greatest of what came after the hour was
        sealed, all of the hour if its partition was counted again; None if nothing came
    sealed: no reading will be added any more
    trace: traceparent of the last batch that was counted into it, one for each lane with a space
        between; empty if none was traced
    """

    start_ms: int
    count: int
    sum_milli_f: int
    min_milli_f: int = 0
    max_milli_f: int = 0
    devices: int = 0
    late: int = 0
    late_sum_milli_f: int = 0
    late_min_milli_f: int | None = None
    late_max_milli_f: int | None = None
    sealed: bool = False
    sealed_by: str = ""
    trace: str = field(default="", compare=False)

    @classmethod
    def joined(cls, records: Sequence[HourRecord]) -> HourRecord:
        """The records of an hour in all partitions of its day, one at least, as one record.

        A device writes to one lane a day, so the devices of lanes add up.
        """
        counted = [record for record in records if record.count]
        lows = [record.late_min_milli_f for record in records]
        highs = [record.late_max_milli_f for record in records]
        return cls(
            start_ms=records[0].start_ms,
            count=sum(record.count for record in records),
            sum_milli_f=sum(record.sum_milli_f for record in records),
            min_milli_f=min((record.min_milli_f for record in counted), default=0),
            max_milli_f=max((record.max_milli_f for record in counted), default=0),
            devices=sum(record.devices for record in records),
            late=sum(record.late for record in records),
            late_sum_milli_f=sum(record.late_sum_milli_f for record in records),
            late_min_milli_f=min((f for f in lows if f is not None), default=None),
            late_max_milli_f=max((f for f in highs if f is not None), default=None),
            sealed=all(record.sealed for record in records),
            sealed_by=",".join(sorted({each.sealed_by for each in counted or records})),
            trace=" ".join(record.trace for record in counted if record.trace),
        )


def joined_hours(partitions: Sequence[Sequence[HourRecord]]) -> list[HourRecord]:
    """The hours of a day, in order, from the records of its partitions; an hour is sealed that each
    of them has sealed."""
    by_hour: dict[int, list[HourRecord]] = {}
    for records in partitions:
        for record in records:
            by_hour.setdefault(record.start_ms, []).append(record)
    hours = [HourRecord.joined(by_hour[start_ms]) for start_ms in sorted(by_hour)]
    return [
        replace(hour, sealed=hour.sealed and len(by_hour[hour.start_ms]) == len(partitions))
        for hour in hours
    ]


def mean_milli_f(sum_milli_f: int, count: int) -> int:
    """The mean in thousandths, rounded half to even, by integers only; `count` > 0."""
    quotient, remainder = divmod(sum_milli_f, count)
    twice = 2 * remainder
    if twice > count or (twice == count and quotient % 2):
        quotient += 1
    return quotient


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyAverage:
    """One entry of the averages' stream; its id is `start_ms` with sequence 0."""

    start_ms: int
    count: int
    sum_milli_f: int
    min_milli_f: int
    max_milli_f: int
    devices: int
    late: int
    sealed_by: str
    traceparent: str = ""

    @classmethod
    def of(cls, record: HourRecord, *, traceparent: str = "") -> HourlyAverage:
        return cls(
            start_ms=record.start_ms,
            count=record.count,
            sum_milli_f=record.sum_milli_f,
            min_milli_f=record.min_milli_f,
            max_milli_f=record.max_milli_f,
            devices=record.devices,
            late=record.late,
            sealed_by=record.sealed_by,
            traceparent=traceparent,
        )

    @property
    def mean_milli_f(self) -> int:
        return mean_milli_f(self.sum_milli_f, self.count)

    @property
    def start(self) -> datetime:
        return datetime.fromtimestamp(self.start_ms / 1000, UTC)

    @property
    def entry_id(self) -> str:
        return f"{self.start_ms}-0"

    @property
    def line(self) -> str:
        """The terminal line, in the format that the exercise specifies."""
        return (
            f"Average temperature for {self.start:%Y/%m/%d} at {self.start.hour} "
            f"was {degrees(self.mean_milli_f)}F ({self.count} observations)."
        )

    def fields(self) -> dict[str, str]:
        """The entry's fields; the first four are the exercise's names and formats."""
        fields = {
            "date": f"{self.start:%Y/%m/%d}",
            "hour": str(self.start.hour),
            "average_temp_f": degrees(self.mean_milli_f),
            "num_observations": str(self.count),
            "hour_start": iso(self.start_ms),
            "sum_temp_f": degrees(self.sum_milli_f),
            "min_temp_f": degrees(self.min_milli_f),
            "max_temp_f": degrees(self.max_milli_f),
            "devices": str(self.devices),
            "late": str(self.late),
            "sealed_by": self.sealed_by,
        }
        if self.traceparent:
            fields[TRACEPARENT.decode()] = self.traceparent
        return fields

    @classmethod
    def decode(cls, entry_id: bytes, fields: Mapping[bytes, bytes]) -> HourlyAverage:
        """The average in an entry of that stream; raises ValueError with the cause."""
        try:
            average = cls(
                start_ms=_hour_of(entry_id),
                count=int(fields[b"num_observations"]),
                sum_milli_f=_exact_milli_f(fields[b"sum_temp_f"]),
                min_milli_f=milli_f(fields[b"min_temp_f"]),
                max_milli_f=milli_f(fields[b"max_temp_f"]),
                devices=int(fields[b"devices"]),
                late=int(fields[b"late"]),
                sealed_by=fields[b"sealed_by"].decode(errors="replace"),
                traceparent=fields.get(TRACEPARENT, b"").decode(errors="replace"),
            )
        except KeyError as missing:
            raise ValueError(f"field {missing} is missing") from None
        if average.count < 1:
            raise ValueError("an hour without observations has no average")
        numbers = (average.count, average.sum_milli_f, average.devices, average.late)
        if max(map(abs, numbers)) > _LARGEST:
            raise ValueError("a number is too large")
        if "\0" in average.sealed_by:
            raise ValueError("sealed_by has a NUL in it")
        return average


def _hour_of(entry_id: bytes) -> int:
    start, _, sequence = entry_id.partition(b"-")
    start_ms = int(start)
    if start_ms % HOUR_MS or sequence != b"0" or start_ms > LAST_MS - HOUR_MS:
        raise ValueError(f"id {entry_id.decode()} is not the start of an hour")
    return start_ms


def _exact_milli_f(text: bytes) -> int:
    """As milli_f, without passing through a float: sums outgrow its 53 bits."""
    whole, _, fraction = text.partition(b".")
    magnitude = int(whole.lstrip(b"-")) * MILLI + int(fraction.ljust(3, b"0")[:3])
    return -magnitude if whole.startswith(b"-") else magnitude
