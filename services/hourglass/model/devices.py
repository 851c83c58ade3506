"""Device names, and sets of seen devices as bitmaps: one bit per device, in blocks.

The devices of a fleet are named `base-0`, `base-1` and so on. A name that ends in a number is one
bit in a block of 1,024 names, and the block has the name of its first device. Any other name is a
block with one bit. Every name has exactly one bit, so the number of bits is the number of devices,
whichever writers sent them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from zlib import crc32

from hourglass.model.keys import LANE_NUMBERS, Partition

#: Names, and bits, in a block: 128 bytes.
BLOCK = 1024

#: A number with more digits is part of the name, as in a serial number.
_MOST_DIGITS = 7

#: The greatest number plus one.
MOST_NUMBERS = 10**_MOST_DIGITS
Blocks = Mapping[bytes, int]


def device_names(producer: str, count: int) -> list[str]:
    """`count` names unique to the producer: its own name, with numbers from 0 if there are
    several."""
    return [producer] if count == 1 else [f"{producer}-{number}" for number in range(count)]


def block_and_bit(name: bytes) -> tuple[bytes, int]:
    """The block of `name`, and its bit in the block."""
    base, dash, digits = name.rpartition(b"-")
    if not dash or len(digits) > _MOST_DIGITS or not digits.isdigit():
        return name, 0
    number = int(digits)
    if len(digits) > 1 and digits[0] == ord("0"):  # `a-07` is not `a-7`
        return name, 0
    bit = number % BLOCK
    return b"%s-%d" % (base, number - bit), bit


def blocks_of(names: Iterable[bytes]) -> dict[bytes, int]:
    """The blocks with the bits of exactly these names."""
    blocks: dict[bytes, int] = {}
    for name in names:
        block, bit = block_and_bit(name)
        blocks[block] = blocks.get(block, 0) | 1 << bit
    return blocks


def unseen(before: Blocks, since: Blocks) -> dict[bytes, int]:
    """The blocks of the names in `before` that are not in `since`."""
    left = ((block, seen & ~since.get(block, 0)) for block, seen in before.items())
    return {block: bits for block, bits in left if bits}


def names_in(blocks: Blocks) -> Iterator[bytes]:
    """The names in these blocks, the inverse of `blocks_of`, ordered by block and number."""
    for block in sorted(blocks):
        base, _, first = block.rpartition(b"-")
        seen = blocks[block]
        while seen:
            bit = (seen & -seen).bit_length() - 1
            yield b"%s-%d" % (base, int(first) + bit) if bit else block
            seen &= seen - 1


def blocks_of_range(base: bytes, first: int, seen: int) -> Iterator[tuple[bytes, int]]:
    """The blocks of consecutive names, as from `blocks_of`; bit i of `seen` is the name
    `base-(first + i)`."""
    number = first - first % BLOCK
    seen <<= first - number
    while seen:
        if bits := seen & _WHOLE_BLOCK:
            yield b"%s-%d" % (base, number), bits
        seen >>= BLOCK
        number += BLOCK


_WHOLE_BLOCK = (1 << BLOCK) - 1


def lane_index(device: bytes, places: int) -> int:
    """The place of a device, from 0 to `places` - 1; a pure function of its name."""
    return crc32(device) % places


def share_out(devices: Iterable[str], places: int) -> list[list[str]]:
    """The devices of each place, without empty places."""
    shares: dict[int, list[str]] = {}
    for device in devices:
        shares.setdefault(lane_index(device.encode(), places), []).append(device)
    return [devices for _, devices in sorted(shares.items())]


def spread(
    day: Partition, count: int, shards: Collection[str], shard_of: Callable[[str], str]
) -> list[Partition]:
    """Choose `count` lanes of `day`, so that the numbers of lanes per shard differ by at most one,
    if that is possible.

    Consecutive lanes often share a shard, so it skips lanes of shards that have enough.

    shard_of: maps a key to its shard, one of `shards`
    """
    full, left_over = divmod(count, len(shards))
    held: Counter[str] = Counter()
    lanes: list[Partition] = []
    passed: list[Partition] = []
    for lane in day.numbered_lanes:
        if len(lanes) == count:
            break
        shard = shard_of(lane.stream)
        if held[shard] < full or (held[shard] == full and left_over):
            left_over -= held[shard] == full
            held[shard] += 1
            lanes.append(lane)
        else:
            passed.append(lane)
    return sorted([*lanes, *passed[: count - len(lanes)]])


def encode(partitions: Iterable[Partition]) -> str:
    """The lane numbers of `partitions` as text, the value of the key `Partition.lanes`."""
    return ",".join(str(each.lane) for each in partitions if each.lane is not None)


def shares(day: Partition, text: bytes) -> tuple[Partition, ...]:
    """The partitions that producers write `day` to: its lanes, or the plain partition.

    text: value of the key `Partition.lanes`
    """
    return written_to(day, text.partition(b"+")[0]) or (day,)


def written_to(day: Partition, text: bytes) -> tuple[Partition, ...]:
    """The lanes of `shares`, and lanes that were written to before a failover lost their record."""
    numbers = text.replace(b"+", b",").split(b",")
    keyspace, day_ms = day.keyspace, day.day_ms
    return tuple(keyspace.partition(day_ms, int(each)) for each in numbers if _is_lane(each))


def _is_lane(number: bytes) -> bool:
    """Whether the text is a valid lane number; a corrupt key may contain any text."""
    return number.isdigit() and len(number) <= 4 and int(number) < LANE_NUMBERS
