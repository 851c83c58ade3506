"""The same readings in other programs: what one would do instead of running Hourglass.

The libraries are of the dependency group `peers` (`make peers`); what is not installed, or what the
server has no module for, is left out, and the page says so. None of them counts exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from socket import create_connection, socket
from typing import Any, cast

import hiredis
from redis.exceptions import ResponseError

from hourglass.model.keys import HOUR_MS
from hourglass.model.readings import degrees
from hourglassctl.local.bootstrap import HOST
from tests.lab.bench.figures import Figure, Finding, NotMeasured, Target
from tests.lab.bench.rig import BATCH, DAY, Amiss, Missing, Rig, Shards, rate, readings

_GROUP = "peers"
_HOUR_KEY = f"{{{DAY.stream}}}:hour"
_SERIES = f"{{{DAY.stream}}}:series"
_STRETCH = 100


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

        def consume() -> int:
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
            return count

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

    def consume() -> int:
        seen = 0
        while reply := group.read(count=BATCH):
            for _, entries in reply:
                seen += len(entries)
                for _, fields in entries:
                    hour = int(fields[b"ts"]) // HOUR_MS
                    sums[hour] = sums.get(hour, 0.0) + float(fields[b"temp_f"])
                group.streams[DAY.stream].ack(*[entry_id for entry_id, _ in entries])
        return seen

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


async def _subscribe(library: Any, port: int, count: int) -> int:
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
    return seen


def _time_series(rig: Rig) -> Iterator[Finding]:
    """TS.ADD with an hourly rule, beside this producer; plain entries."""
    count = rig.scale.sweep
    own: list[float] = []
    theirs: list[float] = []
    try:
        with rig.shards() as shards, time_series(rig) as series:
            for _ in range(rig.scale.repeats):
                theirs.append(time_series_rate(series, count))
                own.append(rate(count, shards.publish, readings(count)))
                shards.empty()
    except Missing as missing:
        yield NotMeasured(work="ingest beside RedisTimeSeries", why=str(missing))
        return
    yield Figure(
        work="ingest beside RedisTimeSeries",
        how="TS.ADD with an hourly rule, as fast as its server takes it",
        unit="readings/s",
        values=own,
        ceiling="TS.ADD",
        ceilings=theirs,
    )


@contextmanager
def time_series(rig: Rig) -> Generator[Shards]:
    """A Redis with RedisTimeSeries. Raises Missing."""
    options = {"loadmodule": rig.time_series} if rig.time_series else {}
    with rig.shards(options=options) as shards:
        with shards.admin() as client:
            try:
                client.execute_command("TS.CREATE", _SERIES)
            except ResponseError:
                raise Missing(
                    "this redis-server has no TS.ADD: that of the image redis:8 has, or name the "
                    "file of the module with --time-series"
                ) from None
        yield shards


def time_series_rate(shards: Shards, count: int) -> float:
    """TS.ADD a second, with an hourly rule. The commands are made before and sent as they are, a
    hundred on their way in each of two stretches: this client costs next to nothing."""
    shards.empty()
    with shards.admin() as client:
        client.execute_command("TS.CREATE", _SERIES)
        client.execute_command("TS.CREATE", _HOUR_KEY)
        client.execute_command("TS.CREATERULE", _SERIES, _HOUR_KEY, "AGGREGATION", "avg", HOUR_MS)
    pack: Callable[[tuple[str, ...]], bytes] = cast(Any, hiredis).pack_command
    commands = [
        pack(("TS.ADD", _SERIES, str(reading.ts_ms), degrees(reading.milli_f)))
        for reading in readings(count, devices=1)
    ]
    stretches = [
        b"".join(commands[start : start + _STRETCH]) for start in range(0, count, _STRETCH)
    ]
    with create_connection((HOST, shards.port)) as connection:

        def add() -> int:
            answers = 0
            for sent, stretch in enumerate(stretches):
                connection.sendall(stretch)
                while answers < sent * _STRETCH:
                    answers += _answers(connection)
            while answers < count:
                answers += _answers(connection)
            return answers

        return rate(count, add)


def _answers(connection: socket) -> int:
    """How many ended in what arrives next; each is a line. Raises Amiss if one is an error."""
    arrived = connection.recv(1 << 16)
    if not arrived or b"-" in arrived:
        raise Amiss(f"TS.ADD is answered {arrived[:200]!r}")
    return arrived.count(b"\n")


def _library(module: str) -> Any:
    """A library of the group `peers`. Raises Missing."""
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise Missing(f"{name} is not installed: make peers") from None
