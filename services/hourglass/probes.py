"""The HTTP port of a service: GET and HEAD of /livez, /readyz and /metrics, and nothing else.

One thread serves every client, and none can hold it up: a connection carries one request, has
EXCHANGE_S for all of it and HEAD_BYTES to ask in, and where there are CONNECTIONS of them the
oldest makes room for the newest. So threads, memory and descriptors stay few whatever is sent, and
a probe is answered while a thousand clients say nothing.
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

from hourglass.listening import listen

log = logging.getLogger(__name__)

#: What keeps a service from being live or ready, one phrase each; empty if nothing does.
Check = Callable[[], Sequence[str]]

#: From the first byte to the last, both ways; a scrape takes a small part of it.
EXCHANGE_S = 5.0
#: Request line and headers; kubelet and Prometheus send some 300.
HEAD_BYTES = 8 * 1024
#: Open at a time: more than asyncio accepts in one turn, so that each is heard once.
CONNECTIONS = 200
#: Connections that the kernel keeps until they are accepted.
WAITING = 1024
#: Part of the two seconds between SIGTERM and the exit.
CLOSE_WITHIN_S = 0.2


class Request(NamedTuple):
    """What matters here of a request."""

    method: str
    path: str
    accept: str

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """From the request line to the empty one. Raises ValueError."""
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = first.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"{version!r} is not spoken here")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        return cls(method, target.partition("?")[0], headers.get("accept", ""))


class Answer(NamedTuple):
    """What a request gets."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def of(cls, status: HTTPStatus, *lines: str) -> Answer:
        return cls(status, "".join(f"{line}\n" for line in lines).encode())

    def encoded(self) -> bytes:
        """The head and the body."""
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
    """Serves until closed. `port` is the port it got."""

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
        listener.listen(WAITING)  # what start_server was told would also be accepted in one turn
        await self._closed.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)  # in which the aborted connections close

    async def _converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One request, one answer, and the connection is closed."""
        if len(self._open) >= CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(EXCHANGE_S):
                writer.write(await self._exchange(reader))
                writer.write_eof()
                # Closed with something unread, the connection would be reset, the answer with it.
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
            return Answer.of(HTTPStatus.BAD_REQUEST, "this is no HTTP/1 request").encoded()
        answer = self._answer(request)
        if request.method == "HEAD":
            return answer.encoded().removesuffix(answer.body)
        return answer.encoded()

    def _answer(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return Answer.of(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD")
        try:
            if request.path == "/metrics":
                encode, content_type = _encoder(request.accept)
                return Answer(HTTPStatus.OK, encode(self._registry), content_type)
            if request.path in self._checks:
                troubles = self._checks[request.path]()
                notes = self._notes.get(request.path, tuple)()
                if troubles:
                    return Answer.of(HTTPStatus.SERVICE_UNAVAILABLE, *troubles, *notes)
                return Answer.of(HTTPStatus.OK, "ok", *notes)
        except Exception:
            log.exception("%s cannot be answered", request.path)
            return Answer.of(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log")
        return Answer.of(HTTPStatus.NOT_FOUND, "there are /livez, /readyz, /metrics")


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """How to write the metrics for whoever accepts that, and its content type."""
    try:
        return choose_encoder(accept)
    except ValueError:  # a version that is no number
        return choose_encoder("")
