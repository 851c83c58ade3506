"""Identities of readings: one bit per device and tick, by which Redis recognises repeated readings.

A device gives at most one reading in a tick. The bits of a partition are in one hash, in blocks of
8,000. A block belongs to a group of devices and holds some of their ticks, one row per tick.
Devices `base-N` form groups of 1, 1, 2, 4, ... 512, 1024, 1024, ... devices: a row has at most
twice as many bits as there are devices, and a batch touches few blocks whether it holds many
devices or many ticks. A device with any other name is a group of its own. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import msgpack

from hourglass.cluster.scripts import packed
from hourglass.model.entries import Packed, unpack
from hourglass.model.keys import Partition
from hourglass.model.readings import Rules

#: The usual width of a tick: devices that give more than one reading a second are rare.
TICK_MS = 1000
#: Bits in a block: 1,000 bytes, which with its header fills a size class of Redis' allocator.
BLOCK_BITS = 8000
_WIDEST = 1024
#: As in hourglass.model.devices: a number with more digits is part of the name.
_NUMBERED = re.compile(rb"(.*)-(0|[1-9][0-9]{0,6})", re.DOTALL)


class Block(NamedTuple):
    """The bits of a batch's readings in one block.

    field: the block's field in the hash
    offset: byte of the block at which `mask` begins
    mask: the bits, the first reading's at the lowest bit of a byte
    known: the bits of `mask` that Redis had already; empty if there are none
    """

    field: bytes
    offset: int
    mask: bytes
    known: bytes = b""

    @property
    def readings(self) -> int:
        return int.from_bytes(self.mask, "little").bit_count()

    def has(self, bit: int) -> bool:
        """Whether Redis had this bit of the block already."""
        byte = (bit >> 3) - self.offset
        return 0 <= byte < len(self.known) and bool(self.known[byte] >> (bit & 7) & 1)


def identify(
    devices: Iterable[bytes], times_ms: Iterable[int], tick_ms: int
) -> tuple[list[Block], list[int]]:
    """The bits of these readings; and the indices of readings whose bit an earlier one has.

    times_ms: in ms since the partition's start
    """
    blocks: dict[tuple[bytes, int], set[int]] = {}
    repeated: list[int] = []
    for index, (device, time_ms) in enumerate(zip(devices, times_ms, strict=True)):
        group, ticks, width, position = place(device)
        number, row = divmod(time_ms // tick_ms, ticks)
        bit = row * width + position
        bits = blocks.get((group, number))
        if bits is None:
            blocks[group, number] = {bit}
        elif bit in bits:
            repeated.append(index)
        else:
            bits.add(bit)
    found = [
        Block(field_of(tick_ms, group, number), *_mask(bits))
        for (group, number), bits in blocks.items()
    ]
    return found, repeated


def _mask(bits: Collection[int]) -> tuple[int, bytes]:
    """The first byte in which a bit is set, and the bytes from it to the last one."""
    first = min(bits) >> 3
    mask = bytearray((max(bits) >> 3) - first + 1)
    for bit in bits:
        mask[(bit >> 3) - first] |= 1 << (bit & 7)
    return first, bytes(mask)


def without_known(
    partition: Partition, payload: bytes, blocks: Iterable[Block], tick_ms: int
) -> tuple[bytes, int, int]:
    """The payload of a batch without the readings that Redis had already; the number of its
    readings and of its entries."""
    known = {block.field: block for block in blocks if block.known}

    def is_known(device: bytes, time_ms: int) -> bool:
        group, ticks, width, position = place(device)
        number, row = divmod(time_ms // tick_ms, ticks)
        block = known.get(field_of(tick_ms, group, number))
        return block is not None and block.has(row * width + position)

    flat, entries = cast(Any, msgpack).unpackb(payload, raw=True)
    plain: list[bytes] = []
    for device, time_ms, temp_f in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        if not is_known(device, int(time_ms)):
            plain += (device, time_ms, temp_f)
    count = len(plain) // 3
    left: list[Sequence[bytes]] = []
    for fields in entries:
        rest, readings = _entry_without(partition, fields, is_known)
        if readings:
            left.append(rest)
            count += readings
    return packed([plain, left]), count, len(plain) // 3 + len(left)


def _entry_without(
    partition: Partition, fields: Sequence[bytes], is_known: Callable[[bytes, int], bool]
) -> tuple[Sequence[bytes], int]:
    """The fields of a packed entry in which known readings are missing, and the number of its
    other readings."""
    from hourglass.model.packed_codec import bitmap, masked, present

    entry = unpack(partition, b"0-0", fields, Rules())
    here = present(entry)
    known = [at for at in here if is_known(*_identity(partition, entry, at))]
    if known:
        fields = masked(fields, bitmap(known, entry.size), only=False)
    return fields, len(here) - len(known)


def _identity(partition: Partition, entry: Packed, at: int) -> tuple[bytes, int]:
    tick, index = divmod(at, entry.devices)
    return entry.name(index), entry.ts_ms + tick * entry.period_ms - partition.day_ms


@lru_cache(maxsize=65_536)
def place(device: bytes) -> tuple[bytes, int, int, int]:
    """The group of a device, the ticks in a block of the group, the bits in a row, and the device's
    bit in a row."""
    name = _NUMBERED.fullmatch(device)
    number = int(name[2]) if name else 0
    width = min(_WIDEST, 1 << max(0, number.bit_length() - 1))
    position = number % width
    group = b"%s-%d" % (name[1], number - position) if name else device
    return group, BLOCK_BITS // width, width, position


def field_of(tick_ms: int, group: bytes, number: int) -> bytes:
    """The field of a block: bits of different tick widths do not mix."""
    return b"%d:%d:%s" % (tick_ms, number, group)
