"""Consumer groups: what every service that reads through one needs."""

from __future__ import annotations

from hourglass.cluster import Cluster
from hourglass.scripts import Script

_REAP = Script.load("hourglass", "reap")


def reap(cluster: Cluster, stream: str, group: str, idle_ms: int) -> int:
    """Remove the group's consumers that have nothing pending and gave no sign of life for
    `idle_ms`; how many they were. Whoever lives and is removed comes back with its next read."""
    return int(cluster.run(_REAP, [stream], [group, idle_ms]))
