"""The averages' slot: the stream, the published-through hour, and the results of hours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.cluster.client import Cluster
from hourglass.cluster.link import Link
from hourglass.cluster.scripts import Script
from hourglass.errors import CorruptKey
from hourglass.model.averages import HourlyAverage
from hourglass.model.clock import Instant
from hourglass.model.keys import HOUR_MS, iso, order_of
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


def published_through_ms(cluster: Cluster) -> int | None:
    """The start of the last published hour; None before the first. Raises Unreachable,
    CorruptKey."""
    key = cluster.keyspace.published_through
    return decode_published_through(cluster.call("GET", key), key=key)


def decode_published_through(value: bytes | None, *, key: str) -> int | None:
    """As it stands in its key, `key`. Raises CorruptKey."""
    if value is None:
        return None
    if not value.isdigit():
        raise CorruptKey(f"{key} holds no time: rename or delete it")
    return int(value)


def ahead_ms(published_through_ms: int | None, instant: Instant) -> int:
    """Real time until the last published hour is over; 0 if it is. Until then no hour is
    published: a clock has been ahead, and went back."""
    if published_through_ms is None:
        return 0
    return max(0, instant.deadline(published_through_ms + HOUR_MS) - instant.real_ms)


def published_ahead(published_through_ms: int) -> str:
    """That it is, and the remedy."""
    return (
        f"hours up to {iso(published_through_ms + HOUR_MS)} are published though they are not "
        "over, and no hour before that is: set the clock that was ahead right, then take them back "
        "with hourglass clock wall --rewind, or hourglass clock run --rewind"
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


_NOTHING = b"0-0"


@dataclass(frozen=True, slots=True)
class Update:
    """The averages that one read returned, in the order of the stream.

    replaces: `averages` are all averages on the stream, and replace those of earlier reads
    """

    averages: Sequence[HourlyAverage] = ()
    replaces: bool = False

    def added_to(self, known: Sequence[HourlyAverage], kept: int) -> Sequence[HourlyAverage]:
        """`known` with this update applied, limited to the last `kept` averages."""
        return [*(() if self.replaces else known), *self.averages][-kept:]


class Tail:
    """Reads the whole stream first, then new entries. Not thread-safe."""

    def __init__(self, link: Link, stream: str) -> None:
        self._link = link
        self._stream = stream
        self._last: bytes | None = None

    def next(self, block_ms: int) -> Update:
        """The new averages; waits up to `block_ms` for the first. Entries that are not averages are
        left out.

        Raises Unreachable, ResponseError.
        """
        if self._last is None:
            return self._all()
        reply = self._link.call("XREAD", "BLOCK", block_ms, "STREAMS", self._stream, self._last)
        if reply:
            return Update(self._decoded(reply[0][1]))
        newest = self._link.call("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        # The stream was deleted or lost entries in a failover: the next id may be below `_last`.
        went_back = order_of(newest[0][0] if newest else _NOTHING) < order_of(self._last)
        return self._all() if went_back else Update()

    def _all(self) -> Update:
        self._last = _NOTHING
        return Update(
            self._decoded(self._link.call("XRANGE", self._stream, "-", "+")), replaces=True
        )

    def _decoded(self, entries: Sequence[Any]) -> Sequence[HourlyAverage]:
        averages: list[HourlyAverage] = []
        for entry_id, flat in entries:
            self._last = entry_id
            try:
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                averages.append(HourlyAverage.decode(entry_id, fields))
            except ValueError:  # the averages consumer logs and counts it
                continue
        return averages


_REWIND = Script.load("hourglass", "rewind")


def rewind(cluster: Cluster, instant: Instant) -> int:
    """How many averages of hours that are not over at `instant` were taken back. Raises
    Unreachable, CorruptKey."""
    keys = cluster.keyspace
    return cluster.run(
        _REWIND,
        [keys.averages, keys.published_through, keys.published, keys.revisions, keys.too_late],
        [instant.now_ms - instant.now_ms % HOUR_MS],
    )
