"""The page's server keeps no connection that keeps it waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack
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
from hourglass.errors import ConfigurationError
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


async def unhurried(request: Request) -> Response:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return PlainTextResponse("too late")


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
    routes = [("/", hello), ("/endless", endless), ("/unhurried", unhurried)]
    app = Starlette(routes=[Route(path, answer) for path, answer in routes])
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


def test_of_too_many_that_say_nothing_the_oldest_makes_room(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 600)
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 20)
    with ExitStack() as open_ones:
        first, second, *_ = [open_ones.enter_context(connected(server)) for _ in range(20)]
        wait_until(lambda: len(server.server_state.connections) == 20)

        assert ask(server.url).body == b"hello"
        assert dropped(first)
        second.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert second.recv(8) == b"HTTP/1.1"


def test_where_each_is_being_answered_one_more_is_refused(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 1)
    with connected(server) as client:
        client.sendall(b"GET /unhurried HTTP/1.1\r\nHost: h\r\n\r\n")
        connections = server.server_state.connections
        wait_until(lambda: any(not cast(Any, each).waits_for_client for each in connections))

        with connected(server) as other:
            assert dropped(other)
        wait_until(lambda: len(connections) == 1)


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
        ConfigurationError, match=rf"127.0.0.1:{port} \(Address already in use\): choose"
    ):
        PageServer("127.0.0.1", port, Starlette(), Event(), on_stop=lambda: None)
