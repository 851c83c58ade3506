"""A full Redis refuses readings, which wait with their producer; what it has is counted on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from averages_consumer.warehouse import Warehouse
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import DAY, Pipeline, at
from tests.support.services import services
from tests.support.waiting import wait_until

#: Ten minutes a second: what is written in a test stays within DAY.
SPEED = 600.0
BUFFERED = "hourglass_readings_buffered"


def fill(embedded: EmbeddedCluster, maxmemory: str) -> None:
    for port in embedded.ports:
        with bootstrap.client(port) as client:
            client.config_set("maxmemory", maxmemory)


@pytest.mark.system
@pytest.mark.embedded(node_timeout_ms=15_000)
def test_readings_wait_until_there_is_room_again(embedded: EmbeddedCluster, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/warehouse.db"
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.run_clock(at(0), SPEED)
        names = (
            running.producer("porch", "--devices=3"),
            running.aggregator("a", "--lateness-s=0"),
        )
        running.start("consumer", "averages_consumer", "--warehouse-url", url)
        running.await_ready(*names, "consumer")
        wait_until(lambda: counted(pipeline) > 0, message="nothing is counted")

        fill(embedded, "1")
        wait_until(lambda: not running.ready("porch"), message="the producer is ready")
        assert "maxmemory" in running.get("porch", "/readyz")[1]
        wait_until(lambda: (running.metric("porch", BUFFERED) or 0) > 3_000)
        stored = pipeline.cluster.call("XLEN", DAY.stream)
        wait_until(lambda: counted(pipeline) == stored, message="what is there is not counted")
        wait_until(
            lambda: len(pipeline.averages()) == len(pipeline.records()),
            message="the hour that was in progress is not published",
        )
        assert all(running.get(name, "/livez")[0] == 200 for name in (*names, "consumer"))

        fill(embedded, "0")
        running.await_ready(*names, "consumer")
        running.await_caught_up("porch")
        assert running.terminate("porch") == 0
        tally = json.loads(running.output("porch").read_text())
        assert tally["dropped"] == 0
        assert tally["produced"] == tally["taken"] == pipeline.cluster.call("XLEN", DAY.stream)
        wait_until(lambda: counted(pipeline) == tally["taken"], message="not everything is counted")
        with Warehouse(url) as warehouse:
            wait_until(lambda: len(warehouse.hours()) >= len(pipeline.averages()))
            assert pipeline.audit(warehouse).differences == []


def counted(pipeline: Pipeline) -> int:
    return sum(each.count + each.late for each in pipeline.records().values())
