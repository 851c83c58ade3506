"""The MQTT source with a real broker: no reading is lost, whichever process fails."""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from hourglass.model.keys import HOUR_MS
from tests.support.cluster import EmbeddedCluster
from tests.support.mosquitto import Mosquitto, mosquitto, publishing
from tests.support.pipeline import Pipeline, at
from tests.support.services import Services, services
from tests.support.tls_cluster import Authority
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

SPEED = 600.0
CONNECTED = "hourglass_mqtt_connected"
TAKEN = "hourglass_readings_taken_total"
UNACKNOWLEDGED = "hourglass_mqtt_messages_unacknowledged"
#: Redis stores each reading of `timed` messages once, however often a broker or a publisher repeats
#: its message.
ONCE = ("--mqtt-time=/time", "--period-s=0.001")


@pytest.fixture
def broker() -> Generator[Mosquitto]:
    with mosquitto() as broker:
        yield broker


def mqtt_services(url: str) -> AbstractContextManager[Services]:
    return services(
        url,
        HOURGLASS_SOURCE="mqtt",
        HOURGLASS_MQTT_TOPICS="sensors/{device}/temperature",
        HOURGLASS_MQTT_UNIT="F",
    )


@pytest.fixture
def running(redis_url: str) -> Generator[Services]:
    with mqtt_services(redis_url) as running:
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


def all_are_stored(pipeline: Pipeline, messages: Sequence[tuple[str, str]]) -> None:
    """Until every reading is stored; then each once."""
    wanted = expected(messages)
    wait_until(
        lambda: not wanted - Counter(pipeline.stored()),
        message="readings are missing",
        every_s=0.1,
    )
    stored = Counter(pipeline.stored())
    assert stored.keys() == wanted.keys()
    assert max(stored.values()) == 1


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

    # An hour may end between the two.
    assert all(70_500 <= mean <= 71_500 for mean in means)
    tally_matches(running, name, pipeline)


