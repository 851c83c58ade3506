"""The web page's server: what it answers, how soon, and what nobody can do to it."""

from __future__ import annotations

import gzip
import socket
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from averages_consumer.warehouse import Warehouse
from averages_consumer.web.document_store import MOST_VIEWERS
from averages_consumer.web.server import MOST_CONNECTIONS
from hourglass.model.keys import HOUR_MS, iso
from tests.support.browsing import ask, connection, looking_on
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import Services, services
from tests.support.snapshots import average
from tests.support.waiting import wait_until

NAME = "averages-consumer"


@pytest.fixture
def running(redis_url: str, pipeline: Pipeline) -> Generator[Services]:  # noqa: ARG001
    with services(redis_url) as running:
        yield running
        with suppress(KeyError):
            running.kill(NAME)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/warehouse.db"


@pytest.fixture
def page(running: Services, url: str) -> str:
    return serve(running, url)


@pytest.fixture(scope="module")
def quiet_page(
    redis_binary: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    """A page for tests that only ask: one service answers them all. On a cluster of its own, or it
    would load, into a warehouse of its own, what others publish."""
    with (
        EmbeddedCluster(masters=1, binary=redis_binary) as cluster,
        services(cluster.url) as running,
    ):
        yield serve(running, f"sqlite:///{tmp_path_factory.mktemp('quiet')}/warehouse.db")
        running.kill(NAME)


def serve(running: Services, url: str, *options: str) -> str:
    running.start(NAME, "averages_consumer", "--warehouse-url", url, *options)
    return running.page(NAME)


def shown(page: str) -> list[str]:
    return [each["hour"] for each in ask(page, "api/averages").json()["hours"]]


def test_averages_are_shown_and_then_known_to_be_in_the_warehouse(
    page: str, pipeline: Pipeline
) -> None:
    pipeline.publish(*map(average, range(3)))

    wait_until(lambda: shown(page) == [iso(average(hour).start_ms) for hour in range(3)])
    hours = wait_until(
        lambda: [h for h in ask(page, "api/averages").json()["hours"] if h["in_warehouse"]]
    )
    assert hours[0]["average_temp_f"] == 50.0
    assert hours[0]["completeness"] == 1.0


def test_a_viewer_is_told_of_each_hour(page: str, pipeline: Pipeline) -> None:
    with looking_on(page) as events:
        assert events.until("averages")["hours"] == []
        for hour in range(3):
            pipeline.publish(average(hour))
            while len(events.until("averages")["hours"]) <= hour:
                pass


def test_no_node_of_redis_is_named(running: Services, url: str, pipeline: Pipeline) -> None:
    pipeline.drive(at(0, 30))
    pipeline.produce(reading(at(0)))
    masters = pipeline.cluster.masters()
    name = "cluster-require-full-coverage"
    try:
        for master in masters:
            pipeline.cluster.ask(master, "CONFIG SET", name, "yes")
        page = serve(running, url)
        (partition,) = wait_until(lambda: ask(page, "api/partitions").json()["partitions"])
        wait_until(lambda: "full-coverage" in codes(page))
    finally:
        for master in masters:
            pipeline.cluster.ask(master, "CONFIG SET", name, "no")

    assert partition["shard"] == "#1"
    shown = ask(page, "api/status").body + ask(page, "api/partitions").body
    assert not [master for master in masters if master.encode() in shown]


def test_an_entry_that_is_no_average_is_left_out_and_harms_nothing(
    page: str, running: Services, pipeline: Pipeline
) -> None:
    pipeline.publish(average(0))
    pipeline.cluster.call("XADD", KEYS.averages, f"{average(1).start_ms}-0", "temp_f", "warm")
    wait_until(lambda: status(page)["to_load"] == 0)
    wait_until(lambda: shown(page) == [iso(average(0).start_ms)])

    assert codes(page) == ["no-readings"]
    assert running.ready(NAME)


@pytest.mark.parametrize(
    ("foreign", "code", "readable"),
    [
        (("HSET", DAY.hours, "00:count", "many"), "partition-damaged", True),
        (("SET", KEYS.revisions, "in the way"), "redis-unreadable", False),
    ],
)
def test_a_key_that_another_writer_spoilt_is_a_problem_and_harms_nothing_else(
    page: str,
    running: Services,
    pipeline: Pipeline,
    foreign: tuple[str, ...],
    code: str,
    *,
    readable: bool,
) -> None:
    pipeline.drive(at(0, 30))
    pipeline.produce(reading(at(0)))
    pipeline.cluster.call(*foreign)
    pipeline.cluster.call("EXPIRE", foreign[1], 60)
    wait_until(lambda: code in codes(page))
    redis = status(page)["redis"]
    assert (redis["answers"], redis["readable"]) == (True, readable)

    pipeline.publish(average(0))
    wait_until(lambda: len(shown(page)) == 1)
    pipeline.cluster.call("DEL", foreign[1])
    wait_until(lambda: code not in codes(page))
    assert running.ready(NAME)


def test_a_clock_that_somebody_spoilt_stops_neither_page_nor_loading(
    running: Services, url: str, pipeline: Pipeline
) -> None:
    pipeline.cluster.call("HSET", KEYS.clock, "mode", "sundial")
    page = serve(running, url)
    pipeline.publish(average(0))

    wait_until(lambda: "redis-unreadable" in codes(page))
    wait_until(lambda: running.metric(NAME, "hourglass_averages_loaded_total") == 1)

    pipeline.drive(at(2))
    wait_until(lambda: "redis-unreadable" not in codes(page))


def test_asking_for_the_head_of_the_stream_has_an_end(quiet_page: str) -> None:
    answer = ask(quiet_page, "api/events", method="HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/event-stream")


def test_the_hour_in_progress_and_the_partitions_are_shown(page: str, pipeline: Pipeline) -> None:
    pipeline.drive(at(1, 30))
    pipeline.produce(*(reading(at(1, minute), 50.0 + minute) for minute in range(3)))
    pipeline.xadd(temp_f="warm", ts=at(1))
    pipeline.count()

    hour = wait_until(lambda: [h for h in status(page)["open_hours"] if h["observations"] == 3])[0]
    (partition,) = wait_until(lambda: [p for p in partitions(page) if p["lag"] == 0])

    assert hour["hour"] == iso(at(1))
    assert (hour["over"], hour["elapsed"], hour["average_temp_f"]) == (False, 0.5, 51.0)
    assert (hour["devices"], hour["expected"]) == (1, 3600)
    assert (partition["stream"], partition["length"], partition["lag"]) == (DAY.stream, 4, 0)
    assert (partition["counted"], partition["quarantined"]) == (3, 1)
    wait_until(lambda: codes(page) == ["quarantine"])
    assert status(page)["quarantined"] == 1


def partitions(page: str) -> Any:
    """As of a look of its own, which may be a moment older than that of the hours."""
    return ask(page, "api/partitions").json()["partitions"]


def status(page: str) -> Any:
    return ask(page, "api/status").json()


def codes(page: str) -> list[str]:
    """Besides what is so of the shared cluster."""
    found = [problem["code"] for problem in status(page)["problems"]]
    return [code for code in found if code != "no-append-only-file"]


def test_a_lag_that_redis_cannot_tell_is_unknown(page: str, pipeline: Pipeline) -> None:
    pipeline.drive(at(0, 30))
    _, second, _ = (pipeline.xadd(temp_f=temp_f) for temp_f in (50, 51, 52))
    pipeline.delivery().read(1, 1)
    pipeline.cluster.call("XDEL", DAY.stream, second)

    (partition,) = wait_until(lambda: [p for p in partitions(page) if p["lag"] is None])
    assert partition["stream"] == DAY.stream
    assert status(page)["lag"] is None
    assert "lag-unknown" in codes(page)


def test_after_a_reset_the_page_shows_what_comes_then(page: str, pipeline: Pipeline) -> None:
    pipeline.publish(average(8))
    wait_until(lambda: shown(page) == [iso(average(8).start_ms)])

    pipeline.cluster.call("DEL", KEYS.averages)
    pipeline.publish(average(3))

    wait_until(lambda: iso(average(3).start_ms) in shown(page))


def test_what_the_publisher_noted_is_a_problem(page: str, pipeline: Pipeline) -> None:
    pipeline.cluster.call("ZADD", KEYS.revisions, 1, "a", 2, "b")

    wait_until(lambda: "hours-revised" in codes(page))


def test_a_warehouse_that_went_is_told_of_and_averages_are_shown_all_the_same(
    running: Services, url: str, pipeline: Pipeline
) -> None:
    page = serve(running, url)
    pipeline.publish(average(0))
    wait_until(lambda: ask(page, "api/averages").json()["hours"][0]["in_warehouse"])
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        file.execute("DROP TABLE hourly_averages")

    wait_until(lambda: not status(page)["warehouse"]["answers"])

    assert "warehouse-away" in codes(page)
    assert shown(page) == [iso(average(0).start_ms)]
    refused = ask(page, "api/averages?limit=1")
    assert refused.status == 503
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.headers["Retry-After"]
    assert url not in refused.body.decode()


@pytest.mark.embedded(node_timeout_ms=60_000, persistence=True)
@pytest.mark.parametrize(("go", "come_back"), [("kill", "restart"), ("pause", "resume")])
def test_what_redis_said_last_stays_and_is_marked_until_it_is_back(
    embedded: EmbeddedCluster, url: str, go: str, come_back: str
) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        page = serve(running, url)
        pipeline.publish(*map(average, range(2)))
        wait_until(lambda: len(shown(page)) == 2)
        assert status(page)["redis"]["answers"]

        with looking_on(page) as events:
            for node in embedded.nodes:
                getattr(node, go)()
            while events.until("status")["redis"]["answers"]:
                pass

        wait_until(lambda: "redis-away" in codes(page))
        assert len(shown(page)) == 2
        assert ask(page).status == 200

        for node in embedded.nodes:
            getattr(node, come_back)()
        wait_until(lambda: status(page)["redis"]["answers"])
        assert "redis-away" not in codes(page)
        running.kill(NAME)


def load(url: str, hours: Sequence[int]) -> None:
    with Warehouse(url) as warehouse:
        warehouse.create()
        averages = [average(hour) for hour in hours]
        warehouse.upsert(averages, averages[0].start)


def test_pages_lead_through_the_whole_history_each_hour_once(running: Services, url: str) -> None:
    load(url, range(250))
    page = serve(running, url)
    found: list[str] = []
    path = f"api/averages?from={iso(DAY.day_ms)}&to=2025-02-01&limit=100"

    for expected in (100, 100, 50):
        answer = ask(page, path)
        document = answer.json()
        found += [each["hour"] for each in document["hours"]]
        assert len(document["hours"]) == expected
        assert answer.headers["Link"] == (
            f'<{document["next"]}>; rel="next"' if document["next"] else None
        )
        path = f"api/averages{document['next']}"

    assert found == [iso(DAY.day_ms + hour * HOUR_MS) for hour in range(250)]


def test_from_is_included_and_to_is_not(running: Services, url: str) -> None:
    load(url, range(4))
    page = serve(running, url)
    query = f"api/averages?from={iso(average(1).start_ms)}&to={iso(average(3).start_ms)}"

    document = ask(page, query).json()

    assert [each["hour"] for each in document["hours"]] == [
        iso(average(h).start_ms) for h in (1, 2)
    ]
    assert document["next"] is None


@pytest.mark.parametrize(
    "path", ["", "assets/page.js", "api/openapi.json", "api/partitions", "api/averages?limit=5"]
)
def test_what_the_client_has_already_is_not_sent_again(quiet_page: str, path: str) -> None:
    first = ask(quiet_page, path)
    etag = first.headers["ETag"]

    for known in (etag, f'"another", {etag}', etag.removeprefix("W/"), "*"):
        again = ask(quiet_page, path, {"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert ask(quiet_page, path, {"If-None-Match": '"another"'}).status == 200


def test_a_changed_document_has_another_tag(page: str, pipeline: Pipeline) -> None:
    etag = ask(page, "api/averages").headers["ETag"]
    pipeline.publish(average(0))
    wait_until(lambda: shown(page))

    assert ask(page, "api/averages", {"If-None-Match": etag}).status == 200


def test_what_is_large_is_compressed_for_who_asks(quiet_page: str) -> None:
    plain = ask(quiet_page, "assets/uplot.js")
    packed = ask(quiet_page, "assets/uplot.js", {"Accept-Encoding": "gzip"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 2


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("api/averages?limit=none", 400, "limit is 'none': give a whole number from 1 to 1000"),
        ("api/averages?from=then", 400, "from is 'then': give a time such as"),
        ("api/averages?since=2025-01-01", 400, "'since' is not a parameter"),
        ("api/status?verbose=1", 400, "/api/status has no parameters"),
        ("api/readings", 404, "/api/readings does not exist: see /api/openapi.json"),
        ("assets/../page.py", 404, ""),
        ("assets/%2e%2e/page.py", 404, ""),
        ("elsewhere", 404, ""),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong_in_one_line(
    quiet_page: str, path: str, status: int, said: str
) -> None:
    answer = ask(quiet_page, path)
    problem = answer.json()

    assert (answer.status, problem["status"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["detail"].startswith(said)
    assert "\n" not in problem["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["", "api/averages", "api/events"])
def test_nothing_can_be_changed(quiet_page: str, method: str, path: str) -> None:
    answer = ask(quiet_page, path, method=method)

    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["", "assets/page.css", "api/status", "api/nothing"])
def test_every_answer_forbids_what_the_page_does_not_need(quiet_page: str, path: str) -> None:
    headers = ask(quiet_page, path).headers

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in headers


def test_no_more_look_on_than_may(page: str) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_VIEWERS):
            stack.enter_context(looking_on(page)).until("averages")

        refused = ask(page, "api/events")
        assert refused.status == 503
        assert refused.json()["detail"] == f"{MOST_VIEWERS} clients are connected: try again later"
        assert ask(page).status == 200
    wait_until(lambda: not refused_to_look_on(page), message="nobody left")


def refused_to_look_on(page: str) -> bool:
    client = connection(page)
    try:
        client.request("GET", "/api/events")
        return client.getresponse().status == 503
    finally:
        client.close()


def test_silent_connections_lock_nobody_out(page: str) -> None:
    where = (urlsplit(page).hostname, urlsplit(page).port)
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 1):
            stack.enter_context(socket.create_connection(where))

        assert ask(page).status == 200


def test_it_stops_though_viewers_are_connected_and_one_reads_nothing(
    running: Services, url: str
) -> None:
    page = serve(running, url)
    running.await_ready(NAME)
    with looking_on(page) as events, socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        greedy.connect((urlsplit(page).hostname, urlsplit(page).port))
        greedy.sendall(b"GET /api/events HTTP/1.1\r\nHost: h\r\n\r\n" * 1)
        events.until("status")

        assert running.terminate(NAME) == 0, running.said(NAME)
        assert "Traceback" not in running.said(NAME)
        with pytest.raises(EOFError):
            events.until("never")


def test_the_page_can_be_left_out(running: Services, url: str) -> None:
    running.start(NAME, "averages_consumer", "--warehouse-url", url, "--no-web")
    running.await_ready(NAME)

    assert "the page is at" not in running.said(NAME)


def test_a_port_that_is_taken_is_told_of_in_one_line(running: Services, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running.start(NAME, "averages_consumer", "--warehouse-url", url, "--web-port", str(port))

        assert running.exit_status(NAME) == 2
    (line,) = (each for each in running.said(NAME).splitlines() if "cannot listen" in each)
    assert line == (
        f"hourglass-averages-consumer: cannot listen on 127.0.0.1:{port} (Address already in use): "
        "choose another --web-port"
    )
