"""A day shared out to lanes: each device to one of them, and they to all shards alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from hourglass.model.devices import encode, lane_index, share_out, shares, spread, written_to
from hourglass.model.keys import DAY_MS, LANE_NUMBERS, MOST_LANES, Keyspace, Partition

SLOTS = 16_384
DAY = Keyspace().containing(1_735_689_600_000)  # 1 January 2025

counts = st.integers(1, MOST_LANES)
days = st.integers(0, 100 * 365).map(lambda number: Keyspace().partition(number * DAY_MS))
lanes_of = st.sets(st.integers(0, LANE_NUMBERS - 1)).map(
    lambda numbers: (
        tuple(Keyspace().partition(DAY.day_ms, number) for number in sorted(numbers)) or (DAY,)
    )
)


def test_a_devices_place_is_the_same_in_every_process_and_version() -> None:
    # CRC-32 has 0xCBF43926 for a check value.
    assert [lane_index(b"123456789", places) for places in (1, 6, 1 << 32)] == [0, 2, 0xCBF43926]
    assert lane_index(b"porch", 6) == 108_633_527 % 6


@given(device=st.binary(max_size=128), places=counts)
def test_a_device_has_one_of_the_places(device: bytes, places: int) -> None:
    assert 0 <= lane_index(device, places) < places


@given(names=st.lists(st.text(max_size=9), unique=True), places=counts)
def test_each_device_is_shared_out_once_with_those_of_its_place(
    names: list[str], places: int
) -> None:
    shares = share_out(names, places)

    assert sorted(name for share in shares for name in share) == sorted(names)
    for share in shares:
        assert len({lane_index(name.encode(), places) for name in share}) == 1


@pytest.mark.parametrize("places", [2, 3, 6, 12, 64])
def test_many_devices_fill_every_place_alike(places: int) -> None:
    held = Counter(lane_index(b"porch-%d" % number, places) for number in range(1000 * places))

    assert len(held) == places
    assert 900 <= min(held.values()) <= max(held.values()) <= 1100


def contiguous(shards: int) -> Callable[[str], str]:
    """As redis-cli makes a cluster: equal ranges of slots."""
    return lambda stream: str(key_slot(stream.encode()) * shards // SLOTS)


def names_of(shards: int) -> list[str]:
    return [str(number) for number in range(shards)]


@given(day=days, shards=st.integers(1, 12), count=st.integers(1, 24))
def test_no_shard_gets_two_lanes_more_than_another(day: Partition, shards: int, count: int) -> None:
    shard_of = contiguous(shards)

    lanes = spread(day, count, names_of(shards), shard_of)

    held = Counter(dict.fromkeys(names_of(shards), 0))
    held.update(shard_of(lane.stream) for lane in lanes)
    assert sum(held.values()) == len(set(lanes)) == count
    assert max(held.values()) - min(held.values()) <= 1


@given(
    owners=st.lists(st.integers(0, 5), min_size=16, max_size=16),
    count=counts,
)
def test_it_finds_all_the_lanes_however_the_slots_lie(owners: list[int], count: int) -> None:
    # A shard with hardly a slot may get fewer; the others take them.
    lanes = spread(
        DAY,
        count,
        sorted({str(owner) for owner in owners}),
        lambda stream: str(owners[key_slot(stream.encode()) % 16]),
    )

    assert len(lanes) == count
    assert lanes == sorted(set(lanes))
    assert {lane.day for lane in lanes} == {DAY}


def test_a_shard_without_any_name_leaves_its_lanes_to_the_others() -> None:
    lanes = spread(
        DAY, 9, ["one", "other", "empty"], lambda stream: ("one", "other")[len(stream) % 2]
    )

    assert len(lanes) == 9


@given(partitions=lanes_of)
def test_a_day_finds_its_lanes_again(partitions: tuple[Partition, ...]) -> None:
    text = encode(partitions).encode()

    assert shares(DAY, text) == partitions
    assert written_to(DAY, text) == (() if partitions == (DAY,) else partitions)


@given(partitions=lanes_of, others=lanes_of)
def test_other_lanes_that_were_written_to_are_read_and_written_to_no_more(
    partitions: tuple[Partition, ...], others: tuple[Partition, ...]
) -> None:
    text = f"{encode(partitions)}+{encode(others)}".encode()

    assert shares(DAY, text) == partitions
    assert {DAY, *written_to(DAY, text)} == {DAY, *partitions, *others}


@given(text=st.binary(max_size=20))
def test_whatever_stands_there_names_partitions_of_the_day(text: bytes) -> None:
    assert {each.day for each in (*shares(DAY, text), *written_to(DAY, text))} == {DAY}
