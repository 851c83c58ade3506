"""Clearing what the pipeline holds, as the exercise does before a run. No service ever does it."""

from __future__ import annotations

from hourglass.cluster import Cluster


def reset(cluster: Cluster) -> list[str]:
    """Delete every key of the pipeline, the clock included; return their names, sorted."""
    found = {
        key.decode(errors="replace")
        for pattern in cluster.keyspace.patterns
        for key in cluster.keys(pattern)
    }
    keys = sorted(filter(cluster.keyspace.owns, found))
    for key in keys:
        cluster.call("UNLINK", key)
    return keys
