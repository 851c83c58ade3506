"""From a batch to the partition: once, however often it has to be tried."""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto

from redis.exceptions import ResponseError

from hourglass.clock import PipelineClock
from hourglass.cluster import Cluster, Link
from hourglass.errors import Severed, Unreachable
from hourglass.keys import RECORDS_KEPT_MS, RETENTION_MS, Partition
from hourglass.partitions import register
from hourglass.scripts import Script
from producer.batch import Batch

_INGEST = Script.load("producer", "ingest")
#: What a server that has become a replica says to WAIT, and to whoever was waiting.
_DEMOTED = ("WAIT cannot be used with replica", "UNBLOCKED")


class Outcome(Enum):
    """What became of a batch."""

    TAKEN = auto()
    DUPLICATE = auto()  # an earlier try whose answer was lost had been taken
    EXPIRED = auto()  # older than its partition may live


class Publisher:
    """Writes batches in the order of their sequence numbers. Not for several threads.

    After Unreachable the same batch must be tried again before any other: a later one would make
    its sequence number look taken.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: PipelineClock,
        *,
        incarnation: str,
        wait_replicas: int = 0,
        wait_timeout_ms: int = 1000,
    ) -> None:
        """`incarnation` is a name no other producer process ever has.

        With `wait_replicas`, a batch counts as taken once that many replicas have it.
        """
        self._cluster = cluster
        self._clock = clock
        self._incarnation = incarnation
        self._wait_replicas = wait_replicas
        self._wait_timeout_ms = wait_timeout_ms
        self._link: tuple[Partition, Link] | None = None
        self._registered: set[Partition] = set()
        self._told: Counter[Partition] = Counter()

    def publish(self, batch: Batch) -> Outcome:
        """Raises Unreachable, after which the same batch must be tried again; Damaged, after which
        it may be."""
        instant = self._clock.look()
        partition = batch.partition
        if partition not in self._registered:
            register(self._cluster, partition, instant)
            self._registered.add(partition)
        link = self._linked(partition)
        try:
            taken = link.run(
                _INGEST,
                [partition.stream, partition.producers],
                [
                    self._incarnation,
                    batch.sequence,
                    self._told[partition],
                    instant.deadline(batch.latest_ms + RETENTION_MS),
                    instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
                    batch.payload,
                ],
            )
            if taken >= 0 and self._wait_replicas:
                self.await_replicas(link)
        except Severed:
            self._link = None
            self._cluster.refresh_topology()
            raise
        if taken < 0:
            return Outcome.EXPIRED
        self._told[partition] += batch.count
        return Outcome.TAKEN if taken else Outcome.DUPLICATE

    def close(self) -> None:
        if self._link is not None:
            self._link[1].close()
            self._link = None

    def _linked(self, partition: Partition) -> Link:
        if self._link is None or self._link[0] != partition:
            self.close()
            try:
                link = self._cluster.link(partition.stream)
            except Unreachable:
                # Its replica may have taken over since the topology was last asked for.
                self._cluster.refresh_topology()
                raise
            self._link = (partition, link)
        return self._link[1]

    def await_replicas(self, link: Link) -> None:
        """Until they have what was written over `link`. Raises Unreachable."""
        try:
            have = link.call("WAIT", self._wait_replicas, self._wait_timeout_ms)
        except ResponseError as error:
            if not str(error).startswith(_DEMOTED):
                raise
            link.close()
            raise Severed(f"a replica has taken over: {error}") from error
        if have < self._wait_replicas:
            raise Unreachable(
                f"{have} of {self._wait_replicas} replicas confirmed within "
                f"{self._wait_timeout_ms} ms; the batch is tried again"
            )
