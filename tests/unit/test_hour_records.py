"""The hour records of a partition, from its hash and from the seal script's reply."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.averages import HourRecord
from hourglass.model.hour_records import REPORTED, decode_hours, decode_reported
from hourglass.model.keys import Keyspace

DAY = Keyspace().containing(1_735_689_600_000)  # 1 January 2025
NAMES = {
    "count": "count",
    "sum": "sum_milli_f",
    "min": "min_milli_f",
    "max": "max_milli_f",
    "devices": "devices",
    "late": "late",
    "late_sum": "late_sum_milli_f",
    "late_min": "late_min_milli_f",
    "late_max": "late_max_milli_f",
    "sealed_by": "sealed_by",
    "trace": "trace",
}

counts = st.integers(0, 10**7)
sums = st.integers(-(10**15), 10**15)
temperatures = st.integers(-150_000, 250_000)
records = st.builds(
    HourRecord,
    start_ms=st.sampled_from([DAY.hour_start_ms(hour) for hour in range(24)]),
    count=counts,
    sum_milli_f=sums,
    min_milli_f=temperatures,
    max_milli_f=temperatures,
    devices=counts,
    late=st.integers(-(10**7), 10**7),
    late_sum_milli_f=sums,
    late_min_milli_f=temperatures,
    late_max_milli_f=temperatures,
    sealed=st.booleans(),
    sealed_by=st.text(),
)
days = st.lists(records, unique_by=lambda record: record.start_ms).map(
    lambda of_day: sorted(of_day, key=lambda record: record.start_ms)
)


def hour_of(record: HourRecord) -> int:
    return (record.start_ms - DAY.day_ms) // 3_600_000


def values_of(record: HourRecord) -> list[bytes]:
    """What Redis holds of `record`, in the order in which the seal script reports it."""
    return [str(getattr(record, NAMES[name])).encode() for name in REPORTED]


def stored(record: HourRecord) -> dict[bytes, bytes]:
    prefix = f"{hour_of(record):02d}:"
    fields = {
        f"{prefix}{name}".encode(): value
        for name, value in zip(REPORTED, values_of(record), strict=True)
    }
    return fields | ({f"{prefix}sealed".encode(): b"1735693200000"} if record.sealed else {})


@given(day=days)
def test_each_hour_of_the_hash_is_a_record_in_order(day: list[HourRecord]) -> None:
    fields = {name: value for record in reversed(day) for name, value in stored(record).items()}

    assert decode_hours(DAY, fields) == day


@given(record=records)
def test_what_the_seal_script_reports_is_what_the_hash_holds(record: HourRecord) -> None:
    sealed = replace(record, sealed=True)

    assert decode_reported(DAY, [hour_of(record), *values_of(record)]) == sealed
    assert decode_hours(DAY, stored(sealed)) == [sealed]


def test_an_hour_sealed_without_readings_is_a_record_of_none() -> None:
    empty = HourRecord(start_ms=DAY.hour_start_ms(3), count=0, sum_milli_f=0, sealed=True)

    assert decode_reported(DAY, [3, *[None] * len(REPORTED)]) == empty
    assert decode_hours(DAY, {b"03:sealed": b"1735693200000"}) == [empty]


def test_an_hour_that_only_got_late_readings_is_a_record() -> None:
    (record,) = decode_hours(DAY, {b"07:late": b"2", b"07:late_sum": b"146000"})

    assert (record.count, record.late, record.late_sum_milli_f) == (0, 2, 146_000)
    assert not record.sealed


def test_what_is_no_hours_count_makes_no_record() -> None:
    noted = {b"opened": b"1-0", b"quarantined": b"3", b"05:cut_off": b"1-0"}

    assert decode_hours(DAY, noted) == []
    assert decode_hours(DAY, {}) == []
