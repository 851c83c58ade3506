"""The averages consumer's metrics."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

from hourglass.metrics import MetricSpec
from hourglass.model.averages import HourlyAverage
from hourglass.monitoring.collectors import STREAM_METRICS
from hourglass.service.runtime import COMMON

LOADED = MetricSpec(
    name="hourglass_averages_loaded_total",
    kind="counter",
    help="Averages that this process loaded into the warehouse.",
    unit="averages",
)
INVALID = MetricSpec(
    name="hourglass_averages_invalid_total",
    kind="counter",
    help="Entries of the averages' stream that are not valid averages; acknowledged, not loaded.",
    unit="entries",
)
RECLAIMED = MetricSpec(
    name="hourglass_averages_reclaimed_total",
    kind="counter",
    help="Entries reclaimed from a consumer that did not acknowledge them.",
    unit="entries",
)
REFILLED = MetricSpec(
    name="hourglass_averages_refilled_total",
    kind="counter",
    help="Averages loaded from the stream or from their hour records because the warehouse lacked "
    "them.",
    unit="averages",
)
WRITE_SECONDS = MetricSpec(
    name="hourglass_warehouse_write_seconds",
    kind="histogram",
    help="Time to commit one batch of averages; failed attempts are not included.",
    unit="seconds",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
ERRORS = MetricSpec(
    name="hourglass_warehouse_errors_total",
    kind="counter",
    help="Failed requests to the warehouse; the averages stay in the stream.",
    unit="errors",
)
REVISED = MetricSpec(
    name="hourglass_warehouse_revisions_total",
    kind="counter",
    help="Rows that this process updated to a new revision that includes late readings.",
    unit="revisions",
)
MISSING_HOURS = MetricSpec(
    name="hourglass_warehouse_rows_missing",
    kind="gauge",
    help="Published hours that the warehouse lacks and that neither the stream nor the hour "
    "records contain.",
    unit="hours",
    across="max",
)
LAST_AVERAGE = MetricSpec(
    name="hourglass_last_average_temp_f",
    kind="gauge",
    help="Average of the latest hour that this process loaded, in degrees Fahrenheit; "
    "absent before the first.",
    unit="degrees Fahrenheit",
    across="each",
)
LAST_HOUR = MetricSpec(
    name="hourglass_last_average_hour_timestamp_seconds",
    kind="gauge",
    help="Start of the latest hour that this process loaded, in seconds since the epoch; "
    "absent before the first.",
    unit="seconds since the epoch",
    across="max",
)
METRICS = (
    LOADED,
    INVALID,
    RECLAIMED,
    REFILLED,
    REVISED,
    WRITE_SECONDS,
    ERRORS,
    MISSING_HOURS,
    LAST_AVERAGE,
    LAST_HOUR,
    *STREAM_METRICS,
    *COMMON,
)


class Metrics:
    """The live metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._loaded = LOADED.counter(registry)
        self._invalid = INVALID.counter(registry)
        self._reclaimed = RECLAIMED.counter(registry)
        self._refilled = REFILLED.counter(registry)
        self._revised = REVISED.counter(registry)
        self._write_seconds = WRITE_SECONDS.histogram(registry)
        self._errors = ERRORS.counter(registry)
        # Created with the first value: until then the series is absent, because unknown is not 0.
        self._missing: Gauge | None = None
        self._latest: _Latest | None = None

    def loaded(self, average: HourlyAverage) -> None:
        self._loaded.inc()
        self._latest = self._latest or _Latest(self._registry)
        self._latest.show(average)

    def invalid(self) -> None:
        self._invalid.inc()

    def reclaimed(self, count: int) -> None:
        self._reclaimed.inc(count)

    def refilled(self, count: int) -> None:
        self._refilled.inc(count)

    def revised(self) -> None:
        self._revised.inc()

    def wrote(self, seconds: float, exemplar: Mapping[str, str] | None = None) -> None:
        self._write_seconds.observe(seconds, dict(exemplar) if exemplar else None)

    def warehouse_failed(self) -> None:
        self._errors.inc()

    def missing(self, hours: int) -> None:
        self._missing = self._missing or MISSING_HOURS.gauge(self._registry)
        self._missing.set(hours)


class _Latest:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._average = LAST_AVERAGE.gauge(registry)
        self._hour = LAST_HOUR.gauge(registry)
        self._start_ms = -1

    def show(self, average: HourlyAverage) -> None:
        """Show this average unless a later hour is shown already."""
        if average.start_ms >= self._start_ms:
            self._start_ms = average.start_ms
            self._average.set(average.mean_milli_f / 1000)
            self._hour.set(average.start_ms / 1000)
