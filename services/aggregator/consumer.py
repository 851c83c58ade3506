"""The partitions of one shard, consumed by one thread over one connection: poll, aggregate, commit.

Each pass of `step` reads top to bottom. It polls the partitions that are due, all with one round
trip, and commits what they deliver, batch by batch. While the last of these batches is aggregated,
the server reads the next ones. A partition that delivers is polled again after the linger time, a
quiet one ever more seldom, up to once a second. A pass with nothing to do waits in a blocking read
of the partition that was active last.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from opentelemetry.trace import Tracer

from aggregator.aggregates import SeenDevices
from aggregator.commit import BatchCommitter
from aggregator.config import AggregatorSettings
from aggregator.metrics import Metrics
from aggregator.opening import Found, open_partition, report
from aggregator.subscriptions import RETRY_S, Batch, Request, Subscription, Subscriptions, Workers
from hourglass.cluster.client import Cluster
from hourglass.cluster.link import Link
from hourglass.errors import CorruptKey, HourglassError, Unforeseen, Unreachable, UnsupportedServer
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.keys import Partition
from hourglass.model.readings import Rules
from hourglass.service.tracing import NO_TRACER

log = logging.getLogger(__name__)

#: The longest blocking read: the thread sees `stop` and new partitions after it.
BLOCK_S = 0.5


@dataclass(slots=True)
class ShardConsumer:
    """Consumes the partitions of one master. `add` and `partitions` are for other threads, all
    else is for the one that calls `run`."""

    shard: str
    workers: Workers
    cluster: Cluster
    clock: PipelineClock
    settings: AggregatorSettings
    metrics: Metrics
    tracer: Tracer = NO_TRACER
    link: Link | None = None
    consumed: Subscriptions = field(init=False)

    def __post_init__(self) -> None:
        self.consumed = Subscriptions(self.workers)

    def add(self, partition: Partition) -> bool:
        """Consume `partition` too; False if this consumer has ended."""
        return self.consumed.add(partition)

    @property
    def partitions(self) -> Collection[Partition]:
        return [each.partition for each in self.consumed.all]

    def run(self) -> None:
        """Work until the service stops or no partition is left."""
        while self.consumed.go_on():
            try:
                self.step()
            except UnsupportedServer:
                raise
            except Exception as error:
                log.debug("consumer of %s", self.shard, exc_info=True)
                lost = error if isinstance(error, Unreachable) else Unforeseen.of(error)
                self.lose_link(lost)
                self.workers.stop.wait(RETRY_S)
                self._refresh_topology()
        self._finish_reclaimed()
        self.close()

    def step(self, *, wait: bool = True) -> bool:
        """One pass: open a partition, reclaim a batch, poll, commit a batch; whether there was
        anything to do. Raises Unreachable if the shard is: what it delivered is dropped then, and
        delivered again.

        wait: for entries, if there is nothing else to do
        """
        has_work = bool(self.consumed.delivered)
        if not has_work:
            has_work = self._open() | self._reclaim()
            self._poll(wait=wait and not has_work)
        if self.consumed.delivered:
            self._commit(self.consumed.delivered.popleft())
            has_work = True
        return has_work

    def _open(self) -> bool:
        """Give the partition that waits longest its group, and consumers of its own on the link;
        whether one waits."""
        if self.consumed.redirected:
            self.close()
            self._refresh_topology()
        now = time.monotonic()
        closed = [each for each in self.consumed.all if not each.committers and each.due <= now]
        each = min(closed, key=lambda each: each.due, default=None)
        if each is None:
            return False
        if self.link is None:
            self.link = self.cluster.link(each.partition.stream)
        with self.consumed.own_failure(each):
            self._subscribe(each, self.link)
        return True

    def _subscribe(self, each: Subscription, link: Link) -> None:
        self.workers.beat(each.worker)
        instant, partition = self.clock.current(), each.partition
        opened = open_partition(self.cluster, partition, instant)
        report(partition, opened.found, instant, self.metrics)
        if opened.found is Found.ABSENT:
            self.consumed.release(each)
            return
        name, seen = f"{self.workers.name}-{uuid.uuid4().hex[:8]}", SeenDevices()
        each.open(
            *(
                BatchCommitter(
                    link.about(partition.stream), partition, opened.incarnation,
                    f"{name}-{number}", self.metrics, seen, self.tracer, self._renewed,
                )
                for number in (1, 2)
            )
        )  # fmt: skip

    def _reclaim(self) -> bool:
        """Count one batch of what dead consumers of one partition left behind; whether there was
        one."""
        each = min(self.consumed.opened, key=lambda each: each.reclaim_due, default=None)
        if each is None or each.reclaim_due > time.monotonic() or self.workers.stop.is_set():
            return False
        found = False
        with self.consumed.own_failure(each):
            found = self._recover(each, on=True)
        self._drain()
        pause_s = 0 if found else self.settings.claim_idle_ms / 4000
        each.reclaim_due = time.monotonic() + pause_s
        return found

    def _recover(self, each: Subscription, *, on: bool) -> bool:
        """`on`: prefetch the next batch too."""
        instant = self.clock.current()
        return each.committers[0].recover(
            self.settings.rules(instant),
            instant,
            idle_ms=self.settings.claim_idle_ms,
            limit=self.settings.delivery_limit,
            on=on,
        )

    def _poll(self, *, wait: bool) -> None:
        """Read new entries of the partitions that are due. If none is, wait."""
        requests = self._request()
        if not requests and wait and not self.workers.stop.is_set():
            requests = self._wait()
        for each in requests:
            self._receive(each)

    def _request(self, beside: BatchCommitter | None = None) -> Sequence[Request]:
        """Ask for the entries of partitions that are due; `beside` as in `Subscriptions`."""
        if self.workers.stop.is_set():
            return []
        requests = self.consumed.requests(self.settings.batch_entries, beside)
        for each in requests:
            each.committer.request(each.limit)
        return requests

    def _wait(self) -> Sequence[Request]:
        """Wait until a partition is due; in a read of the one that was active last, unless its
        entries are to gather."""
        now, opened = time.monotonic(), self.consumed.opened
        last = max(opened, key=lambda each: (each.active, each.partition), default=None)
        blocking = last is not None and not last.lingers
        until = [now + BLOCK_S, *(each.reclaim_due for each in opened)]
        until += [each.due for each in self.consumed.all if not blocking or each is not last]
        wait_s = max(0.0, min(until) - now)
        if last is None or not blocking:
            self.workers.stop.wait(wait_s)
            return []
        count = self.settings.batch_entries
        last.committers[0].request(count, max(1, round(1000 * wait_s)))
        return [Request(last, last.committers[0], count)]

    def _receive(self, request: Request) -> None:
        """The reply becomes a batch to commit, and the partition gets its next due time."""
        each, committer, limit = request
        with self.consumed.own_failure(each):
            entries = committer.receive()
            if committer not in each.committers:
                return  # its partition has failed meanwhile: its entries are delivered again
            self.workers.beat(each.worker)
            each.delivered(len(entries), limit=limit, linger_s=self.settings.linger_ms / 1000)
            if entries:
                self.consumed.delivered.append(Batch(each, committer, entries))
            else:
                self.workers.mark_recovered(each.worker)

    def _commit(self, batch: Batch) -> None:
        """Count a batch. Meanwhile, if it is the last one, the server reads the next."""
        each, committer, entries = batch
        instant = self.clock.current()
        requests: Sequence[Request] = []
        if not self.consumed.delivered and not self._has_chores():
            requests = self._request(committer)
        with self.consumed.own_failure(each):
            committer.submit(entries, self.settings.rules(instant), instant)
        for request in requests:
            self._receive(request)
        with self.consumed.own_failure(each):
            committer.settle()
            if committer in each.committers:
                self.workers.mark_recovered(each.worker)

    def _has_chores(self) -> bool:
        """Whether something is to be opened or reclaimed before the next poll."""
        now = time.monotonic()
        return self.consumed.redirected or any(
            (each.reclaim_due if each.committers else each.due) <= now for each in self.consumed.all
        )

    def _finish_reclaimed(self) -> None:
        """Count what was reclaimed ahead: another consumer would have to wait for it again."""
        for each in self.consumed.opened:
            if each.committers[0].has_claimed:
                with suppress(Unreachable):
                    with self.consumed.own_failure(each):
                        self._recover(each, on=False)
                    self._drain()

    def _drain(self) -> None:
        """A partition that failed in the middle of its own exchange leaves replies behind."""
        if self.link:
            self.link.drain()

    def lose_link(self, error: HourglassError) -> None:
        """The connection broke, or there is none: every partition that needs it fails."""
        now = time.monotonic()
        for each in self.consumed.all:
            self.workers.beat(each.worker)
            if each.committers or each.due <= now:
                self.consumed.put_off(each, error, RETRY_S, RETRY_S)
        self.close()

    def close(self) -> None:
        """Close the connection. What it delivered and is not committed is delivered again."""
        if self.link:
            self.link.close()
        self.link = None
        self.consumed.redirected = False
        for each in self.consumed.opened:
            self.consumed.drop(each)

    def _refresh_topology(self) -> None:
        """Learn which partitions the shard still holds; the supervisor gives the others to the
        consumer of their shard."""
        try:
            self.cluster.refresh_topology()
            moved = [
                each
                for each in self.consumed.all
                if self.cluster.shard_of(each.partition.stream) != self.shard
            ]
        except Unreachable as error:
            log.debug("topology: %s", error)
            return
        for each in moved:
            self.consumed.release(each)

    def _renewed(self) -> tuple[Rules, Instant]:
        with suppress(Unreachable, CorruptKey):  # then by the time that is known
            self.clock.refresh()
        instant = self.clock.current()
        return self.settings.rules(instant), instant
