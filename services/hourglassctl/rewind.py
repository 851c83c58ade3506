"""Taking back what was published for hours that are not over."""

from __future__ import annotations

from hourglass.cluster.client import Cluster
from hourglass.cluster.scripts import Script
from hourglass.model.clock import Instant
from hourglass.model.keys import HOUR_MS

_REWIND = Script.load("hourglassctl", "rewind")


def rewind(cluster: Cluster, instant: Instant) -> int:
    """How many averages of hours that are not over at `instant` were taken back. Raises
    Unreachable, CorruptKey."""
    keys = cluster.keyspace
    return cluster.run(
        _REWIND,
        [keys.averages, keys.frontier, keys.published, keys.revisions, keys.too_late],
        [instant.now_ms - instant.now_ms % HOUR_MS],
    )
