"""How far the averages have come."""

from __future__ import annotations

from hourglass.cluster import Cluster
from hourglass.errors import Damaged
from hourglass.keys import FRONTIER


def frontier_ms(cluster: Cluster) -> int | None:
    """The start of the last published hour; None before the first. Raises Unreachable, Damaged."""
    return decode_frontier(cluster.call("GET", FRONTIER))


def decode_frontier(value: bytes | None) -> int | None:
    """As it stands in its key. Raises Damaged."""
    if value is None:
        return None
    if not value.isdigit():
        raise Damaged(f"{FRONTIER} holds no time: rename or delete it")
    return int(value)
