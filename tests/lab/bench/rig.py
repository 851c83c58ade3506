"""What every measurement stands on: a fresh cluster, and the pipeline's steps as one process of
each kind does them."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ParamSpec, TypeVar, cast

from prometheus_client import CollectorRegistry

from aggregator.config import AggregatorSettings
from aggregator.consumer import ShardConsumer
from aggregator.metrics import Metrics
from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.cluster.link import Link
from hourglass.cluster.partitions import Days
from hourglass.errors import HourglassError
from hourglass.model.clock import ClockSpec, Mode, PipelineClock
from hourglass.model.devices import device_names
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import DAY_MS, GROUP, Keyspace, Partition
from hourglass.model.readings import Reading
from hourglassctl.local.bootstrap import client
from hourglassctl.local.processes import ProcessGroup
from hourglassctl.replay import EXERCISE_START_MS
from producer.batch import Batch, Batcher
from producer.pipeline import SENT_AHEAD
from producer.simulator import Sensors
from producer.writer import BatchWriter
from tests.support.cluster import EmbeddedCluster
from tests.support.processes import ObservedProcesses
from tests.support.workers import RecordedWorkers

#: The exercise's first day, where everything is written.
DAY = Keyspace().partition(EXERCISE_START_MS)
NOON_MS = DAY.hour_start_ms(12)
BATCH = 1000
#: Together they give 864,000 readings a day.
DEVICES = 10


Arguments = ParamSpec("Arguments")
X = TypeVar("X")


class Missing(HourglassError):
    """Something that a measurement needs is not installed; the message says what."""


class Amiss(HourglassError):
    """What was measured did not do what it should; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured.

    repeats: of each figure; readings: in each of them; day: readings of the audited day;
    pending: readings to recover; flood: readings written faster than they are counted;
    hours: simulated hours that are watched live; live_s: how long a live stream or an idle service
    is watched; most_load: readings a second of the live stream; sweep: readings at each point of a
    curve
    """

    repeats: int = 5
    readings: int = 200_000
    day: int = 864_000
    pending: int = 100_000
    flood: int = 1_000_000
    hours: int = 60
    live_s: float = 10.0
    most_load: float = math.inf
    sweep: int = 100_000
    most_devices: int = 100_000
    most_partitions: int = 100
    most_aggregators: int = 16


#: For the tests: every step is taken, and no number means anything.
QUICK = Scale(
    repeats=1,
    readings=4_000,
    day=4_000,
    pending=3_000,
    flood=100_000,  # not over before its lag is looked at
    hours=3,
    live_s=1.0,
    most_load=2_000.0,
    sweep=4_000,
    most_devices=100,
    most_partitions=4,
    most_aggregators=2,
)


@dataclass(slots=True, kw_only=True)
class Shards:
    """A cluster of the benchmark's own; the clock is manual and stands at the start of DAY."""

    embedded: EmbeddedCluster
    cluster: Cluster
    clock: PipelineClock
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))

    @property
    def port(self) -> int:
        """Of the first master."""
        return self.embedded.ports[0]

    def admin(self, port: int | None = None) -> Any:
        """A plain client of one node."""
        return cast(Any, client(port or self.port, timeout_s=60.0))

    def empty(self) -> None:
        """Delete every key, and start the clock again."""
        for node in self.embedded.nodes:
            with self.admin(node.port) as admin:
                if admin.execute_command("ROLE")[0] == b"master":
                    admin.flushall()
        self.clock.set(ClockSpec(mode=Mode.MANUAL, origin_ms=DAY.day_ms))

    def cpu_s(self, port: int | None = None) -> float:
        """Processor time the node has used so far."""
        with self.admin(port) as admin:
            cpu = admin.info("cpu")
            return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    def run_clock(self, *, speed: float, in_s: float = 0.0) -> ClockSpec:
        """Let the clock run from noon of DAY on, once that much time has passed."""
        real_ms = self.clock.refresh().real_ms + round(in_s * 1000)
        spec = ClockSpec(
            mode=Mode.SIMULATED, origin_ms=NOON_MS, origin_real_ms=real_ms, speed=speed
        )
        self.clock.set(spec)
        return spec

    def real_ms(self) -> float:
        """What Redis' clock shows now; its own, for it runs on this machine."""
        return time.time() * 1000

    @contextmanager
    def processes(self, **environment: str) -> Generator[ObservedProcesses]:
        """The services as processes on this cluster; none outlives the block."""
        with ProcessGroup("hourglass-bench-") as guard:
            running = ObservedProcesses(
                guard,
                {
                    "HOURGLASS_HTTP_HOST": "127.0.0.1",
                    "HOURGLASS_HTTP_PORT": "0",
                    "HOURGLASS_WEB_PORT": "0",
                    "HOURGLASS_REDIS_URL": self.embedded.url,
                    "HOURGLASS_WAREHOUSE_URL": f"sqlite:///{guard.directory}/warehouse.db",
                    **environment,
                },
            )
            try:
                yield running
            finally:
                running.stop()

    def days(self, lanes: int = 1) -> Days:
        """Days that get so many lanes."""
        return Days(self.cluster, self.clock, lanes=lanes)

    def publish(
        self,
        readings: Iterable[Reading],
        *,
        batch: int = BATCH,
        name: str = "bench",
        days: Days | None = None,
    ) -> int:
        """Readings → numbered batches → partitions, as a producer process does it; how many."""
        shares = days.shares if days else DAY.keyspace.undivided
        batches = Batcher(limit=batch, partitions=shares).cut(readings)
        return self.send(batches, name=name, days=days)

    def send(
        self, batches: Iterable[Batch], *, name: str = "bench", days: Days | None = None
    ) -> int:
        """Batches → partitions, as a producer process does it; readings taken."""
        incarnation = f"{name}:{time.monotonic_ns()}"
        publisher = BatchWriter(self.cluster, self.clock, incarnation=incarnation, days=days)
        taken = 0
        with closing(publisher):
            for each in batches:
                publisher.put(each)
                taken += sum(settled.count for settled, _ in publisher.settle(leave=SENT_AHEAD))
            return taken + sum(settled.count for settled, _ in publisher.settle())

    def count(self, partition: Partition = DAY, *, batch: int = BATCH, name: str = "bench") -> int:
        """Work off a partition's backlog, as one aggregator thread does it; how many readings the
        hour records hold then."""
        consumer = ShardConsumer(
            self.cluster.shard_of(partition.stream),
            RecordedWorkers(name),
            self.cluster,
            self.clock,
            AggregatorSettings(batch_entries=batch),
            self.metrics,
        )
        consumer.add(partition)
        with closing(consumer):
            while consumer.step(wait=False):
                pass
        return self.counted(partition)

    def counted(self, *partitions: Partition) -> int:
        """Readings in the hour records."""
        replies = self.cluster.pipeline([("HGETALL", each.hours) for each in partitions])
        return sum(
            record.count
            for partition, fields in zip(partitions, replies, strict=True)
            for record in decode_hours(partition, fields)
        )

    def rewind(self, partition: Partition = DAY) -> None:
        """As if the group had read nothing, and nothing had been counted."""
        with closing(self.cluster.link(partition.stream)) as link:
            link.call("DEL", *partition.companions)
            link.call("XGROUP", "DESTROY", partition.stream, GROUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What a measurement is given.

    time_series: the file of RedisTimeSeries' module, or nothing
    """

    scale: Scale
    tell: Callable[[str], None]
    time_series: str = ""

    def repeated(self, xs: Sequence[X]) -> Iterator[X]:
        """All of `xs` as often as a figure is repeated, in turn: what the machine is up to
        meanwhile falls on each alike."""
        for _ in range(self.scale.repeats):
            yield from xs

    @contextmanager
    def shards(self, masters: int = 1, replicas: int = 0, **options: Any) -> Generator[Shards]:
        """A cluster that is whole and empty. Raises NoRedisServer, ClusterNotFormed."""
        with (
            EmbeddedCluster(masters=masters, replicas=replicas, **options) as embedded,
            closing(connect(embedded.url, keyspace=DAY.keyspace, timeout_s=60.0)) as cluster,
        ):
            shards = Shards(embedded=embedded, cluster=cluster, clock=PipelineClock(cluster))
            shards.empty()
            yield shards


def readings(
    count: int, *, devices: int = DEVICES, from_ms: int = DAY.day_ms, name: str = "device"
) -> Iterator[Reading]:
    """`count` simulated readings of one day, in order of time; a second apart, or less if the day
    is too short for them."""
    ticks = -(-count // devices)
    period_ms = min(1000, DAY_MS // max(1, ticks))
    sensors = Sensors(device_names(name, devices), seed=1, period_ms=period_ms)
    return islice(sensors.read(from_ms, from_ms + ticks * period_ms), count)


def rate(
    count: int, work: Callable[Arguments, int], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> float:
    """How many a second, when `work` deals with `count`. Raises Amiss if it says that it dealt with
    another number: then the figure would be wrong."""
    started = time.perf_counter()
    done = work(*args, **kwargs)
    took_s = time.perf_counter() - started
    if done != count:
        raise Amiss(f"{done:,} were dealt with instead of {count:,}")
    return count / took_s


def xadd_ceiling(port: int, count: int) -> float:
    """XADD a second of an entry with the producer's fields, by redis-benchmark. Raises Missing."""
    tool = shutil.which("redis-benchmark")
    if tool is None:
        raise Missing("redis-benchmark is not on PATH: install redis-tools (Debian) or redis")
    answer = subprocess.run(
        [tool, "-p", str(port), "-P", "100", "-c", "4", "-n", str(count), "-q", "XADD",
         "ceiling", "*", "device", "device-0", "day_ms", "43200000", "temp_f", "50.3"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"([\d.]+) requests per second", answer.stdout)
    if found is None:
        raise Missing(f"redis-benchmark says {answer.stdout[-200:]!r}, and no rate in it")
    with client(port) as admin:
        cast(Any, admin).delete("ceiling")
    return float(found[1])


def bare_reading_ceiling(link: Link, stream: str, count: int) -> float:
    """Entries a second of XREADGROUP COUNT 1000 and one XACK for all, decoding nothing."""
    group = "bare"
    link.call("XGROUP", "CREATE", stream, group, "0")

    def loop() -> int:
        acknowledged = 0
        while reply := link.call(
            "XREADGROUP", "GROUP", group, "bare", "COUNT", BATCH, "STREAMS", stream, ">"
        ):
            acknowledged += link.call("XACK", stream, group, *[entry[0] for entry in reply[0][1]])
        return acknowledged

    try:
        return rate(count, loop)
    finally:
        link.call("XGROUP", "DESTROY", stream, group)


def bare_range_ceiling(link: Link, stream: str, count: int) -> float:
    """Entries a second of XRANGE in thousands, decoding nothing."""

    def loop() -> int:
        read, after = 0, b"-"
        while chunk := link.call("XRANGE", stream, after, "+", "COUNT", BATCH):
            read += len(chunk)
            after = b"(" + chunk[-1][0]
        return read

    return rate(count, loop)


def wait_for(
    done: Callable[[], object], what: str, *, within_s: float = 60.0, every_s: float = 0.002
) -> float:
    """Poll until it is; how many seconds that took. Raises Amiss."""
    started = time.perf_counter()
    while not done():
        if time.perf_counter() - started > within_s:
            raise Amiss(f"{what} within {within_s:.0f} s")
        time.sleep(every_s)
    return time.perf_counter() - started


def await_ready(processes: ObservedProcesses, name: str) -> float:
    """How many seconds it took until it was. Raises Amiss, at once if a process has ended."""

    def ready() -> bool:
        if failure := processes.failure():
            raise Amiss(failure)
        return processes.ready(name)

    return wait_for(ready, f"{name} is not ready")
