"""Bytes in Redis for each reading, by what it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hourglass.model.readings import Reading, degrees
from tests.lab.bench.figures import Figure, Finding, Table, Target
from tests.lab.bench.rig import BATCH, DAY, Rig, Shards, readings

Fields = Sequence[str | bytes | int]


@dataclass(frozen=True, slots=True)
class Layout:
    """What an entry may consist of."""

    name: str
    fields: Callable[[Reading], Fields]
    options: Mapping[str, str | int] | None = None


def _short(reading: Reading) -> Fields:
    return ("temp_f", degrees(reading.milli_f))


def _device(reading: Reading) -> Fields:
    return ("device", reading.device, *_short(reading))


def _absolute(reading: Reading) -> Fields:
    return ("device", reading.device, "ts", reading.ts_ms, *_short(reading))


def _of_the_day(reading: Reading) -> Fields:
    return ("device", reading.device, "day_ms", reading.ts_ms - DAY.day_ms, *_short(reading))


_NODES = {"stream-node-max-entries": 400, "stream-node-max-bytes": 16_384}
_LAYOUTS = (
    Layout("id and `temp_f` alone", _short),
    Layout("`device`, `temp_f`", _device),
    Layout("`device`, `ts` since the epoch, `temp_f`", _absolute),
    Layout(
        "`device`, `day_ms` (since the day's start), `temp_f`: what the producer writes",
        _of_the_day,
    ),
    Layout("the same in stream nodes of 400 entries", _of_the_day, _NODES),
)


def memory(rig: Rig) -> Iterator[Finding]:
    """The growth of used_memory, which counts the allocator's rounding and all that Redis keeps."""
    count = rig.scale.readings
    rows: list[Sequence[str]] = []
    with rig.shards() as shards:
        rows += [
            (layout.name, f"{_bytes_a_reading(shards, layout, count):.1f}") for layout in _LAYOUTS
        ]
        own: list[float] = []
        shards.publish(readings(BATCH))  # the scripts, and what a connection leaves behind
        for _ in range(rig.scale.repeats):
            shards.empty()
            before = used_memory(shards)
            shards.publish(readings(count, name="producer-0"))
            own.append((used_memory(shards) - before) / count)
        shards.count()
        rows.append(
            ("while it is delivered and not counted yet, besides", f"{_pending(shards):.0f}")
        )
    yield Figure(
        work="memory",
        how="written by a producer: device (12 characters), event time, temperature",
        unit="bytes/reading",
        values=own,
        target=Target(bound=40, at_most=True),
    )
    yield Table(
        title="Bytes in Redis for each reading",
        head=("entry", "bytes"),
        rows=rows,
        note="The growth of used_memory. MEMORY USAGE estimates some four bytes more. "
        "A device name costs a byte for each of its characters.",
    )


def used_memory(shards: Shards) -> int:
    with shards.admin() as admin:
        return int(admin.info("memory")["used_memory"])


def _bytes_a_reading(shards: Shards, layout: Layout, count: int) -> float:
    shards.empty()
    with shards.admin() as admin:
        options = layout.options or {}
        before = {name: admin.config_get(name)[name] for name in options}
        for name, value in options.items():
            admin.config_set(name, value)
        used = used_memory(shards)
        pipeline = admin.pipeline(transaction=False)
        for number, reading in enumerate(readings(count, name="producer-0"), start=1):
            pipeline.execute_command("XADD", DAY.stream, "*", *layout.fields(reading))
            if number % BATCH == 0:
                pipeline.execute()
        pipeline.execute()
        grown = used_memory(shards) - used
        for name, value in before.items():
            admin.config_set(name, value)
    return grown / count


def _pending(shards: Shards) -> float:
    """Bytes for each pending entry."""
    with shards.admin() as admin:
        admin.xgroup_create(DAY.stream, "held", "0")
        used = used_memory(shards)
        read = admin.xreadgroup("held", "holder", {DAY.stream: ">"}, count=10 * BATCH)
        return (used_memory(shards) - used) / len(read[0][1])
