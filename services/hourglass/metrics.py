"""Declarations of metrics. Each service lists its own; docs/metrics.md is generated from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily

# The _created series double the number of counters, and no dashboard or rule uses them.
disable_created_metrics()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """One metric. Names of counters end with `_total`, of times with `_seconds`, of ratios with
    `_ratio`.

    unit: unit of the value
    values: all values of a counter's only label. Each series starts at 0, because a series that
        starts with its first event shows no increase
    across: how to aggregate over replicas. Each replica counts its own work, so counters and
        histograms are summed. Every replica reports the same value of a fact about the cluster,
        so that max or min applies. `each` concerns one process and is not aggregated
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    unit: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    buckets: Sequence[float] = ()
    across: Literal["sum", "max", "min", "each"] = "sum"

    def counter(self, registry: CollectorRegistry) -> Counter:
        counter = Counter(self.name, self.help, self.labels, registry=registry)
        for value in self.values:
            counter.labels(value)
        return counter

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        return Gauge(self.name, self.help, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(
            self.name, self.help, self.labels, registry=registry, buckets=tuple(self.buckets)
        )

    def family(self) -> GaugeMetricFamily:
        """An empty family, for a collector that makes its series at each scrape."""
        return GaugeMetricFamily(self.name, self.help, labels=self.labels)
