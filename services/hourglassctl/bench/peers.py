"""The same readings in the hands of others: what one would do instead of running Hourglass.

The libraries are of the dependency group `peers` (`make peers`); what is not installed, or what the
server has no module for, is left out and said so. None of them counts exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from redis.exceptions import ResponseError

from hourglass.keys import HOUR_MS
from hourglass.readings import degrees
from hourglassctl.bench.figures import Figure, Finding, NotMeasured, Target
from hourglassctl.bench.rig import BATCH, DAY, Missing, Rig, Shards, rate, readings
from hourglassctl.formation import HOST

_GROUP = "peers"
_HOUR_KEY = f"{{{DAY.stream}}}:hour"


def peers(rig: Rig) -> Iterator[Finding]:
    """Each beside one aggregator in the same repeat."""
    small, large = max(500, rig.scale.sweep // 20), rig.scale.sweep
    yield from _compare(
        rig, "the exercise's way", "XREAD one at a time, state saved for each reading", small,
        consume=_exercise, target=Target(bound=30),
    )  # fmt: skip
    yield from _compare(
        rig, "FastStream", "a subscriber of batches of 1,000 in a group, sums in memory", large,
        consume=_faststream,
    )  # fmt: skip
    yield from _compare(
        rig, "walrus", "a consumer group read by thousands, sums in memory", large,
        consume=_walrus,
    )  # fmt: skip
    yield from _time_series(rig)


def _compare(
    rig: Rig,
    name: str,
    how: str,
    count: int,
    *,
    consume: Callable[[Shards, int], float],
    target: Target | None = None,
) -> Iterator[Finding]:
    """Hourglass' rate as a multiple of the peer's."""
    own: list[float] = []
    theirs: list[float] = []
    with rig.shards() as shards:
        shards.publish(readings(rig.scale.sweep))
        try:
            for _ in range(rig.scale.repeats):
                theirs.append(consume(shards, count))
                shards.rewind()
                own.append(rate(rig.scale.sweep, shards.count))
        except Missing as missing:
            yield NotMeasured(work=f"aggregate beside {name}", why=str(missing))
            return
    yield Figure(
        work=f"aggregate beside {name}",
        how=how,
        unit="readings/s",
        values=own,
        ceiling=name,
        ceilings=theirs,
        target=target,
    )


def _exercise(shards: Shards, count: int) -> float:
    """Its aggregating consumer: one XREAD COUNT 1 and one HSET of the whole state a reading."""
    with shards.admin() as client:

        def consume() -> None:
            last, total, seen, hour = b"0", 0.0, 0, None
            for _ in range(count):
                ((_, ((last, fields),)),) = client.xread({DAY.stream: last}, count=1, block=5000)
                of_hour = int(fields[b"ts"]) // HOUR_MS
                if of_hour != hour:
                    total, seen, hour = 0.0, 0, of_hour
                total += float(fields[b"temp_f"])
                seen += 1
                client.hset(
                    _HOUR_KEY, mapping={"last": last, "hour": hour, "total": total, "count": seen}
                )

        try:
            return rate(count, consume)
        finally:
            client.delete(_HOUR_KEY)


def _walrus(shards: Shards, count: int) -> float:
    library = _library("walrus")
    sums: dict[int, float] = {}
    database = library.Database(host=HOST, port=shards.port)
    group = database.consumer_group(_GROUP, {DAY.stream: "0"})
    group.create()

    def consume() -> None:
        while reply := group.read(count=BATCH):
            for _, entries in reply:
                for _, fields in entries:
                    hour = int(fields[b"ts"]) // HOUR_MS
                    sums[hour] = sums.get(hour, 0.0) + float(fields[b"temp_f"])
                group.streams[DAY.stream].ack(*[entry_id for entry_id, _ in entries])

    try:
        return rate(count, consume)
    finally:
        group.destroy()
        database.close()


def _faststream(shards: Shards, count: int) -> float:
    library = _library("faststream.redis")
    with shards.admin() as client:
        client.xgroup_create(DAY.stream, _GROUP, "0")
        try:
            return rate(count, lambda: asyncio.run(_subscribe(library, shards.port, count)))
        finally:
            client.xgroup_destroy(DAY.stream, _GROUP)


async def _subscribe(library: Any, port: int, count: int) -> None:
    broker = library.RedisBroker(f"redis://{HOST}:{port}", logger=None)
    stream = library.StreamSub(
        DAY.stream, group=_GROUP, consumer="peer", batch=True, max_records=BATCH,
        last_id=">", polling_interval=10,
    )  # fmt: skip
    sums: dict[int, float] = {}
    done = asyncio.Event()
    seen = 0

    async def handle(entries: list[dict[str, str]]) -> None:
        nonlocal seen
        for fields in entries:
            hour = int(fields["ts"]) // HOUR_MS
            sums[hour] = sums.get(hour, 0.0) + float(fields["temp_f"])
        seen += len(entries)
        if seen >= count:
            done.set()

    broker.subscriber(stream=stream)(handle)
    async with broker:
        await broker.start()
        await done.wait()


def _time_series(rig: Rig) -> Iterator[Finding]:
    """TS.ADD with an hourly rule, in pipelines of 1,000, beside this producer."""
    count = rig.scale.sweep
    own: list[float] = []
    theirs: list[float] = []
    with rig.shards() as shards:
        for _ in range(rig.scale.repeats):
            theirs += time_series_rate(shards, count)
            if not theirs:
                why = "this redis-server has no TS.ADD; that of the image redis:8 has"
                yield NotMeasured(work="ingest beside RedisTimeSeries", why=why)
                return
            shards.empty()
            own.append(rate(count, shards.publish, readings(count)))
            shards.empty()
    yield Figure(
        work="ingest beside RedisTimeSeries",
        how="TS.ADD with an hourly rule, pipelines of 1,000",
        unit="readings/s",
        values=own,
        ceiling="TS.ADD",
        ceilings=theirs,
    )


def time_series_rate(shards: Shards, count: int) -> list[float]:
    """TS.ADD with an hourly rule, readings a second; nothing where the server has no TS.ADD."""
    series = f"{{{DAY.stream}}}:series"
    with shards.admin() as client:
        try:
            client.execute_command("TS.CREATE", series)
        except ResponseError:
            return []
        client.execute_command("TS.CREATE", _HOUR_KEY)
        client.execute_command("TS.CREATERULE", series, _HOUR_KEY, "AGGREGATION", "avg", HOUR_MS)
        commands = [
            ("TS.ADD", series, reading.ts_ms, degrees(reading.milli_f))
            for reading in readings(count, devices=1)
        ]
        return [rate(count, _pipelined, client, commands)]


def _pipelined(client: Any, commands: list[tuple[Any, ...]]) -> None:
    for start in range(0, len(commands), BATCH):
        pipeline = client.pipeline(transaction=False)
        for command in commands[start : start + BATCH]:
            pipeline.execute_command(*command)
        pipeline.execute()


def _library(module: str) -> Any:
    """A library of the group `peers`. Raises Missing."""
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise Missing(f"{name} is not installed: make peers") from None
