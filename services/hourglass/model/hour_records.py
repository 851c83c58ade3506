"""The fields of a partition's hour records, and what they decode to. The scripts spell the same
names; tests/unit/test_hour_record_fields.py compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hourglass.errors import CorruptKey
from hourglass.model.averages import HourRecord
from hourglass.model.keys import HOURS, Partition

#: In the order in which the seal script reports them, after the hour itself.
REPORTED = (
    "count", "sum", "min", "max", "devices",
    "late", "late_sum", "late_min", "late_max", "sealed_by", "trace",
)  # fmt: skip
#: Further fields of an hour. sealed: when; ended: when the seal script first found it over;
#: cut_off: its cut-off id; empty: it had no reading when its cut-off id was reached.
SEALING = ("sealed", "ended", "cut_off", "empty")

#: Of the whole partition: entries, and readings, that were counted or went to quarantine.
ACKNOWLEDGED = ("acknowledged_entries", "acknowledged")
#: Of the whole partition. incarnation: of its group; opened: id of the first entry of its stream;
#: remade: the stream was deleted and created again; quarantined: readings in quarantine.
STATE = ("incarnation", "opened", "remade", "quarantined")


def field(hour: int, name: str) -> str:
    """The field of an hour, 0 to 23."""
    return f"{hour:02d}:{name}"


def decode_hours(partition: Partition, fields: Mapping[bytes, bytes]) -> list[HourRecord]:
    """A record for each hour that has been counted, sealed or come late to, in order. Raises
    CorruptKey."""
    records: list[HourRecord] = []
    for hour in range(HOURS):
        values = [fields.get(field(hour, name).encode()) for name in REPORTED]
        sealed = field(hour, "sealed").encode() in fields
        if sealed or any(value is not None for value in values):
            records.append(_record(partition, hour, values, sealed=sealed))
    return records


def decode_reported(partition: Partition, row: Sequence[int | bytes | None]) -> HourRecord:
    """A record from one row of the seal script's reply. Raises CorruptKey."""
    hour, *values = row
    texts = [value if isinstance(value, bytes) else None for value in values]
    return _record(partition, int(hour or 0), texts, sealed=True)


def _record(
    partition: Partition, hour: int, values: Sequence[bytes | None], *, sealed: bool
) -> HourRecord:
    *texts, sealed_by, trace = values
    numbers: list[int | None] = []
    for name, text in zip(REPORTED, texts, strict=False):
        try:
            numbers.append(None if text is None else int(text))
        except ValueError:
            raise CorruptKey(
                f"{partition.hours} holds no number in {hour:02d}:{name}: put one there, "
                "or delete the key to have the partition counted again"
            ) from None
    count, total, least, most, devices, late, late_sum, late_min, late_max = numbers
    return HourRecord(
        start_ms=partition.hour_start_ms(hour),
        count=count or 0,
        sum_milli_f=total or 0,
        min_milli_f=least or 0,
        max_milli_f=most or 0,
        devices=devices or 0,
        late=late or 0,
        late_sum_milli_f=late_sum or 0,
        late_min_milli_f=late_min,
        late_max_milli_f=late_max,
        sealed=sealed,
        sealed_by=(sealed_by or b"").decode(errors="replace"),
        trace=(trace or b"").decode(errors="replace"),
    )


def gone(producer: bytes) -> int:
    """Readings that were acknowledged to one producer and are missing, by its value in the hash of
    producers. Raises CorruptKey."""
    try:
        _, acknowledged, stored, *_ = map(int, producer.split())
    except ValueError:
        raise CorruptKey(
            "a producers hash holds what no producer wrote: rename or delete it"
        ) from None
    # More is stored than acknowledged if a producer gave up a batch that had been stored after all.
    return max(0, acknowledged - stored)


def gone_of(producers: Mapping[bytes, bytes]) -> int:
    """The same of all in a partition's hash of producers, which has tallies beside them, whose
    names begin with a colon. Raises CorruptKey."""
    return sum(gone(each) for name, each in producers.items() if not name.startswith(b":"))
