"""Writes the exercise's data set at full speed and advances the pipeline clock with it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import Days
from hourglass.errors import Conflict, Unreachable
from hourglass.model.clock import ClockSpec, Mode, PipelineClock
from hourglass.model.devices import device_names
from hourglass.model.keys import DAY_MS, HOUR_MS
from producer.entry_format import EntryFormat, Packing
from producer.pipeline import SENT_AHEAD
from producer.simulator import Sensors
from producer.writer import BatchWriter

#: The exercise begins on 1 January 2025 and lasts ten days.
EXERCISE_START_MS = 1_735_689_600_000
EXERCISE_DAYS = 10
_RETRY_S = 0.2
_GIVE_UP_S = 30.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """The readings to write; times in ms."""

    start_ms: int = EXERCISE_START_MS
    days: int = EXERCISE_DAYS
    devices: int = 1
    period_ms: int = 1000
    seed: int = 0
    packing: Packing = Packing.AUTO

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.days * DAY_MS

    def sensors(self) -> Sensors:
        """The devices in their initial state, for one entry per reading."""
        names = device_names("device", self.devices)
        return Sensors(names, seed=self.seed, period_ms=self.period_ms)

    def layout(self, batch_readings: int) -> EntryFormat:
        """The devices, and how their readings are grouped into batches."""
        seed, period_ms = self.seed, self.period_ms
        if self.packing.packs(self.devices):
            return EntryFormat.packed("device", self.devices, seed=seed, period_ms=period_ms)
        names = device_names("device", self.devices)
        return EntryFormat.plain(names, seed=seed, period_ms=period_ms, batch=batch_readings)


def refuse_what_is_there(cluster: Cluster) -> None:
    """Raises Conflict if the pipeline has readings or averages. The hours of a replay would mix
    with them, or be before the last published hour and never be published."""
    keys = cluster.keyspace
    if cluster.call("EXISTS", keys.published_through) or cluster.call("ZCARD", keys.partitions):
        raise Conflict(
            "the pipeline already holds readings or averages: "
            "run hourglass reset first, or give --reset"
        )


def replay(
    cluster: Cluster,
    data: DataSet,
    *,
    lanes: int = 1,
    batch_readings: int = 1000,
) -> int:
    """Write the data set hour by hour and advance the clock after each; return the number of
    readings written.

    The last step moves the clock to the end of the last hour, so that it is sealed as well. Raises
    Unreachable.
    """
    clock = PipelineClock(cluster)
    drive(clock, data.start_ms)
    days = Days(cluster, clock, lanes=lanes)
    incarnation = f"replay:{uuid.uuid4().hex[:12]}"
    publisher = BatchWriter(cluster, clock, days=days, incarnation=incarnation)
    layout = data.layout(batch_readings)
    cutter = layout.cutter(lambda day_ms: patiently(lambda: days.shares(day_ms)))
    taken = 0

    def settle(*, leave: int) -> None:
        nonlocal taken
        for batch, _ in publisher.settle(leave=leave):
            taken += batch.count

    for hour_ms in range(data.start_ms, data.end_ms, HOUR_MS):
        next_ms = hour_ms + HOUR_MS
        for batch in cutter.cut(layout.source.read(hour_ms, next_ms), next_ms=next_ms):
            publisher.put(batch)
            patiently(lambda: settle(leave=SENT_AHEAD))
        patiently(lambda: settle(leave=0))
        drive(clock, next_ms)
    publisher.close()
    return taken


def drive(clock: PipelineClock, at_ms: int) -> None:
    clock.set(ClockSpec(mode=Mode.MANUAL, origin_ms=at_ms))


def patiently(step: Callable[[], T]) -> T:
    """Retry `step` while Redis is unreachable. Raises Unreachable after a time-out."""
    give_up = time.monotonic() + _GIVE_UP_S
    while True:
        try:
            return step()
        except Unreachable as error:
            if time.monotonic() > give_up:
                raise Unreachable(f"the replay stopped: {error}") from error
            time.sleep(_RETRY_S)


def reset(cluster: Cluster) -> list[str]:
    """Delete every key of the pipeline, including the clock; return their names, sorted."""
    found = {
        key.decode(errors="replace")
        for pattern in cluster.keyspace.patterns
        for key in cluster.keys(pattern)
    }
    keys = sorted(filter(cluster.keyspace.owns, found))
    for key in keys:
        cluster.call("UNLINK", key)
    return keys
