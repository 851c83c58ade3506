"""The HTTP routes: the page, its files, the API and the event stream. Read-only."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha384
from importlib import metadata, resources
from pathlib import Path

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from averages_consumer.warehouse import Warehouse, WarehouseUnreachable
from averages_consumer.web.api import DESCRIPTION, BadRequest, Query, read
from averages_consumer.web.document_store import DocumentStore, Subscribers, etag_of
from averages_consumer.web.schemas import ErrorResponse
from hourglass.errors import ConfigurationError

#: Maximum requests that read the warehouse at the same time; further ones wait.
MOST_READERS = 4
RETRY_AFTER_S = 5
_DESCRIPTION = msgspec.json.encode(DESCRIPTION)

#: The page loads resources from its own origin only, cannot be framed, and has no inline scripts.
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: uPlot draws the charts. It is published on npm only; two of its files are read from a PyPI
#: package that contains them and is never imported. Each file must match the hash of uPlot's
#: release, so that a changed package cannot change the page.
#: Path and integrity (https://www.w3.org/TR/sri-2/) of each file, from dist/ of
#: https://www.npmjs.com/package/uplot/v/1.6.31
UPLOT: Mapping[str, tuple[str, str]] = {
    "uplot.js": (
        "youplot/vendor/uplot.iife.min.js",
        "sha384-XMP23k7YSCFr13Xrkxh4IO0v1W+8fB6AP+3Vycxphp2Z0V2vocAZHyuGaFCysrtM",
    ),
    "uplot.css": (
        "youplot/vendor/uplot.min.css",
        "sha384-IfV0B7MIOYuO95kO9G5ySKPz/85zqFNOAs8iy4tkK5zd9izhJAB8b7lHrwYqqmYE",
    ),
}
_CARRIER = "youplot"
_MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_STREAM = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a buffering proxy would delay the events
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file with its response headers."""

    body: bytes
    media_type: str
    etag: str


def load_assets() -> Mapping[str, Asset]:
    """The files, by their names in the page's URLs. Raises ConfigurationError."""
    files = {
        each.name: each.read_bytes()
        for each in resources.files("averages_consumer.web").joinpath("static").iterdir()
    }
    files |= {name: _carried(path, integrity) for name, (path, integrity) in UPLOT.items()}
    return {
        name: Asset(body, _MEDIA_TYPES[Path(name).suffix], etag_of(body))
        for name, body in files.items()
    }


def integrity_of(body: bytes) -> str:
    return f"sha384-{b64encode(sha384(body).digest()).decode()}"


def _carried(path: str, integrity: str) -> bytes:
    try:
        body = Path(str(metadata.distribution(_CARRIER).locate_file(path))).read_bytes()
    except (metadata.PackageNotFoundError, OSError):
        body = b""
    if integrity_of(body) != integrity:
        raise ConfigurationError(
            f"{path}, which draws the page's charts, is missing or modified: install the locked "
            f"version of {_CARRIER}, or set HOURGLASS_WEB=false to turn the page off"
        )
    return body


@dataclass(slots=True, kw_only=True)
class PageApp:
    """The request handlers and their data sources."""

    board: DocumentStore
    viewers: Subscribers
    warehouse: Warehouse
    assets: Mapping[str, Asset]
    period_s: float
    _readers: CapacityLimiter | None = None

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/assets/{name}", self._asset),
                Route("/api/openapi.json", self._description),
                Route("/api/averages", self._averages),
                Route("/api/events", self._events),
                Route("/api/{name}", self._document),
            ],
            middleware=[Middleware(GZipMiddleware, minimum_size=1000), Middleware(_Secured)],
            exception_handlers={
                HTTPException: _refuse,
                BadRequest: _refuse,
                WarehouseUnreachable: _unreachable,
            },
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        self._readers = CapacityLimiter(MOST_READERS)
        self.viewers.attach()
        yield

    async def _index(self, request: Request) -> Response:
        return self._file(request, "index.html")

    async def _asset(self, request: Request) -> Response:
        return self._file(request, request.path_params["name"])

    def _file(self, request: Request, name: str) -> Response:
        asset = self.assets.get(name)
        if asset is None:
            raise HTTPException(404, f"no file is named {name!r}")
        return _answer(request, asset.body, asset.media_type, asset.etag)

    async def _description(self, request: Request) -> Response:
        return _json(request, _DESCRIPTION, etag_of(_DESCRIPTION))

    async def _document(self, request: Request) -> Response:
        name = request.path_params["name"]
        document = self.board.documents.get(name)
        if document is None:
            raise HTTPException(404, f"/api/{name} does not exist: see /api/openapi.json")
        if request.query_params:
            raise BadRequest(f"/api/{name} has no parameters")
        return _json(request, document.body, document.etag)

    async def _averages(self, request: Request) -> Response:
        if not request.query_params:
            document = self.board.documents["averages"]
            return _json(request, document.body, document.etag)
        query = Query.of(request.query_params, self.board.instant.now_ms)
        found = await to_thread.run_sync(
            read, self.warehouse, query, self.period_s, limiter=self._readers
        )
        body = msgspec.json.encode(found)
        answer = _json(request, body, etag_of(body))
        if found.next:
            answer.headers["Link"] = f'<{found.next}>; rel="next"'
        return answer

    async def _events(self, request: Request) -> Response:
        if request.method == "HEAD":  # has no body, so the response ends
            return Response(headers=_STREAM, media_type="text/event-stream")
        if self.viewers.full:
            raise HTTPException(503, f"{self.viewers.count} clients are connected: try again later")
        return _Stream(self.viewers)


class _Stream(StreamingResponse):
    """The event stream of one client, which counts as a viewer until the stream ends."""

    def __init__(self, viewers: Subscribers) -> None:
        super().__init__(viewers.events(), media_type="text/event-stream", headers=_STREAM)
        self._viewers = viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._viewers.one_more():
            await super().__call__(scope, receive, send)


class _Secured:
    """Middleware that adds the security headers to each response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY)
            await send(message)

        await self._app(scope, receive, secured)


def _json(request: Request, body: bytes, etag: str) -> Response:
    return _answer(request, body, "application/json", etag)


def _answer(request: Request, body: bytes, media_type: str, etag: str) -> Response:
    """The response with the body; 304 without a body if the client has it already."""
    # The client may cache the body, but must revalidate it before each use.
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if _has(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _has(if_none_match: str, etag: str) -> bool:
    """Whether If-None-Match contains the tag, by weak comparison (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag.removeprefix("W/") in tags


async def _refuse(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status_code == 503 else {}
        return _error_response(
            error.status_code, error.detail, {**headers, **(error.headers or {})}
        )
    return _error_response(400, str(error))


async def _unreachable(_request: Request, error: Exception) -> Response:
    del error  # it may contain host names; the log has it
    return _error_response(
        503,
        "the warehouse does not answer; /api/averages without parameters has the last five days",
        {"Retry-After": str(RETRY_AFTER_S)},
    )


_TITLES = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


def _error_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    title = _TITLES.get(status, "Error")
    body = msgspec.json.encode(ErrorResponse(title=title, status=status, detail=detail))
    return Response(body, status, dict(headers or {}), "application/problem+json")
