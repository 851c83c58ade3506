"""Packed entries: a tick of many devices in an array, beside an entry for each reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice

import numpy as np

from hourglass.model.devices import device_names
from producer.packed_batches import BATCH_READINGS, Packer
from producer.simulator_array import SensorArray, Tick
from tests.lab.bench.figures import Curve, Figure, Finding, NotMeasured, Samples, Target
from tests.lab.bench.flatness import cost
from tests.lab.bench.memory import used_memory
from tests.lab.bench.peers import time_series, time_series_rate
from tests.lab.bench.rig import DAY, Missing, Rig, Shards, rate, readings, xadd_ceiling

DEVICES = 1000
#: RedisTimeSeries adds 1.4 times as fast as XADD does; it is to be beaten twenty times.
OF_TIME_SERIES = 20.0
OF_XADD = 1.4 * OF_TIME_SERIES


def packed(rig: Rig) -> Iterator[Finding]:
    """A thousand devices to a producer, as fast as one process of each kind goes."""
    count = 50 * rig.scale.readings
    ingest: list[float] = []
    aggregate: list[float] = []
    theirs: list[float] = []
    with ExitStack() as resources:
        shards = resources.enter_context(rig.shards())
        try:
            series = resources.enter_context(time_series(rig))
            bound, ceiling = OF_TIME_SERIES, "TS.ADD with an hourly rule"
        except Missing as missing:
            series = None
            bound, ceiling = OF_XADD, "redis-benchmark XADD -P 100 -c 4"
            yield NotMeasured(work="packed beside RedisTimeSeries", why=str(missing))
        for _ in range(rig.scale.repeats):
            theirs.append(
                time_series_rate(series, rig.scale.readings)
                if series
                else xadd_ceiling(shards.port, rig.scale.readings)
            )
            shards.empty()
            ingest.append(rate(count, write, shards, ticks(count)))
            aggregate.append(rate(count, shards.count))
            shards.empty()
    for work, values in (("packed ingest", ingest), ("packed aggregate", aggregate)):
        yield Figure(
            work=work, how=f"{DEVICES:,} devices to a producer, {count:,} readings",
            unit="readings/s", values=values, ceiling=ceiling, ceilings=theirs,
            target=Target(bound=bound),
        )  # fmt: skip
    yield from _memory(rig)


def packing_from(rig: Rig) -> Iterator[Curve]:
    """From how many devices on a packed entry costs less than an entry for each reading, tick by
    tick as they come live: each in a batch of its own."""
    numbers = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= rig.scale.most_devices]
    costs, sizes = Samples(), Samples()
    with rig.shards() as shards:
        for number in rig.repeated(numbers):
            count = min(rig.scale.sweep // 10, 5_000) * number
            made = list(readings(count, devices=number))
            flocks = list(ticks(count, number))
            for way, work in (
                ("plain", partial(shards.publish, made, batch=number)),
                ("packed", partial(write, shards, flocks, tick_by_tick=number)),
            ):
                shards.empty()
                before = used_memory(shards)
                client, server = cost(shards, count, work)
                sizes.add(way, number, (used_memory(shards) - before) / count)
                counting, committing = cost(shards, count, partial(shards.count, batch=100))
                costs.add(way, number, client + server + counting + committing)
    yield Curve(
        name="packing-cost", title="Cost of plain and of packed entries", x="devices of a producer",
        y="µs of processor time a reading, clients and server, written and counted",
        xs=numbers, lines=costs.medians(numbers),
    )  # fmt: skip
    yield Curve(
        name="packing-memory", title="Memory of plain and of packed entries",
        x="devices of a producer", y="bytes in Redis a reading", xs=numbers,
        lines=sizes.medians(numbers),
    )  # fmt: skip


def _memory(rig: Rig) -> Iterator[Figure]:
    count = 5 * rig.scale.readings
    for name, unit, bound in (("tenths: 16 bits", 0, 2.5), ("thousandths: 32 bits", 1, 4.5)):
        sizes: list[float] = []
        with rig.shards() as shards:
            write(shards, ticks(10 * DEVICES))  # the scripts, and what a connection leaves behind
            for _ in range(rig.scale.repeats):
                shards.empty()
                before = used_memory(shards)
                write(shards, ticks(count, finer=unit))
                sizes.append((used_memory(shards) - before) / count)
        yield Figure(
            work=f"packed memory, {name}", how=f"{DEVICES:,} devices to a producer",
            unit="bytes/reading", values=sizes, target=Target(bound=bound, at_most=True),
        )  # fmt: skip


def ticks(count: int, devices: int = DEVICES, *, finer: int = 0) -> Iterator[Tick]:
    """`count` simulated readings of so many devices, `finer` thousandths warmer than in tenths."""
    bank = SensorArray(device_names("device", devices), seed=1, period_ms=1000)
    for tick in islice(bank.read(DAY.day_ms, DAY.end_ms), -(-count // devices)):
        yield Tick(tick.ts_ms, tick.milli_f + np.int32(finer)) if finer else tick


def write(shards: Shards, made: Iterable[Tick], *, tick_by_tick: int = 0) -> int:
    """Ticks → packed batches → partition, as a producer process does it; readings taken.

    tick_by_tick: how many devices there are, if each tick is to be a batch of its own
    """
    packer = Packer(
        "device", limit=tick_by_tick or BATCH_READINGS, partitions=DAY.keyspace.undivided
    )
    return shards.send(packer.cut(made))
