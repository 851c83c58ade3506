"""Each hourly average arrives in the warehouse once, whatever happens on the way."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self, cast

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, Tracer
from prometheus_client import CollectorRegistry
from redis.cluster import RedisCluster

from averages_consumer.consumer import GAPS_EVERY_S, Consumer
from averages_consumer.gaps import Gaps
from averages_consumer.metrics import Metrics
from averages_consumer.warehouse import Warehouse
from averages_consumer.warehouse.table import HourRow
from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.cluster.link import Link
from hourglass.errors import ConnectionLost, Unreachable
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_GROUP, AVERAGES_KEPT, HOUR_MS
from tests.support.fault_injection import install_load
from tests.support.keyspace import KEYS
from tests.support.losing_rows import lose_rows
from tests.support.postgres import Postgres
from tests.support.services import Services, services
from tests.support.waiting import wait_until

START_MS = 1_735_689_600_000
FAR_MS = START_MS + 10_000 * HOUR_MS
LONG_AGO = datetime(2025, 2, 3, tzinfo=UTC)
NAME = "consumer"
NO_TRACER = NoOpTracerProvider().get_tracer("test")
#: Between two looks for missing rows, where a test is about them.
SOON_S = 0.02
PAIR = ("one", "two")


def average(hour: int) -> HourlyAverage:
    return HourlyAverage(
        start_ms=START_MS + hour * HOUR_MS,
        count=3600,
        sum_milli_f=180_000_000 + 3_600_000 * hour,
        min_milli_f=0,
        max_milli_f=100_000,
        devices=1,
        late=0,
        sealed_by="aggregator-0",
    )


@dataclass
class Averages:
    """What the aggregators do to the stream, and what can be seen of it."""

    client: Any

    def publish(self, hours: Sequence[int]) -> None:
        for hour in hours:
            each = average(hour)
            self.client.xadd(
                KEYS.averages,
                cast(Any, each.fields()),
                each.entry_id,
                AVERAGES_KEPT,
                approximate=False,
            )
            member = f"{each.start_ms}:{each.count}:{each.sum_milli_f}"
            self.client.zadd(KEYS.published, {member: each.start_ms})

    def read_as(self, consumer: str) -> list[HourlyAverage]:
        """Deliver what is new to a consumer that does not acknowledge it."""
        self.client.xgroup_create(KEYS.averages, AVERAGES_GROUP, "0", mkstream=True)
        ((_, entries),) = self.client.xreadgroup(AVERAGES_GROUP, consumer, {KEYS.averages: ">"})
        return [HourlyAverage.decode(entry_id, fields) for entry_id, fields in entries]

    def pending(self) -> int:
        return int(self.client.xpending(KEYS.averages, AVERAGES_GROUP)["pending"])

    def consumers(self) -> set[str]:
        found = self.client.xinfo_consumers(KEYS.averages, AVERAGES_GROUP)
        return {info["name"].decode() for info in found}


@pytest.fixture
def averages(redis: RedisCluster) -> Averages:
    return Averages(redis)


@pytest.fixture
def running(redis_url: str, averages: Averages) -> Generator[Services]:  # noqa: ARG001
    with services(redis_url) as running:
        yield running
        # How it ends is seen in tests of their own; here it only takes time.
        for name in (NAME, *PAIR):
            with suppress(KeyError):
                running.kill(name)


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/warehouse.db"


@pytest.fixture
def warehouse(warehouse_url: str) -> Generator[Warehouse]:
    with Warehouse(warehouse_url) as warehouse:
        warehouse.create()
        yield warehouse


def start(running: Services, url: str, *options: str, name: str = NAME, **environment: str) -> None:
    environment["HOURGLASS_WAREHOUSE_URL"] = url
    running.start(name, "averages_consumer", *options, **environment)


def rows(warehouse: Warehouse) -> list[HourRow]:
    return list(warehouse.rows(0, FAR_MS))


def loaded(url: str) -> int:
    with Warehouse(url) as warehouse:
        warehouse.create()
        return len(warehouse.hours())


def lines(running: Services, name: str = NAME) -> list[str]:
    return running.output(name).read_text().splitlines()


def test_each_average_is_loaded_printed_and_acknowledged(
    warehouse: Warehouse, warehouse_url: str, averages: Averages, running: Services
) -> None:
    averages.publish(range(3))
    start(running, warehouse_url)
    wait_until(lambda: len(rows(warehouse)) == 3)
    averages.publish([3])
    wait_until(lambda: len(rows(warehouse)) == 4)

    wait_until(lambda: averages.pending() == 0)
    assert [row.start_ms for row in rows(warehouse)] == [
        average(hour).start_ms for hour in range(4)
    ]
    wait_until(lambda: len(lines(running)) == 4)
    assert lines(running) == [average(hour).line for hour in range(4)]


def test_the_metrics_tell_what_was_loaded(
    file_url: str, averages: Averages, running: Services
) -> None:
    start(running, file_url)
    running.await_ready(NAME)
    assert running.metric(NAME, "hourglass_last_average_hour_timestamp_seconds") is None

    averages.publish(range(3))

    wait_until(lambda: running.metric(NAME, "hourglass_averages_loaded_total") == 3)
    last = average(2)
    assert running.metric(NAME, "hourglass_last_average_temp_f") == last.mean_milli_f / 1000
    assert running.metric(NAME, "hourglass_last_average_hour_timestamp_seconds") == (
        last.start_ms / 1000
    )
    assert running.metric(NAME, "hourglass_warehouse_write_seconds_count")
    length = f'hourglass_stream_length{{stream="{KEYS.averages}"}}'
    wait_until(lambda: running.metric(NAME, length) == 3)


def test_a_batch_that_was_loaded_and_not_acknowledged_comes_again_and_changes_nothing(
    warehouse: Warehouse, warehouse_url: str, averages: Averages, running: Services
) -> None:
    averages.publish(range(5))
    warehouse.upsert(averages.read_as("gone"), LONG_AGO)
    before = rows(warehouse)

    start(running, warehouse_url)
    wait_until(lambda: averages.pending() == 0)

    assert rows(warehouse) == before
    wait_until(lambda: running.metric(NAME, "hourglass_averages_reclaimed_total") == 5)


def test_a_kill_between_commit_and_acknowledgement_loses_and_doubles_nothing(
    warehouse: Warehouse, warehouse_url: str, averages: Averages, running: Services
) -> None:
    averages.publish(range(5))
    start(running, warehouse_url, faults="load.after-commit:kill")
    assert running.exit_status(NAME) == -signal.SIGKILL
    assert averages.pending() == 5
    before = rows(warehouse)
    averages.publish([5])

    start(running, warehouse_url)
    wait_until(lambda: len(rows(warehouse)) == 6)
    wait_until(lambda: averages.pending() == 0)

    assert rows(warehouse)[:5] == before


def test_two_consumers_at_once_load_every_hour_once(
    warehouse: Warehouse, warehouse_url: str, averages: Averages, running: Services
) -> None:
    for name in PAIR:
        start(running, warehouse_url, name=name)
    running.await_ready(*PAIR)
    for hour in range(100):
        averages.publish([hour])

    wait_until(lambda: len(rows(warehouse)) == 100)
    wait_until(lambda: averages.pending() == 0)
    # Each hour, and one twice if it was claimed from a consumer that a busy machine held up.
    expected = {average(hour).line for hour in range(100)}
    wait_until(lambda: {said for name in PAIR for said in lines(running, name)} == expected)


class InProcess:
    """A consumer in a thread of this process, so that a test may put something in its way."""

    name = NAME

    def __init__(
        self,
        redis_url: str,
        warehouse: Warehouse,
        tracer: Tracer = NO_TRACER,
        gaps_every_s: float = GAPS_EVERY_S,
    ) -> None:
        self.stop = Event()
        self.beats: list[str] = []
        self.failing: set[str] = set()
        self.out = StringIO()
        self.registry = CollectorRegistry()
        self._cluster = connect(redis_url, keyspace=KEYS)
        metrics = Metrics(self.registry)
        self._consumer = Consumer(
            host=self,
            cluster=self._cluster,
            warehouse=warehouse,
            gaps=Gaps(self._cluster, warehouse, metrics),
            metrics=metrics,
            tracer=tracer,
            claim_idle_ms=10,
            gaps_every_s=gaps_every_s,
            out=self.out,
        )

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._consumer.work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()
        self._cluster.close()

    def beat(self, worker: str) -> None:
        self.beats.append(worker)

    def mark_failing(self, worker: str, what: str) -> None:  # noqa: ARG002
        self.failing.add(worker)

    def mark_recovered(self, worker: str) -> None:
        self.failing.discard(worker)


def test_an_average_whose_acknowledgement_got_lost_is_told_of_once(
    warehouse: Warehouse, redis_url: str, averages: Averages, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    call = Link.call

    def losing(link: Link, *command: str | bytes | int) -> Any:
        if command[0] == "XACK" and len(lost) < 3:
            lost.append(command)
            raise ConnectionLost("the connection to a shard broke: as the test wants it")
        return call(link, *command)

    monkeypatch.setattr(Link, "call", losing)
    averages.publish(range(2))

    with InProcess(redis_url, warehouse) as consumer:
        wait_until(lambda: len(lost) == 3)
        wait_until(lambda: averages.pending() == 0)

    assert consumer.out.getvalue().splitlines() == [average(0).line, average(1).line]
    assert consumer.registry.get_sample_value("hourglass_averages_loaded_total") == 2
    assert len(rows(warehouse)) == 2


def test_its_fault_points_are_around_the_transaction_and_the_acknowledgement(
    warehouse: Warehouse,
    warehouse_url: str,
    redis_url: str,
    averages: Averages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = sa.create_engine(warehouse_url)
    passed: list[tuple[str, int, int]] = []

    def seen(point: str) -> None:
        """Rows that another connection sees, and entries not acknowledged yet."""
        with engine.connect() as connection:
            count = connection.scalar(sa.text("SELECT count(*) FROM hourly_averages"))
        passed.append((point, int(count or 0), averages.pending()))

    install_load(seen, monkeypatch.setattr)
    averages.publish(range(2))

    with InProcess(redis_url, warehouse):
        wait_until(lambda: len(passed) == 4)
    engine.dispose()

    assert passed == [
        ("load.before", 0, 2),
        ("load.before-commit", 0, 2),
        ("load.after-commit", 2, 2),
        ("load.after-ack", 2, 0),
    ]


def test_rows_that_a_warehouse_loses_come_back_while_the_consumer_runs(
    warehouse: Warehouse, warehouse_url: str, redis_url: str, averages: Averages
) -> None:
    averages.publish(range(5))
    with InProcess(redis_url, warehouse, gaps_every_s=SOON_S) as consumer:
        wait_until(lambda: len(rows(warehouse)) == 5 and not averages.pending())
        before = rows(warehouse)

        lose_rows(warehouse_url, (average(hour).start_ms for hour in range(1, 4)))

        wait_until(lambda: len(rows(warehouse)) == 5)
        refilled = "hourglass_averages_refilled_total"
        wait_until(lambda: consumer.registry.get_sample_value(refilled) == 3)
    assert without_times(rows(warehouse)) == without_times(before)


def test_rows_that_a_warehouse_lost_come_back_at_a_start(
    warehouse: Warehouse, warehouse_url: str, averages: Averages, running: Services
) -> None:
    averages.publish(range(5))
    start(running, warehouse_url)
    wait_until(lambda: len(rows(warehouse)) == 5 and not averages.pending())
    before = rows(warehouse)
    assert running.terminate(NAME) == 0
    lose_rows(warehouse_url, (average(hour).start_ms for hour in range(5)))

    start(running, warehouse_url)

    wait_until(lambda: len(rows(warehouse)) == 5)
    assert without_times(rows(warehouse)) == without_times(before)
    wait_until(
        lambda: (
            (
                "5 published hours were not in the warehouse: 2025-01-01T00:00:00Z to "
                "2025-01-01T04:00:00Z; loaded 5 from the stream and 0 from hour records"
            )
            in running.said(NAME)
        )
    )


def without_times(found: Sequence[HourRow]) -> list[HourRow]:
    return [replace(row, loaded_at=LONG_AGO) for row in found]


@pytest.mark.parametrize("gone", ["the file alone", "its journal too"])
def test_a_file_that_is_removed_under_a_consumer_is_made_again_and_refilled(
    gone: str, file_url: str, redis_url: str, averages: Averages
) -> None:
    file = Path(file_url.removeprefix("sqlite:///"))
    averages.publish(range(5))
    with Warehouse(file_url) as warehouse, InProcess(redis_url, warehouse, gaps_every_s=SOON_S):
        wait_until(lambda: loaded(file_url) == 5 and not averages.pending())

        file.unlink()
        if gone == "its journal too":
            remove_journal(file)

        wait_until(file.exists)
        wait_until(lambda: loaded(file_url) == 5)
        averages.publish([5])
        wait_until(lambda: loaded(file_url) == 6)


def test_a_file_that_is_replaced_by_a_backup_is_brought_up_to_the_last_hour(
    file_url: str, redis_url: str, averages: Averages, tmp_path: Path
) -> None:
    file, backup = Path(file_url.removeprefix("sqlite:///")), tmp_path / "backup.db"
    with Warehouse(f"sqlite:///{backup}") as older:
        older.create()
        older.upsert([average(0), average(1)], LONG_AGO)
    averages.publish(range(5))
    with Warehouse(file_url) as warehouse, InProcess(redis_url, warehouse, gaps_every_s=SOON_S):
        wait_until(lambda: loaded(file_url) == 5 and not averages.pending())

        remove_journal(file)
        backup.rename(file)

        wait_until(lambda: loaded(file_url) == 5)
        assert [row.loaded_at for row in rows(warehouse)][:2] == [LONG_AGO] * 2


def remove_journal(file: Path) -> None:
    for name in ("-wal", "-shm"):
        file.with_name(file.name + name).unlink(missing_ok=True)


def test_a_warehouse_that_is_away_is_noticed_though_nothing_is_published(
    postgres: Postgres, redis_url: str, averages: Averages
) -> None:
    averages.publish([0])
    url = postgres.new_database()
    with (
        Warehouse(url) as warehouse,
        InProcess(redis_url, warehouse, gaps_every_s=SOON_S) as consumer,
    ):
        wait_until(lambda: loaded(url) == 1 and not averages.pending())
        postgres.stop()
        try:
            wait_until(lambda: "warehouse" in consumer.failing)
        finally:
            postgres.start()
        wait_until(lambda: "warehouse" not in consumer.failing)


def test_it_stays_alive_while_redis_is_away(
    warehouse: Warehouse, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Link:
        raise Unreachable("Redis does not answer: as the test wants it")

    monkeypatch.setattr(Cluster, "link", away)
    with InProcess(redis_url, warehouse) as consumer:
        wait_until(lambda: len(consumer.beats) >= 5)


def test_a_span_covers_each_batch_and_links_to_the_one_that_published_it(
    warehouse: Warehouse, redis_url: str, averages: Averages
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    traced = replace(
        average(0), traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    )
    averages.client.xadd(KEYS.averages, traced.fields(), traced.entry_id)

    with InProcess(redis_url, warehouse, provider.get_tracer("test")):
        wait_until(lambda: rows(warehouse))
        wait_until(lambda: averages.pending() == 0)

    (span,) = spans.get_finished_spans()
    assert span.name == f"process {KEYS.averages}"
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [rows(warehouse)[0].trace_id]


def test_with_json_logs_what_was_loaded_is_logged_and_not_printed(
    file_url: str, averages: Averages, running: Services
) -> None:
    averages.publish(range(1))

    start(running, file_url, "--log-format", "json")

    wait_until(lambda: "Average temperature" in running.said(NAME))
    logged = [json.loads(line) for line in running.said(NAME).splitlines()]
    (line,) = (each for each in logged if each["message"].startswith("Average temperature"))
    assert (line["hour"], line["consumer"]) == ("2025-01-01T00:00:00Z", NAME)
    assert lines(running) == []


def test_hours_trimmed_before_they_were_loaded_are_reported(
    file_url: str, averages: Averages, running: Services
) -> None:
    averages.publish(range(AVERAGES_KEPT + 10))

    start(running, file_url)

    wait_until(lambda: loaded(file_url) == AVERAGES_KEPT)
    wait_until(lambda: running.metric(NAME, "hourglass_warehouse_rows_missing") == 10)
    assert (
        "10 published hours were not in the warehouse: 2025-01-01T00:00:00Z to 2025-01-01T09:00:00Z"
    ) in running.said(NAME)


def test_hours_that_were_loaded_before_they_were_trimmed_are_not_reported(
    file_url: str, averages: Averages, running: Services
) -> None:
    hours = range(AVERAGES_KEPT + 10)
    averages.publish(hours)
    with Warehouse(file_url) as warehouse:
        warehouse.create()
        warehouse.upsert([average(hour) for hour in hours[:10]], LONG_AGO)

    start(running, file_url)

    wait_until(lambda: loaded(file_url) == len(hours))
    assert running.metric(NAME, "hourglass_warehouse_rows_missing") == 0
    assert "not in the warehouse" not in running.said(NAME)


def test_while_the_warehouse_is_away_the_averages_wait_in_the_stream(
    postgres: Postgres, averages: Averages, running: Services
) -> None:
    url = postgres.new_database()
    start(running, url)
    running.await_ready(NAME)
    postgres.stop()
    try:
        averages.publish(range(3))
        wait_until(lambda: not running.ready(NAME))
        assert "warehouse: the warehouse" in running.get(NAME, "/readyz")[1]
        assert running.get(NAME, "/livez")[0] == 200
        wait_until(lambda: (running.metric(NAME, "hourglass_warehouse_errors_total") or 0) >= 3)
        assert averages.pending() > 0
        assert lines(running) == []
    finally:
        postgres.start()

    wait_until(lambda: loaded(url) == 3)
    wait_until(lambda: averages.pending() == 0)
    running.await_ready(NAME)
    assert running.said(NAME).count("does not answer") == 1
    assert running.said(NAME).count("warehouse: recovered") == 1


def test_a_consumer_may_start_before_its_warehouse(
    postgres: Postgres, averages: Averages, running: Services
) -> None:
    url = postgres.new_database()
    averages.publish(range(3))
    postgres.stop()
    try:
        start(running, url)
        wait_until(lambda: "does not answer" in running.said(NAME))
        assert not running.ready(NAME)
    finally:
        postgres.start()

    running.await_ready(NAME)
    assert wait_until(lambda: loaded(url)) == 3


def test_a_locked_file_delays_the_averages_and_loses_none(
    file_url: str, averages: Averages, running: Services
) -> None:
    start(running, file_url)
    running.await_ready(NAME)
    with closing(sqlite3.connect(file_url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        averages.publish(range(3))
        wait_until(lambda: not running.ready(NAME))
        assert averages.pending() > 0

    wait_until(lambda: loaded(file_url) == 3)
    wait_until(lambda: averages.pending() == 0)


def test_what_is_no_average_is_told_of_once_and_does_not_hold_up_the_others(
    file_url: str, averages: Averages, running: Services
) -> None:
    averages.publish([0])
    averages.client.xadd(KEYS.averages, {"greeting": "hello"}, f"{START_MS + 1}-0")
    averages.publish([1])

    start(running, file_url)

    wait_until(lambda: loaded(file_url) == 2)
    wait_until(lambda: averages.pending() == 0)
    assert running.metric(NAME, "hourglass_averages_invalid_total") == 1
    assert running.said(NAME).count(f"entry {START_MS + 1}-0 is not a valid average") == 1
    assert len(lines(running)) == 2


@pytest.mark.parametrize("loss", ["the stream", "the group", "everything"])
def test_a_group_that_was_deleted_is_made_anew(
    loss: str, file_url: str, averages: Averages, running: Services
) -> None:
    averages.publish([0])
    start(running, file_url)
    wait_until(lambda: loaded(file_url) == 1)

    match loss:
        case "the stream":
            averages.client.delete(KEYS.averages)
        case "the group":
            averages.client.xgroup_destroy(KEYS.averages, AVERAGES_GROUP)
        case _:
            averages.client.flushall(target_nodes=RedisCluster.PRIMARIES)
    wait_until(lambda: "creating the consumer group again" in running.said(NAME))
    averages.publish([1])

    wait_until(lambda: loaded(file_url) == 2)
    running.await_ready(NAME)


def test_a_severed_connection_is_replaced(
    file_url: str, averages: Averages, running: Services
) -> None:
    start(running, file_url)
    running.await_ready(NAME)
    client = averages.client
    node = client.get_node_from_key(KEYS.averages)
    for _ in range(3):
        client.execute_command("CLIENT KILL", "TYPE", "normal", target_nodes=node)
        wait_until(lambda: running.ready(NAME))

    averages.publish([0])

    wait_until(lambda: loaded(file_url) == 1)
    wait_until(lambda: averages.pending() == 0)


def test_consumers_that_are_gone_and_hold_nothing_are_removed(
    file_url: str, averages: Averages, running: Services
) -> None:
    averages.publish([0])
    averages.read_as("gone")
    averages.client.xgroup_createconsumer(KEYS.averages, AVERAGES_GROUP, "idle")

    # Redis 7 counts a blocked consumer's idle time from the beginning of the read.
    start(running, file_url, "--claim-idle-ms", "1000")

    wait_until(lambda: loaded(file_url) == 1)
    wait_until(lambda: not {"gone", "idle"} & averages.consumers())
    assert len(averages.consumers()) == 1


def test_sigterm_ends_it_with_nothing_pending(
    file_url: str, averages: Averages, running: Services
) -> None:
    averages.publish(range(100))
    start(running, file_url)
    wait_until(lambda: loaded(file_url) > 0)

    assert running.terminate(NAME) == 0
    assert averages.pending() == 0
    assert "did not finish" not in running.said(NAME)


def test_sigterm_ends_it_though_the_warehouse_is_away(
    file_url: str, averages: Averages, running: Services
) -> None:
    start(running, file_url)
    running.await_ready(NAME)
    with closing(sqlite3.connect(file_url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        averages.publish(range(3))
        wait_until(lambda: not running.ready(NAME))

        # SQLite would wait for as long as the lock is held.
        assert running.terminate(NAME) == 0
    assert averages.pending() > 0
    assert lines(running) == []
    start(running, file_url)
    wait_until(lambda: loaded(file_url) == 3)


def test_a_warehouse_that_cannot_be_used_is_said_at_the_end_and_exits_with_2(
    averages: Averages, running: Services, tmp_path: Path
) -> None:
    averages.publish([0])
    start(running, f"sqlite:///{tmp_path}/nowhere/warehouse.db")

    assert running.exit_status(NAME) == 2
    last = running.said(NAME).splitlines()[-1]
    assert last.startswith("hourglass-averages-consumer: the warehouse ")
    assert "its folder must exist" in last
    assert "Traceback" not in running.said(NAME)


@pytest.mark.extended
def test_a_password_that_is_no_longer_accepted_ends_it_with_2(
    postgres: Postgres, averages: Averages, running: Services
) -> None:
    url = sa.make_url(postgres.new_database())
    role, database = f"loader_{url.database}", str(url.database)
    postgres.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'",
        f"GRANT CREATE ON SCHEMA public TO {role}",
        url=postgres.url(database),
    )
    start(running, postgres.url(database, f"{role}:sesame"))
    running.await_ready(NAME)

    postgres.execute(
        f"ALTER ROLE {role} PASSWORD 'another'",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
    )
    averages.publish([0])

    assert running.exit_status(NAME) == 2
    last = running.said(NAME).splitlines()[-1]
    assert last.startswith("hourglass-averages-consumer: the warehouse ")
    assert "check user and password in HOURGLASS_WAREHOUSE_URL" in last
    assert "sesame" not in running.said(NAME)


def test_the_exercise_s_own_consumer_can_read_the_stream(averages: Averages) -> None:
    averages.publish(range(3))

    seen: list[str] = []
    last_id = "0"
    while response := averages.client.xread(count=1, streams={KEYS.averages: last_id}):
        ((_, ((last_id, fields),)),) = response
        text = {name.decode(): value.decode() for name, value in fields.items()}
        seen.append(
            f"Average temperature for {text['date']} at {text['hour']} was "
            f"{text['average_temp_f']}F ({text['num_observations']} observations)."
        )

    assert seen == [average(hour).line for hour in range(3)]
