"""The pipeline as it runs: real processes, a live stream, how long a reading and an hour take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from statistics import median
from typing import Any

from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.clock import ClockSpec
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import HOUR_MS, iso
from hourglass.model.readings import Reading
from hourglassctl.audit.recompute import recount
from tests.lab.bench.figures import Figure, Target, percentile
from tests.lab.bench.rig import (
    DAY,
    NOON_MS,
    Amiss,
    Rig,
    Shards,
    await_ready,
    rate,
    readings,
    wait_for,
)
from tests.support.processes import ObservedProcesses

#: The services learn within a second that the clock has been set.
_HEAD_START_S = 2.5
#: Until they are ready the clock stands.
_LONG_S = 1e6
#: Of the live stream; a batch of the producer's waits up to its linger, 50 ms.
_PERIOD_S = 0.1
#: An hour of the stream whose hours are watched.
_HOUR_S = 0.5
_TICKS_AN_HOUR = 100
_LATENESS_S = 5.0
#: Entries at a time that keep an aggregator from counting half of what a producer writes.
_SMALL_BATCH = 10
#: Readings before those that are measured.
_FIRST = 1000


def end_to_end(rig: Rig) -> Iterator[Figure]:
    """Produced to counted, and hour's end to published, at half of what a producer and an
    aggregator carry side by side on this machine."""
    with rig.shards() as shards:
        load = min(_carried(rig, shards) / 2, rig.scale.most_load)
        shards.empty()
        yield from _counted(rig, shards, load)
        shards.empty()
        yield from _published(rig, shards, load)


def backpressure(rig: Rig) -> Iterator[Figure]:
    """A producer that writes faster than the aggregator counts. It takes few entries at a time, so
    that one is slow enough; what waits, waits in Redis."""
    count = rig.scale.flood
    mib: list[float] = []
    lags: list[float] = []
    with (
        rig.shards() as shards,
        shards.processes(HOURGLASS_BATCH_ENTRIES=str(_SMALL_BATCH)) as processes,
    ):
        _start_counting(shards, processes)

        def look() -> int:
            mib.append(processes.rss_mib("aggregator"))
            lags.append(processes.metric("aggregator", "hourglass_aggregate_lag") or 0.0)
            return shards.counted(DAY)

        def watched() -> Iterator[Reading]:
            for number, reading in enumerate(readings(count)):
                if number % (count // 20) == 0:
                    look()
                yield reading

        started = time.perf_counter()
        shards.publish(watched())
        written_s = time.perf_counter() - started
        all_told = count + _FIRST
        wait_for(lambda: look() == all_told, "not all is counted", within_s=600, every_s=0.1)
        counted_s = time.perf_counter() - started
        raw = recount(shards.cluster, DAY).raw or {}
    how = f"{count:,} readings written beside an aggregator that takes {_SMALL_BATCH} at a time"
    yield Figure(
        work="back-pressure: load", how=how, unit="times what it counts",
        values=[counted_s / written_s], target=Target(bound=2),
    )  # fmt: skip
    yield Figure(
        work="back-pressure: lag", how="the most that its metrics showed", unit="entries",
        values=[max(lags)], target=Target(bound=1),
    )  # fmt: skip
    yield Figure(
        work="back-pressure: memory", how="the aggregator's most, beside what it had before",
        unit="MiB", values=[max(mib)], ceiling="before", ceilings=[mib[0]],
        target=Target(bound=1.25, at_most=True),
    )  # fmt: skip
    yield Figure(
        work="back-pressure: lost", how="written, and not in stream and hour records",
        unit="readings", values=[all_told - sum(hour.count for hour in raw.values())],
        target=Target(bound=0, at_most=True),
    )  # fmt: skip


def _carried(rig: Rig, shards: Shards) -> float:
    """Readings a second that are written, as fast as that goes, and counted."""
    count = rig.scale.readings
    with shards.processes() as processes:
        _start_counting(shards, processes)

        def carry() -> int:
            before = shards.counted(DAY)
            taken = shards.publish(readings(count))
            wait_for(
                lambda: shards.counted(DAY) == before + taken, "not all is counted", every_s=0.01
            )
            return taken

        return median(rate(count, carry) for _ in range(rig.scale.repeats))


def _start_counting(shards: Shards, processes: ObservedProcesses) -> None:
    """An aggregator, which has counted the first readings of DAY."""
    processes.start("aggregator", "aggregator")
    await_ready(processes, "aggregator")
    shards.publish(readings(_FIRST), name="first")
    wait_for(lambda: shards.counted(DAY) == _FIRST, "nothing is counted")


def _start(shards: Shards, processes: ObservedProcesses, speed: float, *producer: str) -> ClockSpec:
    """Both services, and the clock once they are ready; an entry for each reading."""
    shards.run_clock(speed=speed, in_s=_LONG_S)
    processes.start("aggregator", "aggregator")
    processes.start("producer", "producer", "--packed", "off", *producer)
    for name in ("aggregator", "producer"):
        await_ready(processes, name)
    return shards.run_clock(speed=speed, in_s=_HEAD_START_S)


def _counted(rig: Rig, shards: Shards, load: float) -> Iterator[Figure]:
    devices = max(1, round(load * _PERIOD_S))
    until = iso(NOON_MS + round(rig.scale.live_s * 1000))
    latencies: list[float] = []
    with shards.processes() as processes:
        spec = _start(
            shards, processes, 1.0, "--devices", str(devices), "--period-s", str(_PERIOD_S),
            "--buffer-readings", str(100 * devices), "--until", until,
        )  # fmt: skip
        ticks = round(rig.scale.live_s / _PERIOD_S)
        for tick in range(ticks):
            wait_for(
                lambda wanted=(tick + 1) * devices: _record(shards, 12).count >= wanted,
                "a live reading is not counted",
            )
            due_ms = spec.real(NOON_MS + round(tick * _PERIOD_S * 1000), 0)
            latencies.append(shards.real_ms() - due_ms)
    for percent in (50, 99):
        yield Figure(
            work=f"produced to counted, p{percent}",
            how=f"one producer and one aggregator process, {load:,.0f} readings/s live",
            unit="ms",
            values=[percentile(latencies, percent)],
        )


def _published(rig: Rig, shards: Shards, load: float) -> Iterator[Figure]:
    devices = max(1, round(load * _HOUR_S / _TICKS_AN_HOUR))
    speed = HOUR_MS / 1000 / _HOUR_S
    # Where a day lasts seconds, the idle time after its first call must not outlast the lateness.
    waits = {
        "HOURGLASS_LATENESS_S": str(_LATENESS_S),
        "HOURGLASS_PRODUCER_IDLE_S": str(_LATENESS_S),
    }
    with shards.processes(**waits) as processes:
        spec = _start(
            shards, processes, speed, "--devices", str(devices),
            "--period-s", str(HOUR_MS / 1000 / _TICKS_AN_HOUR),
            "--buffer-readings", str(4 * _TICKS_AN_HOUR * devices),
        )  # fmt: skip
        delays = list(islice(_delays(shards, spec, each=_TICKS_AN_HOUR * devices), rig.scale.hours))
    yield Figure(
        work="hour's end to published, p50",
        how=f"the same load; lateness {_LATENESS_S:g} s included",
        unit="s",
        values=[percentile(delays, 50)],
    )
    yield Figure(
        work="hour's end to published, p99",
        how=f"of {len(delays)} hours, one every {_HOUR_S:g} s; lateness included",
        unit="s",
        values=[percentile(delays, 99)],
        target=Target(bound=_LATENESS_S + 1, at_most=True),
    )


def _delays(shards: Shards, spec: ClockSpec, *, each: int) -> Iterator[float]:
    """Seconds from each hour's end to its average being there, in order of the hours. Raises Amiss
    unless it is the average of `each` readings."""
    last = b"0"
    stream = shards.cluster.keyspace.averages
    with closing(shards.cluster.link(stream)) as link:
        while True:
            reply: list[Any] = link.call("XREAD", "BLOCK", 30_000, "STREAMS", stream, last)
            seen_ms = shards.real_ms()
            for last, fields in reply[0][1] if reply else ():
                average = dict(zip(fields[::2], fields[1::2], strict=True))
                observed = HourlyAverage.decode(last, average).count
                if observed != each:
                    raise Amiss(f"an hour has {observed:,} readings instead of {each:,}")
                end_ms = int(last.partition(b"-")[0]) + HOUR_MS
                yield (seen_ms - spec.real(end_ms, 0)) / 1000


def _record(shards: Shards, hour: int) -> HourRecord:
    fields = shards.cluster.call("HGETALL", DAY.hours)
    for record in decode_hours(DAY, fields):
        if record.start_ms == DAY.hour_start_ms(hour):
            return record
    return HourRecord(start_ms=DAY.hour_start_ms(hour), count=0, sum_milli_f=0)
