"""Running services export what is declared, at a cost that does not grow with partitions."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from redis.connection import AbstractConnection

from aggregator.collectors import read_lost_readings, read_progress
from hourglass.cluster.partitions import candidates
from hourglass.cluster.seed import RedisUrl
from hourglass.metrics import MetricSpec
from hourglass.model.clock import Instant
from hourglass.model.keys import GROUP, Partition
from hourglass.monitoring.stream_stats import FIRST, oldest_waiting_ms, read_streams
from producer.metrics import MQTT_METRICS
from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import DAY, Pipeline, at, day_after, reading
from tests.support.services import Services, services
from tests.support.waiting import wait_until
from tools.reference import SERVICES

#: An hour passes in a second.
SPEED = 3600
#: Series that are absent while there is nothing to tell.
MAY_BE_ABSENT = {
    "hourglass_current_hour_average_temp_f",
    "hourglass_current_hour_completeness_ratio",
    "hourglass_stream_group_oldest_pending_timestamp_seconds",
    "hourglass_uncounted_expiry_seconds",
}


@pytest.fixture
def busy(pipeline: Pipeline, redis_url: str, tmp_path: Path) -> Iterable[Services]:
    """One process of each service, once averages have been loaded."""
    with services(redis_url, HOURGLASS_WAREHOUSE_URL=f"sqlite:///{tmp_path}/w.db") as running:
        pipeline.run_clock(DAY.day_ms, SPEED)
        running.producer("producer", "--devices", "3")
        running.aggregator("aggregator", "--lateness-s", "0.2")
        running.start("averages-consumer", "averages_consumer")
        running.await_ready("producer", "aggregator", "averages-consumer")
        loaded = "hourglass_averages_loaded_total"
        wait_until(
            lambda: (running.metric("averages-consumer", loaded) or 0) > 1, message="no averages"
        )
        yield running


def exported(running: Services, service: str) -> dict[str, Metric]:
    """By name."""
    return {each.name: each for each in plain_text(running.get(service, "/metrics")[1])}


def family_name(instrument: MetricSpec) -> str:
    """As a family of counters is called."""
    return instrument.name.removesuffix("_total")


@pytest.mark.extended
@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on PATH (Debian: prometheus)")
def test_promtool_finds_nothing_to_improve_in_the_metrics(busy: Services) -> None:
    for service in SERVICES:
        checked = subprocess.run(
            ["promtool", "check", "metrics"],
            input=busy.get(service, "/metrics")[1], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), service


def test_services_export_what_is_declared_and_nothing_else(busy: Services) -> None:
    for service, (_, instruments) in SERVICES.items():
        declared = exported_by(instruments)
        wait_until(
            lambda service=service: running_out_of_silence(busy, service),
            message=f"{service} is mute",
        )
        found = exported(busy, service)
        assert found.keys() == declared.keys(), service
        for name, instrument in declared.items():
            family = found[name]
            assert (family.type, family.documentation) == (instrument.kind, instrument.help)
            assert family.samples or instrument.name in MAY_BE_ABSENT, name
            for sample in family.samples:
                assert sample.labels.keys() - {"le"} == set(instrument.labels), name
            if instrument.kind == "histogram":
                bounds = {float(s.labels["le"]) for s in family.samples if "le" in s.labels}
                assert bounds == {*instrument.buckets, float("inf")}


def running_out_of_silence(running: Services, service: str) -> bool:
    """Whether the loops that look at streams and shards have looked."""
    return (
        all(
            family.samples or family.name in MAY_BE_ABSENT
            for family in exported(running, service).values()
        )
        and exported(running, service).keys() == exported_by(SERVICES[service][1]).keys()
    )


def exported_by(declared: Iterable[MetricSpec]) -> dict[str, MetricSpec]:
    """By name, what a producer of simulated devices and the other services export."""
    return {family_name(each): each for each in declared if each not in MQTT_METRICS}


def test_open_metrics_is_served_on_request(busy: Services) -> None:
    for service in SERVICES:
        status, body = busy.get(service, "/metrics", accept="application/openmetrics-text")
        assert status == 200
        assert body.rstrip().endswith("# EOF")
        assert {each.name for each in open_metrics(body)} >= {"hourglass_redis_up"}


@contextmanager
def counted_trips() -> Generator[list[int]]:
    """Grows by one with each message to a server, of one command or many, until it is left. (How
    often a server reads depends on how the network cuts a message.)"""
    sent: list[int] = []
    send = AbstractConnection.send_packed_command

    def counted(self: AbstractConnection, *arguments: Any, **options: Any) -> None:
        sent.append(1)
        send(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AbstractConnection, "send_packed_command", counted)
        yield sent


def commands(url: str) -> set[str]:
    """What has been called since the statistics were reset."""
    called: set[str] = set()
    for host, port in RedisUrl.parse(url).nodes:
        with redis_py.Redis(host=host, port=port) as node:
            called |= {name.removeprefix("cmdstat_") for name in node.info("commandstats")}
    return called


@pytest.mark.embedded
def test_collecting_takes_as_many_round_trips_for_forty_partitions_as_for_four(
    embedded: EmbeddedCluster,
) -> None:
    def collect(pipeline: Pipeline, instant: Instant, alive: int) -> None:
        """All that an aggregator asks for its metrics, beside the clock and the shards' time."""
        cluster = pipeline.cluster
        streams = [each.stream for each in candidates(cluster, instant)]
        states = read_streams(cluster, streams, GROUP)
        assert len(states) == alive
        assert oldest_waiting_ms(cluster, instant, states) == at(1)
        read_progress(cluster, instant, settling_ms=0)
        assert len(read_lost_readings(cluster, instant).gone()) == alive

    def cost(pipeline: Pipeline, instant: Instant, alive: int) -> int:
        collect(pipeline, instant, alive)  # whatever connections it takes are there
        for port in embedded.ports:
            with redis_py.Redis(port=port) as node:
                node.config_resetstat()
        with counted_trips() as trips:
            collect(pipeline, instant, alive)
        return len(trips)

    with Pipeline(embedded.url) as pipeline:
        days = [day_after(DAY, number) for number in range(40)]
        shard_of = pipeline.cluster.shard_of
        of_shards = {shard_of(day.stream): day for day in days}
        assert len(of_shards) == 3
        # A trip to a shard more would be due to where the days are, not to how many there are.
        days.sort(key=lambda day: day not in of_shards.values())

        def produce(day: Partition) -> None:
            pipeline.produce(reading(at(1, day=day)), reading(at(2, day=day)))
            pipeline.delivery(day).read(1, 1)  # one pending, one not delivered

        for day in days[:4]:
            produce(day)
        instant = pipeline.clock.current()
        few = cost(pipeline, instant, 4)
        for day in days[4:]:
            produce(day)
        many = cost(pipeline, instant, 40)
        assert many == few
        assert not commands(embedded.url) & {"scan", "keys", "xreadgroup"}


