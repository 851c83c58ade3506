"""Which partitions this process reads: every one that lives, each in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from threading import Thread

from aggregator.consumer import PartitionConsumer
from hourglass.cluster.client import Cluster
from hourglass.cluster.groups import reap
from hourglass.cluster.partitions import (
    candidates,
    decide,
    enter,
    left_out_line,
    unlisted,
    with_each,
)
from hourglass.errors import CorruptKey, Unreachable
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import GROUP, Partition
from hourglass.monitoring.collectors import StreamGauges
from hourglass.monitoring.stream_stats import hours_left, hours_left_line, oldest_waiting_ms, survey
from hourglass.service.runtime import Service

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PartitionSupervisor:
    """Starts a follower for each partition that has appeared; one whose partition is over ends."""

    service: Service
    cluster: Cluster
    clock: PipelineClock
    reader: PartitionConsumer
    _threads: dict[Partition, Thread] = field(default_factory=dict[Partition, Thread])

    def step(self) -> None:
        """Raises Unreachable, after it has started whatever can be read while a shard is away."""
        self._threads = {p: thread for p, thread in self._threads.items() if thread.is_alive()}
        instant = self.clock.look()
        index_is_away: Unreachable | None = None
        try:
            known = candidates(self.cluster, instant)
        except Unreachable as error:
            known = list(self.cluster.keyspace.days_alive(instant.now_ms))
            index_is_away = error
        unread = [partition for partition in known if partition not in self._threads]
        with_each(self.cluster, unread, self._follow)
        if index_is_away:
            raise index_is_away

    def _follow(self, partition: Partition) -> None:
        if self.cluster.call("EXISTS", partition.stream):
            self._threads[partition] = self.service.worker(
                partition.stream, lambda: self.reader.follow(partition)
            )

    def find_unlisted(self) -> None:
        """Enter the lanes that the index has lost into it again. Raises Unreachable, and CorruptKey
        where there are more than are read."""
        instant = self.clock.look()
        found, left_out = unlisted(self.cluster, instant)
        for day, lanes in (
            (day, list(each)) for day, each in groupby(found, lambda lane: lane.day)
        ):
            for lane in lanes:
                log.warning("%s lives and is not in the index: entering it", lane.stream)
            # A flood of names is no decision that producers should share the day out to.
            decide(self.cluster, day, () if left_out else lanes, instant, used=lanes)
            enter(self.cluster, lanes, instant)
        if left_out:
            raise CorruptKey(left_out_line(left_out))

    @property
    def partitions(self) -> Sequence[Partition]:
        return sorted(self._threads)

    def reap(self, idle_ms: int) -> None:
        """Remove the consumers that are gone and hold nothing, from every partition read here.
        Raises Unreachable or CorruptKey."""
        with_each(
            self.cluster,
            self.partitions,
            lambda partition: reap(self.cluster, partition.stream, GROUP, idle_ms),
        )

    def survey(self, gauges: StreamGauges) -> None:
        """Show what lives now, whether it is read here yet or not. Raises Unreachable."""
        instant = self.clock.look()
        partitions = candidates(self.cluster, instant)
        states = survey(self.cluster, [each.stream for each in partitions], GROUP)
        oldest_ms = oldest_waiting_ms(self.cluster, instant, states)
        behind_ms = 0 if oldest_ms is None else max(0, instant.now_ms - oldest_ms)
        left = hours_left(instant, states)
        gauges.show(states, behind_s=behind_ms / 1000, hours_left=left)
        self.service.note("survey", hours_left_line(left))
