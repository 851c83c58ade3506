"""Serves the page: its modules, and uvicorn in a worker thread, on a separate port, with limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from averages_consumer.config import AveragesConsumerSettings
from averages_consumer.metrics import MISSING_HOURS
from averages_consumer.warehouse import Warehouse
from averages_consumer.web.app import PageApp, load_assets
from averages_consumer.web.collector import Collector
from averages_consumer.web.document_store import DocumentStore, Subscribers
from hourglass.cluster.client import Cluster
from hourglass.model.clock import ClockSpec, Instant, PipelineClock
from hourglass.service.probes import listen
from hourglass.service.runtime import Service

log = logging.getLogger(__name__)

#: Interval between two updates of the documents.
REFRESH_S = 1.0

#: Maximum connections. Above it the server drops the oldest connection that waits for its client;
#: if it is answering all of them, it drops the new one.
MOST_CONNECTIONS = 200
#: Time-out for a client to complete its request, to receive the response or to close.
PATIENCE_S = 20.0

#: The host in the URL of a server that listens on every address.
_REACHED_AT = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}


def serve_page(
    service: Service, settings: AveragesConsumerSettings, cluster: Cluster, warehouse: Warehouse
) -> None:
    """Start the workers that collect the data and serve the page. Raises ConfigurationError,
    Unreachable."""
    clock = PipelineClock(cluster)
    _, real_ms = cluster.clock()
    board = DocumentStore(
        clock,
        begun=Instant(ClockSpec(), real_ms),
        name=service.name,
        period_s=settings.period_s,
        not_ready=service.unready_reasons,
        missing_hours=lambda: int(service.registry.get_sample_value(MISSING_HOURS.name) or 0),
        server_findings=lambda: [replace(each, masters="") for each in service.server_findings()],
    )
    viewers = Subscribers(board.documents)
    board.listen(viewers.show)
    site = PageApp(
        board=board,
        viewers=viewers,
        warehouse=warehouse,
        assets=load_assets(),
        period_s=settings.period_s,
    )
    server = PageServer(
        settings.http_host,
        settings.web_port,
        site.app(),
        service.stop,
        on_stop=viewers.close,
    )
    collector = Collector(
        host=service, cluster=cluster, warehouse=warehouse, clock=clock, board=board
    )
    service.worker("page-averages", collector.follow)
    service.worker("page-pipeline", collector.poll_pipeline)
    service.worker("page-warehouse", collector.watch_warehouse)
    service.every(REFRESH_S, "page", board.refresh)
    service.worker("page-server", server.work)
    log.info("the page is at %s", server.url)


class _Connection(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.opened = self.loop.time()
        if len(self.connections) > MOST_CONNECTIONS:
            others = cast("set[_Connection]", self.connections) - {self}
            silent = [each for each in others if each.waits_for_client]
            oldest = min(silent, key=lambda each: each.opened, default=self)
            oldest.transport.abort()

    @property
    def waits_for_client(self) -> bool:
        answering = self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]
        return not answering or self.flow.write_paused or self.transport.is_closing()


class PageServer(uvicorn.Server):
    """Listens from its construction on; `work` serves requests until `stop` is set."""

    def __init__(
        self, host: str, port: int, app: ASGIApp, stop: Event, *, on_stop: Callable[[], None]
    ) -> None:
        """Raises ConfigurationError if the port cannot be opened.

        on_stop: called in the server's event loop
        """
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._stop = stop
        self._on_stop = on_stop
        self._waiting: dict[_Connection, float] = {}
        self._socket = listen(host, port, port_option="--web-port")
        port = self._socket.getsockname()[1]
        reached_at = _REACHED_AT.get(host, f"[{host}]" if ":" in host else host)
        self.url = f"http://{reached_at}:{port}/"

    def work(self) -> None:
        self.run(sockets=[self._socket])

    async def on_tick(self, counter: int) -> bool:
        if self._stop.is_set():
            self._on_stop()
            self._drop_waiting_connections(-1)
            return True
        self._drop_waiting_connections(PATIENCE_S)
        return await super().on_tick(counter)

    def _drop_waiting_connections(self, patience_s: float) -> None:
        now = asyncio.get_running_loop().time()
        connections: set[Any] = self.server_state.connections
        self._waiting = {
            each: self._waiting.get(each, now) for each in connections if each.waits_for_client
        }
        for each, since in self._waiting.items():
            if now - since > patience_s:
                each.transport.abort()
