"""The settings of Redis under which the pipeline's promises do not hold.

`findings` decides and is pure; `read` asks each master.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.cluster.client import Cluster
from hourglass.errors import Unreachable, UnsupportedServer
from hourglass.metrics import MetricSpec

log = logging.getLogger(__name__)

NO_EVICTION = "noeviction"

EVICTION_POSSIBLE = MetricSpec(
    name="hourglass_redis_eviction_possible",
    kind="gauge",
    help="1 for a master, as host:port, that may evict keys: its maxmemory-policy is not "
    "noeviction and its maxmemory is not 0; 0 for one that may not; absent while unknown.",
    unit="1",
    labels=("shard",),
    across="max",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The settings of one master. None is unknown, which is no finding."""

    shard: str
    policy: str | None = None
    maxmemory: int | None = None
    append_only: bool | None = None
    full_coverage: bool | None = None

    @property
    def has_eviction_policy(self) -> bool:
        return self.policy is not None and self.policy != NO_EVICTION

    @property
    def evicts(self) -> bool:
        """Whether it may evict keys. A server with maxmemory 0 never does; one that reports a
        policy and no maxmemory may have a limit."""
        return self.has_eviction_policy and self.maxmemory != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One setting that breaks a promise, in one line with the remedy."""

    code: Literal[
        "clock-in-doubt", "eviction", "eviction-policy", "no-append-only-file", "full-coverage"
    ]
    severity: Literal["error", "warning", "info"]
    #: host:port of each, separated by commas; empty where they are not to be shown.
    masters: str
    what: str

    @property
    def text(self) -> str:
        return f"Redis{self.masters and f' at {self.masters}'} {self.what}"


def findings(servers: Sequence[ServerSettings]) -> list[Finding]:
    """One finding for each setting and value, naming the masters that have it; the worst first."""
    return [*_eviction(servers), *_eviction_policy(servers), *_others(servers)]


def _eviction(servers: Sequence[ServerSettings]) -> Iterator[Finding]:
    for policy in sorted({each.policy for each in servers if each.evicts and each.policy}):
        masters = _named(each for each in servers if each.evicts and each.policy == policy)
        yield Finding(
            code="eviction",
            severity="error",
            masters=masters,
            what="may evict readings that are not counted (maxmemory-policy "
            f"{policy}): CONFIG SET maxmemory-policy noeviction on each master and replica, or its "
            "equivalent of a managed Redis",
        )


def _eviction_policy(servers: Sequence[ServerSettings]) -> Iterator[Finding]:
    idle = [each for each in servers if each.has_eviction_policy and not each.evicts]
    for policy in sorted({each.policy for each in idle if each.policy}):
        yield Finding(
            code="eviction-policy",
            severity="warning",
            masters=_named(each for each in idle if each.policy == policy),
            what=f"has maxmemory-policy {policy} and evicts readings once maxmemory is set: "
            "CONFIG SET maxmemory-policy noeviction",
        )


def _others(servers: Sequence[ServerSettings]) -> Iterator[Finding]:
    if volatile := [each for each in servers if each.append_only is False]:
        yield Finding(
            code="no-append-only-file",
            severity="info",
            masters=_named(volatile),
            what="has no append-only file: readings are lost if a "
            "master and its replicas stop together (appendonly yes)",
        )
    if requires := [each for each in servers if each.full_coverage]:
        yield Finding(
            code="full-coverage",
            severity="info",
            masters=_named(requires),
            what="requires full coverage: one unreachable shard "
            "stops all of them (cluster-require-full-coverage no)",
        )


def clock_findings(doubts: Mapping[str, str]) -> list[Finding]:
    """One for each master whose clock is not believed: `doubts`, as ServerClocks has them."""
    return [
        Finding(code="clock-in-doubt", severity="error", masters=master, what=doubt)
        for master, doubt in doubts.items()
    ]


def _named(servers: Sequence[ServerSettings] | Iterator[ServerSettings]) -> str:
    return ", ".join(sorted(each.shard for each in servers))


def read(cluster: Cluster, beat: Callable[[], None] = lambda: None) -> list[ServerSettings]:
    """The settings of each master that answers. `beat` is called before each, because one that does
    not answer takes its time."""
    found: list[ServerSettings] = []
    for master in cluster.masters():
        beat()
        with suppress(Unreachable, UnsupportedServer):
            found.append(_read(cluster, master))
    return found


def _read(cluster: Cluster, master: str) -> ServerSettings:
    memory = cluster.ask(master, "INFO", "memory")
    append_only = cluster.ask(master, "INFO", "persistence").get("aof_enabled")
    coverage = cluster.config(master, "cluster-require-full-coverage")
    return ServerSettings(
        shard=master,
        policy=memory.get("maxmemory_policy"),
        maxmemory=memory.get("maxmemory"),
        append_only=None if append_only is None else bool(append_only),
        full_coverage=None if coverage is None else coverage == "yes",
    )


class ServerSettingsWatch(Collector):
    """The settings as they were last read: as a metric, and as findings for the page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._servers: Sequence[ServerSettings] = ()
        self._logged: Sequence[Finding] = ()
        registry.register(self)

    def poll(
        self,
        cluster: Cluster,
        beat: Callable[[], None] = lambda: None,
        *,
        refuse_eviction: bool = False,
    ) -> None:
        """Read the settings; log what has changed. Raises UnsupportedServer where keys may be
        evicted, if that is to be refused: at the start, not of a pipeline that runs."""
        self._servers = read(cluster, beat)
        found = findings(self._servers)
        for each in found:
            if refuse_eviction and each.code == "eviction":
                raise UnsupportedServer(
                    f"{each.text}; HOURGLASS_ALLOW_EVICTION=true starts all the same"
                )
        for each in found:
            if each not in self._logged:
                level = logging.INFO if each.severity == "info" else logging.WARNING
                log.log(level, "%s", each.text)
        self._logged = found

    @property
    def findings(self) -> Sequence[Finding]:
        return findings(self._servers)

    def collect(self) -> list[GaugeMetricFamily]:
        family = EVICTION_POSSIBLE.family()
        for each in self._servers:
            if each.policy is not None:
                family.add_metric((each.shard,), float(each.evicts))
        return [family]
