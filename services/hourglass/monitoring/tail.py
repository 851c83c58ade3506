"""Tails the averages' stream without a consumer group, to show the averages, not to load them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.cluster.client import Link
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import order_of

_NOTHING = b"0-0"


@dataclass(frozen=True, slots=True)
class News:
    """The averages that one read returned, in the order of the stream.

    anew: `averages` are all averages on the stream, and replace those of earlier reads
    """

    averages: Sequence[HourlyAverage] = ()
    anew: bool = False

    def added_to(self, known: Sequence[HourlyAverage], kept: int) -> Sequence[HourlyAverage]:
        """`known` with this update applied, limited to the last `kept` averages."""
        return [*(() if self.anew else known), *self.averages][-kept:]


class Tail:
    """Reads the whole stream first, then new entries. Not thread-safe."""

    def __init__(self, link: Link, stream: str) -> None:
        self._link = link
        self._stream = stream
        self._last: bytes | None = None

    def next(self, block_ms: int) -> News:
        """The new averages; waits up to `block_ms` for the first. Entries that are not averages are
        left out.

        Raises Unreachable, ResponseError.
        """
        if self._last is None:
            return self._all()
        reply = self._link.call("XREAD", "BLOCK", block_ms, "STREAMS", self._stream, self._last)
        if reply:
            return News(self._decoded(reply[0][1]))
        newest = self._link.call("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        # The stream was deleted or lost entries in a failover: the next id may be below `_last`.
        went_back = order_of(newest[0][0] if newest else _NOTHING) < order_of(self._last)
        return self._all() if went_back else News()

    def _all(self) -> News:
        self._last = _NOTHING
        return News(self._decoded(self._link.call("XRANGE", self._stream, "-", "+")), anew=True)

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
