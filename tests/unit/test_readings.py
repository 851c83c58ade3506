"""From a stream entry to a reading, or to the reason why it is none."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hourglass.model.entries import Entry, Reject, decode_all, origins
from hourglass.model.keys import DAY_MS, Keyspace
from hourglass.model.readings import (
    TIME_OF_DAY,
    Reading,
    Readings,
    Reason,
    Rules,
    Unusable,
    decode,
    degrees,
    milli_f,
)

DAY = Keyspace().containing(1_735_689_600_000)  # 1 January 2025
NOON_MS = DAY.hour_start_ms(12)
NOON_ID = b"%d-0" % NOON_MS
RULES = Rules()

#: What a number could be taken for, and is not; and numbers at the edges of what a float holds.
NOT_NUMBERS = [
    b"", b" ", b"-", b".", b"hot", b"73F", b"7 3", b"73\x00", b"--1", b"1_000", b"0x1p3", b"7,3",
    "٧٣".encode(), b"1" * 33,
]  # fmt: skip
NOT_FINITE = [b"nan", b"-nan", b"NaN", b"inf", b"-inf", b"Infinity", b"1e400", b"-1e400"]
ENORMOUS = [b"1e300", b"-1e300", b"1e306", b"-1e306", b"1.7976931348623157e308"]

temperature_texts = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(NOT_NUMBERS + NOT_FINITE + ENORMOUS),
    st.floats().map(lambda number: str(number).encode()),
)


def text_of(number: Decimal) -> bytes:
    return format(number, "f").encode()


def reason_of(*fields: bytes, entry_id: bytes = NOON_ID, rules: Rules = RULES) -> Reason:
    with pytest.raises(Unusable) as refusal:
        decode(DAY, entry_id, [*fields], rules)
    return refusal.value.reason


def outcome(pairs: dict[bytes, bytes]) -> Reading | Reason:
    try:
        return usable(*(part for pair in pairs.items() for part in pair))
    except Unusable as refusal:
        return refusal.reason


def usable(*fields: bytes, entry_id: bytes = NOON_ID, rules: Rules = RULES) -> Reading:
    return decode(DAY, entry_id, [*fields], rules)  # a list, as Redis replies


@given(st.integers(0, 3).flatmap(lambda places: st.decimals(-(10**9), 10**9, places=places)))
def test_up_to_three_decimals_are_exact(number: Decimal) -> None:
    assert milli_f(text_of(number)) == number * 1000


@given(thousandths=st.integers(-(10**9), 10**9), exponent=st.integers(-3, 9))
def test_an_exponent_changes_nothing(thousandths: int, exponent: int) -> None:
    number = Decimal(thousandths).scaleb(-3)
    shifted = number.scaleb(-exponent)

    assert milli_f(text_of(shifted) + b"e%d" % exponent) == thousandths


@given(st.decimals(-(10**6), 10**6, places=9))
def test_more_decimals_are_rounded_to_the_nearest_thousandth(number: Decimal) -> None:
    assert abs(milli_f(text_of(number)) - number * 1000) <= Decimal("0.500001")


@given(sixteenths=st.integers(-(10**6), 10**6))
def test_a_half_is_rounded_to_even(sixteenths: int) -> None:
    number = Decimal(sixteenths) / 16
    expected = number.quantize(Decimal("0.001"), rounding=ROUND_HALF_EVEN)

    assert milli_f(text_of(number)) == expected * 1000


@given(milli=st.integers(-(10**9), 10**9))
def test_a_temperature_written_as_text_is_read_back(milli: int) -> None:
    assert milli_f(degrees(milli).encode()) == milli


@pytest.mark.parametrize(
    ("milli", "text"),
    [(73_000, "73"), (73_500, "73.5"), (-40, "-0.04"), (0, "0"), (-1_001, "-1.001")],
)
def test_a_temperature_is_written_without_needless_zeros(milli: int, text: str) -> None:
    assert degrees(milli) == text


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_no_number_is_refused_as_none(text: bytes) -> None:
    assert reason_of(b"temp_f", text) is Reason.NOT_A_NUMBER


@pytest.mark.parametrize("text", NOT_FINITE)
def test_what_is_not_finite_is_refused_as_such(text: bytes) -> None:
    assert reason_of(b"temp_f", text) is Reason.NOT_FINITE


@pytest.mark.parametrize("text", ENORMOUS)
def test_a_finite_number_of_any_size_is_a_number_or_unusable(text: bytes) -> None:
    assert reason_of(b"temp_f", text) in {Reason.IMPLAUSIBLE, Reason.NOT_FINITE}


def test_an_entry_without_temperature_is_refused() -> None:
    assert reason_of(b"device", b"d", b"temp_c", b"20") is Reason.NO_TEMPERATURE
    assert reason_of() is Reason.NO_TEMPERATURE


def test_both_ends_of_the_plausible_range_are_plausible() -> None:
    rules = Rules(min_milli_f=-1_000, max_milli_f=2_000)

    assert usable(b"temp_f", b"-1", rules=rules).milli_f == -1_000
    assert usable(b"temp_f", b"2", rules=rules).milli_f == 2_000
    assert reason_of(b"temp_f", b"-1.001", rules=rules) is Reason.IMPLAUSIBLE
    assert reason_of(b"temp_f", b"2.001", rules=rules) is Reason.IMPLAUSIBLE


def test_the_event_time_is_the_ts_field() -> None:
    ts_ms = DAY.day_ms + 1

    assert usable(b"temp_f", b"73", b"ts", b"%d" % ts_ms).ts_ms == ts_ms


def test_without_ts_the_event_time_is_that_of_the_id() -> None:
    assert usable(b"temp_f", b"73", entry_id=b"%d-7" % NOON_MS) == (b"unknown", NOON_MS, 73_000)


@pytest.mark.parametrize("ts", [b"", b"noon", b"-1", b"1e12", b"1.5", b" 1", b"9" * 33])
def test_a_ts_that_is_no_time_in_ms_is_refused(ts: bytes) -> None:
    assert reason_of(b"temp_f", b"73", b"ts", ts) is Reason.BAD_TIMESTAMP


@pytest.mark.parametrize("of_day_ms", [0, 1, NOON_MS - DAY.day_ms, DAY_MS - 1])
def test_day_ms_counts_from_the_partitions_start(of_day_ms: int) -> None:
    fields = (b"temp_f", b"73", TIME_OF_DAY, b"%d" % of_day_ms)
    assert usable(*fields).ts_ms == DAY.day_ms + of_day_ms
    assert usable(*fields, b"ts", b"%d" % NOON_MS).ts_ms == NOON_MS


@pytest.mark.parametrize(
    ("day_ms", "reason"),
    [(b"%d" % DAY_MS, Reason.WRONG_DAY), (b"-1", Reason.BAD_TIMESTAMP)],
)
def test_a_day_ms_that_is_not_within_a_day_is_refused(day_ms: bytes, reason: Reason) -> None:
    assert reason_of(b"temp_f", b"73", TIME_OF_DAY, day_ms) is reason


@pytest.mark.parametrize(
    ("ts", "reason"),
    [
        (NOON_MS // 1000, Reason.TS_IN_S),
        (NOON_MS * 1000, Reason.TS_IN_US),
        (NOON_MS * 1_000_000, Reason.TS_IN_NS),
    ],
)
def test_a_ts_in_another_unit_is_refused_and_the_unit_named(ts: int, reason: Reason) -> None:
    assert reason_of(b"temp_f", b"73", b"ts", b"%d" % ts) is reason


def test_what_a_sensor_gives_in_place_of_a_reading_is_refused() -> None:
    rules = Rules(no_reading_milli_f=frozenset([-127_000, 999_900]))
    assert reason_of(b"temp_f", b"-127.0", rules=rules) is Reason.NO_READING
    assert reason_of(b"temp_f", b"999.9", rules=rules) is Reason.NO_READING
    assert usable(b"temp_f", b"-126.9", rules=rules).milli_f == -126_900


@pytest.mark.parametrize(
    "ts_ms", [0, 300_000, DAY_MS, DAY.day_ms - 1, DAY.end_ms, DAY.end_ms + 1, 10**30]
)
def test_a_ts_of_another_day_is_refused_however_near(ts_ms: int) -> None:
    assert reason_of(b"temp_f", b"73", b"ts", b"%d" % ts_ms) is Reason.WRONG_DAY


@pytest.mark.parametrize("ts_ms", [DAY.day_ms, DAY.end_ms - 1])
def test_the_first_and_the_last_millisecond_belong_to_the_day(ts_ms: int) -> None:
    assert usable(b"temp_f", b"73", b"ts", b"%d" % ts_ms).ts_ms == ts_ms
    assert usable(b"temp_f", b"73", entry_id=b"%d-0" % ts_ms).ts_ms == ts_ms


@given(after_ms=st.integers(0, 4_999))
def test_an_arrival_just_past_midnight_counts_in_the_days_last_hour(after_ms: int) -> None:
    reading = usable(
        b"temp_f", b"73", entry_id=b"%d-0" % (DAY.end_ms + after_ms), rules=Rules(overrun_ms=5_000)
    )

    assert DAY.hour_start_ms(23) <= reading.ts_ms < DAY.end_ms


@pytest.mark.parametrize("arrival_ms", [DAY.day_ms - 1, DAY.end_ms + 5_001])
def test_an_arrival_farther_from_the_day_is_refused(arrival_ms: int) -> None:
    rules = Rules(overrun_ms=5_000)

    assert reason_of(b"temp_f", b"73", entry_id=b"%d-0" % arrival_ms, rules=rules) is (
        Reason.WRONG_DAY
    )


def test_an_event_time_too_far_ahead_of_the_clock_is_refused() -> None:
    rules = Rules(latest_ms=NOON_MS)

    assert usable(b"temp_f", b"73", b"ts", b"%d" % NOON_MS, rules=rules).ts_ms == NOON_MS
    ahead = b"%d" % (NOON_MS + 1)
    assert reason_of(b"temp_f", b"73", b"ts", ahead, rules=rules) is Reason.FAR_FUTURE
    assert reason_of(b"temp_f", b"73", entry_id=ahead + b"-0", rules=rules) is Reason.FAR_FUTURE


def test_without_a_latest_time_any_time_of_the_day_is_believed() -> None:
    last_ms = DAY.end_ms - 1

    assert usable(b"temp_f", b"73", b"ts", b"%d" % last_ms, rules=Rules()).ts_ms == last_ms


def test_a_device_name_is_bounded() -> None:
    assert usable(b"temp_f", b"73", b"device", b"d" * 128).device == b"d" * 128
    assert reason_of(b"temp_f", b"73", b"device", b"d" * 129) is Reason.BAD_DEVICE


@given(
    device=st.binary(max_size=130),
    ts=st.one_of(
        st.binary(max_size=40),
        st.integers(DAY.day_ms, DAY.end_ms).map(lambda ts: b"%d" % ts),
    ),
    text=st.one_of(temperature_texts, st.integers(-200, 300).map(lambda f: b"%d" % f)),
)
def test_the_order_of_the_fields_changes_nothing(device: bytes, ts: bytes, text: bytes) -> None:
    pairs = {b"device": device, b"ts": ts, b"temp_f": text}
    outcomes = {outcome(dict(order)) for order in permutations(pairs.items())}

    assert len(outcomes) == 1


@given(
    entry_id=st.tuples(
        st.one_of(st.integers(0, 2**64 - 1), st.integers(DAY.day_ms, DAY.end_ms)),
        st.integers(0, 2**64 - 1),
    ).map(lambda parts: b"%d-%d" % parts),
    pairs=st.lists(
        st.one_of(
            st.tuples(st.just(b"temp_f"), temperature_texts),
            st.tuples(st.just(b"temp_f"), st.just(b"73")),
            st.tuples(st.just(b"ts"), st.binary() | st.integers().map(lambda ts: b"%d" % ts)),
            st.tuples(st.just(b"device"), st.binary(max_size=200)),
            st.tuples(st.binary(), st.binary()),
        )
    ),
    latest_ms=st.none() | st.integers(DAY.day_ms, DAY.end_ms),
)
@example(entry_id=NOON_ID, pairs=[(b"temp_f", b"1e306")], latest_ms=None)
def test_whatever_an_entry_holds_is_a_usable_reading_or_unusable(
    entry_id: bytes, pairs: list[tuple[bytes, bytes]], latest_ms: int | None
) -> None:
    rules = Rules(latest_ms=latest_ms)
    try:
        reading = decode(DAY, entry_id, [part for pair in pairs for part in pair], rules)
    except Unusable:
        return
    assert isinstance(reading, Reading)
    assert DAY.day_ms <= reading.ts_ms < DAY.end_ms
    assert rules.min_milli_f <= reading.milli_f <= rules.max_milli_f
    assert latest_ms is None or reading.ts_ms <= latest_ms


def one_by_one(entries: list[Entry], rules: Rules) -> tuple[list[Reading], list[Reject]]:
    readings: list[Reading] = []
    rejects: list[Reject] = []
    for entry_id, fields in entries:
        try:
            readings.append(decode(DAY, entry_id, fields, rules))
        except Unusable as unusable:
            rejects.append(Reject(entry_id, unusable.reason, fields))
    return readings, rejects


#: Values that look alike and are not: what one of them is refused for must not pass in a crowd.
stamps = st.one_of(
    st.integers(0, DAY_MS + 1),
    st.integers(DAY.day_ms - 1, DAY.end_ms + 1),
).map(lambda ts: b"%d" % ts) | st.sampled_from(
    [b"", b"+5", b" 5", b"1_0", b"-1", b"5.0", b"9" * 33]
)
temperatures = st.integers(-151_000, 251_000).map(lambda milli: degrees(milli).encode())
crowds = st.sampled_from(
    [
        [b"device", b"ts", b"temp_f"],
        [b"ts", b"temp_f"],
        [b"device", TIME_OF_DAY, b"temp_f"],
        [b"temp_f"],
        [b"temp_f", b"temp_f"],
        [b"device", b"ts"],
        [],
    ]
)


@st.composite
def alike(draw: st.DrawFn) -> list[Entry]:
    """Entries of one layout, or nearly so."""
    names = draw(crowds)
    values = {
        b"device": st.sampled_from([b"a", b"b", b"d" * 128, b"d" * 129]),
        b"ts": draw(st.sampled_from([stamps, st.just(b"%d" % NOON_MS), st.just(b"5")])),
        TIME_OF_DAY: stamps,
        b"temp_f": st.one_of(temperatures, st.just(b"73"))
        if draw(st.booleans())
        else st.just(b"7"),
    }
    entries: list[Entry] = []
    for number in range(draw(st.integers(0, 6))):
        own_names = names if draw(st.integers(0, 9)) else draw(crowds)
        fields = [part for name in own_names for part in (name, draw(values[name]))]
        arrival_ms = draw(
            st.sampled_from([NOON_MS, DAY.day_ms - 1, DAY.end_ms + 5, DAY.end_ms - 1])
        )
        entries.append((b"%d-%d" % (arrival_ms, number), fields))
    return entries


@given(
    entries=alike(), latest_ms=st.none() | st.sampled_from([NOON_MS, DAY.day_ms + 5, DAY.end_ms])
)
def test_what_is_decoded_together_is_what_is_decoded_one_by_one(
    entries: list[Entry], latest_ms: int | None
) -> None:
    rules = Rules(latest_ms=latest_ms)
    singles, rejects = one_by_one(entries, rules)

    readings, packed, rejected = decode_all(DAY, entries, rules)

    assert list(map(Reading, *readings)) == singles
    assert packed == []
    assert rejected == rejects


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, DAY_MS - 1), st.integers())
    )
)
def test_readings_by_hour_are_the_same_readings(rows: list[tuple[bytes, int, int]]) -> None:
    readings = Readings(*zip(*rows, strict=True)) if rows else Readings((), (), ())

    hours = {start_ms: list(map(Reading, *of_hour)) for start_ms, of_hour in readings.by_hour()}

    assert all(
        start_ms <= reading.ts_ms < start_ms + 3_600_000
        for start_ms, of_hour in hours.items()
        for reading in of_hour
    )
    assert sorted(each for of_hour in hours.values() for each in of_hour) == sorted(rows)


def test_the_first_of_a_batch_may_tell_its_trace_and_counts_like_the_others() -> None:
    said = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    plain = [
        (b"%d-0" % number, [b"device", b"a", TIME_OF_DAY, b"%d" % number, b"temp_f", b"50"])
        for number in range(1, 5)
    ]
    traced = [(entry_id, [*fields, b"traceparent", said]) for entry_id, fields in plain[:1]]
    partition = Keyspace().partition(1_735_689_600_000)
    expected, _, _ = decode_all(partition, plain, Rules())
    found, _, rejects = decode_all(partition, traced + plain[1:], Rules())
    assert not rejects
    assert sorted(zip(*found, strict=True)) == sorted(zip(*expected, strict=True))
    assert origins(traced + plain[1:]) == [said.decode()]
    assert origins(plain) == []
