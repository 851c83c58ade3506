"""Clearing what the pipeline holds, as the exercise does before a run. No service ever does it."""

from __future__ import annotations

import re

from hourglass.cluster import Cluster
from hourglass.keys import CAPPED, PARTITIONS, Partition

_COMPANION = re.compile(r"\{(temps:[\d:]+)\}:(hours|producers|lanes|quarantine|devices:\d\d)")


def belongs_to_the_pipeline(key: str) -> bool:
    if key in CAPPED or key == PARTITIONS:
        return True
    companion = _COMPANION.fullmatch(key)
    return Partition.named(companion[1] if companion else key) is not None


def reset(cluster: Cluster) -> list[str]:
    """Delete every key of the pipeline, the clock included; return their names, sorted."""
    found = {
        key.decode(errors="replace")
        for pattern in ("temps:*", "{temps:*")
        for key in cluster.keys(pattern)
    }
    keys = sorted(key for key in found if belongs_to_the_pipeline(key))
    for key in keys:
        cluster.call("UNLINK", key)
    return keys
