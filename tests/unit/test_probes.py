"""The HTTP port of a service, asked over HTTP."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from hourglass.errors import ConfigurationError
from hourglass.service.probes import CLOSE_WITHIN_S, CONNECTIONS, Probes
from hourglass.service.runtime import DRAIN_S
from tests.support.waiting import PATIENCE_S, wait_until

HOST = "127.0.0.1"
#: Far more than a socket's buffers hold.
MUCH = 30_000_000


@dataclass(slots=True)
class Patient:
    """What the probes are told."""

    live: list[str] = field(default_factory=list[str])
    ready: list[str] = field(default_factory=list[str])
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def probes(self, port: int = 0) -> Probes:
        return Probes(HOST, port, self.registry, live=lambda: self.live, ready=lambda: self.ready)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


def ask(port: int, path: str, method: str = "GET") -> Answer:
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE_S)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read().decode())


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def port(patient: Patient) -> Generator[int]:
    probes = patient.probes()
    yield probes.port
    probes.close()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_service_without_failures_is_ready(port: int, path: str) -> None:
    answer = ask(port, path)

    assert (answer.status, answer.text) == (200, "ok\n")


def test_a_service_that_cannot_work_is_unready_and_live(patient: Patient, port: int) -> None:
    patient.ready.append("redis: away")

    assert ask(port, "/readyz").status == 503
    assert ask(port, "/livez").status == 200


def test_a_service_that_is_stuck_is_not_live(patient: Patient, port: int) -> None:
    patient.live.append("reader: stuck")

    assert ask(port, "/livez").status == 503
    assert ask(port, "/readyz").status == 200


def test_every_failure_is_named_on_a_line(patient: Patient, port: int) -> None:
    patient.ready += ["publisher: Redis does not answer", "start: starting"]

    assert ask(port, "/readyz").text == "publisher: Redis does not answer\nstart: starting\n"


def test_a_failure_that_has_passed_is_forgotten(patient: Patient, port: int) -> None:
    patient.ready.append("redis: away")
    assert ask(port, "/readyz").status == 503
    patient.ready.clear()

    assert ask(port, "/readyz").status == 200


def test_the_metrics_are_those_of_the_registry(patient: Patient, port: int) -> None:
    Counter("hourglass_drops_total", "Drops.", registry=patient.registry).inc(3)
    answer = ask(port, "/metrics")

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "hourglass_drops_total 3.0" in answer.text.splitlines()


def test_an_unknown_path_is_told_the_known_ones(port: int) -> None:
    answer = ask(port, "/")

    assert answer.status == 404
    assert all(path in answer.text for path in ("/livez", "/readyz", "/metrics"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/livez", "/metrics"])
def test_there_is_nothing_to_change(port: int, method: str, path: str) -> None:
    assert ask(port, path, method).status == 405


def test_a_head_request_is_answered(port: int) -> None:
    assert ask(port, "/livez", "HEAD").status == 200


def test_a_client_that_says_nothing_keeps_nobody_waiting(port: int) -> None:
    with socket.create_connection((HOST, port)):
        assert ask(port, "/livez").status == 200


def test_port_0_takes_a_free_one(patient: Patient, port: int) -> None:
    other = patient.probes()
    try:
        assert 0 < other.port != port
    finally:
        other.close()


def test_a_port_in_use_is_named_with_the_option_that_changes_it(
    patient: Patient, port: int
) -> None:
    with pytest.raises(ConfigurationError, match=rf"cannot listen on {HOST}:{port} .*--http-port"):
        patient.probes(port)


def test_a_closed_port_is_free_again(patient: Patient) -> None:
    first = patient.probes()
    first.close()
    second = patient.probes(first.port)
    second.close()

    assert second.port == first.port


def test_closing_leaves_workers_most_of_the_two_seconds_that_an_exit_may_take(
    patient: Patient,
) -> None:
    probes = patient.probes()
    with socket.create_connection((HOST, probes.port)) as silent:  # would be waited for
        silent.sendall(b"GET /livez")
        wait_until(lambda: cast(Any, probes)._open)
        probes.close()
    assert CLOSE_WITHIN_S + DRAIN_S < 2


def say(port: int, request: bytes, *, timeout_s: float = 30) -> bytes:
    """All that comes back for these bytes."""
    with socket.create_connection((HOST, port), timeout=timeout_s) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            return answer.read()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /livez HTTP/1.1", 200),
        (b"GET /livez?verbose HTTP/1.0", 200),
        (b"GET /livez HTTP/2", 400),
        (b"GET /livez HTTP/2.0", 505),
        (b"GET /livez", 200),
        (b"POST /livez", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"PRI * HTTP/1.1", 405),
        (b"GET /../etc/passwd HTTP/1.1", 404),
        (b"GET /livez/ HTTP/1.1", 404),
    ],
)
def test_what_is_no_request_is_answered_as_such(
    port: int, request_line: bytes, status: int
) -> None:
    assert status_of(say(port, request_line + b"\r\n\r\n")) == status


def test_a_head_request_gets_the_length_and_no_body(port: int) -> None:
    head, _, body = say(port, b"HEAD /livez HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")

    assert b"Content-Length: 3" in head
    assert body == b""


def test_a_request_that_is_too_long_is_refused(port: int) -> None:
    head = b"GET /livez HTTP/1.1\r\nX-Filler: " + b"x" * 10_000_000

    assert status_of(say(port, head)) == 431


def test_a_body_is_not_waited_for(port: int) -> None:
    request = b"POST /livez HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100_000

    assert status_of(say(port, request)) == 405


def test_a_check_that_fails_is_no_answer_and_no_end(patient: Patient) -> None:
    def fails() -> list[str]:
        raise RuntimeError("sesame")

    probes = Probes(HOST, 0, patient.registry, live=fails, ready=list)
    try:
        answer = ask(probes.port, "/livez")
        assert (answer.status, answer.text) == (500, "internal error: see the log\n")
        assert ask(probes.port, "/readyz").status == 200
    finally:
        probes.close()


def test_prometheus_gets_the_format_it_asks_for(port: int) -> None:
    asked = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=%s\r\n\r\n"

    assert b"Content-Type: application/openmetrics-text" in say(port, asked % b"1.0.0")
    assert b"Content-Type: text/plain" in say(port, asked % b"one")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_whatever_is_sent_the_next_client_is_answered(port: int, noise: bytes) -> None:
    for end in (b"", b"\r\n\r\n"):
        answer = say(port, noise + end)
        assert not answer or 400 <= status_of(answer) < 500

    assert ask(port, "/livez").status == 200


@contextmanager
def clients(port: int, count: int) -> Generator[list[socket.socket]]:
    """That many connections to the port, open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * count)), hard))
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((HOST, port), timeout=30))
            for _ in range(count)
        ]


