"""Metrics as declarations: each service lists its own, and the metrics table is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One metric. Counters are named with `_total`, times with `_seconds`.

    values: of a counter's only label, all there can be: each counts from zero from the start on,
    because a series that begins with its first event shows no increase
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    buckets: Sequence[float] = ()

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
