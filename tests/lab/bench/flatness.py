"""Speed against batch size, and cost against what may grow.

Cost is processor time for each reading, the server's and the client's apart: on a busy machine it
says more than the time that passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

from hourglass.model.keys import DAY_MS, HOUR_MS, HOURS, Partition
from hourglass.model.readings import Reading
from tests.lab.bench.figures import Curve, Samples
from tests.lab.bench.rig import DAY, Rig, Shards, await_ready, rate, readings, wait_for

_COST = "µs of processor time a reading"
_AGGREGATE = ("aggregate, client", "aggregate, server")
#: What counts as not growing, over two orders of magnitude or more.
_FLAT = 1.5


def batch_size(rig: Rig) -> Iterator[Curve]:
    """Readings a second by batch size."""
    sizes = (10, 30, 100, 300, 1000, 3000, 5000)
    samples = Samples()
    with rig.shards() as shards:
        for size in rig.repeated(sizes):
            count = min(rig.scale.sweep, 1000 * size)
            shards.empty()
            samples.add("ingest", size, rate(count, shards.publish, readings(count), batch=size))
            samples.add("aggregate", size, rate(count, shards.count, batch=size))
    yield Curve(
        name="batch-size", title="Speed against batch size", x="readings in a batch",
        y="readings/s", xs=sizes, lines=samples.medians(sizes),
    )  # fmt: skip


def devices(rig: Rig) -> Iterator[Curve]:
    """Each device gives ten readings at least, as it would within ten seconds."""
    numbers = [n for n in (1, 10, 100, 1_000, 10_000, 100_000) if n <= rig.scale.most_devices]
    samples = Samples()
    with rig.shards() as shards:
        for number in rig.repeated(numbers):
            shards.empty()
            made = list(readings(max(rig.scale.sweep, 10 * number), devices=number))
            ingest = cost(shards, len(made), partial(shards.publish, made))
            samples.add_each(number, ("ingest, client", "ingest, server"), ingest)
            aggregate = cost(shards, len(made), shards.count)
            samples.add_each(number, _AGGREGATE, aggregate)
    yield _curve("devices", "devices", numbers, samples)


def hours(rig: Rig) -> Iterator[Curve]:
    """Readings of so many hours mixed in each batch."""
    numbers = (1, 2, 4, 8, 16, HOURS)
    samples = Samples()
    with rig.shards() as shards:
        for number in rig.repeated(numbers):
            shards.empty()
            made = [
                reading._replace(
                    ts_ms=DAY.day_ms + index % number * HOUR_MS + reading.ts_ms % HOUR_MS
                )
                for index, reading in enumerate(readings(rig.scale.sweep))
            ]
            shards.publish(made)
            samples.add_each(number, _AGGREGATE, cost(shards, len(made), shards.count))
    yield _curve("hours", "hours in a batch", numbers, samples)


def partitions(rig: Rig) -> Iterator[Curve]:
    """An aggregator process that follows so many live partitions, all of them written to."""
    numbers = [n for n in (1, 3, 10, 30, 100) if n <= rig.scale.most_partitions]
    samples = Samples()
    for number in rig.repeated(numbers):
        _count_live(rig, samples, number, days=number, aggregators=1)
    yield _curve("partitions", "live partitions", numbers, samples)


def aggregators(rig: Rig) -> Iterator[Curve]:
    """So many aggregator processes that share one partition."""
    numbers = [n for n in (1, 2, 4, 8, 16) if n <= rig.scale.most_aggregators]
    samples = Samples()
    for number in rig.repeated(numbers):
        _count_live(rig, samples, number, days=1, aggregators=number)
    yield _curve("aggregators", "aggregators", numbers, samples)


def _curve(name: str, x: str, xs: Sequence[float], samples: Samples) -> Curve:
    return Curve(
        name=f"cost-{name}", title=f"Cost against {x}", x=x, y=_COST, xs=xs,
        lines=samples.medians(xs), flat=_FLAT,
    )  # fmt: skip


def cost(shards: Shards, count: int, work: Callable[[], object]) -> tuple[float, float]:
    """Microseconds of processor time a reading: this process', and the first master's."""
    server, own = shards.cpu_s(), time.process_time()
    work()
    own_s, server_s = time.process_time() - own, shards.cpu_s() - server
    return own_s / count * 1e6, server_s / count * 1e6


def _count_live(rig: Rig, samples: Samples, x: float, *, days: int, aggregators: int) -> None:
    each = max(2000, 3 * rig.scale.sweep // days)
    streams = [DAY.keyspace.partition(DAY.day_ms + day * DAY_MS) for day in range(days)]
    names = [f"aggregator-{number}" for number in range(aggregators)]
    with rig.shards() as shards, shards.processes() as processes:
        # A reading in each, so that every aggregator follows every partition before it counts.
        shards.publish(_one_after_another(streams, 1), name="first")
        for name in names:
            processes.start(name, "aggregator")
        for name in names:
            await_ready(processes, name)
        wait_for(lambda: shards.counted(*streams) == days, "the first are not counted")
        time.sleep(1.0)
        before = {name: processes.cpu_s(name) for name in names}
        server = shards.cpu_s()
        shards.publish(_one_after_another(streams, each))
        wait_for(
            lambda: shards.counted(*streams) == days * (each + 1), "not all is counted",
            every_s=0.05,
        )  # fmt: skip
        count = days * each
        own = sum(processes.cpu_s(name) - before[name] for name in names)
        samples.add("aggregate, clients", x, own / count * 1e6)
        samples.add("ingest and aggregate, server", x, (shards.cpu_s() - server) / count * 1e6)


def _one_after_another(streams: Sequence[Partition], each: int) -> Iterable[Reading]:
    """`each` readings of every day, a day after the other in stretches of a batch."""
    made = [list(readings(each, from_ms=stream.day_ms)) for stream in streams]
    stretches = range(0, each, 1000)
    return chain.from_iterable(of_day[at : at + 1000] for at in stretches for of_day in made)
