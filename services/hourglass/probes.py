"""The HTTP port of a service: /livez, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from hourglass.errors import Misconfigured

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

#: What keeps a service from being live or ready, one phrase each; empty if nothing does.
Check = Callable[[], Sequence[str]]

#: How long closing the port may take: part of the two seconds between SIGTERM and the exit.
CLOSE_WITHIN_S = 0.1


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    #: A client that sends nothing gives its thread back.
    timeout = 10

    def log_message(self, *_: Any, **__: Any) -> None:
        """Probes and scrapes are no news."""


class Probes:
    """Serves until closed. `port` is the port it got."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, *, live: Check, ready: Check
    ) -> None:
        metrics = make_wsgi_app(registry)

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
                return _answer(start_response, "405 Method Not Allowed", ["only GET"])
            if path == "/metrics":
                return metrics(environ, start_response)
            check = {"/livez": live, "/readyz": ready}.get(path)
            if check is None:
                return _answer(
                    start_response, "404 Not Found", ["there are /livez, /readyz, /metrics"]
                )
            troubles = check()
            if troubles:
                return _answer(start_response, "503 Service Unavailable", troubles)
            return _answer(start_response, "200 OK", ["ok"])

        try:
            self._server = make_server(
                host, port, app, server_class=_Server, handler_class=_QuietHandler
            )
        except OSError as error:
            raise Misconfigured(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --http-port"
            ) from None
        self.port = int(self._server.server_port)
        self._thread = Thread(
            target=self._server.serve_forever, args=(CLOSE_WITHIN_S,), name="probes", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(start_response: StartResponse, status: str, lines: Sequence[str]) -> list[bytes]:
    body = "".join(f"{line}\n" for line in lines).encode()
    start_response(
        status,
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    return [body]
