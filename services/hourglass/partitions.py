"""Which partitions there are: by the calendar, and by the index."""

from __future__ import annotations

from hourglass.clock import Instant
from hourglass.cluster import Cluster
from hourglass.keys import PARTITIONS, RETENTION_MS, Partition, days_alive
from hourglass.scripts import Script

_REGISTER = Script.load("hourglass", "register")


def register(cluster: Cluster, partition: Partition, instant: Instant) -> None:
    """Enter `partition` into the index, before its first reading is written."""
    expires = instant.deadline(partition.end_ms + RETENTION_MS)
    if expires > instant.real_ms:
        cluster.run(_REGISTER, [PARTITIONS], [partition.stream, expires])


def candidates(cluster: Cluster, instant: Instant) -> list[Partition]:
    """Every partition that may live, oldest first: the index's, and those of the calendar's days,
    because a foreign writer enters nothing into an index."""
    indexed = (
        Partition.named(name.decode(errors="replace"))
        for name in cluster.call("ZRANGE", PARTITIONS, 0, -1)
    )
    return sorted({*days_alive(instant.now_ms), *(p for p in indexed if p is not None)})
