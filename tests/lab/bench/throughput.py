"""Ingest, aggregate, recovery and audit, each beside the same work with nothing of ours in it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager

from aggregator.commit import BatchCommitter
from aggregator.opening import open_partition
from hourglass.cluster.link import Link
from hourglass.model.keys import GROUP
from hourglass.model.readings import Rules
from hourglassctl.audit.recompute import recount
from tests.lab.bench.figures import Figure, Target
from tests.lab.bench.rig import (
    BATCH,
    DAY,
    Rig,
    Shards,
    bare_range_ceiling,
    bare_reading_ceiling,
    rate,
    readings,
    xadd_ceiling,
)

#: Far above the limit: nothing is given up here.
_TRIES = 100


@contextmanager
def _backlog(rig: Rig, count: int) -> Generator[tuple[Shards, Link]]:
    """A cluster whose DAY holds `count` readings, and a link to them."""
    with rig.shards() as shards:
        shards.publish(readings(count))
        with closing(shards.cluster.link(DAY.stream)) as link:
            yield shards, link


def ingest(rig: Rig) -> Iterator[Figure]:
    """Sensors → batches → partition."""
    rates: list[float] = []
    ceilings: list[float] = []
    count = rig.scale.readings
    with rig.shards() as shards:
        for _ in range(rig.scale.repeats):
            ceilings.append(xadd_ceiling(shards.port, count))
            rates.append(rate(count, shards.publish, readings(count)))
            shards.empty()
    yield Figure(
        work="ingest",
        how="one producer: sensors, numbered batches of 1,000, expiry kept",
        unit="readings/s",
        values=rates,
        ceiling="redis-benchmark XADD -P 100 -c 4, same fields",
        ceilings=ceilings,
        target=Target(bound=0.8),
    )


def aggregate(rig: Rig) -> Iterator[Figure]:
    """Read, fold, commit a backlog."""
    rates: list[float] = []
    ceilings: list[float] = []
    count = rig.scale.readings
    with _backlog(rig, count) as (shards, link):
        for _ in range(rig.scale.repeats):
            ceilings.append(bare_reading_ceiling(link, DAY.stream, count))
            shards.rewind()
            rates.append(rate(count, shards.count))
    yield Figure(
        work="aggregate",
        how="one aggregator thread, exactly once, from a backlog, batches of 1,000",
        unit="readings/s",
        values=rates,
        ceiling="bare loop of XREADGROUP COUNT 1000 and one XACK",
        ceilings=ceilings,
        target=Target(bound=0.8),
    )


def recovery(rig: Rig) -> Iterator[Figure]:
    """What a dead consumer holds, taken over and counted by another."""
    rates: list[float] = []
    ceilings: list[float] = []
    count = rig.scale.pending
    with _backlog(rig, count) as (shards, link):
        for _ in range(rig.scale.repeats):
            shards.rewind()
            ceilings.append(rate(count, shards.count))
            shards.rewind()
            incarnation = open_partition(shards.cluster, DAY, shards.clock.current()).incarnation
            while link.call(
                "XREADGROUP", "GROUP", GROUP, "dead", "COUNT", BATCH, "STREAMS", DAY.stream, ">"
            ):
                pass
            time.sleep(0.01)
            rates.append(rate(count, _recover, shards, incarnation))
    yield Figure(
        work="recovery",
        how=f"{count:,} pending readings of a dead consumer, taken over and counted by another",
        unit="readings/s",
        values=rates,
        ceiling="the same readings read fresh",
        ceilings=ceilings,
        target=Target(bound=0.6),
    )


def _recover(shards: Shards, incarnation: bytes) -> int:
    with closing(shards.cluster.link(DAY.stream)) as link:
        instant = shards.clock.current()
        heir = BatchCommitter(link, DAY, incarnation, "heir", shards.metrics)
        while heir.recover(Rules(), instant, idle_ms=1, limit=_TRIES):
            pass
        return shards.counted(DAY)


def audit(rig: Rig) -> Iterator[Figure]:
    """A day's readings recounted."""
    rates: list[float] = []
    ceilings: list[float] = []
    count = rig.scale.day
    with _backlog(rig, count) as (shards, link):
        shards.count()
        for _ in range(rig.scale.repeats):
            ceilings.append(bare_range_ceiling(link, DAY.stream, count))
            rates.append(rate(count, _recounted, shards))
    yield Figure(
        work="audit",
        how=f"a day of {count:,} readings recounted and compared with its hour records",
        unit="readings/s",
        values=rates,
        ceiling="XRANGE of the same in batches of 1,000",
        ceilings=ceilings,
        target=Target(bound=0.5),
    )


def _recounted(shards: Shards) -> int:
    """Readings in the stream, if the hour records bear them out."""
    raw = recount(shards.cluster, DAY).raw or {}
    found = sum(hour.count for hour in raw.values())
    return found if found == shards.counted(DAY) else 0
