"""What each service costs when there is nothing to do, and how soon it is ready."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hourglass.model.clock import ClockSpec
from tests.lab.bench.figures import Figure, Target
from tests.lab.bench.rig import Rig, await_ready, readings

_SETTLE_S = 2.0
_SERVICES = {
    "aggregator": "no traffic, one partition that lives",
    "averages_consumer": "no averages",
    "producer": "one device, one reading a second",
}


def idle(rig: Rig) -> Iterator[Figure]:
    """Each service as a process of its own."""
    for service, how in _SERVICES.items():
        started: list[float] = []
        shares: list[float] = []
        resident: list[float] = []
        with rig.shards() as shards:
            shards.clock.set(ClockSpec())  # as in life; a manual one would stand
            today = shards.cluster.keyspace.containing(shards.clock.current().now_ms)
            shards.publish(readings(10, from_ms=today.day_ms))
            for repeat in range(max(1, rig.scale.repeats // 2)):
                with shards.processes() as processes:
                    name = f"{service.replace('_', '-')}-{repeat}"
                    processes.start(name, service)
                    started.append(await_ready(processes, name))
                    time.sleep(_SETTLE_S)
                    before = processes.cpu_s(name)
                    time.sleep(rig.scale.live_s)
                    shares.append(100 * (processes.cpu_s(name) - before) / rig.scale.live_s)
                    resident.append(processes.rss_mib(name))
        shown = service.replace("_", "-")
        yield Figure(
            work=f"idle {shown}: processor", how=how, unit="% of a core", values=shares,
            target=_target(service, 1),
        )  # fmt: skip
        yield Figure(
            work=f"idle {shown}: memory", how=how, unit="MiB resident", values=resident,
            target=_target(service, 60),
        )  # fmt: skip
        yield Figure(
            work=f"{shown}: start to ready", how="from exec to /readyz", unit="s", values=started,
            target=_target(service, 1),
        )  # fmt: skip


def _target(service: str, bound: float) -> Target | None:
    """There is one for the aggregator alone."""
    return Target(bound=bound, at_most=True) if service == "aggregator" else None
