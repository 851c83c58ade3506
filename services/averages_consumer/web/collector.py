"""Reads the page's data from Redis and the warehouse. The load does not depend on the number of
clients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from threading import Event
from typing import Protocol

from averages_consumer.warehouse import Warehouse, WarehouseAway
from averages_consumer.web.document_store import DocumentStore
from averages_consumer.web.snapshot import Survey
from averages_consumer.web.view import window
from hourglass.cluster.client import Cluster
from hourglass.cluster.link import ResponseError
from hourglass.cluster.partitions import recorded
from hourglass.cluster.published import Tail, results
from hourglass.errors import CorruptKey, Unreachable, UnsupportedServer
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import RECORDS_KEPT_MS
from hourglass.model.strays import decode
from hourglass.monitoring.pipeline_status import look

log = logging.getLogger(__name__)

SURVEY_S = 1.0
WAREHOUSE_S = 2.0
#: Time that one read of the averages blocks for the next average.
BLOCK_MS = 500
RETRY_S = 0.2
_REMEDY = "is not what the pipeline put there: rename or delete it"


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
                        self.board.heard(feed.next(BLOCK_MS))
            except Unreachable:
                pass
            except (CorruptKey, UnsupportedServer, ResponseError) as error:
                self.board.unreadable("averages", self._shown(error))
            self.host.beat("page-averages")
            self.host.stop.wait(RETRY_S)

    def survey(self) -> None:
        """Poll the partitions every second, until the service stops."""

        def step() -> None:
            try:
                self.board.surveyed(survey(self.cluster, self.clock))
            except Unreachable:
                pass  # the page detects stale data by its age
            except Exception as error:
                log.debug("survey", exc_info=True)
                self.board.unreadable("survey", self._shown(error))

        self._every(SURVEY_S, "page-survey", step)

    def watch_warehouse(self) -> None:
        """Poll the rows of the last days every two seconds, until the service stops."""

        def step() -> None:
            averages = self.board.averages
            last = averages[-1].start_ms if averages else None
            start, end = window(self.board.instant.now_ms, last)
            with suppress(WarehouseAway):
                rows = list(self.warehouse.rows(start, end))
                self.board.loaded(rows, late_and_loaded(self.board.too_late, self.warehouse))

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


def late_and_loaded(too_late: AbstractSet[int], warehouse: Warehouse) -> AbstractSet[int]:
    """Those of the hours too late to be published that the warehouse has. Raises WarehouseAway."""
    return too_late & warehouse.hours(min(too_late)) if too_late else frozenset()


def survey(cluster: Cluster, clock: PipelineClock) -> Survey:
    """Read the state of the pipeline, in a number of round trips that does not depend on the number
    of partitions.

    Raises Unreachable, UnsupportedServer; Damaged if a key that belongs to no partition is corrupt.
    """
    keys = cluster.keyspace
    instant = clock.refresh()
    overview = look(cluster, instant)
    kept = recorded(cluster, instant, kept_ms=RECORDS_KEPT_MS)
    commands = [
        *(("HMGET", partition.hours, "quarantined") for partition in kept),
        ("ZCARD", keys.revisions),
        ("ZRANGE", keys.too_late, 0, -1),
        ("GET", keys.strays),
    ]
    replies = cluster.pipeline(commands)
    quarantined: dict[str, int] = {}
    damaged = dict(overview.damaged)
    for partition, reply in zip(kept, replies, strict=False):
        try:
            quarantined[partition.stream] = int(reply[0] or 0)
        except (TypeError, ValueError):  # an error in place of a reply, or of a number
            damaged.setdefault(partition, f"{partition.hours} {_REMEDY}")
    of_publishing = (keys.revisions, keys.too_late, keys.strays)
    for key, reply in zip(of_publishing, replies[len(kept) :], strict=True):
        if isinstance(reply, Exception):
            raise CorruptKey(f"{key} {_REMEDY}")
    revised, too_late, strays = replies[len(kept) :]
    return Survey(
        overview=replace(overview, damaged=damaged),
        quarantined=quarantined,
        revised=revised,
        too_late=results(too_late, key=keys.too_late).keys(),
        strays=decode(strays, key=keys.strays),
    )
