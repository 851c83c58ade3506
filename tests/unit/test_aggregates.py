"""The hour records get each device once, hour by hour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import aggregates
from aggregator.aggregates import PartialAggregate, SeenDevices, flat
from hourglass.model.devices import blocks_of

names = st.frozensets(st.sampled_from([b"a", b"a-0", b"a-7", b"a-1024", b"a-2000", b"b-7"]))
partials = st.tuples(names, names.map(blocks_of)).map(
    lambda seen: PartialAggregate(devices=seen[0], blocks=seen[1])
)


def bits_of(blocks: dict[bytes, int]) -> set[tuple[bytes, int]]:
    return {
        (block, bit)
        for block, bits in blocks.items()
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    }


@given(batches=st.lists(st.tuples(st.integers(0, 2), partials)))
def test_every_device_is_sent_and_a_committed_block_is_not_sent_again(
    batches: list[tuple[int, PartialAggregate]],
) -> None:
    seen_devices = SeenDevices()
    known: dict[int, set[tuple[bytes, int]]] = {}
    for hour, partial in batches:
        seen = bits_of(blocks_of(partial.devices)) | bits_of(partial.blocks)
        unseen = bits_of(seen_devices.unseen(hour, partial))
        assert seen - known.get(hour, set()) <= unseen <= seen
        assert bool(unseen) == bool(seen - known.get(hour, set()))
        seen_devices.mark_committed({hour: partial})
        known.setdefault(hour, set()).update(seen)


def test_no_device_counts_as_seen_before_it_is_committed() -> None:
    seen, partial = SeenDevices(), PartialAggregate(devices=frozenset({b"a"}))

    assert seen.unseen(0, partial) == seen.unseen(0, partial) == {b"a": 1}


@pytest.mark.parametrize(("names_kept", "sent_again"), [(0, [0, 1]), (4, [0]), (5, [])])
def test_devices_of_an_old_hour_are_sent_again_where_there_are_many_names(
    monkeypatch: pytest.MonkeyPatch, names_kept: int, sent_again: list[int]
) -> None:
    monkeypatch.setattr(aggregates, "_NAMES_KEPT", names_kept)
    seen, partial = SeenDevices(), PartialAggregate(devices=frozenset({b"a"}))
    for hour in range(5):
        seen.mark_committed({hour: partial})

    assert [hour for hour in range(5) if seen.unseen(hour, partial)] == sent_again


def test_bits_travel_lowest_first() -> None:
    assert flat({b"a-0": 1 | 1 << 9, b"b": 1}) == [b"a-0", b"\x01\x02", b"b", b"\x01"]
