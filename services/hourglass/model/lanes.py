"""The lanes of a day, and the assignment of devices to lanes. Pure.

The lanes of a day are chosen once for all producers: see hourglass.cluster.partitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from zlib import crc32

from hourglass.model.keys import LANE_NUMBERS, Partition


def place(device: bytes, places: int) -> int:
    """The place of a device, from 0 to `places` - 1; a pure function of its name."""
    return crc32(device) % places


def share_out(devices: Iterable[str], places: int) -> list[list[str]]:
    """The devices of each place, without empty places."""
    shares: dict[int, list[str]] = {}
    for device in devices:
        shares.setdefault(place(device.encode(), places), []).append(device)
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
