"""The HTTP server of a service: GET and HEAD of /livez, /readyz and /metrics.

asyncio's server with time-outs carries it, and http.server reads and writes the messages; producer
and aggregator need no web library for it.

One thread serves all clients, and no client can block it. A connection serves one request, limited
to EXCHANGE_S in total and HEAD_BYTES of headers. Above CONNECTIONS open connections the server
drops the oldest. Threads, memory and descriptors are therefore bounded, and probes are answered
while a thousand idle clients are connected.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedReader, BytesIO
from threading import Thread
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from hourglass.errors import ConfigurationError

#: The errors that concern the address, not the port.
_BAD_HOST = (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT, errno.ENODEV)


def listen(host: str, port: int, *, port_option: str, backlog: int = 128) -> socket.socket:
    """A socket that listens on `host` and `port`. An empty host, like ::, is every address of this
    machine, IPv4 and IPv6.

    port_option: the option of the port, for the error message

    Raises ConfigurationError.
    """
    every = host in ("", "::")
    both = every and socket.has_dualstack_ipv6()
    is_v6 = both or ":" in host
    try:
        return socket.create_server(
            ("::" if both else host, port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            backlog=backlog,
            dualstack_ipv6=both,
        )
    except (OSError, UnicodeError) as error:
        code = error.errno if isinstance(error, OSError) else None
        # An unknown name has a negative error code, from getaddrinfo.
        if code is None or code < 0 or code in _BAD_HOST:
            raise ConfigurationError(
                f"cannot listen on {host!r}, which is not an address of this machine: set "
                "HOURGLASS_HTTP_HOST to one, without brackets and port, or leave it empty"
            ) from None
        # The message of the error itself would repeat the address.
        reason = os.strerror(code)
        raise ConfigurationError(
            f"cannot listen on {host or 'any address'}:{port} ({reason}): "
            f"choose another {port_option}"
        ) from None


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


class Answer(NamedTuple):
    """A response."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def of(cls, status: HTTPStatus, *lines: str) -> Answer:
        return cls(status, "".join(f"{line}\n" for line in lines).encode())


class Exchange(BaseHTTPRequestHandler):
    """One request and its response, as bytes: the standard library parses the one and formats the
    other, without a socket.

    response: empty for an empty request
    """

    protocol_version = "HTTP/1.1"
    # Not HTTP/0.9, whose responses have no status.
    default_request_version = "HTTP/1.0"

    def __init__(self, head: bytes | None, answer: Callable[[str, str], Answer]) -> None:
        """Make the response.

        head: request line and headers; None if they are too long
        answer: makes the answer from path and Accept header
        """
        # Not BaseHTTPRequestHandler's, which reads from a socket.
        self._answer = answer
        self.rfile = BufferedReader(BytesIO(head or b""))
        self.wfile = BytesIO()
        self.command, self.request_version = "", self.default_request_version
        if head is None:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            self.handle_one_request()
        self.response = self.wfile.getvalue()

    def do_GET(self) -> None:
        self._send(self._answer(self.path.partition("?")[0], self.headers.get("Accept", "")))

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        del explain  # a paragraph for an HTML page
        if code == HTTPStatus.NOT_IMPLEMENTED:  # there is no such method here
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed"
        status = HTTPStatus(code)
        self._send(Answer.of(status, message or status.description))

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


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
        """Start serving. Raises ConfigurationError if the port cannot be opened.

        live, ready: the reasons why the service is not
        notes: lines that /readyz adds, ready or not
        """
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
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            head = None
        return Exchange(head, self._answer).response

    def _answer(self, path: str, accept: str) -> Answer:
        try:
            if path == "/metrics":
                encode, content_type = _encoder(accept)
                return Answer(HTTPStatus.OK, encode(self._registry), content_type)
            if path in self._checks:
                reasons = self._checks[path]()
                notes = self._notes.get(path, tuple)()
                if reasons:
                    return Answer.of(HTTPStatus.SERVICE_UNAVAILABLE, *reasons, *notes)
                return Answer.of(HTTPStatus.OK, "ok", *notes)
        except Exception:
            log.exception("the request for %s failed", path)
            return Answer.of(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: see the log")
        return Answer.of(HTTPStatus.NOT_FOUND, "not found: use /livez, /readyz or /metrics")


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """The encoder of the metrics for an Accept header, and its content type."""
    try:
        return choose_encoder(accept)
    except ValueError:  # the header has a version that is not a number
        return choose_encoder("")
