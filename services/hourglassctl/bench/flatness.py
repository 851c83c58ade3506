"""Speed against batch size, and cost against what may grow.

Cost is processor time for each reading, the server's and the client's apart: on a busy machine it
says more than the time that passes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

from hourglass.keys import HOUR_MS, HOURS, Partition
from hourglass.readings import Reading
from hourglass.records import decode_hours
from hourglassctl.bench.figures import Curve
from hourglassctl.bench.rig import DAY, Rig, Shards, rate, readings, wait_for

_COST = "µs of processor time a reading"


def batch_size(rig: Rig) -> Iterator[Curve]:
    """Readings a second by batch size."""
    sizes = (10, 30, 100, 300, 1000, 3000, 5000)
    lines: dict[str, list[float]] = {"ingest": [], "aggregate": []}
    with rig.shards() as shards:
        for size in sizes:
            count = min(rig.scale.sweep, 1000 * size)
            shards.empty()
            lines["ingest"].append(rate(count, shards.publish, readings(count), batch=size))
            lines["aggregate"].append(rate(count, shards.count, batch=size))
    yield Curve(
        name="batch-size", title="Speed against batch size", x="readings in a batch",
        y="readings/s", xs=sizes, lines=lines,
    )  # fmt: skip


def devices(rig: Rig) -> Iterator[Curve]:
    """Each device gives ten readings at least, as it would within ten seconds."""
    numbers = [n for n in (1, 10, 100, 1_000, 10_000, 100_000) if n <= rig.scale.most_devices]
    lines: defaultdict[str, list[float]] = defaultdict(list)
    with rig.shards() as shards:
        for number in numbers:
            shards.empty()
            made = list(readings(max(rig.scale.sweep, 10 * number), devices=number))
            _cost(shards, lines, "ingest", len(made), partial(shards.publish, made))
            _cost(shards, lines, "aggregate", len(made), shards.count)
    yield _curve("devices", "devices", numbers, lines)


def hours(rig: Rig) -> Iterator[Curve]:
    """Readings of so many hours mixed in each batch."""
    numbers = (1, 2, 4, 8, 16, HOURS)
    lines: defaultdict[str, list[float]] = defaultdict(list)
    with rig.shards() as shards:
        for number in numbers:
            shards.empty()
            made = [
                reading._replace(ts_ms=DAY.day_ms + index % number * HOUR_MS)
                for index, reading in enumerate(readings(rig.scale.sweep))
            ]
            shards.publish(made)
            _cost(shards, lines, "aggregate", len(made), shards.count)
    yield _curve("hours", "hours in a batch", numbers, lines)


def partitions(rig: Rig) -> Iterator[Curve]:
    """An aggregator process that follows so many live partitions, all of them written to."""
    numbers = [n for n in (1, 3, 10, 30, 100) if n <= rig.scale.most_partitions]
    lines: defaultdict[str, list[float]] = defaultdict(list)
    for number in numbers:
        _count_live(rig, lines, days=number, aggregators=1)
    yield _curve("partitions", "live partitions", numbers, lines)


def aggregators(rig: Rig) -> Iterator[Curve]:
    """So many aggregator processes that share one partition."""
    numbers = [n for n in (1, 2, 4, 8, 16) if n <= rig.scale.most_aggregators]
    lines: defaultdict[str, list[float]] = defaultdict(list)
    for number in numbers:
        _count_live(rig, lines, days=1, aggregators=number)
    yield _curve("aggregators", "aggregators", numbers, lines)


def _curve(name: str, x: str, xs: Sequence[float], lines: dict[str, list[float]]) -> Curve:
    return Curve(
        name=f"cost-{name}", title=f"Cost against {x}", x=x, y=_COST, xs=xs, lines=dict(lines)
    )


def _cost(
    shards: Shards,
    lines: defaultdict[str, list[float]],
    line: str,
    count: int,
    work: Callable[[], object],
) -> None:
    client, server = cost(shards, count, work)
    lines[f"{line}, client"].append(client)
    lines[f"{line}, server"].append(server)


def cost(shards: Shards, count: int, work: Callable[[], object]) -> tuple[float, float]:
    """Microseconds of processor time a reading: this process', and the first master's."""
    server, own = shards.cpu_s(), time.process_time()
    work()
    own_s, server_s = time.process_time() - own, shards.cpu_s() - server
    return own_s / count * 1e6, server_s / count * 1e6


def _count_live(
    rig: Rig, lines: defaultdict[str, list[float]], *, days: int, aggregators: int
) -> None:
    each = max(2000, 3 * rig.scale.sweep // days)
    streams = [Partition(DAY.day_ms + day * HOURS * HOUR_MS) for day in range(days)]
    names = [f"aggregator-{number}" for number in range(aggregators)]
    with rig.shards() as shards, shards.processes() as processes:
        # A reading in each, so that every aggregator follows every partition before it counts.
        shards.publish(_one_after_another(streams, 1), name="first")
        for name in names:
            processes.start(name, "aggregator")
        for name in names:
            wait_for(lambda name=name: processes.ready(name), f"{name} is not ready")
        wait_for(lambda: _counted(shards, streams) == days, "the first are not counted")
        time.sleep(1.0)
        before = {name: processes.cpu_s(name) for name in names}
        server = shards.cpu_s()
        shards.publish(_one_after_another(streams, each))
        wait_for(lambda: _counted(shards, streams) == days * (each + 1), "not all is counted")
        count = days * each
        own = sum(processes.cpu_s(name) - before[name] for name in names)
        lines["aggregate, clients"].append(own / count * 1e6)
        lines["ingest and aggregate, server"].append((shards.cpu_s() - server) / count * 1e6)


def _one_after_another(streams: Sequence[Partition], each: int) -> Iterable[Reading]:
    """`each` readings of every day, a day after the other in stretches of a batch."""
    made = [list(readings(each, from_ms=stream.day_ms)) for stream in streams]
    stretches = range(0, each, 1000)
    return chain.from_iterable(of_day[at : at + 1000] for at in stretches for of_day in made)


def _counted(shards: Shards, streams: Sequence[Partition]) -> int:
    replies = shards.cluster.pipeline([("HGETALL", stream.hours) for stream in streams])
    return sum(
        record.count
        for stream, fields in zip(streams, replies, strict=True)
        for record in decode_hours(stream, fields)
    )
