"""The aggregator's metrics: whether hours are published on time and complete."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from aggregator.collectors import LOST, PROGRESS_METRICS
from aggregator.strays import STRAY
from hourglass.metrics import MetricSpec
from hourglass.model.readings import Reason
from hourglass.monitoring.collectors import PARTITION_METRICS, STREAM_METRICS
from hourglass.service.runtime import COMMON

COUNTED = MetricSpec(
    name="hourglass_readings_counted_total",
    kind="counter",
    help="Readings counted into an hour by this process.",
    unit="readings",
)
LATE = MetricSpec(
    name="hourglass_readings_late_total",
    kind="counter",
    help="Readings that arrived after their hour was sealed; recorded, not averaged.",
    unit="readings",
)
QUARANTINED = MetricSpec(
    name="hourglass_readings_quarantined_total",
    kind="counter",
    help="Readings that cannot be used, by reason.",
    unit="readings",
    labels=("reason",),
    values=tuple(Reason),
)
RECLAIMED = MetricSpec(
    name="hourglass_entries_reclaimed_total",
    kind="counter",
    help="Entries reclaimed from consumers that did not finish them.",
    unit="entries",
)
CONFLICTS = MetricSpec(
    name="hourglass_commit_conflicts_total",
    kind="counter",
    help="Commits repeated because another consumer had reclaimed part of the batch.",
    unit="commits",
)
RECOUNTS = MetricSpec(
    name="hourglass_partition_recounts_total",
    kind="counter",
    help="Partitions counted again from the first entry because their group had been destroyed.",
    unit="partitions",
)
REMADE = MetricSpec(
    name="hourglass_partitions_recreated_total",
    kind="counter",
    help="Partitions that were deleted before their expiry, and created again by the next write.",
    unit="partitions",
)
BATCH = MetricSpec(
    name="hourglass_batch_entries",
    kind="histogram",
    help="Entries in a committed batch.",
    unit="entries",
    buckets=(1, 10, 100, 250, 500, 1000, 2500, 5000),
)
COMMIT = MetricSpec(
    name="hourglass_commit_seconds",
    kind="histogram",
    help="Time a commit takes, there and back.",
    unit="seconds",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
SEALED = MetricSpec(
    name="hourglass_seals_total",
    kind="counter",
    help="Hours sealed by this process, hours without readings included.",
    unit="hours",
)
PUBLISHED = MetricSpec(
    name="hourglass_averages_published_total",
    kind="counter",
    help="Hourly averages put on the averages' stream by this process.",
    unit="hours",
)
REVISED = MetricSpec(
    name="hourglass_averages_revised_total",
    kind="counter",
    help="Published hours that were sealed again with another result after a failover; "
    "reported, never published over the first.",
    unit="hours",
)
TOO_LATE = MetricSpec(
    name="hourglass_averages_too_late_total",
    kind="counter",
    help="Hours that got their first reading after a later hour was published; not published.",
    unit="hours",
)
DUE = MetricSpec(
    name="hourglass_averages_due",
    kind="gauge",
    help="Hours that are over, of live days that have readings or wait for some.",
    unit="hours",
    across="max",
)
OVERDUE = MetricSpec(
    name="hourglass_averages_overdue",
    kind="gauge",
    help="Hours that are due and not published: they wait for readings to be counted, for a shard "
    "that does not answer, or for the averages' stream to take them. One that a later hour has "
    "overtaken waits no more.",
    unit="hours",
    across="max",
)
AHEAD = MetricSpec(
    name="hourglass_published_ahead_seconds",
    kind="gauge",
    help="Real time until the last published hour is over by the pipeline clock, 0 if it is. Until "
    "then no hour is published: a clock was ahead, and went back.",
    unit="seconds",
    across="max",
)
DELAY = MetricSpec(
    name="hourglass_publish_delay_seconds",
    kind="histogram",
    help="Real time from an hour's end to its average on the averages' stream, lateness included.",
    unit="seconds",
    buckets=(0.5, 1, 2.5, 5, 5.5, 6, 7.5, 10, 30, 60, 300, 3600),
)
METRICS = (
    COUNTED,
    LATE,
    QUARANTINED,
    RECLAIMED,
    CONFLICTS,
    RECOUNTS,
    REMADE,
    BATCH,
    COMMIT,
    SEALED,
    PUBLISHED,
    REVISED,
    TOO_LATE,
    DUE,
    OVERDUE,
    AHEAD,
    DELAY,
    LOST,
    STRAY,
    *PROGRESS_METRICS,
    *STREAM_METRICS,
    *PARTITION_METRICS,
    *COMMON,
)


class Metrics:
    """The live metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counted = COUNTED.counter(registry)
        self._late = LATE.counter(registry)
        self._quarantined = QUARANTINED.counter(registry)
        self._reclaimed = RECLAIMED.counter(registry)
        self._conflicts = CONFLICTS.counter(registry)
        self._recounts = RECOUNTS.counter(registry)
        self._remade = REMADE.counter(registry)
        self._batch = BATCH.histogram(registry)
        self._commit = COMMIT.histogram(registry)
        self._sealed = SEALED.counter(registry)
        self._published = PUBLISHED.counter(registry)
        self._revised = REVISED.counter(registry)
        self._too_late = TOO_LATE.counter(registry)
        self._due = DUE.gauge(registry)
        self._overdue = OVERDUE.gauge(registry)
        self._ahead = AHEAD.gauge(registry)
        self._delay = DELAY.histogram(registry)

    def committed(
        self,
        *,
        entries: int,
        counted: int,
        late: int,
        seconds: float,
        exemplar: Mapping[str, str] | None = None,
    ) -> None:
        self._batch.observe(entries)
        self._commit.observe(seconds, dict(exemplar) if exemplar else None)
        self._counted.inc(counted)
        self._late.inc(late)

    def quarantined(self, reason: Reason, count: int) -> None:
        self._quarantined.labels(reason).inc(count)

    def reclaimed(self, count: int) -> None:
        self._reclaimed.inc(count)

    def conflict(self) -> None:
        self._conflicts.inc()

    def recounted(self) -> None:
        self._recounts.inc()

    def remade(self) -> None:
        self._remade.inc()

    def sealed(self, hours: int) -> None:
        self._sealed.inc(hours)

    def due(self, hours: int, *, overdue: int) -> None:
        """`overdue`: those of them that are not published."""
        self._due.set(hours)
        self._overdue.set(overdue)

    def published_ahead(self, seconds: float) -> None:
        self._ahead.set(seconds)

    def published(self, delay_s: float, exemplar: Mapping[str, str] | None = None) -> None:
        self._published.inc()
        self._delay.observe(max(0.0, delay_s), dict(exemplar) if exemplar else None)

    def revised(self) -> None:
        self._revised.inc()

    def too_late(self) -> None:
        self._too_late.inc()
