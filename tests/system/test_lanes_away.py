"""A shard falls silent under a day with lanes: it holds up its own lanes, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from hourglass.model.keys import Partition
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import Pipeline, at
from tests.support.services import Services, services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

LANES = 3
#: Ten minutes a second: what is written in a test stays within the day.
SPEED = 600.0
TAKEN = "hourglass_readings_taken_total"
BUFFERED = "hourglass_readings_buffered"


def length(pipeline: Pipeline, lane: Partition) -> int:
    return int(pipeline.cluster.call("XLEN", lane.stream))


def taken(running: Services) -> float:
    return running.metric("porch", TAKEN) or 0.0


def counted_out(embedded: EmbeddedCluster) -> int:
    """How many slots a node that answers takes for failed."""
    node = next(each for each in embedded.nodes if each.responds)
    with bootstrap.client(node.port) as client:
        return int(cast(Any, client).execute_command("CLUSTER INFO")["cluster_slots_fail"])


def test_a_silent_shard_holds_up_its_own_lanes_and_no_others(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.run_clock(at(0), SPEED)
        running.producer("porch", "--devices=12", "--packed=off", f"--lanes={LANES}")
        wait_until(lambda: len(pipeline.partitions()) == LANES, message="the lanes do not appear")
        first, *others = pipeline.partitions()

        silent = embedded.node_at(pipeline.master_of(first.stream))
        silent.pause()
        wait_until(lambda: counted_out(embedded), message="the others do not notice")
        before = [length(pipeline, lane) for lane in others]
        buffered = running.metric("porch", BUFFERED) or 0.0
        for lane, had in zip(others, before, strict=True):
            wait_until(
                lambda lane=lane, had=had: length(pipeline, lane) > had + 2_000,
                message=f"{lane.stream} is held up",
            )
        wait_until(lambda: (running.metric("porch", BUFFERED) or 0.0) > buffered + 1_000)
        silent.resume()

        seen = taken(running)
        wait_until(lambda: taken(running) > seen and (running.metric("porch", BUFFERED) or 0) < 500)
        assert running.terminate("porch") == 0
        tally = json.loads(running.output("porch").read_text())
        entries = pipeline.stored()
        assert tally["produced"] == tally["taken"] == len(set(entries)) == len(entries)
        assert tally["dropped"] == 0
