"""Which devices have fallen silent: seen in the hour before, and in the one in progress not yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from aggregator.progress import Progress
from averages_consumer.web.documents import Trouble
from hourglass.averages import HourRecord
from hourglass.cluster import Cluster
from hourglass.devices import Blocks, names_in, unseen
from hourglass.keys import HOUR_MS, Partition
from hourglass.overview import Overview
from hourglass.survey import oldest_waiting_ms
from hourglassctl.printable import printable

#: A device has had its turn when a period of the hour has gone by, and what it gave is counted
#: within this.
SETTLED_MS = 60_000
#: A fleet has more names than a screen.
NAMED = 5
#: What is read in one look, of all lanes and both hours: ten megabytes at most. So many hold 33
#: million devices an hour whose names are numbered, or 32 thousand whose names are not.
MOST_BLOCKS = 1 << 16

#: One hour, where devices were counted in it.
_Hour = Sequence[tuple[Partition, HourRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Devices of the hour before that have given nothing in the hour in progress.

    count: None if it cannot be told, which is not zero
    names: the first of them, NAMED at most
    unknown: why it cannot be told; empty if it can
    """

    count: int | None = None
    names: tuple[str, ...] = ()
    unknown: str = ""


def look(cluster: Cluster, overview: Overview, progress: Progress, *, period_ms: float) -> Silence:
    """In the hour that `progress` is of, over all lanes.

    Three round trips to each shard at most. Raises Unreachable.

    period_ms: between two readings of a device; 0 if devices have none in common
    """
    start_ms = progress.start_ms
    before, now = _hour(overview, start_ms - HOUR_MS), _hour(overview, start_ms)
    if not period_ms:
        return Silence(unknown="devices have no period in common")
    settled_ms = start_ms + period_ms + SETTLED_MS
    if start_ms + progress.elapsed_ms < settled_ms:
        return Silence(unknown="the hour has only begun")
    day = cluster.keyspace.containing(start_ms)
    today = [each.state for each in overview.partitions if each.partition.day == day]
    waiting_ms = oldest_waiting_ms(cluster, overview.instant, today)
    is_behind = waiting_ms is not None and waiting_ms < settled_ms
    if is_behind or not all(record.sealed for _, record in before):
        return Silence(unknown="counting is behind")
    return _compared(cluster, before, now)


def _hour(overview: Overview, start_ms: int) -> _Hour:
    return [
        (view.partition, record)
        for view in overview.partitions
        for record in view.hours
        if record.start_ms == start_ms and record.devices
    ]


def _compared(cluster: Cluster, before: _Hour, now: _Hour) -> Silence:
    if not before:
        return Silence(count=0)
    hours = [*before, *now]
    keys = [
        partition.devices((record.start_ms - partition.day_ms) // HOUR_MS)
        for partition, record in hours
    ]
    sizes = cluster.pipeline([("HLEN", key) for key in keys])
    if sum(size for size in sizes if isinstance(size, int)) > MOST_BLOCKS:
        return Silence(unknown="there are too many names to compare")
    seen = [_blocks(reply) for reply in cluster.pipeline([("HGETALL", key) for key in keys])]
    if any(_devices(each) < record.devices for each, (_, record) in zip(seen, hours, strict=True)):
        return Silence(unknown="which devices were seen is not known any more")
    silent = unseen(_united(seen[: len(before)]), _united(seen[len(before) :]))
    return Silence(
        count=_devices(silent), names=tuple(map(printable, islice(names_in(silent), NAMED)))
    )


def _blocks(reply: Mapping[bytes, bytes] | Exception) -> Blocks:
    """None in a key of another type: the sealer says so."""
    if isinstance(reply, Exception):
        return {}
    return {block: int.from_bytes(bits, "little") for block, bits in reply.items()}


def _devices(blocks: Blocks) -> int:
    return sum(bits.bit_count() for bits in blocks.values())


def _united(lanes: Sequence[Blocks]) -> Blocks:
    """A device may have changed lanes at midnight."""
    united: dict[bytes, int] = {}
    for blocks in lanes:
        for block, bits in blocks.items():
            united[block] = united.get(block, 0) | bits
    return united


def silence_line(silence: Silence) -> str:
    told = f"unknown, {silence.unknown}" if silence.count is None else f"{silence.count:,}"
    return f"devices of the hour before that are silent in it: {told}"


def silent(silence: Silence) -> Iterable[Trouble]:
    if silence.count:
        devices = "device" if silence.count == 1 else "devices"
        more = silence.count - len(silence.names)
        named = ", ".join(silence.names) + (f" and {more:,} more" if more else "")
        yield Trouble(
            code="devices-silent",
            severity="warning",
            text=f"{silence.count:,} {devices} of the hour before gave no reading in this one yet: "
            f"{named}. Do their producers run, and reach Redis? "
            "docs/runbooks/HourglassHourIncomplete.md says where to look.",
        )
