"""Redis is slow, connections break in the middle of a reply, replies get lost: nothing is counted
twice and nothing is left out."""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from hourglass.cluster.scripts import Script
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import DAY, Pipeline, at
from tests.support.proxy import Proxy
from tests.support.services import Services, services
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.embedded(masters=1)]

#: Ten minutes a second: what is written in a test stays within DAY.
SPEED = 600.0
PORCH = ("porch", "--devices=5")


@pytest.fixture
def network(embedded: EmbeddedCluster) -> Generator[Proxy]:
    """What lies between the services and their only shard, which announces no other address."""
    with Proxy(embedded.ports[0]) as proxy:
        with bootstrap.client(embedded.ports[0]) as client:
            client.config_set("cluster-announce-port", str(proxy.port))
        yield proxy


@pytest.fixture
def pipeline(network: Proxy) -> Generator[Pipeline]:
    with Pipeline(f"redis://127.0.0.1:{network.port}") as pipeline:
        pipeline.run_clock(at(0), SPEED)
        yield pipeline


@pytest.fixture
def running(pipeline: Pipeline) -> Generator[Services]:
    with services(pipeline.url) as running:
        yield running


def check(pipeline: Pipeline, running: Services) -> None:
    """Everything that was produced was taken, and counted, once."""
    assert running.terminate("porch") == 0
    tally = json.loads(running.output("porch").read_text())
    assert tally["dropped"] == 0
    assert tally["produced"] == tally["taken"] == pipeline.cluster.call("XLEN", DAY.stream)
    wait_until(lambda: counted(pipeline) == tally["taken"], message="not everything is counted")
    running.await_ready("aggregator")
    assert pipeline.audit().differences == []


def counted(pipeline: Pipeline) -> int:
    return sum(each.count + each.late for each in pipeline.records().values())


def test_a_slow_redis_delays_and_loses_nothing(
    pipeline: Pipeline, running: Services, network: Proxy
) -> None:
    network.delay_s = 0.1
    running.producer(*PORCH)
    running.aggregator()

    wait_until(lambda: counted(pipeline) > 5_000, message="too little is counted")

    running.await_ready("porch")
    network.delay_s = 0.0
    check(pipeline, running)


def test_connections_are_cut_in_the_middle_of_replies(
    pipeline: Pipeline, running: Services, network: Proxy
) -> None:
    running.producer(*PORCH)
    wait_until(
        lambda: pipeline.cluster.call("XLEN", DAY.stream) > 5_000, message="too little comes"
    )

    network.cut_replies(5, after_bytes=3_000)
    running.aggregator()

    wait_until(lambda: network.cuts == 5, message="no reply was long enough")
    wait_until(lambda: counted(pipeline) > 5_000, message="too little is counted")
    check(pipeline, running)


def test_a_reply_is_lost_after_the_server_did_the_work(
    pipeline: Pipeline, running: Services, network: Proxy
) -> None:
    """Over a real connection; each call of each script is proven in tests/protocol."""
    network.lose_reply(Script.load("aggregator", "commit", library="partials").sha.encode())
    running.producer(*PORCH)
    running.aggregator("aggregator", "--lateness-s", "0")

    wait_until(lambda: network.losses == 1, message="it was never called")
    wait_until(lambda: len(pipeline.averages()) >= 2, message="no hours are published")

    check(pipeline, running)
    starts = [average.start_ms for average in pipeline.averages()]
    assert starts == sorted(set(starts))
