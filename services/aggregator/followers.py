"""Which partitions this process reads: every one that lives, each in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from threading import Thread

from aggregator.reader import Reader
from hourglass.clock import PipelineClock
from hourglass.cluster import Cluster
from hourglass.gauges import StreamGauges
from hourglass.groups import reap
from hourglass.keys import GROUP, Partition
from hourglass.partitions import candidates, decide, enter, unlisted
from hourglass.runtime import Service
from hourglass.survey import hours_left, hours_left_line, oldest_waiting_ms, survey

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Followers:
    """Starts a follower for each partition that has appeared; one whose partition is over ends."""

    service: Service
    cluster: Cluster
    clock: PipelineClock
    reader: Reader
    _threads: dict[Partition, Thread] = field(default_factory=dict[Partition, Thread])

    def step(self) -> None:
        """Raises Unreachable."""
        self._threads = {p: thread for p, thread in self._threads.items() if thread.is_alive()}
        unread = [
            partition
            for partition in candidates(self.cluster, self.clock.look())
            if partition not in self._threads
        ]
        exist = self.cluster.pipeline([("EXISTS", partition.stream) for partition in unread])
        for partition, exists in zip(unread, exist, strict=True):
            if exists:
                self._threads[partition] = self.service.worker(
                    partition.stream, lambda partition=partition: self.reader.follow(partition)
                )

    def find_unlisted(self) -> None:
        """Enter the lanes that the index has lost into it again. Raises Unreachable."""
        instant = self.clock.look()
        found = unlisted(self.cluster, instant)
        for day, lanes in (
            (day, list(each)) for day, each in groupby(found, lambda lane: lane.day)
        ):
            for lane in lanes:
                log.warning("%s lives and is not in the index: entering it", lane.stream)
            decide(self.cluster, day, lanes, instant, used=lanes)
            enter(self.cluster, lanes, instant)

    @property
    def partitions(self) -> Sequence[Partition]:
        return sorted(self._threads)

    def reap(self, idle_ms: int) -> None:
        """Remove the consumers that are gone and hold nothing, from every partition read here."""
        for partition in self.partitions:
            reap(self.cluster, partition.stream, GROUP, idle_ms)

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