def test_what_waits_is_dated_without_reading_more_of_it_than_its_time(pipeline: Pipeline) -> None:
    first = pipeline.xadd(ts=at(1), temp_f=50, note="n" * 1_000_000)
    pipeline.xadd(ts="9" * 33, temp_f=50)
    pipeline.open()

    ranges = ["-", "+", b"(" + first, "+"]
    ((with_time, without),) = pipeline.cluster.read_each(FIRST, [((DAY.stream,), ranges)])

    assert with_time == [first, [b"ts", b"%d" % at(1)]]
    assert without[1] == []


def test_what_was_delivered_again_is_not_read_to_be_dated(pipeline: Pipeline) -> None:
    pipeline.xadd(ts=at(1), temp_f=50)
    instant = pipeline.drive(at(2))

    def oldest() -> int | None:
        states = read_streams(pipeline.cluster, [DAY.stream], GROUP)
        return oldest_waiting_ms(pipeline.cluster, instant, states)

    pipeline.delivery().read(1, 1)
    assert oldest() == at(1)

    pipeline.claim(pipeline.delivery(), 0, limit=5)
    assert oldest() == instant.now_ms


@pytest.mark.extended
@pytest.mark.system
@pytest.mark.embedded(node_timeout_ms=60_000)
def test_while_redis_is_away_metrics_answer_and_say_so(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.use_wall_clock()
        names = [running.aggregator("aggregator"), running.producer("producer")]
        running.await_ready(*names)
        for name in names:
            wait_until(lambda name=name: running.metric(name, "hourglass_redis_up") == 1)
        pipeline.xadd(ts=at(1), temp_f=50)
        for port in embedded.ports:
            embedded.node_at(port).pause()
        for name in names:
            wait_until(
                lambda name=name: running.metric(name, "hourglass_redis_up") == 0,
                message=f"{name} does not say that Redis is away",
            )
            shards = re.findall(
                r'hourglass_redis_shard_up\{shard="[^"]+"\} (\S+)', running.get(name, "/metrics")[1]
            )
            assert "0.0" in shards
            errors = 'hourglass_redis_errors_total{kind="timeout"}'
            wait_until(
                lambda name=name, errors=errors: running.metric(name, errors),
                message="no time-outs",
            )
        wait_until(
            lambda: running.metric("aggregator", "hourglass_stream_partitions") is None,
            message="what cannot be known is still shown",
        )
        for port in embedded.ports:
            embedded.node_at(port).resume()
        for name in names:
            wait_until(lambda name=name: running.metric(name, "hourglass_redis_up") == 1)


def test_the_series_of_a_partition_that_is_gone_and_the_count_of_a_consumer_go(
    pipeline: Pipeline, redis_url: str
) -> None:
    with services(redis_url) as running:
        pipeline.produce(reading(at(1)))
        pipeline.delivery(name="somebody").read(1, 1)
        running.aggregator("aggregator")
        pending = (
            f'hourglass_stream_group_messages_pending{{group="{GROUP}",stream="{DAY.stream}"}}'
        )
        consumers = f'hourglass_stream_group_consumers{{group="{GROUP}",stream="{DAY.stream}"}}'

        def names() -> list[bytes]:
            found: list[list[bytes]] = pipeline.cluster.call(
                "XINFO", "CONSUMERS", DAY.stream, GROUP
            )
            return [each[1] for each in found]

        # Once its entry has been reclaimed it has nothing pending, and it is removed when it has
        # been idle. The aggregator has consumers of its own, which come and go likewise.
        wait_until(
            lambda: not any(name.startswith(b"somebody") for name in names()),
            message="it is still there",
        )
        wait_until(
            lambda: running.metric("aggregator", consumers) == len(names()),
            message="it is still counted",
        )
        assert running.metric("aggregator", pending) is not None
        pipeline.cluster.call("UNLINK", DAY.stream)

        def shown() -> set[str]:
            lines = running.get("aggregator", "/metrics")[1].splitlines()
            return {line.partition("{")[0] for line in lines if f'"{DAY.stream}"' in line}

        # What its producers have lost with it is told for as long as they are remembered.
        wait_until(lambda: shown() == {"hourglass_readings_lost"}, message="more is shown")
