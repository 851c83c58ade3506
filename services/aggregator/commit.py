"""One link's work on one partition: read or claim entries, and commit what they fold into.

Everything travels over one connection under one consumer name, so a batch can only be committed
over the connection that delivered it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from aggregator.instruments import Instruments
from aggregator.recovery import Pending, plan
from aggregator.window import Entry, Fold, fold
from hourglass.clock import Instant
from hourglass.cluster import Link
from hourglass.errors import Severed
from hourglass.keys import GROUP, RECORDS_KEPT_MS, RETENTION_MS, Partition
from hourglass.readings import Rules
from hourglass.scripts import Script, packed

_COMMIT = Script.load("aggregator", "commit")

#: How far into the pending list one look goes.
_LOOK = 1000


@dataclass(slots=True)
class Delivery:
    """One partition, one connection, one consumer name."""

    link: Link
    partition: Partition
    incarnation: bytes
    consumer: str
    metrics: Instruments
    _cursor: bytes = b"-"
    _devices: dict[int, set[bytes]] = field(default_factory=dict[int, set[bytes]])

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """New entries, at most `count`; waits for them up to `block_ms`."""
        stream = self.partition.stream
        reply = self.link.call(
            "XREADGROUP", "GROUP", GROUP, self.consumer,
            "COUNT", count, "BLOCK", block_ms, "STREAMS", stream, ">",
        )  # fmt: skip
        return reply[0][1] if reply else []

    def claim(self, idle_ms: int, *, limit: int) -> tuple[list[Entry], frozenset[bytes]]:
        """Entries others have held for `idle_ms`, and the ids among them to give up undecoded.

        The cursor is kept from call to call, so that the whole pending list is passed through
        however many entries at its head are not idle yet.
        """
        stream = self.partition.stream
        look = self.link.call(
            "XPENDING", stream, GROUP, "IDLE", idle_ms, self._cursor, "+", _LOOK
        )  # fmt: skip
        claim = plan([Pending(row[0], row[3]) for row in look], limit=limit)
        if claim is None:
            self._cursor = b"-"
            return [], frozenset()
        cursor, entries, _ = self.link.call(
            "XAUTOCLAIM", stream, GROUP, self.consumer, idle_ms, claim.start, "COUNT", claim.count
        )  # fmt: skip
        self._cursor = b"-" if cursor == b"0-0" else cursor
        self.metrics.reclaimed(len(entries))
        return entries, claim.undeliverable

    def commit(
        self,
        entries: Sequence[Entry],
        rules: Rules,
        instant: Instant,
        undeliverable: Collection[bytes] = (),
    ) -> None:
        """Count or quarantine `entries`, those that are still this consumer's.

        `entries` is all that was delivered over this link and not committed. Raises Severed; then
        nothing is known of the batch, and what was not committed comes back by redelivery. Raises
        ResponseError NOGROUP when the partition has been opened anew since: open it again.
        """
        while entries:
            folded = fold(self.partition, entries, rules, undeliverable)
            started = time.perf_counter()
            late, own = self._run(folded, instant)
            if own is None:
                self._account(folded, late, time.perf_counter() - started)
                return
            self.metrics.conflict()
            remaining = [entry for entry in entries if entry[0] in own]
            if len(remaining) == len(entries):
                self.link.close()
                raise Severed(f"{self.consumer} has entries pending that it was never given")
            entries = remaining

    def _run(self, folded: Fold, instant: Instant) -> tuple[int, set[bytes] | None]:
        """How many readings were late; or, if nothing was done, the entries that are still own."""
        partition = self.partition
        tallies = [
            [hour, tally.count, str(tally.sum_milli_f), tally.min_milli_f, tally.max_milli_f,
             list(tally.devices - self._devices.get(hour, set()))]
            for hour, tally in folded.tallies.items()
        ]  # fmt: skip
        rejects = [[reject.id, reject.reason, packed(reject.fields)] for reject in folded.rejects]
        done, answer = self.link.run(
            _COMMIT,
            [
                partition.stream,
                partition.hours,
                partition.quarantine,
                *(partition.devices(hour) for hour in folded.tallies),
            ],
            [
                GROUP,
                self.incarnation,
                self.consumer,
                len(folded.ids),
                instant.deadline(folded.latest_ms + RETENTION_MS),
                instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
                packed([folded.ids, tallies, rejects]),
            ],
        )
        return (answer, None) if done else (0, set(answer))

    def _account(self, folded: Fold, late: int, seconds: float) -> None:
        usable = len(folded.ids) - len(folded.rejects)
        self.metrics.committed(
            entries=len(folded.ids), counted=usable - late, late=late, seconds=seconds
        )
        for reason, count in Counter(reject.reason for reject in folded.rejects).items():
            self.metrics.quarantined(reason, count)
        for hour, tally in folded.tallies.items():
            self._devices.setdefault(hour, set()).update(tally.devices)
        if len(self._devices) > 3:  # the hours in progress; an old one costs a SADD at worst
            del self._devices[min(self._devices)]
