"""The pipeline's steps in this process, one at a time, so that a test may put anything between."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain, count, groupby
from types import TracebackType
from typing import Any, Self

import numpy as np
from opentelemetry.trace import NoOpTracerProvider, Tracer
from prometheus_client import CollectorRegistry

from aggregator.commit import BatchCommitter
from aggregator.metrics import Metrics
from aggregator.opening import Found, open_partition
from aggregator.sealer import Sealer
from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.cluster.partitions import Days, recorded
from hourglass.errors import Unreachable
from hourglass.model.averages import HourlyAverage, HourRecord, joined_hours
from hourglass.model.clock import ClockSpec, Instant, Mode, PipelineClock
from hourglass.model.entries import Entry
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import DAY_MS, GROUP, HOUR_MS, RECORDS_KEPT_MS, Keyspace, Partition
from hourglass.model.packed_codec import MISSING, readings_in
from hourglass.model.readings import MILLI, Reading, Rules
from hourglassctl.audit.collect import audit
from hourglassctl.audit.compare import Audit
from hourglassctl.replay import EXERCISE_START_MS
from producer.batch import Batch, Batcher
from producer.packed_batches import Packer
from producer.simulator_array import Tick
from producer.writer import BatchWriter, Outcome
from tests.support.keyspace import KEYS
from tests.support.waiting import patient

DAY = KEYS.partition(EXERCISE_START_MS)
NEXT_DAY = KEYS.partition(DAY.end_ms)


def at(hour: int, minute: int = 0, second: int = 0, *, day: Partition = DAY) -> int:
    """A time of `day`, in ms."""
    return day.hour_start_ms(hour) + (60 * minute + second) * 1000


def day_after(partition: Partition, days: int = 1) -> Partition:
    return KEYS.partition(partition.day_ms + days * DAY_MS)


def reading(ts_ms: int, temp_f: float = 50.0, device: str = "porch") -> Reading:
    return Reading(device.encode(), ts_ms, round(temp_f * MILLI))


def tick(ts_ms: int, *temps_f: float | None) -> Tick:
    """What numbered devices give at one time; None is a missing reading."""
    milli_f = [MISSING if each is None else round(each * MILLI) for each in temps_f]
    return Tick(ts_ms, np.array(milli_f, np.int32))


def batch_of(*readings: Reading) -> Batch:
    """The first batch of a producer: sequence number 1."""
    (batch,) = Batcher(limit=5000, partitions=KEYS.undivided).cut(readings)
    return batch


def publish(publisher: BatchWriter, batch: Batch) -> Outcome:
    """Try `batch` once; after Unreachable it may be tried again, as a producer would."""
    publisher.put(batch)
    try:
        ((_, outcome),) = publisher.settle()
    except Unreachable:
        publisher.give_up()
        raise
    return outcome


@dataclass(frozen=True, slots=True)
class Writer:
    """A producer's steps: days shared out to lanes, batches, and who sends them."""

    days: Days
    publisher: BatchWriter
    batcher: Batcher

    def produce(self, *readings: Reading, next_ms: int | None = None) -> None:
        """`next_ms`: the event time of the next reading, which makes the watermark."""
        for batch in self.batcher.cut(readings, next_ms=next_ms):
            assert publish(self.publisher, batch) is Outcome.TAKEN


