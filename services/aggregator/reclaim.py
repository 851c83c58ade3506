"""Reclaim a partition's pending entries whose consumers do not finish them.

XAUTOCLAIM takes idle entries over in the order of their ids; its cursor is kept from call to call.
It drops deleted entries from the pending list, so that they delay no hour. It is called with
JUSTID, which neither delivers fields nor raises delivery counts. XPENDING then lists what this
consumer owns, `plan` decides by the delivery counts what to read together, and XREADGROUP delivers
it from the consumer's own pending list, which raises each count by one.

An XAUTOCLAIM that delivered fields could deliver other entries than XPENDING listed before it:
another consumer may acknowledge listed ones meanwhile, and others become idle, so COUNT reaches
further. Among those may be an entry at the delivery limit. A consumer that owns the entries first
is not exposed to that: its own pending list only shrinks, and an entry at the limit leaves it
before anything else is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeAlias

from aggregator.metrics import Metrics
from hourglass.cluster.link import Link
from hourglass.model.entries import Entry
from hourglass.model.keys import GROUP, Partition, order_of

#: Most entries that are reclaimed at once, and read together.
_BATCH = 1000
#: XAUTOCLAIM's cursor at the start of the pending list, and when it has reached the end.
_START = b"0-0"

#: An entry as XPENDING lists it: id, consumer, idle time, deliveries.
Pending: TypeAlias = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step with the consumer's own pending entries.

    read: the ids to read together
    give_up: the ids to quarantine without reading them
    is_untried: no attempt to count the entries to read is known to have failed
    """

    read: Sequence[bytes] = ()
    give_up: Sequence[bytes] = ()
    is_untried: bool = False


def plan(pending: Sequence[Pending], *, limit: int) -> Plan | None:
    """What to do next with `pending`, in order of id; None if it is empty. Pure.

    An entry that kills its reader takes its whole batch with it. So only entries that were
    delivered once are read together; after a failed attempt each is read alone. Then the count of
    the culprit alone continues to rise to `limit`, at which it is given up. It is given up before
    others are read, so that no read can reach it.
    """
    if not pending:
        return None
    if at_limit := [entry[0] for entry in pending if entry[3] >= limit]:
        return Plan(give_up=at_limit)
    untried = [entry[0] for entry in takewhile(lambda entry: entry[3] <= 1, pending)]
    return Plan(untried, is_untried=True) if untried else Plan([pending[0][0]])


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Entries to count, or the ids of entries to give up, which were not read.

    may_be_poison: an attempt to count the entries has failed before
    """

    entries: Sequence[Entry] = ()
    given_up: Sequence[bytes] = ()
    may_be_poison: bool = False


@dataclass(slots=True)
class Reclaimer:
    """One consumer's passes through the pending list of one partition.

    A pass continues from call to call, so that it reaches the end of the list however many entries
    at its head are not idle.
    """

    link: Link
    partition: Partition
    consumer: str
    metrics: Metrics
    #: Where XAUTOCLAIM continues.
    _cursor: bytes = _START
    #: The last of its own entries that this pass has read.
    _after: bytes = _START
    #: Whether it owns entries behind those of the plan.
    _owns_more: bool = False
    _plan: Plan | None = None

    def take(self, idle_ms: int, *, limit: int) -> Reclaimed | None:
        """The next entries that other consumers have held for `idle_ms`; None if there are none.
        One that was delivered `limit` times is not read: it may be too large for this process.
        Raises ConnectionLost, ResponseError."""
        while planned := self._plan or self._search(idle_ms, limit):
            self._plan = None
            if planned.give_up:
                return Reclaimed(given_up=planned.give_up)
            self.request(planned)
            if reclaimed := self.receive(planned):
                return reclaimed
        return None

    def prepare(self, idle_ms: int, *, limit: int) -> Plan | None:
        """What this pass reads next, to be requested before the current batch is committed; None
        if there is nothing more, or an attempt on it has failed before. Then it waits: if it kills
        this process, the current batch must not have been delivered in vain."""
        if self._plan is None and (self._owns_more or self._cursor != _START):
            self._look(idle_ms, limit)
        planned = self._plan
        if planned is None or not planned.is_untried:
            return None
        self._plan = None
        return planned

    def request(self, planned: Plan) -> None:
        """Send the read of the planned entries; other commands may follow it on the link."""
        self.link.send(
            "XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", len(planned.read),
            "STREAMS", self.partition.stream, self._after,
        )  # fmt: skip
        self._after = planned.read[-1]

    def receive(self, planned: Plan) -> Reclaimed | None:
        """What was requested; None if another process has counted or deleted it since.

        If another process took some of it, COUNT has reached behind the last planned entry. What
        it delivers there stays pending, and is planned next with its new count. A deleted entry has
        no fields; XAUTOCLAIM drops it in the next pass.
        """
        ((_, entries),) = self.link.receive()
        if [entry[0] for entry in entries] != planned.read:
            last = order_of(planned.read[-1])
            entries = [entry for entry in entries if order_of(entry[0]) <= last]
        entries = [entry for entry in entries if entry[1] is not None]
        if not entries:
            return None
        self.metrics.reclaimed(len(entries))
        return Reclaimed(entries, may_be_poison=not planned.is_untried)

    def _search(self, idle_ms: int, limit: int) -> Plan | None:
        """Look from the cursor to the end of the pending list, and once more from its start, until
        there is something to do; None if there is nothing."""
        passes = 1 if self._cursor == _START else 2
        while passes:
            reclaims = not self._owns_more
            self._look(idle_ms, limit)
            if self._plan:
                return self._plan
            passes -= reclaims and self._cursor == _START
        return None

    def _look(self, idle_ms: int, limit: int) -> None:
        """List what the consumer owns, and plan. More is reclaimed only when all of that is read,
        so that the list is complete and no read reaches an entry that is not in it."""
        stream = self.partition.stream
        reclaims = not self._owns_more
        if reclaims:
            if self._cursor == _START:
                self._after = _START
            self.link.send(
                "XAUTOCLAIM", stream, GROUP, self.consumer, idle_ms, self._cursor,
                "COUNT", _BATCH, "JUSTID",
            )  # fmt: skip
        self.link.send("XPENDING", stream, GROUP, b"(" + self._after, "+", _BATCH, self.consumer)
        if reclaims:
            self._cursor = self.link.receive()[0]
        owned = self.link.receive()
        self._plan = plan(owned, limit=limit)
        self._owns_more = self._plan is not None and len(self._plan.read) < len(owned)
