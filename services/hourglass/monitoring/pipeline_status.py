"""The pipeline at one glance: what `status`, the demo and the web page show."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import recorded
from hourglass.cluster.publish_state import frontier_ms
from hourglass.errors import CorruptKey
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.clock import Instant
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import AVERAGES_GROUP, GROUP, Partition
from hourglass.monitoring.corrupt_keys import damage
from hourglass.monitoring.stream_stats import StreamState, survey


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A live partition: its stream from outside, and its hours."""

    partition: Partition
    state: StreamState
    hours: Sequence[HourRecord]

    @property
    def counted(self) -> int:
        """Readings counted so far, the late ones included."""
        return sum(record.count + record.late for record in self.hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatus:
    """Everything at one instant.

    damaged: partitions that cannot be worked on as they should, and why
    averages: None while the stream does not exist
    last: its newest entry; None if there is none, or that is no average
    """

    instant: Instant
    partitions: Sequence[PartitionView]
    averages: StreamState | None
    last: HourlyAverage | None
    frontier_ms: int | None
    damaged: Mapping[Partition, str] = field(default_factory=dict[Partition, str])


def look(cluster: Cluster, instant: Instant) -> PipelineStatus:
    """A few round trips, however many partitions live. Raises Unreachable."""
    partitions = recorded(cluster, instant)
    states = {s.stream: s for s in survey(cluster, [p.stream for p in partitions], GROUP)}
    alive = [partition for partition in partitions if partition.stream in states]
    records = cluster.pipeline([("HGETALL", partition.hours) for partition in alive])
    damaged = damage(cluster, partitions, states.values())
    averages = survey(cluster, [cluster.keyspace.averages], AVERAGES_GROUP)
    newest = cluster.call("XREVRANGE", cluster.keyspace.averages, "+", "-", "COUNT", 1)
    return PipelineStatus(
        instant=instant,
        partitions=[
            PartitionView(partition, states[partition.stream], _hours(partition, fields, damaged))
            for partition, fields in zip(alive, records, strict=True)
        ],
        averages=averages[0] if averages else None,
        last=_decoded(*newest[0]) if newest else None,
        frontier_ms=frontier_ms(cluster),
        damaged=damaged,
    )


def _hours(
    partition: Partition,
    fields: Mapping[bytes, bytes] | Exception,
    damaged: MutableMapping[Partition, str],
) -> list[HourRecord]:
    """None while the key that holds them is of another type, or holds no records."""
    try:
        return [] if isinstance(fields, Exception) else decode_hours(partition, fields)
    except CorruptKey as error:
        damaged.setdefault(partition, str(error))
        return []


def _decoded(entry_id: bytes, fields: Mapping[bytes, bytes]) -> HourlyAverage | None:
    try:
        return HourlyAverage.decode(entry_id, fields)
    except ValueError:  # the averages consumer says so, and counts it
        return None
