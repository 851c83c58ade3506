"""What keeps a service from doing its job now, as a metric."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.metrics import MetricSpec

TROUBLE = MetricSpec(
    name="hourglass_worker_failing",
    kind="gauge",
    help="1 for a part of the process that cannot do its job now, 0 for one that can: a loop, or "
    "the reader of one partition. /readyz and the log say why.",
    unit="1",
    labels=("worker",),
    across="max",
)


class FailingGauge(Collector):
    """Shows the workers that gave a sign of life or are in trouble, which are as many as the loops
    and the partitions that live."""

    def __init__(
        self,
        registry: CollectorRegistry,
        beats: Mapping[str, float],
        troubles: Mapping[str, str],
    ) -> None:
        self._beats, self._troubles = beats, troubles
        registry.register(self)

    def collect(self) -> list[GaugeMetricFamily]:
        family = TROUBLE.family()
        troubled = dict(self._troubles)
        for worker in sorted({**self._beats, **troubled}):
            family.add_metric((worker,), float(worker in troubled))
        return [family]
