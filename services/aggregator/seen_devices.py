"""Which devices the hour records know already: what a batch adds is told once. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from aggregator.window import PartialAggregate
from hourglass.model.devices import blocks_of

#: The hours in progress; an old one that is told of again costs a look-up at worst.
_HOURS_KEPT = 3
#: More hours are kept as long as their names are no more than these.
_NAMES_KEPT = 100_000


@dataclass(slots=True)
class _Hour:
    names: set[bytes] = field(default_factory=set[bytes])
    blocks: dict[bytes, int] = field(default_factory=dict[bytes, int])


@dataclass(slots=True)
class SeenDevices:
    """The devices of each hour that were committed over one connection."""

    _hours: defaultdict[int, _Hour] = field(default_factory=lambda: defaultdict(_Hour))

    def news(self, hour: int, tally: PartialAggregate) -> dict[bytes, int]:
        """The blocks of devices in `tally`, without those of which all is known."""
        known = self._hours[hour]
        blocks = blocks_of(tally.devices - known.names)
        for block, bits in tally.blocks.items():
            blocks[block] = blocks.get(block, 0) | bits
        return {block: bits for block, bits in blocks.items() if bits & ~known.blocks.get(block, 0)}

    def know(self, tallies: Mapping[int, PartialAggregate]) -> None:
        """What is in `tallies` has been committed."""
        for hour, tally in tallies.items():
            known = self._hours[hour]
            for block, bits in self.news(hour, tally).items():
                known.blocks[block] = known.blocks.get(block, 0) | bits
            known.names |= tally.devices
        for hour in sorted(self._hours)[:-_HOURS_KEPT]:
            if sum(len(each.names) for each in self._hours.values()) <= _NAMES_KEPT:
                break
            del self._hours[hour]


def flat(blocks: Mapping[bytes, int]) -> list[bytes]:
    """Block and bits in turn, as the commit script takes them; the lowest bit is the first byte's
    lowest."""
    return [
        part
        for block, bits in blocks.items()
        for part in (block, bits.to_bytes((bits.bit_length() + 7) // 8, "little"))
    ]
