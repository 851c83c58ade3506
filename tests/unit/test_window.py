"""From entries to what a batch adds to each hour: nothing is lost, and nothing counted twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from aggregator.aggregates import BatchAggregate
from aggregator.window import MOST_BYTES, MOST_FIELDS, aggregate_entries, kept
from hourglass.model.entries import ARRAY, Reject
from hourglass.model.keys import DAY_MS, HOUR_MS, Keyspace
from hourglass.model.readings import TIME_OF_DAY, Reason, Rules

DAY = Keyspace().containing(1_735_689_600_000)  # 1 January 2025
RULES = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An entry, and what must become of it."""

    id: bytes
    fields: Sequence[bytes]
    ts_ms: int = 0
    degrees: Decimal = Decimal(0)
    device: bytes = b"unknown"
    reason: Reason | None = None

    @property
    def entry(self) -> tuple[bytes, list[bytes]]:
        return self.id, [*self.fields]


@st.composite
def usable(draw: st.DrawFn, number: int) -> Sent:
    offset_ms = draw(st.integers(0, DAY_MS - 1) | st.integers(0, 2 * HOUR_MS))
    ts_ms = DAY.day_ms + offset_ms
    degrees = Decimal(draw(st.integers(-150_000, 250_000))).scaleb(-3)
    device = draw(st.sampled_from([b"a", b"b", b"c"]))
    text = str(degrees).encode()
    own_time = draw(st.booleans())
    name, stamp = draw(st.sampled_from([(b"ts", ts_ms), (TIME_OF_DAY, offset_ms)]))
    fields = [b"device", device, name, b"%d" % stamp, b"temp_f", text]
    return Sent(
        id=b"%d-%d" % (DAY.day_ms if own_time else ts_ms, number),
        fields=fields if own_time else [b"temp_f", text, b"device", device],
        ts_ms=ts_ms,
        degrees=degrees,
        device=device,
    )


@st.composite
def unusable(draw: st.DrawFn, number: int) -> Sent:
    fields, reason = draw(
        st.sampled_from(
            [
                ([b"device", b"a"], Reason.NO_TEMPERATURE),
                ([b"temp_f", b"hot"], Reason.NOT_A_NUMBER),
                ([b"temp_f", b"nan"], Reason.NOT_FINITE),
                ([b"temp_f", b"1000"], Reason.IMPLAUSIBLE),
                ([b"temp_f", b"73", b"ts", b"noon"], Reason.BAD_TIMESTAMP),
                ([b"temp_f", b"73", b"ts", b"%d" % DAY_MS], Reason.WRONG_DAY),
            ]
        )
    )
    return Sent(id=b"%d-%d" % (DAY.day_ms, number), fields=fields, reason=reason)


@st.composite
def batches(draw: st.DrawFn) -> list[Sent]:
    size = draw(st.integers(0, 30))
    return [draw(st.one_of(usable(number), unusable(number))) for number in range(size)]


def folded(batch: Sequence[Sent]) -> BatchAggregate:
    return aggregate_entries(DAY, [sent.entry for sent in batch], RULES)


