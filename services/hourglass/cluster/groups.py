"""Consumer groups: what every service that reads through one needs."""

from __future__ import annotations

from hourglass.cluster.client import Cluster
from hourglass.cluster.link import ResponseError
from hourglass.cluster.scripts import Script

_REAP = Script.load("hourglass", "reap")

#: Far more than a capped stream's group can have pending.
_MOST_PENDING = 10_000


def reap(cluster: Cluster, stream: str, group: str, idle_ms: int) -> int:
    """Remove the group's consumers that have nothing pending and gave no sign of life for
    `idle_ms`; how many they were. The next read of a live
    consumer creates it again."""
    return int(cluster.run(_REAP, [stream], [group, idle_ms]))


def gone_after_ms(claim_idle_ms: int) -> int:
    """How long a consumer gives no sign of life before it counts as gone: one that waits for
    entries gives none, either."""
    return max(2 * claim_idle_ms, 5_000)


def group_is_gone(error: ResponseError) -> bool:
    """Whether the stream expired or its group was destroyed, before or while blocking on it."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))


def pending_ids(cluster: Cluster, stream: str, group: str) -> list[bytes]:
    """The entries that the group was given and has not acknowledged, trimmed ones among them;
    none if there is no such group. For streams that are capped."""
    try:
        entries = cluster.call(
            "XPENDING", stream, group, "-", "+", _MOST_PENDING, parse_detail=True
        )
    except ResponseError as error:
        if not group_is_gone(error):
            raise
        return []
    return [entry["message_id"] for entry in entries]
