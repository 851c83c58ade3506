"""What others left behind in a partition: looked for, taken over and read, batch by batch.

The batches are asked for ahead: while one is counted, the server reads the next and looks for the
one after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from aggregator.metrics import Metrics
from aggregator.reclaim_plan import Claim, plan
from hourglass.cluster.link import Link
from hourglass.model.entries import Entry
from hourglass.model.keys import GREATEST_ID, GROUP, Partition, order_of

#: How far into the pending list one look goes.
_LOOK = 1000
#: Nothing is idle for so long.
_NEVER_MS = 1 << 52


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Entries to count; or the ids of entries to give up, which were not read.

    untried: nobody has died of any of them, as far as is known
    """

    entries: Sequence[Entry] = ()
    given_up: Sequence[bytes] = ()
    untried: bool = False


@dataclass(slots=True)
class Reclaimer:
    """One consumer's way through the pending list of one partition.

    It goes on from call to call, so that the whole list is passed through however many entries at
    its head are not idle yet. What `request` asks for, `receive` returns in its turn.
    """

    link: Link
    partition: Partition
    consumer: str
    metrics: Metrics
    _cursor: bytes = b"-"
    #: Found by the last look, and not taken over yet.
    _found: Claim | None = None
    _deleted: list[bytes] = field(default_factory=list[bytes])

    def take(self, idle_ms: int, *, limit: int) -> Reclaimed | None:
        """The next entries that others have held for `idle_ms`; None if there are none. `limit` is
        how often an entry may be tried: it may be too large for this process, so one that reached
        it is not read. Raises ConnectionLost, ResponseError."""
        while self._found or self._look_around(idle_ms, limit):
            if self._found and self._found.given_up:
                claim, self._found = self._found, None
                return Reclaimed(given_up=claim.ids)
            self.request(idle_ms)
            claimed = self.receive(limit)
            self._acknowledge_deleted()
            if claimed:
                return claimed
        self._give_a_sign_of_life()
        return None

    @property
    def is_wary(self) -> bool:
        """The next entries may be the death of whoever decodes them, so they are not taken over
        before it is known that it was not for those at hand."""
        return self._found is not None and not self._found.untried

    def request(self, idle_ms: int) -> None:
        """Ask for the entries that were found last, and look for those that follow them."""
        self._acknowledge_deleted()
        if claim := self._found:
            stream, ids = self.partition.stream, claim.ids
            self.link.send(
                "XCLAIM", stream, GROUP, f"{self.consumer}-claims", idle_ms,
                *(ids[:1] if claim.untried else ids), "RETRYCOUNT", claim.tries,
            )  # fmt: skip
            if claim.untried:
                self.link.send("XRANGE", stream, ids[0], ids[-1], "COUNT", len(ids))
        self._look(idle_ms)

    def receive(self, limit: int) -> Reclaimed | None:
        """What was asked for; None if nothing was found before, or somebody was quicker, or it is
        deleted. What it leaves of that is found again when the list has been passed through."""
        claim, self._found = self._found, None
        entries: Sequence[Entry] = self._receive(claim) if claim else ()
        self._find(limit)
        if claim is None or not entries:
            return None
        self.metrics.reclaimed(len(entries))
        return Reclaimed(entries, untried=claim.untried)

    def _receive(self, claim: Claim) -> Sequence[Entry]:
        """The entries that were claimed; of untried ones those that one reading of the stream finds
        behind the first, if that was claimed. What it finds to be deleted is to be acknowledged:
        else it would hold up its hour."""
        claimed: Sequence[Entry] = self.link.receive()
        if not claim.untried:
            return claimed
        found: Sequence[Entry] = self.link.receive()
        if [entry_id for entry_id, _ in found] != claim.ids:
            found = self._pick(found, claim.ids)
        return found if claimed else []

    def _pick(self, found: Sequence[Entry], ids: Sequence[bytes]) -> Sequence[Entry]:
        """The entries with these ids among as many from the first on, wherever they lie."""
        wanted = frozenset(ids)
        entries = [entry for entry in found if entry[0] in wanted]
        present = {entry_id for entry_id, _ in entries}
        seen = ids
        if len(found) == len(ids):  # others lie between, and more of these may lie behind
            last = order_of(found[-1][0])
            seen = takewhile(lambda entry_id: order_of(entry_id) <= last, ids)
        self._deleted = [entry_id for entry_id in seen if entry_id not in present]
        return entries

    def _look_around(self, idle_ms: int, limit: int) -> bool:
        """Look from the cursor on, and then from the start; whether there is anything."""
        while True:
            from_the_start = self._cursor == b"-"
            self._look(idle_ms)
            self._find(limit)
            if self._found or from_the_start:
                return self._found is not None
            self._cursor = b"-"

    def _look(self, idle_ms: int) -> None:
        self.link.send(
            "XPENDING", self.partition.stream, GROUP, "IDLE", idle_ms, self._cursor, "+", _LOOK
        )

    def _find(self, limit: int) -> None:
        """What the last look saw; the next one goes on behind it."""
        self._found = plan(self.link.receive(), limit=limit)
        if self._found:
            last = self._found.ids[-1]
            self._cursor = b"-" if last == GREATEST_ID else b"(" + last

    def _acknowledge_deleted(self) -> None:
        if deleted := self._deleted:
            self._deleted = []
            self.link.call("XACK", self.partition.stream, GROUP, *deleted)

    def _give_a_sign_of_life(self) -> None:
        """To wait for entries is none; to look for something to claim is one."""
        self.link.call(
            "XAUTOCLAIM", self.partition.stream, GROUP, self.consumer, _NEVER_MS, "-",
            "COUNT", 1, "JUSTID",
        )  # fmt: skip
