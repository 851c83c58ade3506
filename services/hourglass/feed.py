"""Following the averages without a consumer group: for those who look on, and load nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.averages import HourlyAverage
from hourglass.cluster import Link
from hourglass.keys import order_of

_NOTHING = b"0-0"


@dataclass(frozen=True, slots=True)
class News:
    """What a look at the stream brought, in its order.

    anew: `averages` is all that stands there, in place of whatever was told before
    """

    averages: Sequence[HourlyAverage] = ()
    anew: bool = False

    def added_to(self, known: Sequence[HourlyAverage], kept: int) -> Sequence[HourlyAverage]:
        """The last `kept` of what is known with this."""
        return [*(() if self.anew else known), *self.averages][-kept:]


class Feed:
    """First everything that stands on the stream, then what comes. Not for several threads."""

    def __init__(self, link: Link, stream: str) -> None:
        self._link = link
        self._stream = stream
        self._last: bytes | None = None

    def next(self, block_ms: int) -> News:
        """What came, waiting up to `block_ms` for it. Entries that are no averages are left out.

        Raises Unreachable, ResponseError.
        """
        if self._last is None:
            return self._all()
        reply = self._link.call("XREAD", "BLOCK", block_ms, "STREAMS", self._stream, self._last)
        if reply:
            return News(self._decoded(reply[0][1]))
        newest = self._link.call("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        # Deleted, or taken back by a failover: what is published next has an id that was passed.
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
            except ValueError:  # the averages consumer says so, and counts it
                continue
        return averages
