"""The health of a service: heartbeats, failures and status notes of its workers."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.metrics import MetricSpec
from hourglass.service.cli import version

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


BUILD = MetricSpec(
    name="hourglass_build_info",
    kind="gauge",
    help="Always 1; the labels describe the process. pipeline is its pipeline, revision the commit "
    "that its image was built from, empty outside an image.",
    unit="1",
    labels=("component", "pipeline", "version", "revision", "python"),
    across="each",
)


def show_build(registry: CollectorRegistry, service: str, pipeline: str) -> None:
    BUILD.gauge(registry).labels(
        service,
        pipeline,
        version(),
        os.environ.get("HOURGLASS_REVISION", ""),
        platform.python_version(),
    ).set(1)
