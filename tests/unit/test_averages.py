"""An average is exact, and says on the stream all that was sealed."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hourglass.model.averages import HourlyAverage, HourRecord, joined_hours, mean_milli_f
from hourglass.model.keys import HOUR_MS

sums = st.integers(-(2**62), 2**62)
counts = st.integers(1, 2**40)
temperatures = st.integers(-150_000, 250_000)
averages = st.builds(
    HourlyAverage,
    start_ms=st.integers(0, 24 * 366 * 100).map(lambda hour: hour * HOUR_MS),
    count=counts,
    sum_milli_f=sums,
    min_milli_f=temperatures,
    max_milli_f=temperatures,
    devices=st.integers(0, 2**40),
    late=st.integers(0, 2**40),
    sealed_by=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    traceparent=st.just("") | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)

SEALED = HourlyAverage(
    start_ms=1_735_689_600_000,
    count=3600,
    sum_milli_f=181_080_000,
    min_milli_f=49_900,
    max_milli_f=50_700,
    devices=1,
    late=0,
    sealed_by="aggregator-0",
)


def on_stream(average: HourlyAverage) -> tuple[bytes, dict[bytes, bytes]]:
    fields = {name.encode(): value.encode() for name, value in average.fields().items()}
    return average.entry_id.encode(), fields


@given(total=sums, count=counts)
def test_the_mean_is_the_exact_quotient_rounded_half_to_even(total: int, count: int) -> None:
    # Fraction's round() rounds half to even.
    assert mean_milli_f(total, count) == round(Fraction(total, count))


@given(readings=st.lists(temperatures, min_size=1, max_size=50))
def test_the_mean_is_what_decimal_arithmetic_makes_of_the_readings(readings: list[int]) -> None:
    degrees = [Decimal(reading).scaleb(-3) for reading in readings]
    mean = sum(degrees, Decimal(0)) / len(degrees)

    expected = mean.quantize(Decimal("0.001"), rounding=ROUND_HALF_EVEN)

    # 28 digits of a quotient may hide which side of a half it lies on, but not of 50 readings.
    assert Decimal(mean_milli_f(sum(readings), len(readings))).scaleb(-3) == expected


@given(readings=st.lists(temperatures, min_size=1))
def test_the_mean_lies_between_the_least_and_the_greatest_reading(readings: list[int]) -> None:
    mean = mean_milli_f(sum(readings), len(readings))

    assert min(readings) <= mean <= max(readings)


@given(average=averages)
def test_an_average_is_read_from_the_stream_as_it_was_put_there(average: HourlyAverage) -> None:
    assert HourlyAverage.decode(*on_stream(average)) == average


@given(average=averages)
def test_the_average_on_the_stream_is_the_mean_as_a_decimal_number(average: HourlyAverage) -> None:
    shown = Decimal(average.fields()["average_temp_f"])

    assert shown.scaleb(3) == average.mean_milli_f


def test_the_entry_carries_the_exercise_s_fields_in_its_formats() -> None:
    fields = SEALED.fields()

    assert list(fields)[:4] == ["date", "hour", "average_temp_f", "num_observations"]
    assert fields["date"] == "2025/01/01"
    assert fields["hour"] == "0"
    assert fields["average_temp_f"] == "50.3"
    assert fields["num_observations"] == "3600"
    assert fields["hour_start"] == "2025-01-01T00:00:00Z"


def test_the_entry_s_id_is_the_hour_s_start() -> None:
    assert SEALED.entry_id == "1735689600000-0"


def test_an_entry_without_a_trace_has_no_field_for_one() -> None:
    assert "traceparent" not in SEALED.fields()
    assert replace(SEALED, traceparent="00-1-2-01").fields()["traceparent"] == "00-1-2-01"


def test_an_average_is_made_of_the_sealed_record() -> None:
    record = HourRecord(
        start_ms=SEALED.start_ms,
        count=3600,
        sum_milli_f=181_080_000,
        min_milli_f=49_900,
        max_milli_f=50_700,
        devices=1,
        late=0,
        late_sum_milli_f=99,
        sealed=True,
        sealed_by="aggregator-0",
    )

    assert HourlyAverage.of(record) == SEALED


@pytest.mark.parametrize(
    ("entry_id", "change", "said"),
    [
        (b"1735689600000-0", {"sum_temp_f": None}, "sum_temp_f"),
        (b"1735689600000-0", {"num_observations": b"many"}, "many"),
        (b"1735689600000-0", {"num_observations": b"0"}, "without observations"),
        (b"1735689600000-0", {"num_observations": b"-5"}, "without observations"),
        (b"1735689600000-0", {"sum_temp_f": b"nan"}, "nan"),
        (b"1735689600000-0", {"sum_temp_f": b"1e5"}, "1e5"),
        (b"1735689600000-0", {"sum_temp_f": b"9223372036854775.808"}, "too large"),
        (b"1735689600000-0", {"devices": b"-9223372036854775808"}, "too large"),
        (b"1735689600000-0", {"min_temp_f": b"inf"}, "not finite"),
        (b"1735689600000-0", {"max_temp_f": b"1e308"}, "not finite"),
        (b"1735689600000-0", {"sealed_by": b"a\0b"}, "NUL"),
        (b"1735689600001-0", {}, "start of an hour"),
        (b"1735689600000-1", {}, "start of an hour"),
        (b"253402300800000-0", {}, "start of an hour"),
    ],
)
def test_what_is_no_average_says_why(
    entry_id: bytes, change: dict[str, bytes | None], said: str
) -> None:
    fields = on_stream(SEALED)[1] | {name.encode(): value for name, value in change.items()}
    present = {name: value for name, value in fields.items() if value is not None}

    with pytest.raises(ValueError, match=said):
        HourlyAverage.decode(entry_id, present)


#: Which of some aggregators sealed which share of an hour, and the readings there and after.
shares = st.lists(
    st.tuples(
        st.sampled_from(["aggregator-0", "aggregator-1"]),
        st.lists(temperatures, max_size=5),
        st.lists(temperatures, max_size=3),
    ),
    min_size=1,
    max_size=5,
)


def record_of(sealed_by: str, readings: list[int], late: list[int] | None = None) -> HourRecord:
    return HourRecord(
        start_ms=SEALED.start_ms,
        count=len(readings),
        sum_milli_f=sum(readings),
        min_milli_f=min(readings, default=0),
        max_milli_f=max(readings, default=0),
        devices=len(readings),
        late=len(late or []),
        late_sum_milli_f=sum(late or []),
        sealed=True,
        sealed_by=sealed_by,
    )


@given(of=shares)
@example(of=[("aggregator-0", [50_000], []), ("aggregator-1", [], [-9_000])])
@example(of=[("aggregator-0", [-50_000], []), ("aggregator-1", [], [])])
def test_the_records_of_an_hours_shares_are_the_record_of_all_its_readings(
    of: list[tuple[str, list[int], list[int]]],
) -> None:
    joined = HourRecord.joined([record_of(*share) for share in of])

    by = {sealed_by for sealed_by, readings, _ in of if readings} or {each for each, *_ in of}
    readings = [each for _, readings, _ in of for each in readings]
    late = [each for *_, late in of for each in late]
    assert joined == record_of(",".join(sorted(by)), readings, late)


@given(of=shares)
def test_a_record_alone_is_joined_as_it_is(of: list[tuple[str, list[int], list[int]]]) -> None:
    record = record_of(*of[0])

    assert HourRecord.joined([record]) == record


def test_an_hour_is_sealed_when_each_partition_of_the_day_has_sealed_it() -> None:
    sealed = record_of("aggregator-0", [50_000])
    later = replace(sealed, start_ms=sealed.start_ms + HOUR_MS)
    unsealed = replace(later, sealed=False)

    def hours(*partitions: list[HourRecord]) -> list[tuple[int, bool]]:
        return [(each.count, each.sealed) for each in joined_hours(partitions)]

    assert hours([sealed, later], [sealed, later]) == [(2, True), (2, True)]
    assert hours([sealed, later], [sealed, unsealed]) == [(2, True), (2, False)]
    assert hours([sealed, later], [sealed]) == [(2, True), (1, False)]
    assert hours([later, sealed], []) == [(1, False), (1, False)]
    assert hours() == []
