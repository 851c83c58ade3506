"""Names of devices, and which of them were seen: a bit each, in blocks of numbered neighbours.

A fleet's devices are called `base-0`, `base-1` and so on. A name that ends in a number is one bit
in the block of 1,024 names it belongs to, called by the first of these; any other name is a block
of its own with one bit. Every name has one place, so counting bits counts devices, however and by
however many writers they were named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

#: Names in a block, and so bits: 128 bytes.
BLOCK = 1024
#: A number of more digits is taken for a part of the name, as in a serial number.
_MOST_DIGITS = 7
#: One more than the greatest number.
MOST_NUMBERS = 10**_MOST_DIGITS

Blocks = Mapping[bytes, int]


def device_names(producer: str, count: int) -> list[str]:
    """`count` names that no other producer has: the producer's own, numbered from 0 if several."""
    return [producer] if count == 1 else [f"{producer}-{number}" for number in range(count)]


def place(name: bytes) -> tuple[bytes, int]:
    """The block that `name` belongs to, and its bit there."""
    base, dash, digits = name.rpartition(b"-")
    if not dash or len(digits) > _MOST_DIGITS or not digits.isdigit():
        return name, 0
    number = int(digits)
    if len(digits) > 1 and digits[0] == ord("0"):  # `a-07` is not `a-7`
        return name, 0
    bit = number % BLOCK
    return b"%s-%d" % (base, number - bit), bit


def blocks_of(names: Iterable[bytes]) -> dict[bytes, int]:
    """The blocks in which just these names are seen."""
    blocks: dict[bytes, int] = {}
    for name in names:
        block, bit = place(name)
        blocks[block] = blocks.get(block, 0) | 1 << bit
    return blocks


def unseen(before: Blocks, since: Blocks) -> dict[bytes, int]:
    """The blocks of the names that are seen in `before` and not in `since`."""
    left = ((block, seen & ~since.get(block, 0)) for block, seen in before.items())
    return {block: bits for block, bits in left if bits}


def names_in(blocks: Blocks) -> Iterator[bytes]:
    """The names that `blocks_of` makes these blocks of, each once, by block and number."""
    for block in sorted(blocks):
        base, _, first = block.rpartition(b"-")
        seen = blocks[block]
        while seen:
            bit = (seen & -seen).bit_length() - 1
            yield b"%s-%d" % (base, int(first) + bit) if bit else block
            seen &= seen - 1


def blocks_of_range(base: bytes, first: int, seen: int) -> Iterator[tuple[bytes, int]]:
    """As `blocks_of`, of the names `base-first` and on; bit i of `seen` is number `first` + i."""
    number = first - first % BLOCK
    seen <<= first - number
    while seen:
        if bits := seen & _WHOLE_BLOCK:
            yield b"%s-%d" % (base, number), bits
        seen >>= BLOCK
        number += BLOCK


_WHOLE_BLOCK = (1 << BLOCK) - 1
