"""Which partitions this process consumes: every live one, by a consumer for each shard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from aggregator.consumer import ShardConsumer
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
from hourglass.monitoring.stream_stats import (
    hours_left,
    hours_left_line,
    oldest_waiting_ms,
    read_streams,
)
from hourglass.service.runtime import Service

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PartitionSupervisor:
    """Gives each partition that has appeared to the consumer of its shard. A consumer lets go of a
    partition that is over or has moved, and ends with its last one.

    consumer: makes the consumer of a shard, which is a thread of the service
    """

    service: Service
    cluster: Cluster
    clock: PipelineClock
    consumer: Callable[[str], ShardConsumer]
    _consumers: dict[str, ShardConsumer] = field(default_factory=dict[str, ShardConsumer])

    def step(self) -> None:
        """Raises Unreachable, after every partition that can be reached is consumed."""
        instant = self.clock.current()
        index_failure: Unreachable | None = None
        try:
            known = candidates(self.cluster, instant)
        except Unreachable as error:
            known = list(self.cluster.keyspace.days_alive(instant.now_ms))
            index_failure = error
        consumed = set(self.partitions)
        with_each(self.cluster, [each for each in known if each not in consumed], self._consume)
        if index_failure:
            raise index_failure

    def _consume(self, partition: Partition) -> None:
        if not self.cluster.call("EXISTS", partition.stream):
            return
        shard = self.cluster.shard_of(partition.stream)
        consumer = self._consumers.get(shard)
        if consumer is None or not consumer.add(partition):
            consumer = self._consumers[shard] = self.consumer(shard)
            consumer.add(partition)
            self.service.worker(f"consumer of {shard}", consumer.run)

    def find_unlisted(self) -> None:
        """Enter the lanes that the index has lost into it again. Raises Unreachable, and CorruptKey
        where there are more than are read."""
        instant = self.clock.current()
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
        return sorted({one for each in self._consumers.values() for one in each.partitions})

    def reap(self, idle_ms: int) -> None:
        """Remove the consumers that are gone and hold nothing, from every partition consumed here.
        Raises Unreachable or CorruptKey."""
        with_each(
            self.cluster,
            self.partitions,
            lambda partition: reap(self.cluster, partition.stream, GROUP, idle_ms),
        )

    def show_streams(self, gauges: StreamGauges) -> None:
        """Show what lives now, whether it is consumed here yet or not. Raises Unreachable."""
        instant = self.clock.current()
        partitions = candidates(self.cluster, instant)
        states = read_streams(self.cluster, [each.stream for each in partitions], GROUP)
        oldest_ms = oldest_waiting_ms(self.cluster, instant, states)
        behind_ms = 0 if oldest_ms is None else max(0, instant.now_ms - oldest_ms)
        left = hours_left(instant, states)
        gauges.show(states, behind_s=behind_ms / 1000, hours_left=left)
        self.service.note("streams", hours_left_line(left))
