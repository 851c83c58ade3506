"""What a batch adds to each hour, and how the commit script takes it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hourglass.cluster.scripts import packed
from hourglass.model.devices import blocks_of
from hourglass.model.entries import Reject
from hourglass.model.readings import Readings

#: The hours in progress; a device of an older one that is sent again costs a look-up at worst.
_HOURS_KEPT = 3
#: More hours are kept as long as their names are no more than these.
_NAMES_KEPT = 100_000

#: What a commit may amount to, in units of about a microsecond of Redis on a core of its own: a
#: shard serves no other client meanwhile. An entry costs one to look up and to acknowledge.
MOST_WORK = 8_000
#: A block of devices is read and written, and each of its bytes united with what is there.
BLOCK_WORK, BYTES_OF_BITS = 4, 5
#: A reject is an entry of the quarantine's stream, and its bytes are copied a few times.
REJECT_WORK, BYTES_OF_FIELDS = 3, 250


@dataclass(slots=True)
class PartialAggregate:
    """What a batch adds to one hour; temperatures in thousandths of a degree.

    devices: names seen; `blocks`: those seen in packed entries, as hourglass.model.devices has them
    """

    count: int = 0
    sum_milli_f: int = 0
    min_milli_f: int = 1 << 62
    max_milli_f: int = -(1 << 62)
    devices: frozenset[bytes] = frozenset()
    blocks: dict[bytes, int] = field(default_factory=dict[bytes, int])

    @classmethod
    def of(cls, readings: Readings) -> PartialAggregate:
        """The aggregate of `readings`, which holds one at least."""
        temperatures = readings.milli_f
        return cls(
            len(temperatures),
            sum(temperatures),
            min(temperatures),
            max(temperatures),
            frozenset(readings.devices),
        )


@dataclass(slots=True)
class BatchAggregate:
    """The aggregate of a batch: every entry is in `ids`, and each of its readings in the partial
    aggregate of one hour (0 to 23) or among the rejects.

    latest_ms: no reading counted is later; the day's start if there is none
    """

    ids: list[bytes]
    partials: dict[int, PartialAggregate]
    rejects: list[Reject] = field(default_factory=list[Reject])
    latest_ms: int = 0

    @property
    def counted(self) -> int:
        """Readings in the partial aggregates."""
        return sum(partial.count for partial in self.partials.values())

    @property
    def rejected(self) -> int:
        """Readings among the rejects."""
        return sum(reject.readings for reject in self.rejects)


@dataclass(slots=True)
class _Hour:
    names: set[bytes] = field(default_factory=set[bytes])
    blocks: dict[bytes, int] = field(default_factory=dict[bytes, int])


@dataclass(slots=True)
class SeenDevices:
    """The devices of each hour that were committed over one connection: the hour records have them,
    so they are not sent again."""

    _hours: defaultdict[int, _Hour] = field(default_factory=lambda: defaultdict(_Hour))

    def unseen(self, hour: int, partial: PartialAggregate) -> dict[bytes, int]:
        """The blocks of devices in `partial`, without those that were committed whole."""
        seen = self._hours[hour]
        blocks = blocks_of(partial.devices - seen.names)
        for block, bits in partial.blocks.items():
            blocks[block] = blocks.get(block, 0) | bits
        return {block: bits for block, bits in blocks.items() if bits & ~seen.blocks.get(block, 0)}

    def mark_committed(self, partials: Mapping[int, PartialAggregate]) -> None:
        for hour, partial in partials.items():
            seen = self._hours[hour]
            for block, bits in self.unseen(hour, partial).items():
                seen.blocks[block] = seen.blocks.get(block, 0) | bits
            seen.names |= partial.devices
        for hour in sorted(self._hours)[:-_HOURS_KEPT]:
            if sum(len(each.names) for each in self._hours.values()) <= _NAMES_KEPT:
                break
            del self._hours[hour]


def encoded(aggregate: BatchAggregate, seen: SeenDevices) -> list[Any]:
    """Partial aggregates and rejects as a script that counts takes them."""
    partials = [
        [hour, partial.count, str(partial.sum_milli_f), partial.min_milli_f, partial.max_milli_f,
         flat(seen.unseen(hour, partial))]
        for hour, partial in aggregate.partials.items()
    ]  # fmt: skip
    rejects = [
        [reject.id, reject.explanation, packed(reject.fields) if reject.fields else b"",
         reject.readings, reject.at]
        for reject in aggregate.rejects
    ]  # fmt: skip
    return [partials, rejects]


def flat(blocks: Mapping[bytes, int]) -> list[bytes]:
    """Block and bits by turns, as the commit script takes them; the lowest bit is the first byte's
    lowest."""
    return [
        part
        for block, bits in blocks.items()
        for part in (block, bits.to_bytes((bits.bit_length() + 7) // 8, "little"))
    ]


def work_of(ids: Sequence[bytes], partials: Sequence[Any], rejects: Sequence[Any]) -> int:
    """What a commit of these, as `encoded` gives them, costs the shard, in units of MOST_WORK."""
    work = len(ids)
    for *_, devices in partials:
        work += len(devices) // 2 * BLOCK_WORK
        work += sum(map(len, devices[1::2])) // BYTES_OF_BITS
    for _, _, fields, _, at in rejects:
        work += REJECT_WORK + (len(fields) + len(at)) // BYTES_OF_FIELDS
    return work
