"""A day shared out to lanes: which there are, and which of them a device writes to. Pure.

The lanes of a day are decided once, for all its producers: see hourglass.partitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from zlib import crc32

from hourglass.keys import LANE_NUMBERS, Partition


def place(device: bytes, places: int) -> int:
    """Which of `places` a device belongs to, 0 to `places` - 1; always the same one."""
    return crc32(device) % places


def share_out(devices: Iterable[str], places: int) -> list[list[str]]:
    """The devices of each place that has any."""
    shares: dict[int, list[str]] = {}
    for device in devices:
        shares.setdefault(place(device.encode(), places), []).append(device)
    return [devices for _, devices in sorted(shares.items())]


def spread(
    day: Partition, count: int, shards: Collection[str], shard_of: Callable[[str], str]
) -> list[Partition]:
    """`count` lanes of `day`, so that no shard has two more than another, where that can be.

    Neighbouring numbers often share a shard, so it takes the first ones that do not.

    shard_of: the shard that holds the key of a name, one of `shards`
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
    """The numbers of the lanes among `partitions`, as they stand under `Partition.lanes`."""
    return ",".join(str(each.lane) for each in partitions if each.lane is not None)


def shares(day: Partition, text: bytes) -> tuple[Partition, ...]:
    """The partitions that `day` is shared out to, by the text under its `Partition.lanes`: lanes,
    or the plain one."""
    return written_to(day, text.partition(b"+")[0]) or (day,)


def written_to(day: Partition, text: bytes) -> tuple[Partition, ...]:
    """Those lanes, and others that were written to before a failover lost that they were."""
    numbers = text.replace(b"+", b",").split(b",")
    keyspace, day_ms = day.keyspace, day.day_ms
    return tuple(keyspace.partition(day_ms, int(each)) for each in numbers if _is_lane(each))


def _is_lane(number: bytes) -> bool:
    """Whether a lane can have that number: what stands under a foreign key may name any."""
    return number.isdigit() and len(number) <= 4 and int(number) < LANE_NUMBERS
