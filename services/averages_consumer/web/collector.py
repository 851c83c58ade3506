"""Reads the page's data from Redis and the warehouse. The load does not depend on the number of
clients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from averages_consumer.warehouse import Warehouse, WarehouseUnreachable
from averages_consumer.web.document_store import DocumentStore
from averages_consumer.web.view import window
from hourglass.cluster.client import Cluster
from hourglass.cluster.link import ResponseError
from hourglass.cluster.published import Tail
from hourglass.errors import CorruptKey, Unreachable, UnsupportedServer
from hourglass.model.clock import PipelineClock
from hourglass.monitoring.pipeline_status import collect

log = logging.getLogger(__name__)

POLL_S = 1.0
WAREHOUSE_S = 2.0
#: Time that one read of the averages blocks for the next average.
BLOCK_MS = 500
RETRY_S = 0.2


class Host(Protocol):
    """The part of hourglass.service.runtime.Service that a collector uses."""

    stop: Event

    def beat(self, worker: str, *, rest_s: float = 0.0) -> None: ...


@dataclass(slots=True, kw_only=True)
class Collector:
    """The work of three threads. Their failures do not make the service unready, because they
    affect only the page."""

    host: Host
    cluster: Cluster
    warehouse: Warehouse
    clock: PipelineClock
    board: DocumentStore
    _logged: str = ""

    def follow(self) -> None:
        """Pass each average to the board when it is published, until the service stops."""
        stream = self.cluster.keyspace.averages
        while not self.host.stop.is_set():
            try:
                with closing(self.cluster.link(stream)) as link:
                    feed = Tail(link, stream)
                    while not self.host.stop.is_set():
                        self.host.beat("page-averages")
                        self.board.received(feed.next(BLOCK_MS))
            except Unreachable:
                pass
            except (CorruptKey, UnsupportedServer, ResponseError) as error:
                self.board.unreadable("averages", self._shown(error))
            self.host.beat("page-averages")
            self.host.stop.wait(RETRY_S)

    def poll_pipeline(self) -> None:
        """Poll the partitions every second, until the service stops."""

        def step() -> None:
            try:
                self.board.polled(collect(self.cluster, self.clock.refresh()))
            except Unreachable:
                pass  # the page detects stale data by its age
            except Exception as error:
                log.debug("pipeline", exc_info=True)
                self.board.unreadable("pipeline", self._shown(error))

        self._every(POLL_S, "page-pipeline", step)

    def watch_warehouse(self) -> None:
        """Poll the rows of the last days every two seconds, until the service stops."""

        def step() -> None:
            averages = self.board.averages
            last = averages[-1].start_ms if averages else None
            start, end = window(self.board.instant.now_ms, last)
            with suppress(WarehouseUnreachable):
                rows = list(self.warehouse.rows(start, end))
                self.board.loaded(rows, self.warehouse.among(self.board.too_late))

        self._every(WAREHOUSE_S, "page-warehouse", step)

    def _shown(self, error: Exception) -> str:
        """The error as the page shows it: the message about a corrupt key. Other errors may contain
        host and user names, so they are logged, once per change, and not shown."""
        if isinstance(error, CorruptKey):
            return str(error)
        if str(error) != self._logged:
            self._logged = str(error)
            log.info("the page cannot be updated: %s", error)
        return "the log of the averages consumer has the cause."

    def _every(self, seconds: float, name: str, step: Callable[[], None]) -> None:
        while True:
            self.host.beat(name)
            began = time.monotonic()
            step()
            self.host.beat(name, rest_s=seconds)
            if self.host.stop.wait(max(0.0, began + seconds - time.monotonic())):
                return
