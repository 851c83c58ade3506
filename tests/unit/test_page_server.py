"""The page's server keeps no connection that keeps it waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from threading import Event, Thread
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from averages_consumer.web import server as module
from averages_consumer.web.server import PageServer
from hourglass.errors import Misconfigured
from tests.support.browsing import ask
from tests.support.waiting import wait_until

PIECE = b"x" * 100_000


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def endless(_request: Request) -> Response:
    async def pieces() -> AsyncGenerator[bytes]:
        while True:
            yield PIECE
            await asyncio.sleep(0)  # or nobody would see that the client has gone

    return StreamingResponse(pieces())


@pytest.fixture
def stop() -> Event:
    return Event()


@pytest.fixture
def stopped() -> list[str]:
    return []


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, stop: Event, stopped: list[str]
) -> Generator[PageServer]:
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    app = Starlette(routes=[Route("/", hello), Route("/endless", endless)])
    server = PageServer("127.0.0.1", 0, app, stop, on_stop=lambda: stopped.append("stopped"))
    thread = Thread(target=server.work, daemon=True)
    thread.start()
    yield server
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def connected(server: PageServer) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port or 0), timeout=20)


def dropped(client: socket.socket) -> bool:
    """Waits for it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("said", [b"", b"GE", b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: "])
def test_a_client_that_does_not_finish_its_request_is_dropped(
    server: PageServer, said: bytes
) -> None:
    with connected(server) as client:
        client.sendall(said)

        assert dropped(client)


def test_a_second_request_that_is_not_finished_is_no_better(server: PageServer) -> None:
    with connected(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n")
        received = b""
        while b"hello" not in received:
            received += client.recv(1000)

        assert dropped(client)


def test_a_client_that_takes_nothing_is_dropped(server: PageServer) -> None:
    with connected(server) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: server.server_state.connections)

        wait_until(lambda: not server.server_state.connections)


def test_a_client_that_takes_what_it_is_sent_is_kept(server: PageServer) -> None:
    with connected(server) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        received = 0
        while received < 500 * len(PIECE):
            part = client.recv(1_000_000)
            assert part
            received += len(part)


def test_it_answers_while_others_keep_it_waiting(server: PageServer) -> None:
    with connected(server), connected(server):
        assert ask(server.url).body == b"hello"


def test_it_stops_when_told_to(server: PageServer, stop: Event, stopped: list[str]) -> None:
    wait_until(lambda: server.started)
    stop.set()

    wait_until(lambda: stopped == ["stopped"])


def test_it_does_not_stay_for_a_client_that_takes_nothing(
    server: PageServer,
    stop: Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 60)
    connections = server.server_state.connections
    with connected(server) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: any(cast(Any, each).flow.write_paused for each in connections))
        stop.set()

        wait_until(lambda: not connections)
    assert caplog.messages == []


def test_a_port_that_is_taken_is_refused(server: PageServer) -> None:
    port = urlsplit(server.url).port or 0
    with pytest.raises(
        Misconfigured, match=rf"127.0.0.1:{port} \(Address already in use\): choose"
    ):
        PageServer("127.0.0.1", port, Starlette(), Event(), on_stop=lambda: None)
