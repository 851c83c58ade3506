"""Taking back what was published for hours that are not over."""

from __future__ import annotations

from hourglass.clock import Instant
from hourglass.cluster import Cluster
from hourglass.keys import HOUR_MS
from hourglass.scripts import Script

_REWIND = Script.load("hourglassctl", "rewind")


def rewind(cluster: Cluster, instant: Instant) -> int:
    """How many averages of hours that are not over at `instant` were taken back. Raises
    Unreachable, Damaged."""
    keys = cluster.keyspace
    return cluster.run(
        _REWIND,
        [keys.averages, keys.frontier, keys.published, keys.revisions, keys.too_late],
        [instant.now_ms - instant.now_ms % HOUR_MS],
    )
