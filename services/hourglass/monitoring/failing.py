"""What keeps a service from doing its job now, as a metric."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.metrics import MetricSpec

FAILING = MetricSpec(
    name="hourglass_worker_failing",
    kind="gauge",
    help="1 for a part of the process that cannot do its job now, 0 for one that can: a loop, or "
    "the reader of one partition. /readyz and the log say why.",
    unit="1",
    labels=("worker",),
    across="max",
)


class FailingGauge(Collector):
    """Shows the workers that gave a sign of life or are failing, which are as many as the loops
    and the partitions that live."""

    def __init__(
        self,
        registry: CollectorRegistry,
        beats: Mapping[str, float],
        failures: Mapping[str, str],
    ) -> None:
        self._beats, self._failures = beats, failures
        registry.register(self)

    def collect(self) -> list[GaugeMetricFamily]:
        family = FAILING.family()
        failing = dict(self._failures)
        for worker in sorted({**self._beats, **failing}):
            family.add_metric((worker,), float(worker in failing))
        return [family]
