"""What the hour records are told of devices: each device once, hour by hour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import seen_devices as roster_module
from aggregator.seen_devices import SeenDevices, flat
from aggregator.window import PartialAggregate
from hourglass.model.devices import blocks_of

names = st.frozensets(st.sampled_from([b"a", b"a-0", b"a-7", b"a-1024", b"a-2000", b"b-7"]))
tallies = st.tuples(names, names.map(blocks_of)).map(
    lambda seen: PartialAggregate(devices=seen[0], blocks=seen[1])
)


def told(blocks: dict[bytes, int]) -> set[tuple[bytes, int]]:
    return {
        (block, bit)
        for block, bits in blocks.items()
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    }


@given(batches=st.lists(st.tuples(st.integers(0, 2), tallies)))
def test_whatever_was_seen_is_told_and_what_is_known_whole_is_not_told_again(
    batches: list[tuple[int, PartialAggregate]],
) -> None:
    roster = SeenDevices()
    known: dict[int, set[tuple[bytes, int]]] = {}
    for hour, tally in batches:
        seen = told(blocks_of(tally.devices)) | told(tally.blocks)
        news = told(roster.news(hour, tally))
        assert seen - known.get(hour, set()) <= news <= seen
        assert bool(news) == bool(seen - known.get(hour, set()))
        roster.know({hour: tally})
        known.setdefault(hour, set()).update(seen)


def test_nothing_is_known_before_it_is_committed() -> None:
    roster, tally = SeenDevices(), PartialAggregate(devices=frozenset({b"a"}))

    assert roster.news(0, tally) == roster.news(0, tally) == {b"a": 1}


@pytest.mark.parametrize(("names_kept", "told_again"), [(0, [0, 1]), (4, [0]), (5, [])])
def test_an_hour_long_past_is_told_again_where_there_are_many_names(
    monkeypatch: pytest.MonkeyPatch, names_kept: int, told_again: list[int]
) -> None:
    monkeypatch.setattr(roster_module, "_NAMES_KEPT", names_kept)
    roster, tally = SeenDevices(), PartialAggregate(devices=frozenset({b"a"}))
    for hour in range(5):
        roster.know({hour: tally})

    assert [hour for hour in range(5) if roster.news(hour, tally)] == told_again


def test_bits_travel_lowest_first() -> None:
    assert flat({b"a-0": 1 | 1 << 9, b"b": 1}) == [b"a-0", b"\x01\x02", b"b", b"\x01"]
