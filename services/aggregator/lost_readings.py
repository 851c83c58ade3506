"""Readings that Redis had taken and does not have any more, as a metric."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import candidates
from hourglass.errors import CorruptKey
from hourglass.metrics import MetricSpec
from hourglass.model.clock import Instant
from hourglass.model.hour_records import gone_of
from hourglass.monitoring.collectors import Latest
from hourglass.monitoring.stream_stats import Removals, removals

GONE = MetricSpec(
    name="hourglass_readings_lost",
    kind="gauge",
    help="Readings of a live partition that producers were told were taken and that Redis has lost "
    "since, in a failover or because keys were deleted, as far as each of the producers has been "
    "heard of again; and entries that another program removed (XDEL, XTRIM, MAXLEN) before they "
    "were counted, each as one reading.",
    unit="readings",
    labels=("stream",),
    across="max",
)


@dataclass(frozen=True, slots=True)
class Losses:
    """By stream.

    taken: readings that producers were told were taken and that are not there; of streams that
        producers have written to
    removals: what another program removed, of streams that are there
    """

    taken: Mapping[str, int] = field(default_factory=dict[str, int])
    removals: Mapping[str, Removals] = field(default_factory=dict[str, Removals])

    def gone(self) -> Mapping[str, int]:
        """Readings lost, of streams of which something is known; an entry counts as one."""
        removed = {name: each.uncounted or 0 for name, each in self.removals.items()}
        return {
            name: self.taken.get(name, 0) + removed.get(name, 0)
            for name in sorted(self.taken.keys() | removed.keys())
        }


def look(cluster: Cluster, instant: Instant) -> Losses:
    """Of a damaged key, which an audit names, nothing is known. Two round trips to each shard,
    besides the one that names the partitions.

    Raises Unreachable.
    """
    partitions = candidates(cluster, instant)
    replies = cluster.pipeline([("HGETALL", each.producers) for each in partitions])
    taken: dict[str, int] = {}
    for partition, producers in zip(partitions, replies, strict=True):
        if producers and not isinstance(producers, Exception):
            with suppress(CorruptKey):
                taken[partition.stream] = gone_of(producers)
    removed = zip(partitions, removals(cluster, partitions), strict=True)
    return Losses(taken, {each.stream: found for each, found in removed if found})


class LostReadingsGauges(Collector):
    """Exports the last look; unknown is not zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._removals: Mapping[str, Removals] = {}
        self._losses = Latest[Losses](Losses())
        registry.register(self)

    def look(self, cluster: Cluster, instant: Instant) -> None:
        """As `look`; while Redis is away nothing is known. Raises Unreachable."""
        self._losses.renew(lambda: self._remembering(look(cluster, instant)))

    def _remembering(self, found: Losses) -> Losses:
        """What was known to be lost is known while much is not counted yet, too: an alert compares
        the series with what it was."""
        before = self._removals
        self._removals = {
            name: each.after(before.get(name, each)) for name, each in found.removals.items()
        }
        return Losses(found.taken, self._removals)

    def collect(self) -> list[GaugeMetricFamily]:
        family = GONE.family()
        for stream, readings in self._losses.value.gone().items():
            family.add_metric((stream,), readings)
        return [family]
