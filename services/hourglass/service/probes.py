"""The HTTP server of a service: GET and HEAD of /livez, /readyz and /metrics.

One thread serves all clients, and no client can block it. A connection serves one request, limited
to EXCHANGE_S in total and HEAD_BYTES of headers. Above CONNECTIONS open connections the server
drops the oldest. Threads, memory and descriptors are therefore bounded, and probes are answered
while a thousand idle clients are connected.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from threading import Thread
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from hourglass.service.listening import listen

log = logging.getLogger(__name__)

#: The reasons why a service is not live or not ready, one phrase each; empty if it is.
Check = Callable[[], Sequence[str]]

#: Time-out of one request and its response; a scrape takes a small part of it.
EXCHANGE_S = 5.0
#: Maximum bytes of request line and headers; kubelet and Prometheus send about 300.
HEAD_BYTES = 8 * 1024
#: Maximum open connections: more than asyncio accepts in one iteration of its loop, so that the
#: server reads from each connection before it drops it.
CONNECTIONS = 200
#: The listen backlog.
WAITING = 1024
#: Part of the two seconds between SIGTERM and the exit.
CLOSE_WITHIN_S = 0.2


class Request(NamedTuple):
    """The parts of a request that the server uses."""

    method: str
    path: str
    accept: str

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Parse a request line and headers, up to the empty line. Raises ValueError."""
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = first.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"{version!r} is not supported")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        return cls(method, target.partition("?")[0], headers.get("accept", ""))


class Answer(NamedTuple):
    """A response."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def of(cls, status: HTTPStatus, *lines: str) -> Answer:
        return cls(status, "".join(f"{line}\n" for line in lines).encode())

    def encoded(self) -> bytes:
        """The response in HTTP/1.1."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
        ]
        if self.status is HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET, HEAD")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Probes:
    """The server; it serves requests from its construction until `close`.

    port: the port it listens on
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        live: Check,
        ready: Check,
        notes: Check = tuple,
    ) -> None:
        """`notes`: what /readyz says besides, ready or not."""
        self._registry = registry
        self._notes: dict[str, Check] = {"/readyz": notes}
        self._checks = {"/livez": live, "/readyz": ready}
        self._open: dict[StreamWriter, None] = {}
        listener = listen(host, port, port_option="--http-port")
        # asyncio takes all that the kernel has at once, however little was asked for.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * HEAD_BYTES)
        self.port = int(listener.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._closed = asyncio.Event()
        self._thread = Thread(target=self._run, args=(listener,), name="probes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join(CLOSE_WITHIN_S)

    def _run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._converse, sock=listener, limit=HEAD_BYTES)
        # Not as start_server's backlog, which is also the number of accepts per loop iteration.
        listener.listen(WAITING)
        await self._closed.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)  # lets the aborted connections close

    async def _converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one request, then close the connection."""
        if len(self._open) >= CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(EXCHANGE_S):
                writer.write(await self._exchange(reader))
                writer.write_eof()
                # Closing a socket with unread data resets it, and the client loses the response.
                while await reader.read(HEAD_BYTES):
                    pass
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, EOFError):
            pass
        finally:
            writer.transport.abort()
            self._open.pop(writer, None)

    async def _exchange(self, reader: StreamReader) -> bytes:
        try:
            request = Request.parse(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            return Answer.of(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long"
            ).encoded()
        except ValueError:
            return Answer.of(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1 request").encoded()
        answer = self._answer(request)
        if request.method == "HEAD":
            return answer.encoded().removesuffix(answer.body)
        return answer.encoded()

    def _answer(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return Answer.of(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
        try:
            if request.path == "/metrics":
                encode, content_type = _encoder(request.accept)
                return Answer(HTTPStatus.OK, encode(self._registry), content_type)
            if request.path in self._checks:
                reasons = self._checks[request.path]()
                notes = self._notes.get(request.path, tuple)()
                if reasons:
                    return Answer.of(HTTPStatus.SERVICE_UNAVAILABLE, *reasons, *notes)
                return Answer.of(HTTPStatus.OK, "ok", *notes)
        except Exception:
            log.exception("the request for %s failed", request.path)
            return Answer.of(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: see the log")
        return Answer.of(HTTPStatus.NOT_FOUND, "not found: use /livez, /readyz or /metrics")


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """The encoder of the metrics for an Accept header, and its content type."""
    try:
        return choose_encoder(accept)
    except ValueError:  # the header has a version that is not a number
        return choose_encoder("")
