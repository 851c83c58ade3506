"""Finds stray streams, by a slow SCAN of each master; see hourglass.model.strays."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import candidates
from hourglass.errors import CorruptKey, Unreachable
from hourglass.metrics import MetricSpec
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.keys import GROUP, RETENTION_MS, Partition, iso
from hourglass.model.strays import Reason, Strays, decode, encode, expires, line, reason_of, shown
from hourglass.monitoring.collectors import Latest
from hourglass.monitoring.stream_stats import read_streams

log = logging.getLogger(__name__)

#: A step makes at most so many SCAN calls, and each looks at about so many keys: a Redis with a
#: million keys is looked through in about half an hour, a small one in one step.
SCANS = 10
COUNT = 500

STRAY = MetricSpec(
    name="hourglass_stray_streams",
    kind="gauge",
    help="Streams under the pipeline's prefix that no aggregator reads: `name` is no partition's, "
    "or the day is `over` or far `ahead`. As of the last complete scan; absent before the "
    "first one.",
    unit="streams",
    labels=("reason",),
    across="max",
)


@dataclass(slots=True)
class StrayFinder:
    """Looks through one master after the other, a slice in each step; every process does so on its
    own, in an order of its own."""

    cluster: Cluster
    clock: PipelineClock
    scans: int = SCANS
    count: int = COUNT
    _masters: list[str] = field(default_factory=list[str])
    _cursor: int = 0
    _is_whole: bool = True
    _found: dict[Reason, Strays] = field(default_factory=dict[Reason, Strays])
    _last: Mapping[Reason, Strays] | None = None

    def step(self) -> Mapping[Reason, Strays] | None:
        """The next slice; returns what the last whole round found, None before there was one.
        Raises Unreachable, after which it goes on with the next master, or CorruptKey."""
        if not self._masters:
            self._begin()
        for _ in range(self.scans):
            if not self._masters:
                break
            try:
                self._take(self._scan())
            except (Unreachable, CorruptKey):
                self._is_whole = False
                raise
        if not self._masters and self._is_whole:
            self._record()
        return self._last

    def _begin(self) -> None:
        masters = self.cluster.masters()
        self._masters = random.sample(masters, len(masters))
        self._cursor, self._is_whole, self._found = 0, bool(masters), {}

    def _scan(self) -> Sequence[bytes]:
        pattern, _ = self.cluster.keyspace.patterns
        cursor = str(self._cursor)
        options = ("MATCH", pattern, "COUNT", str(self.count), "TYPE", "stream")
        self._cursor = 0  # if that master does not answer
        try:
            self._cursor, names = self.cluster.ask(self._masters[-1], "SCAN", cursor, *options)
        finally:
            if not self._cursor:
                self._masters.pop()
        return names

    def _take(self, names: Collection[bytes]) -> None:
        """Give those of them that are stray a TTL, and count them."""
        keyspace = self.cluster.keyspace
        if not self._reasons(names, self.clock.current(), ()):
            return
        # After the names, so that nothing is judged by an older clock or index than its own: both
        # are set before the first entry is written.
        instant = self.clock.refresh()
        reasons = self._reasons(names, instant, candidates(self.cluster, instant))
        days = [name.decode() for name, reason in reasons.items() if reason is not Reason.NAME]
        # A day that is over and counted is no loss, however long its stream still lives.
        waiting = {each.stream for each in read_streams(self.cluster, days, GROUP) if each.waits}
        for day in days:
            if day not in waiting:
                del reasons[day.encode()]
        self._expire([name for name in reasons if expires(keyspace, name)], instant)
        for name, reason in reasons.items():
            before = self._found.get(reason, Strays(0, shown(name)))
            self._found[reason] = Strays(before.count + 1, min(before.first, shown(name)))

    def _reasons(
        self, names: Collection[bytes], instant: Instant, read: Collection[Partition]
    ) -> dict[bytes, Reason]:
        """By stray stream of `names`; `read`: partitions that are, whatever their day is."""
        reasons: dict[bytes, Reason] = {}
        for name in names:
            text = name.decode(errors="replace")
            if reason := reason_of(self.cluster.keyspace, text, instant, read):
                reasons[name] = reason
        return reasons

    def _expire(self, names: Collection[bytes], instant: Instant) -> None:
        """As long as a partition lives after its last reading; a TTL that is there stays."""
        at_ms = instant.expiry(instant.now_ms + RETENTION_MS)
        given = self.cluster.pipeline([("PEXPIREAT", name, at_ms, "NX") for name in names])
        for name, was_given in zip(names, given, strict=True):
            if was_given == 1:
                log.info("%s is not read: it expires at %s", shown(name), iso(at_ms))

    def _record(self) -> None:
        """For `hourglass status` and the page, which do not scan Redis. Raises Unreachable,
        CorruptKey."""
        self._last, keyspace = self._found, self.cluster.keyspace
        before = decode(self.cluster.call("GET", keyspace.strays), key=keyspace.strays)
        if self._found == before:
            return
        self.cluster.call("SET", keyspace.strays, encode(self._found), "PX", RETENTION_MS)
        for reason, strays in self._found.items():
            if before.get(reason) != strays:
                log.warning("%s", line(reason, strays))


class StrayGauges(Collector):
    """Exports what a finder found last; unknown is not zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._last = Latest[Mapping[Reason, Strays] | None](None)
        registry.register(self)

    def poll(self, finder: StrayFinder) -> None:
        """Take a step. Raises Unreachable, CorruptKey."""
        self._last.renew(finder.step)

    def collect(self) -> list[GaugeMetricFamily]:
        family, last = STRAY.family(), self._last.value
        if last is not None:
            for reason in Reason:
                family.add_metric((reason,), last[reason].count if reason in last else 0)
        return [family]
