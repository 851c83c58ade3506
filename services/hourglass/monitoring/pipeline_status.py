"""The pipeline at one glance: what `status`, the demo and the web page show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import recorded
from hourglass.cluster.published import frontier_ms
from hourglass.errors import CorruptKey
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.clock import Instant
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import AVERAGES_GROUP, GREATEST_ID, GROUP, HOURS, Partition
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


#: The last millisecond that an id can have.
_LAST_MS = GREATEST_ID.partition(b"-")[0]


def damage(
    cluster: Cluster, partitions: Collection[Partition], states: Iterable[StreamState]
) -> dict[Partition, str]:
    """By partition, what is wrong with the first key of it that is of another type, or with a
    stream that takes no more entries. One round trip to each shard. Raises Unreachable.

    What the hashes hold is for those who read them. states: of the streams, as far as they live
    """
    found = {
        partition: f"{state.stream} takes no more entries, because it has the greatest id there "
        "is: rename or delete it when its readings are counted"
        for state in states
        if (state.last_delivered or b"").startswith(_LAST_MS)
        and (partition := cluster.keyspace.named(state.stream))
    }
    kinds = [(each, key, kind) for each in partitions for key, kind in _kinds(each).items()]
    types = cluster.pipeline([("TYPE", key) for _, key, _ in kinds])
    for (partition, key, kind), reply in zip(kinds, types, strict=True):
        of = str(reply) if isinstance(reply, Exception) else reply.decode()
        if of not in (kind, "none"):
            found.setdefault(partition, f"{key} is a {of}, not a {kind}: rename or delete it")
    return found


def _kinds(partition: Partition) -> Mapping[str, str]:
    return {
        partition.stream: "stream",
        partition.hours: "hash",
        partition.producers: "hash",
        partition.watermarks: "zset",
        partition.lanes: "string",
        partition.quarantine: "stream",
        **{partition.devices(hour): "hash" for hour in range(HOURS)},
    }
