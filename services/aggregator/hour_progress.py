"""The hour in progress as metrics: its average so far, and how complete it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import lanes_of
from hourglass.metrics import MetricSpec
from hourglass.model.averages import mean_milli_f
from hourglass.model.clock import Instant
from hourglass.model.keys import HOUR_MS, Keyspace, Partition
from hourglass.model.readings import MILLI
from hourglass.monitoring.collectors import Latest

AVERAGE = MetricSpec(
    name="hourglass_current_hour_average_temp_f",
    kind="gauge",
    help="Average of the readings counted so far in the hour in progress; absent before the first.",
    unit="degrees Fahrenheit",
    across="max",
)
READINGS = MetricSpec(
    name="hourglass_current_hour_readings",
    kind="gauge",
    help="Readings counted so far in the hour in progress.",
    unit="readings",
    across="max",
)
COMPLETENESS = MetricSpec(
    name="hourglass_current_hour_completeness_ratio",
    kind="gauge",
    help="Share of the readings due so far in the hour in progress that are counted. Due is one a "
    "HOURGLASS_PERIOD_S from each device of this hour, or of the last one if that had more. Absent "
    "in the hour's first minute, without a period, and while no device is known.",
    unit="ratio",
    across="max",
)
PROGRESS_METRICS = (AVERAGE, READINGS, COMPLETENESS)

#: What is on its way when the clock is looked at would weigh too much in a young hour.
SETTLING_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What one hour amounts to so far.

    start_ms, elapsed_ms: of the hour, in event time
    devices: that have given readings in it
    devices_before: in the hour before it
    """

    start_ms: int
    elapsed_ms: int
    count: int
    sum_milli_f: int
    devices: int
    devices_before: int

    def completeness(self, period_ms: float) -> float | None:
        """The share of what is due that is counted, at most 1; None if it cannot be told."""
        devices = max(self.devices, self.devices_before)
        if not (devices and period_ms) or self.elapsed_ms < SETTLING_MS:
            return None
        return min(1.0, self.count / (devices * self.elapsed_ms / period_ms))


def look(cluster: Cluster, instant: Instant, *, settling_ms: int) -> Progress:
    """The hour that was in progress `settling_ms` of real time ago, over all lanes of its day. Two
    round trips to each shard.

    Raises Unreachable.
    """
    then_ms = instant.spec.now(instant.real_ms - settling_ms)
    start_ms = then_ms - then_ms % HOUR_MS
    today, hour = _place(cluster.keyspace, start_ms)
    day_before, hour_before = _place(cluster.keyspace, start_ms - HOUR_MS)
    lanes = lanes_of(cluster, {today, day_before})
    here = [today, *(lane for lane in lanes if lane.day == today)]
    before = [day_before, *(lane for lane in lanes if lane.day == day_before)]
    fields = [f"{hour:02d}:{each}" for each in ("count", "sum", "devices")]
    replies = iter(
        cluster.pipeline(
            [
                *(("HMGET", each.hours, *fields) for each in here),
                *(("HMGET", each.hours, f"{hour_before:02d}:devices") for each in before),
            ]
        )
    )
    now = [_numbers(next(replies), 3) for _ in here]
    counts, totals, devices = zip(*now, strict=True)
    return Progress(
        start_ms=start_ms,
        elapsed_ms=then_ms - start_ms,
        count=sum(counts),
        sum_milli_f=sum(totals),
        devices=sum(devices),
        devices_before=sum(_numbers(next(replies), 1)[0] for _ in before),
    )


def _place(keyspace: Keyspace, start_ms: int) -> tuple[Partition, int]:
    partition = keyspace.containing(start_ms)
    return partition, (start_ms - partition.day_ms) // HOUR_MS


def _numbers(reply: Any, expected: int) -> Sequence[int]:
    """Zeros for what is missing, is no number, or stands in a key of another type: the partition's
    reader says so."""
    try:
        return [int(value or 0) for value in reply]
    except (TypeError, ValueError):  # an error in a reply is not to be iterated over
        return [0] * expected


class ProgressGauges(Collector):
    """Exports the last look; nothing of an hour without readings."""

    def __init__(self, registry: CollectorRegistry, *, period_s: float) -> None:
        self._period_ms = period_s * 1000
        self._progress = Latest[Progress | None](None)
        registry.register(self)

    def look(self, cluster: Cluster, instant: Instant, *, settling_ms: int) -> None:
        """As `look`; while Redis is away nothing is known. Raises Unreachable."""
        self._progress.renew(lambda: look(cluster, instant, settling_ms=settling_ms))

    def collect(self) -> list[GaugeMetricFamily]:
        average, readings, completeness = (each.family() for each in PROGRESS_METRICS)
        if (progress := self._progress.value) is not None:
            readings.add_metric((), progress.count)
            if progress.count:
                mean = mean_milli_f(progress.sum_milli_f, progress.count)
                average.add_metric((), mean / MILLI)
            if (share := progress.completeness(self._period_ms)) is not None:
                completeness.add_metric((), share)
        return [average, readings, completeness]
