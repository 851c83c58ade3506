"""Which partitions have a key that holds what the pipeline did not put there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from hourglass.cluster.client import Cluster
from hourglass.model.keys import GREATEST_ID, HOURS, Partition
from hourglass.monitoring.stream_stats import StreamState

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
