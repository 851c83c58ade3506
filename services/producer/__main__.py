"""Composition root of the producer: devices → buffer → batches → partition."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any, TextIO

from hourglass.cluster.partitions import Days
from hourglass.errors import ConfigurationError
from hourglass.model.clock import PipelineClock
from hourglass.model.devices import device_names, share_out
from hourglass.model.keys import parse_time
from hourglass.service.cli import add_command, application, invoke
from hourglass.service.runtime import Service
from hourglass.service.tracing import tracer
from producer.batch import Batcher
from producer.buffer import Buffer
from producer.config import ProducerSettings, Source
from producer.devices import Devices
from producer.entry_format import EntryFormat
from producer.metrics import Metrics, MqttMetrics
from producer.mqtt import WORKER, MqttSource
from producer.mqtt_options import Broker, MqttOptions
from producer.pipeline import Line, ProducerPipeline, SimulatedLine
from producer.writer import BatchWriter

#: Interval at which the lanes of each day in use are registered in Redis again.
RENEW_S = 5.0


def produce(settings: ProducerSettings) -> None:
    """Send one temperature reading per device and period; Redis stores each reading once."""
    until_ms = parse_time(settings.until, option="--until") if settings.until else None
    mqtt = _mqtt_options(settings) if settings.source is Source.MQTT else None
    tally_outputs = [sys.stdout, *files(settings.tally_file)]
    service = Service("producer", settings)
    spans, flush = tracer("producer", service.name)
    service.resources.callback(flush)
    service.serve_probes()
    cluster = service.connect()
    clock = PipelineClock(cluster)
    clock.refresh()
    metrics = Metrics(service.registry)
    days = Days(cluster, clock, lanes=settings.lanes)

    def writer() -> BatchWriter:
        publisher = BatchWriter(
            cluster,
            clock,
            days=days,
            incarnation=f"{service.name}:{uuid.uuid4().hex[:12]}",
            wait_replicas=settings.wait_replicas,
            wait_timeout_ms=settings.wait_timeout_ms,
            tracer=spans,
        )
        service.resources.callback(publisher.close)
        return publisher

    def simulated(name: str, layout: EntryFormat) -> SimulatedLine:
        # The buffer capacity of this pipeline, in proportion to its devices.
        share = settings.buffer_readings * layout.source.device_count // settings.devices
        return SimulatedLine(
            name=name,
            encoder=layout.cutter,
            readings=layout.readings,
            together=layout.together,
            publisher=writer(),
            devices=Devices(layout.source, most_readings=max(1, share), until_ms=until_ms),
            buffer=Buffer[Any](max(1, share // layout.readings)),
        )

    service.every(1.0, "clock", clock.refresh)
    service.every(RENEW_S, "days", days.renew)
    if mqtt is None:
        metrics.devices(settings.devices)
        layouts = _layouts(service.name, settings)
        lines = [
            simulated(f"publisher {number}" if len(layouts) > 1 else "publisher", layout)
            for number, layout in enumerate(layouts)
        ]
        flow = ProducerPipeline(service, clock, days, lines, metrics)
        service.worker("sensors", lambda: flow.sense(settings.linger_ms / 1000))
        for each in lines:
            service.worker(each.name, lambda each=each: flow.send(each))
    else:
        flow = ProducerPipeline(service, clock, days, (), metrics)
        source = MqttSource(service, clock, MqttMetrics(service.registry, metrics), mqtt)
        # One line for all lanes: messages are acknowledged in the order of receipt.
        limit = settings.batch_readings
        # An arrival time identifies no reading: a message that comes again has another one.
        tick_ms = round(settings.period_s * 1000) if mqtt.messages.time else 0
        line = Line(
            name="publisher",
            encoder=lambda shares: Batcher(
                limit=limit, partitions=shares, in_order=False, deduplicate_ms=tick_ms
            ),
            readings=1,
            together=limit,
            publisher=writer(),
            is_kept=True,
        )
        service.worker(WORKER, source.run)
        service.worker(line.name, lambda: flow.forward(line, source))
    try:
        status = service.run(drained=flow.give_up_the_rest)
    finally:  # the tally accounts for every reading, also after an error
        for output in tally_outputs:
            print(json.dumps(metrics.tally), file=output, flush=True)
    sys.exit(status)


def _mqtt_options(settings: ProducerSettings) -> MqttOptions:
    """Raises ConfigurationError."""
    broker = Broker.parse(settings.mqtt_url, settings.read_mqtt_password())
    return MqttOptions(
        broker=broker,
        tls=broker.tls_context(settings.mqtt_tls),
        messages=settings.mqtt_messages,
        client_id=f"hourglass-{settings.pipeline}-{settings.process_name}",
        group=settings.check_mqtt_group(),
        receive_maximum=settings.mqtt_receive_maximum,
        session_expiry_s=settings.mqtt_session_expiry_s,
        silent_s=settings.mqtt_silent_s,
        batch_readings=settings.batch_readings,
        linger_s=settings.linger_ms / 1000,
    )


def _layouts(name: str, settings: ProducerSettings) -> list[EntryFormat]:
    """One layout for all devices if they are packed; otherwise one for each lane with devices."""
    period_ms = round(settings.period_s * 1000)
    if settings.packed.packs(settings.devices):
        return [EntryFormat.packed(name, settings.devices, seed=settings.seed, period_ms=period_ms)]
    return [
        EntryFormat.plain(
            devices, seed=settings.seed, period_ms=period_ms, batch=settings.batch_readings
        )
        for devices in share_out(device_names(name, settings.devices), settings.lanes)
    ]


def files(path: str) -> list[TextIO]:
    """The tally file, opened for writing; empty if `path` is empty.

    The producer opens it at start-up, so that a wrong path is reported before any reading is sent.
    Raises ConfigurationError.
    """
    if not path:
        return []
    try:
        return [Path(path).open("w", encoding="utf-8")]
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}; set --tally-file to a writable file"
        ) from None


def main() -> None:
    app = application()
    add_command(app, ProducerSettings, produce)
    invoke(app, "hourglass-producer")


if __name__ == "__main__":
    main()