def by_hour(batch: Sequence[Sent]) -> dict[int, list[Sent]]:
    hours: defaultdict[int, list[Sent]] = defaultdict(list)
    for sent in batch:
        if sent.reason is None:
            hours[(sent.ts_ms - DAY.day_ms) // HOUR_MS].append(sent)
    return dict(hours)


@given(batch=batches())
def test_every_entry_is_acknowledged_once_in_the_order_of_delivery(batch: list[Sent]) -> None:
    assert folded(batch).ids == [sent.id for sent in batch]


@given(batch=batches())
def test_every_entry_is_counted_or_rejected_and_never_both(batch: list[Sent]) -> None:
    result = folded(batch)

    counted = sum(tally.count for tally in result.partials.values())
    assert counted + len(result.rejects) == len(batch)
    assert {hour: tally.count for hour, tally in result.partials.items()} == {
        hour: len(of_hour) for hour, of_hour in by_hour(batch).items()
    }


@given(batch=batches())
def test_a_tally_is_what_exact_arithmetic_gives(batch: list[Sent]) -> None:
    tallies = folded(batch).partials

    for hour, of_hour in by_hour(batch).items():
        tally, degrees = tallies[hour], [sent.degrees for sent in of_hour]
        assert tally.sum_milli_f == sum(degrees) * 1000
        assert tally.min_milli_f == min(degrees) * 1000
        assert tally.max_milli_f == max(degrees) * 1000
        assert tally.devices == {sent.device for sent in of_hour}


@given(batch=batches(), seed=st.integers())
def test_the_order_of_delivery_changes_no_tally(batch: list[Sent], seed: int) -> None:
    shuffled = [*batch]
    Random(seed).shuffle(shuffled)

    assert folded(shuffled).partials == folded(batch).partials
    assert sorted(folded(shuffled).rejects) == sorted(folded(batch).rejects)


@given(batch=batches())
def test_a_reject_carries_its_id_its_reason_and_its_fields(batch: list[Sent]) -> None:
    assert folded(batch).rejects == [
        Reject(sent.id, sent.reason, [*sent.fields]) for sent in batch if sent.reason is not None
    ]


def test_an_entry_above_the_limit_is_rejected_with_its_size_and_the_rest_counts() -> None:
    note = b"n" * (RULES.max_entry_bytes - len(b"temp_f73note"))
    fits = (b"1735689600000-1", [b"temp_f", b"73", b"note", note])
    larger = (b"1735689600000-2", [b"temp_f", b"73", b"note", note + b"n"])

    result = aggregate_entries(DAY, [fits, larger, fits], RULES)

    assert result.partials[0].count == 2
    (reject,) = result.rejects
    assert (reject.id, reject.reason) == (larger[0], Reason.TOO_LARGE)
    assert reject.explanation == (
        "entry is larger than HOURGLASS_MAX_ENTRY_BYTES allows: 1000001 bytes"
    )


@given(batch=batches())
def test_the_latest_time_is_that_of_the_usable_readings(batch: list[Sent]) -> None:
    times_ms = [sent.ts_ms for sent in batch if sent.reason is None]

    assert folded(batch).latest_ms == max(times_ms, default=DAY.day_ms)


@given(
    entries=st.lists(
        st.tuples(
            st.integers(DAY.day_ms - HOUR_MS, DAY.end_ms + HOUR_MS).map(lambda ms: b"%d-0" % ms),
            st.lists(st.tuples(st.sampled_from([b"temp_f", b"ts", b"x"]), st.binary())).map(
                lambda pairs: [part for pair in pairs for part in pair]
            ),
        )
    )
)
def test_nothing_is_lost_whatever_the_entries_hold(
    entries: list[tuple[bytes, list[bytes]]],
) -> None:
    result = aggregate_entries(DAY, entries, RULES)

    counted = sum(tally.count for tally in result.partials.values())
    assert counted + len(result.rejects) == len(result.ids) == len(entries)
    assert all(0 <= hour < 24 for hour in result.partials)


def test_no_entries_fold_into_nothing() -> None:
    assert aggregate_entries(DAY, [], RULES) == BatchAggregate([], {}, [], DAY.day_ms)


@given(
    fields=st.dictionaries(
        st.sampled_from([b"temp_f", b"ts", TIME_OF_DAY, b"device"])
        | st.binary(max_size=2 * MOST_BYTES),
        st.binary(max_size=2 * MOST_BYTES),
        max_size=2 * MOST_FIELDS,
    ).filter(lambda fields: ARRAY not in fields)
)
def test_quarantine_keeps_a_bounded_part_of_an_entry_that_of_a_reading_first(
    fields: dict[bytes, bytes],
) -> None:
    flat = [part for pair in fields.items() for part in pair]

    found = kept(flat)

    assert len(found) <= 2 * MOST_FIELDS
    assert max(map(len, found), default=0) <= MOST_BYTES
    shown = dict(zip(found[::2], found[1::2], strict=True))
    for name in (b"temp_f", b"ts", TIME_OF_DAY, b"device"):
        assert shown.get(name) == (fields[name][:MOST_BYTES] if name in fields else None)
    if len(fields) <= MOST_FIELDS and max(map(len, flat), default=0) <= MOST_BYTES:
        assert [*found] == flat


def test_quarantine_keeps_no_array() -> None:
    assert kept([b"device", b"a", ARRAY, b"\0\0"]) == ()
