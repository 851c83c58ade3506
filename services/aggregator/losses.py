"""Readings that Redis had taken and does not have any more, as a metric."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.clock import Instant
from hourglass.cluster import Cluster
from hourglass.errors import Damaged
from hourglass.gauges import Latest
from hourglass.instruments import Instrument
from hourglass.ledgers import gone_of
from hourglass.partitions import candidates

GONE = Instrument(
    name="hourglass_readings_gone",
    kind="gauge",
    help="Readings of a live partition that producers were told were taken and that Redis has lost "
    "since, in a failover or because somebody deleted them, as far as each of the producers has "
    "been heard of again.",
    unit="readings",
    labels=("stream",),
    across="max",
)


def look(cluster: Cluster, instant: Instant) -> Mapping[str, int]:
    """By stream, of those that producers have written to; of a damaged key, which an audit names,
    nothing is known. One round trip to each shard, besides the one that names the partitions.

    Raises Unreachable.
    """
    partitions = candidates(cluster, instant)
    replies = cluster.pipeline([("HGETALL", each.producers) for each in partitions])
    found: dict[str, int] = {}
    for partition, producers in zip(partitions, replies, strict=True):
        if producers and not isinstance(producers, Exception):
            with suppress(Damaged):
                found[partition.stream] = gone_of(producers)
    return found


class LossGauges(Collector):
    """Exports the last look; unknown is not zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gone = Latest[Mapping[str, int]]({})
        registry.register(self)

    def look(self, cluster: Cluster, instant: Instant) -> None:
        """As `look`; while Redis is away nothing is known. Raises Unreachable."""
        self._gone.renew(lambda: look(cluster, instant))

    def collect(self) -> list[GaugeMetricFamily]:
        family = GONE.family()
        for stream, readings in self._gone.value.items():
            family.add_metric((stream,), readings)
        return [family]
