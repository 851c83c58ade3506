"""Deletes all data of the pipeline, as the exercise does before a run. No service calls it."""

from __future__ import annotations

from hourglass.cluster.client import Cluster


def reset(cluster: Cluster) -> list[str]:
    """Delete every key of the pipeline, including the clock; return their names, sorted."""
    found = {
        key.decode(errors="replace")
        for pattern in cluster.keyspace.patterns
        for key in cluster.keys(pattern)
    }
    keys = sorted(filter(cluster.keyspace.owns, found))
    for key in keys:
        cluster.call("UNLINK", key)
    return keys
