"""What keeps a service from doing its job now, as a metric."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.instruments import Instrument

TROUBLE = Instrument(
    name="hourglass_trouble",
    kind="gauge",
    help="1 for each part of the process that cannot do its job now, a loop or the reader of one "
    "partition; /readyz and the log say why.",
    labels=("worker",),
)


class TroubleGauge(Collector):
    """Shows the workers that `troubles` names, which are as many as the loops and the partitions
    that live."""

    def __init__(self, registry: CollectorRegistry, troubles: Mapping[str, str]) -> None:
        self._troubles = troubles
        registry.register(self)

    def collect(self) -> list[GaugeMetricFamily]:
        family = TROUBLE.family()
        for worker in sorted(dict(self._troubles)):
            family.add_metric((worker,), 1)
        return [family]
