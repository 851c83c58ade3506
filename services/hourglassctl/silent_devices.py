"""Finds silent devices: seen in the previous hour, but not yet in the hour in progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from aggregator.collectors import Progress
from hourglass.cluster.client import Cluster
from hourglass.model.averages import HourRecord
from hourglass.model.devices import Blocks, names_in, unseen
from hourglass.model.keys import HOUR_MS, Partition
from hourglass.monitoring.pipeline_status import PipelineStatus
from hourglass.monitoring.problems import Problem
from hourglass.monitoring.stream_stats import oldest_waiting_ms
from hourglass.service.cli import printable

#: Time for a reading to be counted. A device counts as silent one period and this time after the
#: start of the hour.
SETTLED_MS = 60_000
#: Maximum number of names to show.
NAMED = 5
#: Maximum blocks to read, over all lanes and both hours: about ten megabytes. They hold 33 million
#: devices per hour with numbered names, or 32 thousand with other names.
MOST_BLOCKS = 1 << 16

#: One hour, where devices were counted in it.
_Hour = Sequence[tuple[Partition, HourRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentDevices:
    """Devices of the previous hour without a reading in the hour in progress.

    count: number of silent devices; None if unknown, not 0
    names: the first of their names, at most NAMED
    unknown: why the number is unknown; empty if it is known
    """

    count: int | None = None
    names: tuple[str, ...] = ()
    unknown: str = ""


def read_silent_devices(
    cluster: Cluster, pipeline: PipelineStatus, progress: Progress, *, period_ms: float
) -> SilentDevices:
    """Find the silent devices in the hour of `progress`, over all lanes.

    It takes at most three round trips to each shard. Raises Unreachable.

    period_ms: time between two readings of a device; 0 if the devices have no common period
    """
    start_ms = progress.start_ms
    before, now = _hour(pipeline, start_ms - HOUR_MS), _hour(pipeline, start_ms)
    if not period_ms:
        return SilentDevices(unknown="the devices have no common period")
    settled_ms = start_ms + period_ms + SETTLED_MS
    if start_ms + progress.elapsed_ms < settled_ms:
        return SilentDevices(unknown="the hour has only begun")
    day = cluster.keyspace.containing(start_ms)
    today = [each.state for each in pipeline.partitions if each.partition.day == day]
    waiting_ms = oldest_waiting_ms(cluster, pipeline.instant, today)
    is_behind = waiting_ms is not None and waiting_ms < settled_ms
    if is_behind or not all(record.sealed for _, record in before):
        return SilentDevices(unknown="counting is behind")
    return _compared(cluster, before, now)


def _hour(pipeline: PipelineStatus, start_ms: int) -> _Hour:
    return [
        (view.partition, record)
        for view in pipeline.partitions
        for record in view.hours
        if record.start_ms == start_ms and record.devices
    ]


def _compared(cluster: Cluster, before: _Hour, now: _Hour) -> SilentDevices:
    if not before:
        return SilentDevices(count=0)
    hours = [*before, *now]
    keys = [
        partition.devices((record.start_ms - partition.day_ms) // HOUR_MS)
        for partition, record in hours
    ]
    sizes = cluster.pipeline([("HLEN", key) for key in keys])
    if sum(size for size in sizes if isinstance(size, int)) > MOST_BLOCKS:
        return SilentDevices(unknown="there are too many names to compare")
    seen = [_blocks(reply) for reply in cluster.pipeline([("HGETALL", key) for key in keys])]
    if any(_devices(each) < record.devices for each, (_, record) in zip(seen, hours, strict=True)):
        return SilentDevices(unknown="the sets of seen devices are incomplete")
    silent = unseen(_united(seen[: len(before)]), _united(seen[len(before) :]))
    return SilentDevices(
        count=_devices(silent), names=tuple(map(printable, islice(names_in(silent), NAMED)))
    )


def _blocks(reply: Mapping[bytes, bytes] | Exception) -> Blocks:
    """The blocks in a reply; empty for a corrupt key, which the sealer reports."""
    if isinstance(reply, Exception):
        return {}
    return {block: int.from_bytes(bits, "little") for block, bits in reply.items()}


def _devices(blocks: Blocks) -> int:
    return sum(bits.bit_count() for bits in blocks.values())


def _united(lanes: Sequence[Blocks]) -> Blocks:
    """The union of the lanes' blocks. A device may change lanes at midnight."""
    united: dict[bytes, int] = {}
    for blocks in lanes:
        for block, bits in blocks.items():
            united[block] = united.get(block, 0) | bits
    return united


def silence_line(silence: SilentDevices) -> str:
    count = f"unknown, {silence.unknown}" if silence.count is None else f"{silence.count:,}"
    return f"devices of the previous hour that are silent in it: {count}"


def silent(silence: SilentDevices) -> Iterable[Problem]:
    if silence.count:
        devices = "device" if silence.count == 1 else "devices"
        more = silence.count - len(silence.names)
        named = ", ".join(silence.names) + (f" and {more:,} more" if more else "")
        yield Problem(
            code="devices-silent",
            severity="warning",
            text=f"{silence.count:,} {devices} of the previous hour sent no reading in this one "
            f"yet: {named}. Check that their producers run and reach Redis; see "
            "docs/runbooks/HourglassHourIncomplete.md.",
        )
