"""What the averages' slot remembers of publishing, beside the stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hourglass.cluster import Cluster
from hourglass.errors import Damaged
from hourglass.readings import degrees


@dataclass(frozen=True, slots=True)
class Result:
    """What some place says an hour amounts to."""

    count: int
    sum_milli_f: int

    def __str__(self) -> str:
        return f"{self.count} readings, sum {degrees(self.sum_milli_f)}"


def frontier_ms(cluster: Cluster) -> int | None:
    """The start of the last published hour; None before the first. Raises Unreachable, Damaged."""
    key = cluster.keyspace.frontier
    return decode_frontier(cluster.call("GET", key), key=key)


def decode_frontier(value: bytes | None, *, key: str) -> int | None:
    """As it stands in its key, `key`. Raises Damaged."""
    if value is None:
        return None
    if not value.isdigit():
        raise Damaged(f"{key} holds no time: rename or delete it")
    return int(value)


def results(members: Iterable[bytes], *, key: str) -> dict[int, Result]:
    """By hour (ms), from the members `hour_ms:count:sum_milli_f` of the set at `key`: published
    hours, or hours that were revised or came too late. Raises Damaged."""
    found: dict[int, Result] = {}
    for member in members:
        try:
            hour, count, sum_milli_f = map(int, member.split(b":"))
        except ValueError:
            raise Damaged(
                f"{key} has the member {member!r}, which no publisher put "
                "there: remove it with ZREM"
            ) from None
        found[hour] = Result(count, sum_milli_f)
    return found
