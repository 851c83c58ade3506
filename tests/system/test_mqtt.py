"""The MQTT source with a real broker: no reading is lost, whichever process fails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable, Sequence

import pytest

from hourglass.model.keys import HOUR_MS
from tests.support.mosquitto import Mosquitto, mosquitto, publishing
from tests.support.pipeline import Pipeline, at
from tests.support.services import Services, services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

SPEED = 600.0
CONNECTED = "hourglass_mqtt_connected"
TAKEN = "hourglass_readings_taken_total"
UNACKNOWLEDGED = "hourglass_mqtt_messages_unacknowledged"


@pytest.fixture
def broker() -> Generator[Mosquitto]:
    with mosquitto() as broker:
        yield broker


@pytest.fixture
def running(redis_url: str) -> Generator[Services]:
    with services(
        redis_url,
        HOURGLASS_SOURCE="mqtt",
        HOURGLASS_MQTT_TOPICS="sensors/{device}/temperature",
        HOURGLASS_MQTT_UNIT="F",
    ) as running:
        yield running


def connected(running: Services, *names: str) -> None:
    for name in names:
        wait_until(
            lambda name=name: running.metric(name, CONNECTED) == 1.0,
            message=f"{name} does not connect",
        )


def timed(first: int, count: int, now_ms: int, device: str = "porch") -> list[tuple[str, str]]:
    """Messages of a device, one a millisecond."""
    return [
        (
            f"sensors/{device}/temperature",
            json.dumps({"temperature": 50 + number % 40, "time": now_ms + number}),
        )
        for number in range(first, first + count)
    ]


def expected(messages: Iterable[tuple[str, str]]) -> Counter[tuple[bytes, int]]:
    return Counter(
        (topic.split("/")[1].encode(), json.loads(payload)["time"]) for topic, payload in messages
    )


def all_are_stored(
    pipeline: Pipeline, messages: Sequence[tuple[str, str]], *, exactly: bool = True
) -> None:
    """Until every reading is stored; then once, or at least once."""
    wanted = expected(messages)
    wait_until(
        lambda: not wanted - Counter(pipeline.stored()),
        message="readings are missing",
        every_s=0.1,
    )
    stored = Counter(pipeline.stored())
    assert stored.keys() == wanted.keys()
    if exactly:
        assert stored == wanted


def test_readings_over_mqtt_become_averages(
    pipeline: Pipeline, running: Services, broker: Mosquitto
) -> None:
    pipeline.run_clock(at(0), SPEED)
    name = running.producer("gateway", HOURGLASS_MQTT_URL=broker.url)
    running.aggregator()
    running.await_ready(name)
    with publishing(broker.port) as publisher:

        def averages() -> list[float]:
            publisher.publish("sensors/porch/temperature", "70.5")
            publisher.publish("sensors/attic/temperature", "71.5")
            publisher.flush()
            return [each.mean_milli_f for each in pipeline.averages()]

        means = wait_until(averages, message="no average", every_s=0.05)

    assert set(means) <= {70_500, 71_000, 71_500}
    tally_matches(running, name, pipeline)


def tally_matches(running: Services, name: str, pipeline: Pipeline) -> None:
    assert running.terminate(name) == 0
    tallies = [json.loads(line) for line in running.output(name).read_text().splitlines()]
    produced, taken = (sum(tally[what] for tally in tallies) for what in ("produced", "taken"))
    assert produced == taken == len(pipeline.stored())


def test_messages_that_wait_at_the_broker_are_stored_once(
    pipeline: Pipeline, running: Services, broker: Mosquitto
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    name = running.producer("gateway", HOURGLASS_MQTT_URL=broker.url)
    connected(running, name)
    assert running.terminate(name) == 0
    messages = timed(0, 3_000, now_ms)
    with publishing(broker.port) as publisher:
        publisher.publish_all(messages)

    running.producer(name, HOURGLASS_MQTT_URL=broker.url)

    all_are_stored(pipeline, messages)
    wait_until(lambda: running.metric(name, UNACKNOWLEDGED) == 0.0)
    tally_matches(running, name, pipeline)
