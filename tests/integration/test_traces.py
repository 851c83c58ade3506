"""One hour followed from a reading to its row, through spans that a collector really received."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cluster import EmbeddedCluster
from tests.support.collector import Collector, Received, collector_over_grpc, collector_over_http
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline
from tests.support.services import Services, services
from tests.support.waiting import wait_until

#: An hour in three seconds.
SPEED = 1200
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
NAMES = ("producer", "aggregator-1", "aggregator-2", "consumer")


@pytest.fixture(params=["http/protobuf", "grpc"])
def collector(request: pytest.FixtureRequest) -> Generator[Collector]:
    made = {"grpc": collector_over_grpc, "http/protobuf": collector_over_http}[request.param]
    with made() as collector:
        request.node.user_properties.append(("protocol", request.param))
        yield collector


def traced(collector: Collector, protocol: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "HOURGLASS_LOG_FORMAT": "json",
    }


def start(pipeline: Pipeline, running: Services) -> None:
    pipeline.run_clock(DAY.day_ms, SPEED)
    running.producer("producer", "--devices", "2")
    running.aggregator("aggregator-1", "--lateness-s", "0.3")
    running.aggregator("aggregator-2", "--lateness-s", "0.3")
    running.start("consumer", "averages_consumer")
    running.await_ready(*NAMES)


def awaited(collector: Collector, link: tuple[str, str]) -> Received:
    """The span at the other end, once it has come."""
    wait_until(lambda: collector.span(*link), 30, f"nothing came of {link}")
    span = collector.span(*link)
    assert span
    return span


def rows(database: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT hour, trace_id FROM hourly_averages").fetchall()


def test_from_a_row_one_gets_to_the_readings_it_is_made_of(
    pipeline: Pipeline,
    redis_url: str,
    collector: Collector,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    database = tmp_path / "warehouse.db"
    protocol = dict(request.node.user_properties)["protocol"]
    environment = traced(collector, protocol)
    with services(
        redis_url, HOURGLASS_WAREHOUSE_URL=f"sqlite:///{database}", **environment
    ) as running:
        start(pipeline, running)
        wait_until(lambda: database.exists() and len(rows(database)) >= 2, 60, "no rows")
        assert all(trace_id for _, trace_id in rows(database))

        wanted = {
            f"process {DAY.stream}",
            f"seal {DAY.stream}",
            f"send {KEYS.averages}",
            f"process {KEYS.averages}",
        }

        def followed() -> list[tuple[str, str, dict[str, Received]]]:
            """Hours, their traces, and what these have, by name. Of an hour that was loaded
            together with others, the load is in a trace of its own."""
            traces = [
                (
                    hour,
                    trace_id,
                    {s.span.name: s for s in collector.spans if s.trace_id == trace_id},
                )
                for hour, trace_id in rows(database)
            ]
            return [each for each in traces if each[2].keys() == wanted]

        hour, trace_id, found = wait_until(followed, 60, f"not all of {wanted} came")[0]
        seal, load = found[f"seal {DAY.stream}"], found[f"process {KEYS.averages}"]
        counted = found[f"process {DAY.stream}"]
        # Both aggregators may have tried, and one of them came first.
        send = awaited(collector, (trace_id, load.span.parent_span_id.hex()))
        assert send.attributes["hourglass.outcome"] == "published"
        assert seal.service == send.service == "hourglass-aggregator"
        assert (load.service, load.instance) == ("hourglass-averages-consumer", "consumer")
        assert not counted.span.parent_span_id
        assert seal.span.parent_span_id == send.span.parent_span_id == counted.span.span_id
        assert (send.trace_id, send.span_id) in load.links
        assert seal.attributes["hourglass.hour"] == hour == send.attributes["hourglass.hour"]

        # It begins with the batch that was counted last, which says who sent what is in it.
        assert counted.attributes["messaging.system"] == "redis"
        assert counted.links
        sent = awaited(collector, counted.links[0])
        assert sent.span.name == f"send {DAY.stream}"
        assert (sent.service, sent.instance) == ("hourglass-producer", "producer")
        assert int(sent.attributes["messaging.batch.message_count"]) > 0

        published = [
            json.loads(line)
            for name in ("aggregator-1", "aggregator-2")
            for line in running.said(name).splitlines()
            if f"published {hour}" in line
        ]
        assert [line["trace_id"] for line in published] == [trace_id]
        shown = [
            line
            for name in ("aggregator-1", "aggregator-2")
            for line in running.get(name, "/metrics", accept=OPEN_METRICS)[1].splitlines()
            if line.startswith("hourglass_publish_delay_seconds_bucket")
        ]
        assert any('trace_id="' in line for line in shown), "no exemplar leads to a trace"
        names = {each.span.name.partition(" ")[0] for each in collector.spans}
        assert names == {"send", "process", "seal"}


def test_an_empty_poll_makes_no_span(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.run_clock(DAY.day_ms, 1)
    with collector_over_http() as collector:
        environment = traced(collector, "http/protobuf")
        with services(redis_url, **environment) as running:
            pipeline.xadd(ts=DAY.day_ms, temp_f=50)
            running.aggregator("aggregator")
            counted = "hourglass_readings_counted_total"
            running.await_ready("aggregator")
            wait_until(lambda: running.metric("aggregator", counted) == 1, 20, "not counted")
            wait_until(lambda: collector.spans, 20, "no span of the one batch")
            reads = commands(pipeline)
            wait_until(lambda: commands(pipeline) > reads + 5, 30, "it does not poll")
            running.terminate("aggregator")
        assert [each.span.name for each in collector.spans] == [f"process {DAY.stream}"]


def commands(pipeline: Pipeline) -> int:
    """How often somebody has read through a group, on all shards."""
    return sum(
        info.get("cmdstat_xreadgroup", {"calls": 0})["calls"]
        for info in pipeline.cluster.call("INFO", "commandstats", target_nodes="primaries").values()
    )


@pytest.mark.extended
@pytest.mark.parametrize("answers", ["nothing", "no connection"])
def test_a_dead_collector_never_holds_up_the_exit(embedded: EmbeddedCluster, answers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if answers == "no connection":
            silent.close()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            # The exporter's own patience, which must not become the service's.
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3600",
        }
        with Pipeline(embedded.url) as pipeline, services(embedded.url, **environment) as running:
            pipeline.use_wall_clock()
            running.producer()
            running.aggregator()
            running.await_ready("producer", "aggregator")
            counted = "hourglass_readings_counted_total"
            wait_until(lambda: running.metric("aggregator", counted), 30, "nothing is counted")
            for name in ("producer", "aggregator"):
                assert running.terminate(name) == 0, running.said(name)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
    ],
    ids=["no endpoint", "disabled"],
)
def test_where_traces_are_off_entries_carry_none(
    pipeline: Pipeline, redis_url: str, environment: dict[str, str]
) -> None:
    pipeline.use_wall_clock()
    with services(redis_url, **environment) as running:
        running.producer()
        running.await_ready("producer")
        taken = "hourglass_readings_taken_total"
        wait_until(lambda: running.metric("producer", taken), 20, "nothing is taken")
        for stream in pipeline.cluster.call("ZRANGE", KEYS.partitions, 0, -1):
            for _, fields in pipeline.cluster.call("XRANGE", stream, "-", "+"):
                assert fields.keys() == {b"device", b"day_ms", b"temp_f"}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_variables_for_traces_alone_will_do_and_win(
    pipeline: Pipeline, redis_url: str, protocol: str
) -> None:
    made = {"grpc": collector_over_grpc, "http/protobuf": collector_over_http}[protocol]
    pipeline.use_wall_clock()
    with made() as collector:
        # Of all signals' endpoint it is the root, of traces' the address itself.
        path = "" if protocol == "grpc" else "/v1/traces"
        environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.endpoint}{path}",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with services(redis_url, **environment) as running:
            running.producer()
            wait_until(lambda: collector.spans, 30, "no span came")


@pytest.mark.parametrize("protocol", ["http/json", "carrier pigeon"])
def test_a_protocol_that_there_is_not_is_refused_in_one_line(redis_url: str, protocol: str) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }
    with services(redis_url, **environment) as running:
        running.aggregator()
        assert running.exit_status("aggregator") == 2
        (line,) = running.said("aggregator").strip().splitlines()
        assert "set it to http/protobuf" in line
