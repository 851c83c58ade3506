"""The pipeline as it runs: real processes, a live stream, how long a reading and an hour take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

from hourglass.averages import HourRecord
from hourglass.clock import ClockSpec
from hourglass.keys import AVERAGES, HOUR_MS, iso
from hourglass.records import decode_hours
from hourglassctl.bench.figures import Figure, Finding, Table, Target, percentile
from hourglassctl.bench.rig import (
    DAY,
    NOON_MS,
    Rig,
    Shards,
    bare_reading_ceiling,
    readings,
    wait_for,
)
from hourglassctl.processes import Processes

#: The services learn within a second that the clock has been set.
_HEAD_START_S = 2.5
#: Until they are ready the clock stands.
_LONG_S = 1e6
#: Of the live stream; a batch of the producer's waits up to its linger, 50 ms.
_PERIOD_S = 0.1
#: An hour of the stream whose hours are watched.
_HOUR_S = 0.5
_LATENESS_S = 5.0


def end_to_end(rig: Rig) -> Iterator[Finding]:
    """Produced to counted, and hour's end to published, at half of what one aggregator could read
    if it did nothing else."""
    with rig.shards() as shards:
        load = _half_of_the_ceiling(rig, shards)
        yield from _counted(rig, shards, load)
        shards.empty()
        yield from _published(rig, shards, load)


def backpressure(rig: Rig) -> Iterator[Finding]:
    """A producer that writes faster than the aggregator counts."""
    count = 5 * rig.scale.readings
    with rig.shards() as shards, shards.processes() as processes:
        processes.start("aggregator", "aggregator")
        wait_for(lambda: processes.ready("aggregator"), "the aggregator is not ready")
        shards.publish(readings(1000), name="first")
        wait_for(lambda: _record(shards, 0).count == 1000, "nothing is counted")
        before_mib = processes.rss_mib("aggregator")
        started = time.perf_counter()
        shards.publish(readings(count))
        written_s = time.perf_counter() - started
        behind = count + 1000 - _counted_so_far(shards)
        most_mib = processes.rss_mib("aggregator")
        wait_for(lambda: _counted_so_far(shards) == count + 1000, "not everything is counted")
        counted_s = time.perf_counter() - started
    yield Table(
        title="Back-pressure: written faster than one aggregator counts",
        head=("what", "measured"),
        rows=(
            ("readings written", f"{count:,}"),
            ("written a second", f"{count / written_s:,.0f}"),
            ("counted a second, meanwhile and after", f"{count / counted_s:,.0f}"),
            ("lag when the writing ended", f"{behind:,}"),
            ("aggregator's memory before", f"{before_mib:.0f} MiB"),
            ("aggregator's memory under load", f"{most_mib:.0f} MiB"),
            ("readings lost", "0"),
        ),
        note="The backlog waits in Redis; the aggregator holds two batches, whatever waits.",
    )


def _half_of_the_ceiling(rig: Rig, shards: Shards) -> float:
    count = rig.scale.readings
    shards.publish(readings(count))
    with closing(shards.cluster.link(DAY.stream)) as link:
        ceiling = bare_reading_ceiling(link, DAY.stream, count)
    shards.empty()
    return min(ceiling / 2, rig.scale.most_load)


def _start(shards: Shards, processes: Processes, speed: float, *producer: str) -> ClockSpec:
    """Both services, and the clock once they are ready."""
    shards.run_clock(speed=speed, in_s=_LONG_S)
    processes.start("aggregator", "aggregator")
    processes.start("producer", "producer", *producer)
    for name in ("aggregator", "producer"):
        wait_for(partial(processes.ready, name), f"the {name} is not ready")
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
    devices = max(1, round(load / 100))
    speed = HOUR_MS / 1000 / _HOUR_S
    with shards.processes(HOURGLASS_LATENESS_S=str(_LATENESS_S)) as processes:
        spec = _start(
            shards, processes, speed, "--devices", str(devices), "--period-s", str(speed / 100),
            "--buffer-readings", str(200 * devices),
        )  # fmt: skip
        delays = list(islice(_delays(shards, spec), rig.scale.hours))
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


def _delays(shards: Shards, spec: ClockSpec) -> Iterator[float]:
    """Seconds from each hour's end to its average being there, in order of the hours."""
    last = b"0"
    with closing(shards.cluster.link(AVERAGES)) as link:
        while True:
            reply: list[Any] = link.call("XREAD", "BLOCK", 30_000, "STREAMS", AVERAGES, last)
            seen_ms = shards.real_ms()
            for last, _ in reply[0][1] if reply else ():
                end_ms = int(last.partition(b"-")[0]) + HOUR_MS
                yield (seen_ms - spec.real(end_ms, 0)) / 1000


def _record(shards: Shards, hour: int) -> HourRecord:
    fields = shards.cluster.call("HGETALL", DAY.hours)
    for record in decode_hours(DAY, fields):
        if record.start_ms == DAY.hour_start_ms(hour):
            return record
    return HourRecord(start_ms=DAY.hour_start_ms(hour), count=0, sum_milli_f=0)


def _counted_so_far(shards: Shards) -> int:
    fields = shards.cluster.call("HGETALL", DAY.hours)
    return sum(record.count for record in decode_hours(DAY, fields))
