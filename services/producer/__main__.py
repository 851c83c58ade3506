"""Composition root of the producer: devices → buffer → batches → partition."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import TextIO

from hourglass.clock import PipelineClock
from hourglass.errors import Misconfigured
from hourglass.runtime import Service
from hourglass.settings import add_command, application, invoke
from hourglass.times import parse_time
from producer.buffer import Buffer
from producer.devices import Devices
from producer.flow import Flow
from producer.instruments import Instruments
from producer.publisher import Publisher
from producer.sensor import Sensors, device_names
from producer.settings import ProducerSettings


def produce(settings: ProducerSettings) -> None:
    """Give one temperature reading a period from each device, and see that Redis takes it once."""
    until_ms = parse_time(settings.until, option="--until") if settings.until else None
    tally_outputs = [sys.stdout, *files(settings.tally_file)]
    service = Service("producer", settings)
    service.serve_probes()
    cluster = service.connect()
    clock = PipelineClock(cluster)
    clock.refresh()
    metrics = Instruments(service.registry)
    metrics.devices(settings.devices)
    devices = Devices(
        Sensors(
            device_names(service.name, settings.devices),
            seed=settings.seed,
            period_ms=round(settings.period_s * 1000),
        ),
        most_readings=settings.buffer_readings,
        until_ms=until_ms,
    )
    buffer = Buffer(settings.buffer_readings)
    publisher = Publisher(
        cluster,
        clock,
        incarnation=f"{service.name}:{uuid.uuid4().hex[:12]}",
        wait_replicas=settings.wait_replicas,
        wait_timeout_ms=settings.wait_timeout_ms,
    )
    service.resources.callback(publisher.close)

    service.every(1.0, "clock", clock.refresh)
    flow = Flow(service, clock, buffer, metrics)
    service.worker("sensors", lambda: flow.sense(devices, settings.linger_ms / 1000))
    service.worker("publisher", lambda: flow.send(publisher, settings.batch_readings))
    status = service.run()
    metrics.give_up_the_rest()
    for output in tally_outputs:
        print(json.dumps(metrics.tally), file=output, flush=True)
    sys.exit(status)


def files(path: str) -> list[TextIO]:
    """The file to write to, if one was named; opened now, so that a wrong name is told at once."""
    if not path:
        return []
    try:
        return [Path(path).open("w", encoding="utf-8")]
    except OSError as error:
        raise Misconfigured(
            f"cannot write {path}: {error.strerror}; give --tally-file a file that can be written"
        ) from None


def main() -> None:
    app = application()
    add_command(app, ProducerSettings, produce)
    invoke(app, "hourglass-producer")


if __name__ == "__main__":
    main()