@dataclass(slots=True)
class Pipeline:
    """One of each service's steps; the clock is manual and stands at the start of DAY.

    lanes: how many a day gets that `produce` is the first to write to
    keyspace: the pipeline's; where a day is not named, it is of KEYS
    """

    url: str
    lanes: int = 1
    keyspace: Keyspace = KEYS
    cluster: Cluster = field(init=False)
    clock: PipelineClock = field(init=False)
    _registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _metrics: Metrics = field(init=False)
    _writer: Writer = field(init=False)
    _packers: dict[str, tuple[BatchWriter, Packer]] = field(
        default_factory=dict[str, tuple[BatchWriter, Packer]]
    )
    _names: count[int] = field(default_factory=count)
    _resources: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.cluster = self._resources.enter_context(
            closing(connect(self.url, keyspace=self.keyspace))
        )
        self.clock = PipelineClock(self.cluster)
        self.drive(DAY.day_ms)
        self._metrics = Metrics(self._registry)
        self._writer = self.writer("producer", lanes=self.lanes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def drive(self, at_ms: int) -> Instant:
        """Move the manual clock."""
        self.clock.set(ClockSpec(mode=Mode.MANUAL, origin_ms=at_ms))
        return self.clock.current()

    def run_clock(self, from_ms: int, speed: float) -> Instant:
        """Let the clock run from here and now on."""
        real_ms = self.clock.refresh().real_ms
        self.clock.set(
            ClockSpec(mode=Mode.SIMULATED, origin_ms=from_ms, origin_real_ms=real_ms, speed=speed)
        )
        return self.clock.current()

    def use_wall_clock(self) -> Instant:
        self.clock.set(ClockSpec())
        return self.clock.current()

    def publisher(self, incarnation: str, **options: Any) -> BatchWriter:
        publisher = BatchWriter(self.cluster, self.clock, incarnation=incarnation, **options)
        self._resources.callback(publisher.close)
        return publisher

    def writer(self, incarnation: str, *, lanes: int) -> Writer:
        days = Days(self.cluster, self.clock, lanes=lanes)
        batcher = Batcher(limit=1000, partitions=days.shares)
        return Writer(days, self.publisher(incarnation, days=days), batcher)

    def produce(self, *readings: Reading, next_ms: int | None = None) -> None:
        self._writer.produce(*readings, next_ms=next_ms)

    def pack(self, *ticks: Tick, device: str = "pod", next_ms: int | None = None) -> None:
        """Packed entries of a producer with this name."""
        if device not in self._packers:
            days = self._writer.days
            publisher = self.publisher(f"packer:{device}", days=days)
            self._packers[device] = publisher, Packer(device, partitions=days.shares)
        publisher, packer = self._packers[device]
        for batch in packer.cut(ticks, next_ms=next_ms):
            assert publish(publisher, batch) is Outcome.TAKEN

    def xadd(self, *, to: Partition = DAY, entry_id: str = "*", **fields: Any) -> bytes:
        """A foreign writer's entry; the fields are text, bytes or numbers."""
        flat = [part for pair in fields.items() for part in pair]
        entry: bytes = self.cluster.call("XADD", to.stream, entry_id, *flat)
        return entry

    def open(self, partition: Partition = DAY) -> Found:
        return open_partition(self.cluster, partition, self.clock.current()).found

    def delivery(self, partition: Partition = DAY, *, name: str = "") -> BatchCommitter:
        """A new consumer of `partition` over a connection of its own."""
        opened = open_partition(self.cluster, partition, self.clock.current())
        link = self.cluster.link(partition.stream)
        self._resources.callback(link.close)
        consumer = name or f"consumer-{next(self._names)}"
        return BatchCommitter(link, partition, opened.incarnation, consumer, self._metrics)

    @staticmethod
    def claim(
        delivery: BatchCommitter, idle_ms: int, *, limit: int
    ) -> tuple[Sequence[Entry], Sequence[bytes]]:
        """What others have held for so long; or the ids of what is to be given up unread."""
        claimed = delivery.reclaimer.take(idle_ms, limit=limit)
        return (claimed.entries, claimed.given_up) if claimed else ([], [])

    def commit(
        self,
        delivery: BatchCommitter,
        entries: Sequence[Any],
        *,
        rules: Rules | None = None,
        given_up: Sequence[bytes] = (),
    ) -> bool:
        """Count or quarantine `entries`, or give those up, and know it; as
        `BatchCommitter.settle`."""
        instant = self.clock.current()
        if given_up:
            delivery.give_up(given_up, instant)
        else:
            delivery.submit(entries, rules or Rules(), instant)
        return delivery.settle()

    @patient
    def partitions(self) -> list[Partition]:
        """Those that have readings, lanes included."""
        known = recorded(self.cluster, self.clock.current())
        exist = self.cluster.pipeline([("EXISTS", each.stream) for each in known])
        return [each for each, exists in zip(known, exist, strict=True) if exists]

    def count(self, *partitions: Partition, rules: Rules | None = None) -> None:
        """Read and commit whatever is not delivered yet, of DAY if none is named."""
        for partition in partitions or (DAY,):
            delivery = self.delivery(partition)
            while entries := delivery.read(1000, None):
                self.commit(delivery, entries, rules=rules)

    def sealer(
        self,
        name: str = "sealer",
        *,
        lateness_ms: int = 0,
        idle_ms: int = 0,
        tracer: Tracer | None = None,
    ) -> Sealer:
        return Sealer(
            name=name,
            cluster=self.cluster,
            clock=self.clock,
            lateness_ms=lateness_ms,
            idle_ms=idle_ms,
            metrics=self._metrics,
            tracer=tracer or NoOpTracerProvider().get_tracer("test"),
        )

    def seal(self) -> None:
        """One step of a sealer that remembers nothing."""
        self.sealer().step()

    @patient
    def records(self, partition: Partition = DAY) -> dict[int, HourRecord]:
        """By hour, 0 to 23."""
        fields = self.cluster.call("HGETALL", partition.hours)
        return {
            (record.start_ms - partition.day_ms) // HOUR_MS: record
            for record in decode_hours(partition, fields)
        }

    @patient
    def day_records(self) -> list[HourRecord]:
        """The hours of every day that is remembered, lanes joined, in order."""
        instant = self.clock.current()
        partitions = recorded(self.cluster, instant, kept_ms=RECORDS_KEPT_MS)
        return [
            record
            for _, members in groupby(partitions, lambda each: each.day)
            for record in joined_hours([list(self.records(each).values()) for each in members])
        ]

    @patient
    def stored(self) -> list[tuple[bytes, int]]:
        """Device and event time of every reading that lives, a partition after the other."""
        return [
            (one.device, one.ts_ms)
            for partition in self.partitions()
            for entry_id, fields in self.cluster.call("XRANGE", partition.stream, "-", "+")
            for one in readings_in(
                partition, entry_id, [*chain.from_iterable(fields.items())], Rules()
            )
        ]

    def record(self, hour: int, partition: Partition = DAY) -> HourRecord:
        empty = HourRecord(start_ms=partition.hour_start_ms(hour), count=0, sum_milli_f=0)
        return self.records(partition).get(hour, empty)

    @patient
    def averages(self) -> list[HourlyAverage]:
        """What stands on the averages' stream, in its order."""
        entries = self.cluster.call("XRANGE", self.keyspace.averages, "-", "+")
        return [HourlyAverage.decode(entry_id, fields) for entry_id, fields in entries]

    def publish(self, *averages: HourlyAverage) -> None:
        """Put them on the averages' stream, and nowhere else."""
        for average in averages:
            fields = chain.from_iterable(average.fields().items())
            self.cluster.call("XADD", self.keyspace.averages, average.entry_id, *fields)

    @patient
    def pending(self, partition: Partition = DAY) -> int:
        """Entries delivered to the group and not acknowledged."""
        return int(self.cluster.call("XPENDING", partition.stream, GROUP)["pending"])

    def master_of(self, key: str) -> int:
        """The port of the shard that holds `key` now."""
        self.cluster.refresh_topology()
        return int(self.cluster.shard_of(key).rpartition(":")[2])

    @patient
    def audit(self, warehouse: Warehouse | None = None) -> Audit:
        return audit(self.cluster, self.clock.refresh(), warehouse)

    def metric(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(name, labels) or 0.0
