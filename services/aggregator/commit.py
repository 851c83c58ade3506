"""One link's work on one partition: read entries or take them over, and commit what they fold into.

A batch is committed over the connection that delivered it, so the entries are those the server
still has.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer

from aggregator.claims import Claimed, Claims
from aggregator.instruments import Instruments
from aggregator.roster import Roster, flat
from aggregator.window import Fold, fold
from hourglass.clock import Instant
from hourglass.cluster import Link
from hourglass.errors import Severed
from hourglass.keys import GROUP, RECORDS_KEPT_MS, RETENTION_MS, Partition
from hourglass.readings import Entry, Reason, Reject, Rules, origins
from hourglass.scripts import Script, packed
from hourglass.telemetry import (
    NO_TRACER,
    exemplar,
    is_off,
    links_to,
    messaging,
    traceparent_of,
)

_COMMIT = Script.load("aggregator", "commit", library="tally")


@dataclass(slots=True)
class _Submitted:
    """A commit on its way.

    again: sends it again, of the entries with these ids, if others were counted by another process
    """

    folded: Fold
    again: Callable[[Collection[bytes]], None]
    started: float
    span: Span


@dataclass(slots=True)
class Delivery:
    """One partition, one connection, one consumer name that holds one batch at a time.

    Two of them on one link take turns: while one's batch is folded, the server reads the other's;
    while that arrives, it commits the first. So replies are taken in the order of sending:
    `request`, `submit`, `receive`, `settle`.

    renewed: rules and time by a clock that has just been read. Before a reading is refused as being
        too far in the future it is asked for: whoever sent it may have heard of a leap sooner
    """

    link: Link
    partition: Partition
    incarnation: bytes
    consumer: str
    metrics: Instruments
    roster: Roster = field(default_factory=Roster)
    tracer: Tracer = NO_TRACER
    renewed: Callable[[], tuple[Rules, Instant]] | None = None
    claims: Claims = field(init=False)
    _submitted: _Submitted | None = None
    _next: Claimed | None = None

    def __post_init__(self) -> None:
        self.claims = Claims(self.link, self.partition, self.consumer, self.metrics)

    def read(self, count: int, block_ms: int | None) -> Sequence[Entry]:
        """New entries, at most `count`; waits for them up to `block_ms`."""
        self.request(count, block_ms)
        return self.receive()

    def request(self, count: int, block_ms: int | None = None) -> None:
        """Ask for new entries; without `block_ms` for those that are there already."""
        wait = () if block_ms is None else ("BLOCK", block_ms)
        self.link.send(
            "XREADGROUP", "GROUP", GROUP, self.consumer,
            "COUNT", count, *wait, "STREAMS", self.partition.stream, ">",
        )  # fmt: skip

    def receive(self) -> Sequence[Entry]:
        """The entries asked for."""
        reply = self.link.receive()
        return reply[0][1] if reply else []

    @property
    def has_claimed(self) -> bool:
        """Whether `recover` has taken over entries that it has not counted yet."""
        return self._next is not None

    def recover(
        self, rules: Rules, instant: Instant, *, idle_ms: int, limit: int, on: bool = True
    ) -> bool:
        """Count entries that others have held for `idle_ms`, of which those that were tried `limit`
        times are given up unread; meanwhile, if it is to go `on`, the server prepares the next
        ones. False if there are none, or somebody else is at it. Raises as `settle`."""
        batch, self._next = self._next or self.claims.take(idle_ms, limit=limit), None
        if batch is None:
            return False
        if batch.given_up:
            self.give_up(batch.given_up, instant)
            return self.settle()
        ahead = on and batch.untried and not self.claims.is_wary
        if ahead:
            self.claims.request(idle_ms)
        self.submit(batch.entries, rules, instant)
        if ahead:
            self._next = self.claims.receive(limit)
        return self.settle()

    def give_up(self, ids: Sequence[bytes], instant: Instant) -> None:
        """Send the commit that puts these entries into quarantine, whoever holds them. It takes
        their ids alone: an entry may be larger than what this process may allocate. Raises
        Severed."""
        if not ids:
            return
        rejects = [Reject(entry_id, Reason.UNDELIVERABLE, ()) for entry_id in ids]
        given_up = Fold(list(ids), {}, rejects, latest_ms=self.partition.day_ms)
        self._send(
            given_up,
            instant,
            INVALID_SPAN,
            lambda pending: self.give_up([each for each in ids if each in pending], instant),
        )

    def submit(self, entries: Sequence[Entry], rules: Rules, instant: Instant) -> None:
        """Fold `entries`, which this link delivered, and send the commit. Raises Severed."""
        if not entries:
            return
        span = self._span(entries)
        folded = fold(self.partition, entries, rules)
        if self.renewed and any(each.reason is Reason.FAR_FUTURE for each in folded.rejects):
            rules, instant = self.renewed()
            folded = fold(self.partition, entries, rules)
        self._send(
            folded,
            instant,
            span,
            lambda pending: self.submit(
                [each for each in entries if each[0] in pending], rules, instant
            ),
        )

    def _span(self, entries: Sequence[Entry]) -> Span:
        """Of one batch, linked to the producers' batches that it takes in."""
        if is_off(self.tracer):
            return INVALID_SPAN
        stream = self.partition.stream
        return self.tracer.start_span(
            f"process {stream}",
            kind=SpanKind.CONSUMER,
            links=links_to(origins(entries)),
            attributes={
                **messaging("process", stream, len(entries), "commit"),
                "messaging.consumer.group.name": GROUP,
                "messaging.client.id": self.consumer,
            },
        )

    def settle(self) -> bool:
        """Wait until the batch is committed; False if somebody else has counted some of it.

        Raises Severed; then nothing is known of the batch, and what was not committed comes back
        by redelivery. Raises ResponseError NOGROUP when the partition has been opened anew since:
        open it again.
        """
        whole = True
        while (batch := self._submitted) is not None:
            self._submitted = None
            try:
                done, *answer = self.link.finish()
            finally:
                batch.span.end()
            if done == 1:
                seconds = time.perf_counter() - batch.started
                self._account(batch.folded, answer[0], seconds, exemplar(batch.span))
            elif done < 0:
                self.link.close()
                raise Severed(f"{self.consumer} has entries pending that it was never given")
            else:
                whole = False
                self.metrics.conflict()
                batch.again(frozenset(answer[0]))
        return whole

    def _send(
        self,
        folded: Fold,
        instant: Instant,
        span: Span,
        again: Callable[[Collection[bytes]], None],
    ) -> None:
        self._submitted = _Submitted(folded, again, time.perf_counter(), span)
        partition = self.partition
        trace = traceparent_of(span)
        self.link.begin(
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
                instant.deadline(folded.latest_ms + RETENTION_MS),
                instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
                packed([folded.ids, *told(folded, self.roster), *([trace] if trace else [])]),
            ],
        )

    def _account(
        self, folded: Fold, late: int, seconds: float, trace: Mapping[str, str] | None
    ) -> None:
        self.metrics.committed(
            entries=len(folded.ids),
            counted=folded.counted - late,
            late=late,
            seconds=seconds,
            exemplar=trace,
        )
        quarantined = Counter[Reason]()
        for reject in folded.rejects:
            quarantined[reject.reason] += reject.readings
        for reason, count in quarantined.items():
            self.metrics.quarantined(reason, count)
        self.roster.know(folded.tallies)


def told(folded: Fold, roster: Roster) -> list[Any]:
    """Tallies and rejects as a script that counts takes them."""
    tallies = [
        [hour, tally.count, str(tally.sum_milli_f), tally.min_milli_f, tally.max_milli_f,
         flat(roster.news(hour, tally))]
        for hour, tally in folded.tallies.items()
    ]  # fmt: skip
    rejects = [
        [reject.id, reject.explanation, packed(reject.fields) if reject.fields else b"",
         reject.readings, reject.at]
        for reject in folded.rejects
    ]  # fmt: skip
    return [tallies, rejects]
