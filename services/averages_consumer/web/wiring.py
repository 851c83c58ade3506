"""Wires the modules of the page together and runs them in a service."""

from __future__ import annotations

import logging
from dataclasses import replace

from averages_consumer.config import AveragesConsumerSettings
from averages_consumer.metrics import MISSING_HOURS
from averages_consumer.warehouse import Warehouse
from averages_consumer.web import assets
from averages_consumer.web.app import PageApp
from averages_consumer.web.collector import Collector
from averages_consumer.web.document_store import DocumentStore
from averages_consumer.web.server import PageServer
from averages_consumer.web.subscribers import Subscribers
from hourglass.cluster.client import Cluster
from hourglass.model.clock import ClockSpec, Instant, PipelineClock
from hourglass.service.runtime import Service

log = logging.getLogger(__name__)

REFRESH_S = 1.0


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
        assets=assets.load(),
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
