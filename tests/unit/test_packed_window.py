"""Packed entries fold into what their readings, each on its own, would: a plain model says so."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from aggregator.aggregates import BatchAggregate
from aggregator.window import aggregate_entries
from hourglass.model.devices import blocks_of
from hourglass.model.entries import Entry, Reject
from hourglass.model.keys import DAY_MS, HOUR_MS, Keyspace
from hourglass.model.packed_codec import masked
from hourglass.model.readings import Reason, Rules

DAY = Keyspace().containing(1_735_689_600_000)  # 1 January 2025

#: How a foreign writer packs: struct's letter, thousandths of a degree to a unit, the least value.
LAYOUTS = {
    b"i16/100": ("h", 10, -(2**15)),
    b"i16/10": ("h", 100, -(2**15)),
    b"i32/1000": ("i", 1, -(2**31)),
}


class One(NamedTuple):
    """A reading as the model sees it."""

    device: bytes
    ts_ms: int
    milli_f: int


@dataclass
class Expected:
    """What the model counts and rejects."""

    hours: dict[int, list[One]] = field(default_factory=dict[int, list[One]])
    rejects: list[tuple[bytes, Reason, One]] = field(
        default_factory=list[tuple[bytes, Reason, One]]
    )
    faults: list[tuple[bytes, Reason]] = field(default_factory=list[tuple[bytes, Reason]])


def model(entries: Sequence[Entry], rules: Rules) -> Expected:
    """One reading after the other, the way a reader of the rules would judge it."""
    expected = Expected()
    for entry_id, fields in entries:
        if [*fields] in FAULTY:
            expected.faults.append((entry_id, FAULTY_REASONS[FAULTY.index([*fields])]))
            continue
        for one in ones_of(fields):
            if reason := fault_of(one, rules):
                expected.rejects.append((entry_id, reason, one))
            else:
                hour = (one.ts_ms - DAY.day_ms) // HOUR_MS
                expected.hours.setdefault(hour, []).append(one)
    return expected


def fault_of(one: One, rules: Rules) -> Reason | None:
    if not DAY.day_ms <= one.ts_ms < DAY.day_ms + DAY_MS:
        return Reason.WRONG_DAY
    if rules.latest_ms is not None and one.ts_ms > rules.latest_ms:
        return Reason.FAR_FUTURE
    if one.milli_f in rules.no_reading_milli_f:
        return Reason.NO_READING
    if not rules.min_milli_f <= one.milli_f <= rules.max_milli_f:
        return Reason.IMPLAUSIBLE
    return None


def check(result: BatchAggregate, entries: Sequence[Entry], expected: Expected) -> None:
    assert {hour: tally.count for hour, tally in result.partials.items()} == {
        hour: len(ones) for hour, ones in expected.hours.items()
    }
    for hour, ones in expected.hours.items():
        tally, milli_f = result.partials[hour], [one.milli_f for one in ones]
        assert (tally.sum_milli_f, tally.min_milli_f, tally.max_milli_f) == (
            sum(milli_f),
            min(milli_f),
            max(milli_f),
        )
        seen = dict(tally.blocks)
        for block, bits in blocks_of(tally.devices).items():
            seen[block] = seen.get(block, 0) | bits
        assert seen == blocks_of(one.device for one in ones)
    faults = [each for each in result.rejects if each.reason in FAULTY_REASONS]
    assert Counter((each.id, each.reason) for each in faults) == Counter(expected.faults)
    assert Counter(
        (reject.id, reject.reason, one)
        for reject in result.rejects
        if reject not in faults
        for one in ones_of(rejected(reject, entries))
    ) == Counter(expected.rejects)
    counted = sum(len(ones) for ones in expected.hours.values())
    assert result.counted == counted
    assert result.rejected == len(expected.rejects) + len(expected.faults)
    latest_ms = max((one.ts_ms for ones in expected.hours.values() for one in ones), default=0)
    assert result.latest_ms >= latest_ms


def rejected(reject: Reject, entries: Sequence[Entry]) -> Sequence[bytes]:
    """The fields of the entry, with those readings alone that are rejected."""
    (fields,) = (fields for entry_id, fields in entries if entry_id == reject.id)
    return masked(fields, reject.at, only=True) if reject.at else fields


def ones_of(fields: Sequence[bytes]) -> list[One]:
    """The readings that a well-formed entry holds, whatever they are worth."""
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    device, ts_ms = values[b"device"], int(values[b"ts"])
    if b"temp_f" in values:
        return [One(device, ts_ms, round(float(values[b"temp_f"]) * 1000))]
    letter, unit, gap = LAYOUTS[values[b"encoding"]]
    numbers = [number for (number,) in struct.iter_unpack(f"<{letter}", values[b"temps_f"])]
    devices = int(values.get(b"devices", len(numbers)))
    period_ms = int(values.get(b"period_ms", 0))
    if b"first" in values or devices > 1:
        first = int(values.get(b"first", 0))
        names = [b"%s-%d" % (device, first + index) for index in range(devices)]
    else:
        names = [device]
    return [
        One(names[position % devices], ts_ms + position // devices * period_ms, number * unit)
        for position, number in enumerate(numbers)
        if number != gap
    ]


times_ms = st.one_of(
    st.integers(DAY.day_ms, DAY.day_ms + DAY_MS - 1),
    st.sampled_from([0, 1, 2, 23, 24]).flatmap(
        lambda hour: st.integers(-3_000, 3_000).map(
            lambda ms: max(0, DAY.day_ms + hour * HOUR_MS + ms)
        )
    ),
)


@st.composite
def packed_entries(draw: st.DrawFn) -> list[bytes]:
    encoding = draw(st.sampled_from(sorted(LAYOUTS)))
    letter, unit, gap = LAYOUTS[encoding]
    devices, ticks = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    plausible = st.integers(-150_000 // unit, 250_000 // unit)
    faulty = st.sampled_from([gap, gap, gap + 1, -gap - 1, 0])
    value = plausible if draw(st.booleans()) else plausible | faulty
    numbers = draw(st.lists(value, min_size=devices * ticks, max_size=devices * ticks))
    fields = {
        b"device": draw(st.sampled_from([b"a", b"b", b"a-1", b"-"])),
        b"ts": b"%d" % draw(times_ms),
        b"encoding": encoding,
        b"temps_f": struct.pack(f"<{len(numbers)}{letter}", *numbers),
    }
    if draw(st.booleans()):
        fields[b"first"] = b"%d" % draw(st.integers(0, 2_000))
    if ticks > 1 or draw(st.booleans()):
        fields[b"devices"] = b"%d" % devices
        fields[b"period_ms"] = b"%d" % draw(
            st.sampled_from([1, 1_000, 1_800_000, HOUR_MS, 5 * HOUR_MS])
        )
    order = draw(st.permutations(list(fields)))
    return [part for name in order for part in (name, fields[name])]


@st.composite
def plain_entries(draw: st.DrawFn) -> list[bytes]:
    device = draw(st.sampled_from([b"a", b"a-0", b"a-7", b"a-1-3", b"b", b"unknown"]))
    temp_f = b"%.3f" % (draw(st.integers(-160_000, 260_000)) / 1000)
    pairs = [(b"device", device), (b"ts", b"%d" % draw(times_ms)), (b"temp_f", temp_f)]
    return [part for pair in draw(st.permutations(pairs)) for part in pair]


#: Entries that cannot be decoded, each with a reason of its own.
FAULTY = [
    [b"encoding", b"i16/10", b"temps_f", b"odd"],
    [b"temp_f", b"warm"],
    [b"humidity", b"40"],
]
FAULTY_REASONS = [Reason.BAD_ARRAY, Reason.NOT_A_NUMBER, Reason.NO_TEMPERATURE]

batches = st.lists(
    st.one_of(packed_entries(), plain_entries(), st.sampled_from(FAULTY)), max_size=8
).map(lambda entries: [(b"%d-%d" % (DAY.day_ms, n), each) for n, each in enumerate(entries)])
rules = st.builds(
    Rules,
    min_milli_f=st.sampled_from([-150_000, -149_999, 1, -(1 << 62)]),
    max_milli_f=st.sampled_from([250_000, 249_999, 1 << 62]),
    latest_ms=st.none() | times_ms,
    no_reading_milli_f=st.sampled_from([frozenset[int](), frozenset([0, 3, 100_000, 250_000])]),
)


@given(batch=batches, rules=rules)
def test_any_mix_folds_into_what_the_readings_one_by_one_would(
    batch: list[Entry], rules: Rules
) -> None:
    check(aggregate_entries(DAY, batch, rules), batch, model(batch, rules))


@given(batch=batches, rules=rules, data=st.data())
def test_the_order_of_delivery_changes_no_tally(
    batch: list[Entry], rules: Rules, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(batch))

    assert (
        aggregate_entries(DAY, shuffled, rules).partials
        == aggregate_entries(DAY, batch, rules).partials
    )


@given(batch=batches, rules=rules)
def test_what_is_rejected_folds_again_into_just_that(batch: list[Entry], rules: Rules) -> None:
    """So that it can be counted from quarantine."""
    for reject in aggregate_entries(DAY, batch, rules).rejects:
        again = aggregate_entries(DAY, [(reject.id, rejected(reject, batch))], rules)

        assert again.partials == {}
        (found,) = again.rejects
        assert (found.id, found.reason, found.readings) == (*reject[:2], reject.readings)


@given(batch=batches, rules=rules)
def test_without_what_is_rejected_the_rest_is_the_same(batch: list[Entry], rules: Rules) -> None:
    """So that it can be left out of a recount."""
    folded = aggregate_entries(DAY, batch, rules)
    whole = {reject.id for reject in folded.rejects if not reject.at}
    rest = {entry_id: fields for entry_id, fields in batch if entry_id not in whole}
    for reject in folded.rejects:
        if reject.at:
            rest[reject.id] = masked(rest[reject.id], reject.at, only=False)

    again = aggregate_entries(DAY, list(rest.items()), rules)

    assert again.partials == folded.partials
    assert again.rejects == []


def test_an_entry_no_reading_of_which_can_be_used_is_rejected_as_a_whole() -> None:
    fields = [b"device", b"a", b"ts", b"%d" % DAY.end_ms, b"encoding", b"i16/10", b"temps_f"]
    array = struct.pack("<4h", 700, -(2**15), 710, 720)

    (reject,) = aggregate_entries(DAY, [(b"1-0", [*fields, array])], Rules()).rejects

    assert reject == Reject(b"1-0", Reason.WRONG_DAY, (), 3)


def test_a_bad_reading_is_rejected_alone() -> None:
    ts = b"%d" % DAY.day_ms
    array = struct.pack("<4h", 700, -(2**15), 9_999, 720)
    fields = [b"device", b"a", b"ts", ts, b"encoding", b"i16/10", b"temps_f", array]

    folded = aggregate_entries(DAY, [(b"1-0", fields)], Rules())

    assert folded.rejects == [Reject(b"1-0", Reason.IMPLAUSIBLE, (), 1, b"\x04")]
    assert (folded.partials[0].count, folded.partials[0].blocks) == (2, {b"a-0": 0b1001})


def test_what_a_sensor_gives_in_place_of_a_reading_is_rejected_alone() -> None:
    ts = b"%d" % DAY.day_ms
    array = struct.pack("<4h", 700, 850, -(2**15), 9_999)
    fields = [b"device", b"a", b"ts", ts, b"encoding", b"i16/10", b"temps_f", array]
    rules = Rules(no_reading_milli_f=frozenset([85_000, 85_001, -127_000]))

    folded = aggregate_entries(DAY, [(b"1-0", fields)], rules)

    assert folded.rejects == [
        Reject(b"1-0", Reason.NO_READING, (), 1, b"\x02"),
        Reject(b"1-0", Reason.IMPLAUSIBLE, (), 1, b"\x08"),
    ]
    assert (folded.partials[0].count, folded.partials[0].blocks) == (1, {b"a-0": 0b0001})


def test_ticks_too_far_in_the_future_are_rejected_and_those_before_them_count() -> None:
    ts, array = b"%d" % DAY.day_ms, struct.pack("<4h", 700, 710, 720, 730)
    fields = [b"device", b"a", b"ts", ts, b"devices", b"1", b"period_ms", b"1000"]
    entry = (b"1-0", [*fields, b"encoding", b"i16/10", b"temps_f", array])

    folded = aggregate_entries(DAY, [entry], Rules(latest_ms=DAY.day_ms + 2_000))

    assert folded.rejects == [Reject(b"1-0", Reason.FAR_FUTURE, (), 1, b"\x08")]
    assert (folded.partials[0].count, folded.latest_ms) == (3, DAY.day_ms + 2_000)


def test_an_entry_without_any_reading_is_acknowledged_and_counts_nothing() -> None:
    array = struct.pack("<2h", -(2**15), -(2**15))
    fields = [b"ts", b"%d" % DAY.day_ms, b"encoding", b"i16/10", b"temps_f", array]

    assert aggregate_entries(DAY, [(b"1-0", fields)], Rules()) == BatchAggregate(
        [b"1-0"], {}, [], DAY.day_ms
    )
