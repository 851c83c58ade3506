"""Metrics as declarations: each service lists its own, and docs/metrics.md is made from them."""

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

# No dashboard and no rule reads when a counter began, and it is one more series for each.
disable_created_metrics()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One metric. Counters are named with `_total`, times with `_seconds`, shares with `_ratio`.

    unit: of the value
    values: of a counter's only label, all there can be: each counts from zero from the start on,
        because a series that begins with its first event shows no increase
    across: how the series of several replicas become one number. Each replica counts what it does
        itself, so counters and histograms add up; a fact about the cluster is the same from every
        replica, and their sum would be wrong; `each` is about the process alone
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
        """An empty family for a collector that knows the series only when it is asked."""
        return GaugeMetricFamily(self.name, self.help, labels=self.labels)
