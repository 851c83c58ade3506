"""Composition root of the aggregator: consumers read and count, the sealer seals and publishes."""

from __future__ import annotations

import sys

from aggregator.collectors import LostReadingsGauges, ProgressGauges
from aggregator.config import AggregatorSettings
from aggregator.consumer import ShardConsumer
from aggregator.metrics import Metrics
from aggregator.sealer import Sealer
from aggregator.strays import StrayFinder, StrayGauges
from aggregator.supervisor import PartitionSupervisor
from hourglass.cluster.groups import gone_after_ms
from hourglass.model.clock import PipelineClock
from hourglass.monitoring.collectors import StreamGauges
from hourglass.service.cli import add_command, application, invoke
from hourglass.service.runtime import Service
from hourglass.service.tracing import tracer

SUPERVISE_S = 1.0
STREAMS_S = 2.0
UNLISTED_S = 60.0
LOSSES_S = 5.0
STRAYS_S = 10.0


def aggregate(settings: AggregatorSettings) -> None:
    """Count every reading of every live partition once, and publish one average per hour."""
    service = Service("aggregator", settings)
    spans, flush = tracer("aggregator", service.name)
    service.resources.callback(flush)
    service.serve_probes()
    cluster = service.connect()
    clock = PipelineClock(cluster)
    clock.refresh()
    metrics = Metrics(service.registry)
    gauges = StreamGauges(service.registry, partitions=True)
    progress = ProgressGauges(service.registry, period_s=settings.period_s)
    losses = LostReadingsGauges(service.registry)
    strays, finder = StrayGauges(service.registry), StrayFinder(cluster, clock)
    supervisor = PartitionSupervisor(
        service,
        cluster,
        clock,
        lambda shard: ShardConsumer(shard, service, cluster, clock, settings, metrics, spans),
    )
    lateness_ms = round(settings.lateness_s * 1000)
    sealer = Sealer(
        name=service.name,
        cluster=cluster,
        clock=clock,
        lateness_ms=lateness_ms,
        idle_ms=round(settings.producer_idle_s * 1000),
        metrics=metrics,
        tracer=spans,
    )
    claim_idle_s = settings.claim_idle_ms / 1000
    service.every(SUPERVISE_S, "supervisor", supervisor.step)
    service.every(lambda: sealer.rest_s(settings.seal_every_ms / 1000), "sealer", sealer.tick)
    service.every(UNLISTED_S, "unlisted", supervisor.find_unlisted)
    service.every(STREAMS_S, "streams", lambda: supervisor.show_streams(gauges))
    service.every(
        STREAMS_S,
        "progress",
        lambda: progress.poll(cluster, clock.current(), settling_ms=lateness_ms),
    )
    service.every(LOSSES_S, "lost-readings", lambda: losses.poll(cluster, clock.current()))
    service.every(STRAYS_S, "strays", lambda: strays.poll(finder))
    service.every(
        claim_idle_s, "reaper", lambda: supervisor.reap(gone_after_ms(settings.claim_idle_ms))
    )
    sys.exit(service.run())


def main() -> None:
    app = application()
    add_command(app, AggregatorSettings, aggregate)
    invoke(app, "hourglass-aggregator")


if __name__ == "__main__":
    main()