def test_a_thousand_idle_clients_keep_nobody_waiting(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hourglass.service.probes.EXCHANGE_S", 600)
    threads = threading.active_count()
    with clients(port, 1000) as idle:
        assert ask(port, "/livez").status == 200
        assert threading.active_count() == threads
        # Of the thousand, only so many are kept; the others are told at once.
        wait_until(lambda: sum(map(is_closed, idle)) >= 1000 - CONNECTIONS)
        assert not is_closed(idle[-1])


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hourglass.service.probes.EXCHANGE_S", 0.5)


@pytest.mark.usefixtures("hurried")
def test_a_client_that_sends_slowly_is_given_up(port: int) -> None:
    with clients(port, 20) as slow:

        def all_are_closed() -> bool:
            for client in slow:
                with suppress(OSError):
                    client.send(b"G")
            assert ask(port, "/livez").status == 200
            return all(map(is_closed, slow))

        wait_until(all_are_closed, message="a slow client keeps its connection")


def test_a_long_answer_arrives_whole(patient: Patient, port: int) -> None:
    Counter("hourglass_drops_total", "." * MUCH, registry=patient.registry)
    head, _, body = say(port, b"GET /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")

    assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.usefixtures("hurried")
def test_a_client_that_reads_slowly_is_given_up(patient: Patient, port: int) -> None:
    Counter("hourglass_drops_total", "." * MUCH, registry=patient.registry)
    with clients(port, 3) as slow:
        for client in slow:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
        wait_until(lambda: ask(port, "/livez").status == 200)
        wait_until(lambda: kept(port) == 0, message="one is kept for ever")


def kept(port: int) -> int:
    """Connections to the port that the server has not closed: ESTABLISHED or CLOSE_WAIT."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    here = f"0100007F:{port:04X}"
    return sum(local == here and state in ("01", "08") for _, local, _, state, *_ in lines)
