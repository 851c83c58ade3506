"""Every device's name has one bit: counting bits counts devices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.devices import (
    BLOCK,
    MOST_NUMBERS,
    block_and_bit,
    blocks_of,
    blocks_of_range,
    device_names,
    names_in,
    unseen,
)

bases = st.sampled_from([b"", b"a", b"a-", b"a-1", b"1", b"pod-0", b"\xff"]) | st.binary(max_size=6)
numbers = st.integers(0, 3 * BLOCK) | st.integers(0, MOST_NUMBERS - 1)
#: Names that look as if they were numbered, and are not, among those that are.
digits = st.sampled_from([b"", b"0", b"00", b"7", b"07", b"-7", b"7 ", b"\xb2", b"10000000"])
names = st.one_of(
    st.binary(max_size=12),
    st.tuples(bases, numbers).map(lambda pair: b"%s-%d" % pair),
    st.tuples(bases, digits).map(lambda pair: b"%s-%s" % pair),
)


def bits(blocks: dict[bytes, int]) -> int:
    return sum(seen.bit_count() for seen in blocks.values())


@given(seen=st.lists(names))
def test_as_many_bits_as_there_are_names(seen: list[bytes]) -> None:
    assert bits(blocks_of(seen)) == len(set(seen))


@given(first=st.sets(names), second=st.sets(names))
def test_names_share_a_bit_only_with_themselves(first: set[bytes], second: set[bytes]) -> None:
    one, other = blocks_of(first), blocks_of(second)
    common = {block: one[block] & other[block] for block in one.keys() & other.keys()}

    assert bits(common) == len(first & second)


@given(name=names)
def test_a_block_is_called_by_its_first_name(name: bytes) -> None:
    block, bit = block_and_bit(name)

    assert block_and_bit(block) == (block, 0)
    assert 0 <= bit < BLOCK


@given(seen=st.lists(names))
def test_blocks_give_back_the_names_they_were_made_of(seen: list[bytes]) -> None:
    assert sorted(names_in(blocks_of(seen))) == sorted(set(seen))


@given(before=st.sets(names), since=st.sets(names))
def test_who_is_unseen_was_seen_before_and_not_since(before: set[bytes], since: set[bytes]) -> None:
    silent = unseen(blocks_of(before), blocks_of(since))

    assert set(names_in(silent)) == before - since
    assert bits(silent) == len(before - since)


def test_names_come_by_their_number_within_a_block() -> None:
    seen = [b"b", b"a-1030", b"a-10", b"a-9", b"a-0"]

    assert list(names_in(blocks_of(seen))) == [b"a-0", b"a-9", b"a-10", b"a-1030", b"b"]


@given(base=bases, first=st.integers(0, 2 * BLOCK + 1), seen=st.integers(0, 1 << 2 * BLOCK))
def test_a_range_of_numbers_is_what_its_names_are(base: bytes, first: int, seen: int) -> None:
    named = [b"%s-%d" % (base, first + bit) for bit in range(seen.bit_length()) if seen >> bit & 1]

    assert dict(blocks_of_range(base, first, seen)) == blocks_of(named)


def test_the_last_numbers_are_numbered_too() -> None:
    last = MOST_NUMBERS - 1

    assert dict(blocks_of_range(b"a", last, 1)) == blocks_of([b"a-%d" % last])


@given(
    producers=st.lists(st.from_regex(r"\A[a-z0-9-]{1,12}\Z"), unique=True, max_size=10),
    count=st.integers(1, 12),
)
def test_replicas_never_share_a_devices_name(producers: list[str], count: int) -> None:
    every = [name for producer in producers for name in device_names(producer, count)]

    assert len(every) == len(set(every)) == len(producers) * count


def test_a_single_device_has_its_producers_name() -> None:
    assert device_names("producer-7", 1) == ["producer-7"]
    assert device_names("producer-7", 2) == ["producer-7-0", "producer-7-1"]
