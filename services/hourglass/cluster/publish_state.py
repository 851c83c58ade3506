"""What the averages' slot remembers of publishing, beside the stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hourglass.cluster.client import Cluster
from hourglass.errors import CorruptKey
from hourglass.model.clock import Instant
from hourglass.model.keys import HOUR_MS, iso
from hourglass.model.readings import degrees

#: An hour may be seen published by a clock that was read just before.
AHEAD_MS = 5_000


@dataclass(frozen=True, slots=True)
class Result:
    """What some place says an hour amounts to."""

    count: int
    sum_milli_f: int

    def __str__(self) -> str:
        return f"{self.count} readings, sum {degrees(self.sum_milli_f)}"


def frontier_ms(cluster: Cluster) -> int | None:
    """The start of the last published hour; None before the first. Raises Unreachable,
    CorruptKey."""
    key = cluster.keyspace.frontier
    return decode_frontier(cluster.call("GET", key), key=key)


def decode_frontier(value: bytes | None, *, key: str) -> int | None:
    """As it stands in its key, `key`. Raises CorruptKey."""
    if value is None:
        return None
    if not value.isdigit():
        raise CorruptKey(f"{key} holds no time: rename or delete it")
    return int(value)


def ahead_ms(frontier_ms: int | None, instant: Instant) -> int:
    """Real time until the last published hour is over; 0 if it is. Until then no hour is
    published: a clock has been ahead, and went back."""
    if frontier_ms is None:
        return 0
    return max(0, instant.deadline(frontier_ms + HOUR_MS) - instant.real_ms)


def published_ahead(frontier_ms: int) -> str:
    """That it is, and the remedy."""
    return (
        f"hours up to {iso(frontier_ms + HOUR_MS)} are published though they are not over, and no "
        "hour before that is: set the clock that was ahead right, then take them back with "
        "hourglass clock wall --rewind, or hourglass clock run --rewind"
    )


def results(members: Iterable[bytes], *, key: str) -> dict[int, Result]:
    """By hour (ms), from the members `hour_ms:count:sum_milli_f` of the set at `key`: published
    hours, or hours that were revised or came too late. Raises CorruptKey."""
    found: dict[int, Result] = {}
    for member in members:
        try:
            hour, count, sum_milli_f = map(int, member.split(b":"))
        except ValueError:
            raise CorruptKey(
                f"{key} has the member {member!r}, which no publisher put "
                "there: remove it with ZREM"
            ) from None
        found[hour] = Result(count, sum_milli_f)
    return found
