"""The HTTP port of a service, asked over HTTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter

from hourglass.errors import Misconfigured
from hourglass.probes import Probes

HOST = "127.0.0.1"


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
    with closing(HTTPConnection(HOST, port, timeout=10)) as connection:
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
def test_a_service_without_troubles_is_well(port: int, path: str) -> None:
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


def test_every_trouble_is_named_on_a_line(patient: Patient, port: int) -> None:
    patient.ready += ["publisher: Redis does not answer", "start: starting"]

    assert ask(port, "/readyz").text == "publisher: Redis does not answer\nstart: starting\n"


def test_a_trouble_that_has_passed_is_forgotten(patient: Patient, port: int) -> None:
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
    with pytest.raises(Misconfigured, match=rf"cannot listen on {HOST}:{port} .*--http-port"):
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
    probes = [patient.probes() for _ in range(6)]
    started = time.monotonic()
    for each in probes:
        each.close()

    assert time.monotonic() - started < len(probes) * 0.25
