"""Collectors of the aggregator: the hour in progress, and lost readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import candidates, lanes_of
from hourglass.errors import CorruptKey
from hourglass.metrics import MetricSpec
from hourglass.model.averages import mean_milli_f
from hourglass.model.clock import Instant
from hourglass.model.hour_records import field as field_of
from hourglass.model.hour_records import gone_of
from hourglass.model.keys import HOUR_MS, Keyspace, Partition
from hourglass.model.readings import MILLI
from hourglass.monitoring.collectors import Latest
from hourglass.monitoring.stream_stats import Removals, removals

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
        """The share of what is due that is counted, at most 1; None if unknown."""
        devices = max(self.devices, self.devices_before)
        if not (devices and period_ms) or self.elapsed_ms < SETTLING_MS:
            return None
        return min(1.0, self.count / (devices * self.elapsed_ms / period_ms))


def read_progress(cluster: Cluster, instant: Instant, *, settling_ms: int) -> Progress:
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
    fields = [field_of(hour, each) for each in ("count", "sum", "devices")]
    replies = iter(
        cluster.pipeline(
            [
                *(("HMGET", each.hours, *fields) for each in here),
                *(("HMGET", each.hours, field_of(hour_before, "devices")) for each in before),
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
    """Exports the last progress read; an hour without readings has no average."""

    def __init__(self, registry: CollectorRegistry, *, period_s: float) -> None:
        self._period_ms = period_s * 1000
        self._progress = Latest[Progress | None](None)
        registry.register(self)

    def poll(self, cluster: Cluster, instant: Instant, *, settling_ms: int) -> None:
        """Read the progress; on an error it becomes unknown. Raises Unreachable."""
        self._progress.renew(lambda: read_progress(cluster, instant, settling_ms=settling_ms))

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


LOST = MetricSpec(
    name="hourglass_readings_lost",
    kind="gauge",
    help="Readings of a live partition that were acknowledged to producers and that Redis has lost "
    "since, in a failover or because keys were deleted, known once each producer has written "
    "again; and entries that another program removed (XDEL, XTRIM, MAXLEN) before they "
    "were counted, each as one reading.",
    unit="readings",
    labels=("stream",),
    across="max",
)


@dataclass(frozen=True, slots=True)
class LostReadings:
    """By stream.

    taken: acknowledged readings that are missing; of streams that
        producers have written to
    removals: what another program removed, of streams that are there
    """

    taken: Mapping[str, int] = field(default_factory=dict[str, int])
    removals: Mapping[str, Removals] = field(default_factory=dict[str, Removals])

    def gone(self) -> Mapping[str, int]:
        """Readings lost, of streams of which something is known; an entry counts as one."""
        removed = {name: each.uncounted or 0 for name, each in self.removals.items()}
        return {
            name: self.taken.get(name, 0) + removed.get(name, 0)
            for name in sorted(self.taken.keys() | removed.keys())
        }


def read_lost_readings(cluster: Cluster, instant: Instant) -> LostReadings:
    """Of a damaged key, which an audit names, nothing is known. Two round trips to each shard,
    besides the one that names the partitions.

    Raises Unreachable.
    """
    partitions = candidates(cluster, instant)
    replies = cluster.pipeline([("HGETALL", each.producers) for each in partitions])
    taken: dict[str, int] = {}
    for partition, producers in zip(partitions, replies, strict=True):
        if producers and not isinstance(producers, Exception):
            with suppress(CorruptKey):
                taken[partition.stream] = gone_of(producers)
    removed = zip(partitions, removals(cluster, partitions), strict=True)
    return LostReadings(taken, {each.stream: found for each, found in removed if found})


class LostReadingsGauges(Collector):
    """Exports the last value read; unknown is not zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._removals: Mapping[str, Removals] = {}
        self._lost = Latest[LostReadings](LostReadings())
        registry.register(self)

    def poll(self, cluster: Cluster, instant: Instant) -> None:
        """Read the lost readings; on an error they become unknown. Raises Unreachable."""
        self._lost.renew(lambda: self._remembering(read_lost_readings(cluster, instant)))

    def _remembering(self, found: LostReadings) -> LostReadings:
        """What was known to be lost is known while much is not counted yet, too: an alert compares
        the series with what it was."""
        before = self._removals
        self._removals = {
            name: each.after(before.get(name, each)) for name, each in found.removals.items()
        }
        return LostReadings(found.taken, self._removals)

    def collect(self) -> list[GaugeMetricFamily]:
        family = LOST.family()
        for stream, readings in self._lost.value.gone().items():
            family.add_metric((stream,), readings)
        return [family]
