"""Composition root of the averages consumer: averages → rows, and lines in the terminal."""

from __future__ import annotations

import sys

from averages_consumer.config import AveragesConsumerSettings
from averages_consumer.consumer import Consumer
from averages_consumer.gaps import Gaps
from averages_consumer.metrics import Metrics
from averages_consumer.revisions import REVISE_S, Revisions
from averages_consumer.warehouse import Warehouse
from averages_consumer.web.server import serve_page
from hourglass.cluster.groups import gone_after_ms, reap
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import AVERAGES_GROUP
from hourglass.monitoring.collectors import StreamGauges
from hourglass.monitoring.stream_stats import read_streams
from hourglass.service.cli import add_command, application, invoke
from hourglass.service.config import LogFormat, secret
from hourglass.service.runtime import Service
from hourglass.service.tracing import tracer

STREAMS_S = 2.0


def consume(settings: AveragesConsumerSettings) -> None:
    """Load each hourly average into the warehouse, once, and print it."""
    service = Service("averages-consumer", settings)
    url = secret(settings.warehouse_url, settings.warehouse_url_file, "--warehouse-url-file")
    warehouse = service.resources.enter_context(Warehouse(url))
    spans, flush = tracer("averages-consumer", service.name)
    service.resources.callback(flush)
    service.serve_probes()
    cluster = service.connect()
    averages = cluster.keyspace.averages
    metrics = Metrics(service.registry)
    gauges = StreamGauges(service.registry, partitions=False)
    consumer = Consumer(
        host=service,
        cluster=cluster,
        warehouse=warehouse,
        gaps=Gaps(cluster, warehouse, metrics),
        metrics=metrics,
        tracer=spans,
        claim_idle_ms=settings.claim_idle_ms,
        out=None if settings.log_format is LogFormat.JSON else sys.stdout,
    )

    if settings.revisions:
        revisions = Revisions(cluster, PipelineClock(cluster), warehouse, metrics, consumer.tell)
        service.every(REVISE_S, "revisions", revisions.step)
    if settings.web:
        serve_page(service, settings, cluster, warehouse)
    service.worker("averages", consumer.work)
    service.every(
        STREAMS_S, "streams", lambda: gauges.show(read_streams(cluster, [averages], AVERAGES_GROUP))
    )
    idle_ms = settings.claim_idle_ms
    service.every(
        idle_ms / 1000,
        "reaper",
        lambda: reap(cluster, averages, AVERAGES_GROUP, gone_after_ms(idle_ms)),
    )
    # The service stays in start-up, and therefore not ready, until the consumer has connected.
    while not (consumer.begun.wait(0.1) or service.stop.is_set()):
        pass
    sys.exit(service.run())


def main() -> None:
    app = application()
    add_command(app, AveragesConsumerSettings, consume)
    invoke(app, "hourglass-averages-consumer")


if __name__ == "__main__":
    main()
