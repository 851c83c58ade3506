"""Which shards answer, as metrics, which are exported even while Redis is unreachable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.cluster.client import Cluster
from hourglass.cluster.server_clocks import ServerClocks
from hourglass.errors import Unreachable
from hourglass.metrics import MetricSpec

UP = MetricSpec(
    name="hourglass_redis_up",
    kind="gauge",
    help="1 if every shard answered this process at the last poll, 0 if one did not, or before "
    "the first poll. Series of streams are absent while Redis is unreachable; this one never is.",
    unit="1",
    across="each",
)
SHARD_UP = MetricSpec(
    name="hourglass_redis_shard_up",
    kind="gauge",
    help="1 for a master that answered this process at the last poll, as host:port, 0 for one "
    "that did not.",
    unit="1",
    labels=("shard",),
    across="max",
)
CLOCK_DEVIATION = MetricSpec(
    name="hourglass_redis_clock_deviation_seconds",
    kind="gauge",
    help="How far the clock of a master, as host:port, is ahead of the time that this process "
    "believes, by the median of all masters; negative if it is behind. Beyond 2 seconds no hour is "
    "sealed or published there.",
    unit="seconds",
    labels=("shard",),
    across="max",
)
SHARD_METRICS = (UP, SHARD_UP, CLOCK_DEVIATION)

log = logging.getLogger(__name__)


class ShardGauges(Collector):
    """Registered before Redis has been reached: until then nothing is up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers: Mapping[str, bool] = {}
        self._deviations_ms: Mapping[str, int] = {}
        self._doubts: Mapping[str, str] = {}
        registry.register(self)

    def poll(self, cluster: Cluster, beat: Callable[[], None]) -> None:
        """Ask one master after the other; one that is unreachable is no error. `beat` is called
        before each, because a silent one takes its time.

        Where one is silent its replica may have taken over, which this process need not have met:
        the next poll is of the masters that the cluster names by then.
        """
        masters = cluster.masters()
        self._answers = {master: self._answers.get(master, False) for master in masters}
        cluster.clocks.keep(masters)
        for master in masters:
            beat()
            self._answers = {**self._answers, master: cluster.answers(master)}
        self._show(cluster.clocks)
        if not all(self._answers.values()):
            beat()
            with suppress(Unreachable):  # the last known masters are as good as any
                cluster.refresh_topology()

    def _show(self, clocks: ServerClocks) -> None:
        """The deviations; each doubt is logged when it begins, and when it ends."""
        self._deviations_ms = clocks.deviations_ms()
        doubts = clocks.doubts()
        for master in doubts.keys() - self._doubts.keys():
            log.warning("Redis at %s %s", master, doubts[master], extra={"shard": master})
        for master in self._doubts.keys() - doubts.keys():
            log.info("the clock of Redis at %s is right again", master, extra={"shard": master})
        self._doubts = doubts

    @property
    def doubts(self) -> Mapping[str, str]:
        """Why a master's clock is not believed, by master."""
        return self._doubts

    @property
    def one_is_silent(self) -> bool:
        """Whether a master did not answer when it was asked last."""
        return not all(self._answers.values())

    def collect(self) -> list[GaugeMetricFamily]:
        up, shard_up, deviation = UP.family(), SHARD_UP.family(), CLOCK_DEVIATION.family()
        answers = self._answers
        up.add_metric((), float(bool(answers) and all(answers.values())))
        for shard, answered in sorted(answers.items()):
            shard_up.add_metric((shard,), float(answered))
        for shard, ahead_ms in sorted(self._deviations_ms.items()):
            deviation.add_metric((shard,), ahead_ms / 1000)
        return [up, shard_up, deviation]
