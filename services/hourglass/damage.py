"""Which partitions have a key that holds what the pipeline did not put there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hourglass.cluster import Cluster
from hourglass.keys import GREATEST_ID, HOURS, Partition

#: The first id of the last millisecond there is.
_LAST_MS = GREATEST_ID.partition(b"-")[0]


def damage(cluster: Cluster, partitions: Collection[Partition]) -> Mapping[Partition, str]:
    """By partition, what is wrong with the first key of it that is of another type, or takes no
    more entries. One round trip to each shard. Raises Unreachable.

    What the hashes hold is for those who read them.
    """
    kinds = [(each, key, kind) for each in partitions for key, kind in _kinds(each).items()]
    streams = [(each, key) for each in partitions for key in (each.stream, each.quarantine)]
    replies = cluster.pipeline(
        [
            *(("TYPE", key) for _, key, _ in kinds),
            *(("XRANGE", key, _LAST_MS, "+", "COUNT", 1) for _, key in streams),
        ]
    )
    types, last = replies[: len(kinds)], replies[len(kinds) :]
    found: dict[Partition, str] = {}
    for (partition, key, kind), reply in zip(kinds, types, strict=True):
        of = str(reply) if isinstance(reply, Exception) else reply.decode()
        if of not in (kind, "none"):
            found.setdefault(partition, f"{key} is a {of}, not a {kind}: rename or delete it")
    for (partition, key), reply in zip(streams, last, strict=True):
        if reply and not isinstance(reply, Exception):
            found.setdefault(
                partition,
                f"{key} takes no more entries, because it has the greatest id there is: rename or "
                "delete it when its readings are counted",
            )
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
