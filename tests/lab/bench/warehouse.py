"""A warehouse that is refilled: as the consumer does it, and as `hourglass averages backfill` does,
beside PostgreSQL's own COPY of the same rows."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from averages_consumer.consumer import Consumer
from averages_consumer.gaps import Gaps
from averages_consumer.metrics import LOADED, Metrics
from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import hourly_averages, row_of
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_GROUP, HOUR_MS
from hourglass.service.tracing import NO_TRACER
from hourglassctl.backfill import backfill
from hourglassctl.local.processes import ProcessGroup
from tests.lab.bench.figures import Figure, Target
from tests.lab.bench.rig import DAY, Missing, Rig, Shards, wait_for
from tests.support.postgres import NoPostgres, Postgres

#: Rows a second, at the least.
WANTED = 10_000
#: Entries written to Redis in one go.
_CHUNK = 1000


def warehouse(rig: Rig) -> Iterator[Figure]:
    """Hours on `NAME:averages` → rows, in a PostgreSQL beside it. Raises Missing."""
    count = max(1000, rig.scale.readings // 10)
    averages = [_average(number) for number in range(count)]
    rates: dict[str, list[float]] = {"consumer": [], "backfill": []}
    copies: list[float] = []
    with ProcessGroup("hourglass-bench-postgres-") as guard, rig.shards() as shards:
        server = _postgres(guard)
        _publish(shards, averages)
        for _ in range(rig.scale.repeats):
            copies.append(_in_an_empty_one(server, lambda url, _: _copy(url, averages), count))
            rates["consumer"].append(
                _in_an_empty_one(server, lambda _, into: _consume(shards, into, count), count)
            )
            rates["backfill"].append(
                _in_an_empty_one(server, lambda _, into: _backfill(shards, into, count), count)
            )
        server.stop()
    how = {
        "consumer": "one consumer, from its first read to its last row",
        "backfill": "hourglass averages backfill, in one transaction",
    }
    for name, values in rates.items():
        shown = f"{how[name]}; {count:,} hours, PostgreSQL without fsync"
        yield Figure(
            work=f"refill by {name}", how=shown, unit="rows/s", values=values,
            target=Target(bound=WANTED),
        )  # fmt: skip
        yield Figure(
            work=f"refill by {name}, beside COPY", how=shown, unit="rows/s", values=values,
            ceiling="COPY of the same rows by psycopg", ceilings=copies,
        )  # fmt: skip


def _postgres(guard: ProcessGroup) -> Postgres:
    try:
        return Postgres(guard)
    except NoPostgres as reason:
        raise Missing(str(reason)) from None


def _average(number: int) -> HourlyAverage:
    return HourlyAverage(
        start_ms=DAY.day_ms + number * HOUR_MS,
        count=3600,
        sum_milli_f=3600 * 50_000 + number,
        min_milli_f=40_000,
        max_milli_f=60_500,
        devices=1,
        late=0,
        sealed_by="aggregator-0",
    )


def _publish(shards: Shards, averages: Sequence[HourlyAverage]) -> None:
    """More than the stream is ever let grow to: else there would be nothing to measure."""
    entries: list[tuple[str, ...]] = []
    for each in averages:
        fields = (part for pair in each.fields().items() for part in pair)
        entries.append(("XADD", shards.cluster.keyspace.averages, each.entry_id, *fields))
    for start in range(0, len(entries), _CHUNK):
        shards.cluster.pipeline(entries[start : start + _CHUNK])


def _in_an_empty_one(
    server: Postgres, work: Callable[[str, Warehouse], float], count: int
) -> float:
    """Rows a second of `work`, which puts `count` of them into a new warehouse and says how long
    that took."""
    url = server.new_database()
    with Warehouse(url) as into:
        into.create()
        seconds = work(url, into)
        if len(into.hours()) != count:
            raise Missing(f"{len(into.hours()):,} rows came instead of {count:,}")
    return count / seconds


def _copy(url: str, averages: Sequence[HourlyAverage]) -> float:
    """As fast as PostgreSQL takes rows from this program."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    loaded_at = datetime.now(UTC)
    names = ", ".join(column.name for column in hourly_averages.columns)
    with closing(engine.raw_connection()) as connection:
        started = time.perf_counter()
        cursor: Any = connection.cursor()
        with cursor.copy(f"COPY hourly_averages ({names}) FROM STDIN") as copy:
            for each in averages:
                row = row_of(each, loaded_at)
                copy.write_row([row[column.name] for column in hourly_averages.columns])
        connection.commit()
        took_s = time.perf_counter() - started
    engine.dispose()
    return took_s


class _Host:
    """A service that does nothing else."""

    name = "bench"

    def __init__(self) -> None:
        self.stop = Event()

    def beat(self, worker: str) -> None: ...
    def mark_failing(self, worker: str, what: str) -> None: ...
    def mark_recovered(self, worker: str) -> None: ...


def _consume(shards: Shards, into: Warehouse, count: int) -> float:
    """By a new group, which begins at the stream's first entry."""
    stream = shards.cluster.keyspace.averages
    shards.cluster.call("XGROUP", "DESTROY", stream, AVERAGES_GROUP)
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    host = _Host()
    consumer = Consumer(
        host=host,
        cluster=shards.cluster,
        warehouse=into,
        gaps=Gaps(shards.cluster, into, metrics),
        metrics=metrics,
        tracer=NO_TRACER,
        claim_idle_ms=30_000,
        out=io.StringIO(),
    )
    thread = Thread(target=consumer.work, name="consumer")
    thread.start()
    try:
        return wait_for(
            lambda: (registry.get_sample_value(LOADED.name) or 0) >= count,
            "not every hour was loaded",
        )
    finally:
        host.stop.set()
        thread.join()


def _backfill(shards: Shards, into: Warehouse, count: int) -> float:
    hours = range(DAY.day_ms, DAY.day_ms + count * HOUR_MS)
    started = time.perf_counter()
    backfill(shards.cluster, shards.clock.current(), into, hours)
    return time.perf_counter() - started