def tally_matches(running: Services, name: str, pipeline: Pipeline) -> None:
    assert running.terminate(name) == 0
    tallies = [json.loads(line) for line in running.output(name).read_text().splitlines()]
    produced, taken, repeated = (
        sum(tally[what] for tally in tallies) for what in ("produced", "taken", "repeated")
    )
    assert produced - repeated == taken == len(pipeline.stored())


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.extended)])
def test_messages_that_wait_at_the_broker_are_stored_once(
    pipeline: Pipeline, running: Services, broker: Mosquitto, count: int
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    name = running.producer("gateway", *ONCE, HOURGLASS_MQTT_URL=broker.url)
    connected(running, name)
    assert running.terminate(name) == 0
    messages = timed(0, count, now_ms)
    with publishing(broker.port) as publisher:
        publisher.publish_all(messages)

    running.producer(name, *ONCE, HOURGLASS_MQTT_URL=broker.url)

    wait_until(lambda: (running.metric(name, TAKEN) or 0) >= count, every_s=0.1)
    all_are_stored(pipeline, messages)
    wait_until(lambda: running.metric(name, UNACKNOWLEDGED) == 0.0)
    tally_matches(running, name, pipeline)


MQTT_3 = bytes([0x20, 2, 0, 1])  # CONNACK: unacceptable protocol version


def only_3(target: int) -> Generator[int]:
    """The port of a broker that knows MQTT 3.1.1 alone; it stands before the one at `target`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            first = client.recv(4096)
            # CONNECT: the fixed header, the name MQTT with its length, the version.
            if first[first.index(b"MQTT") + 4] == 5:
                client.sendall(MQTT_3)
                return
            with socket.create_connection(("127.0.0.1", target)) as broker:
                broker.sendall(first)
                ends = {client: broker, broker: client}
                while True:
                    for end in select.select(list(ends), [], [])[0]:
                        if not (piece := end.recv(65_536)):
                            return
                        ends[end].sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize("most_in_flight", [20, 0], ids=["20 in flight", "without limit"])
def test_mqtt_3_1_1_bounds_what_waits_here_too(
    pipeline: Pipeline, running: Services, most_in_flight: int
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    with (
        mosquitto(f"max_inflight_messages {most_in_flight}") as broker,
        contextmanager(only_3)(broker.port) as port,
    ):
        options = ["--mqtt-receive-maximum=500", *ONCE]
        url = f"mqtt://127.0.0.1:{port}"
        name = running.producer("gateway", *options, HOURGLASS_MQTT_URL=url)
        connected(running, name)
        assert "(MQTT 3.1.1)" in running.said(name)
        assert running.terminate(name) == 0
        messages = timed(0, 4_000, now_ms)
        with publishing(broker.port) as publisher:
            publisher.publish_all(messages)
        running.producer(name, *options, HOURGLASS_MQTT_URL=url)
        all_are_stored(pipeline, messages)
        wait_until(lambda: running.metric(name, CONNECTED) == 1.0)
        wait_until(lambda: running.metric(name, UNACKNOWLEDGED) == 0.0)


def test_a_broker_that_restarts_keeps_what_is_not_stored(
    pipeline: Pipeline, running: Services, broker: Mosquitto
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    name = running.producer("gateway", *ONCE, HOURGLASS_MQTT_URL=broker.url)
    connected(running, name)
    messages = timed(0, 2_000, now_ms)
    with publishing(broker.port) as publisher:
        for number, (topic, payload) in enumerate(messages):
            publisher.publish(topic, payload)
            if number == 1_000:
                publisher.flush()
                broker.stop()
                wait_until(lambda: not running.ready(name), message="it is ready without a broker")
                assert "the MQTT broker is not connected" in running.get(name, "/readyz")[1]
                assert running.get(name, "/livez")[0] == 200
                broker.start()
        publisher.flush()

    all_are_stored(pipeline, messages)
    running.await_ready(name)


def test_after_a_broker_was_killed_the_producer_subscribes_again(
    pipeline: Pipeline, running: Services
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    with mosquitto("persistence false") as broker:
        name = running.producer("gateway", *ONCE, HOURGLASS_MQTT_URL=broker.url)
        connected(running, name)
        before, after = timed(0, 100, now_ms), timed(100, 100, now_ms)
        with publishing(broker.port) as publisher:
            publisher.publish_all(before)
        all_are_stored(pipeline, before)
        broker.kill()
        wait_until(lambda: running.metric(name, CONNECTED) == 0.0)
        broker.start()
        connected(running, name)
        with publishing(broker.port) as publisher:
            publisher.publish_all(after)
        all_are_stored(pipeline, [*before, *after])


def test_a_name_that_two_processes_have_is_said_so(
    pipeline: Pipeline, running: Services, broker: Mosquitto
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    first = running.producer("first", *ONCE, "--name=same", HOURGLASS_MQTT_URL=broker.url)
    connected(running, first)
    second = running.producer("second", *ONCE, "--name=same", HOURGLASS_MQTT_URL=broker.url)
    wait_until(lambda: "another client may use the name" in running.said(first))
    running.kill(second)
    messages = timed(0, 500, now_ms)
    with publishing(broker.port) as publisher:
        publisher.publish_all(messages)
    all_are_stored(pipeline, messages)


def test_replicas_divide_the_messages_of_a_shared_subscription(
    pipeline: Pipeline, running: Services, broker: Mosquitto
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    names = [
        running.producer(f"gateway-{number}", *ONCE, HOURGLASS_MQTT_URL=broker.url)
        for number in range(2)
    ]
    connected(running, *names)
    messages = [*timed(0, 500, now_ms), *timed(0, 500, now_ms, "attic")]
    with publishing(broker.port) as publisher:
        publisher.publish_all(messages)
    all_are_stored(pipeline, messages)
    assert all((running.metric(name, TAKEN) or 0) > 0 for name in names)


@pytest.mark.parametrize(
    "point", ["ingest.before:kill@2", "ingest.after:kill@1", "ingest.after:kill@5"]
)
def test_a_killed_producer_loses_no_reading(
    pipeline: Pipeline, running: Services, broker: Mosquitto, point: str
) -> None:
    """Killed before Redis has a batch, or when Redis has it and the broker does not know. With a
    time of its own each reading is stored once."""
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    messages = timed(0, 2_000, now_ms)
    options = ["--batch-readings=100", "--mqtt-receive-maximum=150"]
    options += ONCE
    name = running.producer("gateway", *options, HOURGLASS_MQTT_URL=broker.url)
    connected(running, name)
    running.terminate(name)
    with publishing(broker.port) as publisher:
        publisher.publish_all(messages)

    for _ in range(3):
        running.producer(name, *options, faults=point, HOURGLASS_MQTT_URL=broker.url)
        running.exit_status(name)
    running.producer(name, *options, HOURGLASS_MQTT_URL=broker.url)

    all_are_stored(pipeline, messages)
    wait_until(lambda: running.metric(name, UNACKNOWLEDGED) == 0.0)


#: Less than the producer waits for a broker that does not answer, and more than what makes an
#: aggregator wait: a batch of the producer every five seconds.
IDLE_S = 15


@pytest.mark.extended
@pytest.mark.embedded(persistence=True)
def test_an_outage_of_redis_makes_no_reading_at_the_broker_late(
    embedded: EmbeddedCluster, broker: Mosquitto
) -> None:
    """The broker holds most of the readings: more than it may have in flight."""
    with (
        Pipeline(embedded.url) as pipeline,
        mqtt_services(embedded.url) as running,
        publishing(broker.port) as publisher,
    ):
        pipeline.run_clock(at(0, 50), SPEED)
        options = ["--mqtt-receive-maximum=20", "--batch-readings=20"]
        name = running.producer("gateway", *options, HOURGLASS_MQTT_URL=broker.url)
        connected(running, name)
        first = [(f"sensors/porch{each}/temperature", payload_at(pipeline)) for each in range(5)]
        publisher.publish_all(first)
        wait_until(lambda: running.metric(name, TAKEN) == 5.0)

        for node in embedded.nodes:
            node.kill()
        waiting: list[tuple[str, str]] = []
        end_ms = pipeline.clock.current().now_ms + 2 * HOUR_MS
        while pipeline.clock.current().now_ms < end_ms:
            waiting.append((f"sensors/porch{len(waiting) % 5}/temperature", payload_at(pipeline)))
            publisher.publish_all(waiting[-1:])
        assert len(waiting) > 100
        wait_until(lambda: running.metric(name, UNACKNOWLEDGED) == 20.0)
        broker.pause()  # what it holds comes when hours could long have been sealed
        embedded.restart()
        # Longer than it takes to connect to a cluster that has just come back.
        running.aggregator("aggregator", "--lateness-s=0", f"--producer-idle-s={IDLE_S}")
        wait_until(lambda: running.metric(name, TAKEN) == 25.0)
        long_ms = pipeline.clock.current().now_ms + int(1.4 * IDLE_S * SPEED * 1000)
        wait_until(lambda: pipeline.clock.current().now_ms > long_ms)
        broker.resume()

        every = Counter([*expected(first), *expected(waiting)])
        wait_until(
            lambda: (
                sum(record.count + record.late for record in pipeline.day_records()) >= len(every)
                and pipeline.averages()
                and pipeline.averages()[-1].start_ms >= end_ms - 2 * HOUR_MS
            ),
            message="not everything is counted",
        )
        assert sum(record.late for record in pipeline.day_records()) == 0
        assert set(every) <= set(pipeline.stored())


def payload_at(pipeline: Pipeline) -> str:
    return json.dumps({"temperature": 70, "time": pipeline.clock.current().now_ms})


def test_what_cannot_be_read_is_counted_and_acknowledged(
    pipeline: Pipeline, running: Services, broker: Mosquitto
) -> None:
    pipeline.use_wall_clock()
    with publishing(broker.port) as publisher:
        publisher.publish("sensors/cellar/temperature", 60, retain=True)
        publisher.flush()
        name = running.producer("gateway", "--mqtt-group=", HOURGLASS_MQTT_URL=broker.url)
        connected(running, name)
        for payload in ("warm", "cold", '{"humidity": 40}', "-127"):
            publisher.publish("sensors/porch/temperature", payload)
        publisher.publish("sensors/porch/temperature", "70", qos=0)
        publisher.flush()
        wait_until(lambda: running.metric(name, TAKEN) == 1.0)

    unreadable = 'hourglass_mqtt_messages_unreadable_total{{reason="{}"}}'
    reasons = ("not_a_number", "no_field", "no_reading", "retained")
    counts = [running.metric(name, unreadable.format(reason)) for reason in reasons]
    assert counts == [2, 1, 1, 0]
    wait_until(lambda: running.metric(name, UNACKNOWLEDGED) == 0.0)
    wait_until(lambda: "2 not_a_number" in running.get(name, "/readyz")[1])
    said = running.said(name)
    assert said.count("the value is no number") == 1
    assert "came with QoS 0" in said
    assert running.metric(name, 'hourglass_mqtt_messages_total{qos="0"}') == 1.0


@pytest.mark.extended
def test_tls_with_a_user_and_a_password_from_a_file(
    pipeline: Pipeline, running: Services, tmp_path: Path
) -> None:
    now_ms = pipeline.use_wall_clock().now_ms - HOUR_MS
    authority = Authority(tmp_path / "authority")
    certificate = authority.certificate("localhost")
    passwords, password = tmp_path / "passwords", tmp_path / "password"
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None
    subprocess.run([tool, "-b", "-c", passwords, "gateway", "from-a-file"], check=True)
    password.write_text("from-a-file\n")
    listener = (
        f"certfile {certificate}\nkeyfile {certificate}\ncafile {authority.ca_file}\n"
        f"allow_anonymous false\npassword_file {passwords}"
    )
    ca = {"HOURGLASS_MQTT_CA_FILE": authority.ca_file}
    secret = {"HOURGLASS_MQTT_PASSWORD_FILE": str(password)}
    with mosquitto(listener=listener) as broker:
        url = {"HOURGLASS_MQTT_URL": f"mqtts://gateway@localhost:{broker.port}"}
        name = running.producer("gateway", *ONCE, **url, **ca, **secret)
        connected(running, name)
        messages = timed(0, 2_000, now_ms)
        login = {"user": "gateway", "password": "from-a-file"}
        with publishing(broker.port, ca_file=Path(authority.ca_file), **login) as publisher:
            publisher.publish_all(messages)
        all_are_stored(pipeline, messages)

        for case, (environment, said) in {
            "stranger": ({**url, **secret}, "check HOURGLASS_MQTT_CA_FILE"),
            "password": ({**url, **ca, "HOURGLASS_MQTT_PASSWORD": "wrong"}, "check the user"),
        }.items():
            running.producer(case, *ONCE, **environment)
            assert running.exit_status(case) == 2
            assert said in running.said(case)
            assert "wrong" not in running.said(case)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"URL": ""}, "HOURGLASS_MQTT_URL is not set: give mqtt://"),
        ({"URL": "http://broker"}, "has no mqtt:// or mqtts:// scheme"),
        ({"URL": "mqtt://broker:port"}, "bad host, port or path"),
        ({"URL": "mqtt://broker", "PASSWORD": "secret"}, "name the user in HOURGLASS_MQTT_URL"),
        ({"URL": "mqtt://broker", "CA_FILE": "ca.pem"}, "use mqtts://"),
        ({"URL": "mqtts://broker", "CA_FILE": "/nowhere/ca.pem"}, "check HOURGLASS_MQTT_CA_FILE"),
        ({"URL": "mqtt://broker", "TOPICS": ""}, "HOURGLASS_MQTT_TOPICS is not set"),
        ({"URL": "mqtt://broker", "TOPICS": "a/b"}, "exactly one level is {device}"),
        ({"URL": "mqtt://broker", "UNIT": ""}, "HOURGLASS_MQTT_UNIT is '': give"),
        ({"URL": "mqtt://broker", "VALUE": "Temperature"}, "HOURGLASS_MQTT_VALUE is"),
        ({"URL": "mqtt://broker", "TIME": "Time"}, "HOURGLASS_MQTT_TIME is"),
        ({"URL": "mqtt://broker", "GROUP": "a/b"}, "HOURGLASS_MQTT_GROUP is"),
        ({"URL": "mqtt://broker", "NO_READING": "cold"}, "give numbers"),
    ],
    ids=str,
)
def test_a_wrong_option_is_one_line(running: Services, options: dict[str, str], said: str) -> None:
    variables = {f"HOURGLASS_MQTT_{name}": value for name, value in options.items()}
    running.producer("wrong", **variables)
    assert running.exit_status("wrong") == 2
    (line,) = running.said("wrong").splitlines()
    assert line.startswith("hourglass-producer: ")
    assert said in line
    assert "secret" not in line
