"""How fast one process of each kind is, beside what Redis itself can do in the same run."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from prometheus_client import CollectorRegistry

from aggregator.commit import Delivery
from aggregator.instruments import Instruments
from aggregator.reader import open_partition
from hourglass.clock import ClockSpec, Mode, PipelineClock
from hourglass.cluster import Cluster
from hourglass.connecting import connect
from hourglass.errors import HourglassError
from hourglass.keys import DAY_MS, Partition
from hourglass.readings import Rules
from hourglassctl.embedded import EmbeddedCluster
from hourglassctl.replay import EXERCISE_START_MS
from producer.batch import Batcher
from producer.publisher import Publisher
from producer.sensor import Sensors, device_names

#: A day's readings of four devices; what is measured lasts about a second.
DEVICES = 4
READINGS = DEVICES * 86_400
BATCH = 1000


class NoBenchmark(HourglassError):
    """The ceiling cannot be measured here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One kind of work: readings a second in each repeat, beside the ceiling of that repeat."""

    work: str
    rates: Sequence[float]
    ceilings: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [rate / ceiling for rate, ceiling in zip(self.rates, self.ceilings, strict=True)]

    def __str__(self) -> str:
        ratios = self.ratios
        return (
            f"{self.work:10} {median(self.rates):>12,.0f} readings/s   {median(ratios):.2f} of the "
            f"ceiling (from {min(ratios):.2f} to {max(ratios):.2f})"
        )


def bench(repeats: int, tell: Callable[[str], None]) -> list[Figure]:
    """Measure on a fresh embedded cluster of one shard; raises NoBenchmark."""
    tool = shutil.which("redis-benchmark")
    if tool is None:
        raise NoBenchmark(
            "redis-benchmark, which measures the ceiling, is not on PATH: install redis-tools"
        )
    ceilings: list[float] = []
    ingests: list[float] = []
    aggregates: list[float] = []
    for _ in range(repeats):
        with EmbeddedCluster(masters=1) as server:
            cluster = connect(server.url)
            ceilings.append(_ceiling(tool, server.ports[0]))
            ingests.append(_ingest(cluster))
            aggregates.append(_aggregate(cluster))
            cluster.close()
    tell(f"ceiling    {median(ceilings):>12,.0f} readings/s   redis-benchmark XADD, -P 100 -c 4")
    figures = [
        Figure(work="ingest", rates=ingests, ceilings=ceilings),
        Figure(work="aggregate", rates=aggregates, ceilings=ceilings),
    ]
    for figure in figures:
        tell(str(figure))
    return figures


def _ceiling(tool: str, port: int) -> float:
    """XADD a second of entries with the same fields, written by redis-benchmark."""
    answer = subprocess.run(
        [tool, "-p", str(port), "-P", "100", "-c", "4", "-n", str(READINGS), "-q",
         "XADD", "ceiling", "*", "device", "device-0", "ts", str(EXERCISE_START_MS),
         "temp_f", "50.3"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"([\d.]+) requests per second", answer.stdout)
    if found is None:
        raise NoBenchmark(f"redis-benchmark says {answer.stdout[-200:]!r}: no rate in it")
    return float(found[1])


def _ingest(cluster: Cluster) -> float:
    """Sensors → batches → partition, as a producer process does it."""
    clock = PipelineClock(cluster)
    clock.set(ClockSpec(mode=Mode.DRIVEN, origin_ms=EXERCISE_START_MS))
    publisher = Publisher(cluster, clock, incarnation="bench")
    sensors = Sensors(device_names("device", DEVICES), seed=1, period_ms=1000)
    started = time.perf_counter()
    readings = sensors.read(EXERCISE_START_MS, EXERCISE_START_MS + DAY_MS)
    for batch in Batcher(limit=BATCH).cut(readings):
        publisher.put(batch)
        for _ in publisher.settle(leave=1):
            pass
    for _ in publisher.settle():
        pass
    elapsed = time.perf_counter() - started
    publisher.close()
    return READINGS / elapsed


def _aggregate(cluster: Cluster) -> float:
    """Read, fold, commit the backlog that `_ingest` left, as one aggregator thread does it."""
    partition = Partition(EXERCISE_START_MS)
    clock = PipelineClock(cluster)
    instant = clock.refresh()
    opened = open_partition(cluster, partition, instant)
    link = cluster.link(partition.stream)
    delivery = Delivery(
        link, partition, opened.incarnation, "bench", Instruments(CollectorRegistry())
    )
    rules = Rules()
    started = time.perf_counter()
    while entries := delivery.read(BATCH, 1):
        delivery.commit(entries, rules, instant)
    elapsed = time.perf_counter() - started
    link.close()
    return READINGS / elapsed
