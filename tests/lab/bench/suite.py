"""The kinds of work by name, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from hourglass.errors import ConfigurationError
from hourglass.service.runtime import collect_seldom
from tests.lab.bench import (
    flatness,
    idle,
    live,
    memory,
    packing,
    peers,
    scaling,
    throughput,
    warehouse,
)
from tests.lab.bench.figures import Finding, NotMeasured
from tests.lab.bench.rig import Amiss, Missing, Rig

Work: TypeAlias = Callable[[Rig], Iterator[Finding]]

WORKS: Mapping[str, Work] = {
    "ingest": throughput.ingest,
    "aggregate": throughput.aggregate,
    "recovery": throughput.recovery,
    "audit": throughput.audit,
    "end-to-end": live.end_to_end,
    "warehouse": warehouse.warehouse,
    "back-pressure": live.backpressure,
    "memory": memory.memory,
    "packed": packing.packed,
    "packing": packing.packing_from,
    "idle": idle.idle,
    "peers": peers.peers,
    "batch-size": flatness.batch_size,
    "devices": flatness.devices,
    "hours": flatness.hours,
    "partitions": flatness.partitions,
    "aggregators": flatness.aggregators,
    "scaling": scaling.scaling,
}


def chosen(only: str) -> Sequence[str]:
    """The names in `only`, separated by commas; all if it is empty. Raises ConfigurationError."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in WORKS:
            raise ConfigurationError(f"--only: no benchmark {name!r}; there are {', '.join(WORKS)}")
    return names or list(WORKS)


def measure(names: Sequence[str], rig: Rig) -> Iterator[Finding]:
    """Each in turn, on clusters of its own. Raises NoRedisServer, ClusterNotFormed."""
    collect_seldom()  # as a service does
    for name in names:
        rig.tell(name)
        try:
            yield from WORKS[name](rig)
        except Missing as missing:
            yield NotMeasured(work=name, why=str(missing))
        except Amiss as amiss:
            yield NotMeasured(work=name, why=str(amiss), wrong=True)
