"""The life of a service: what it says of itself while it runs, and how it ends.

How it ends is seen from outside: this file is also the program whose end is watched.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from types import FrameType

import pytest

import hourglass
from hourglass.cluster.client import Cluster
from hourglass.cluster.client_metrics import ClientMetrics
from hourglass.errors import CorruptKey, Unforeseen, Unreachable, UnsupportedServer
from hourglass.monitoring.shards import ShardGauges
from hourglass.service import runtime
from hourglass.service.cli import add_command, application, invoke
from hourglass.service.config import ServiceSettings
from hourglass.service.runtime import Service
from tests.support.waiting import PATIENCE_S, wait_until

HOST = "127.0.0.1"
#: Nobody listens on the port of discarded datagrams.
NO_REDIS = f"redis://{HOST}:9"
SETTINGS = ServiceSettings(
    name="one", redis_url=NO_REDIS, connect_within_s=60, http_host=HOST, http_port=0
)


def say(what: str) -> None:
    print(what, flush=True)


class Stop(threading.Event):
    """Says, when it is set, what the service says of itself by then."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def set(self) -> None:
        say(f"stop is set while {self._service.unready_reasons()}")
        super().set()


def a_service() -> Service:
    service = Service("test", SETTINGS)
    service.stop = Stop(service)
    service.resources.callback(say, "closed: the first resource")
    service.resources.callback(say, "closed: the second resource")
    return service


def has_started(service: Service) -> bool:
    return "start: starting" not in service.unready_reasons()


def says_that_it_works(service: Service) -> None:
    wait_until(lambda: has_started(service))
    say("working")


def waits_for_its_batch(service: Service) -> None:
    says_that_it_works(service)
    service.stop.wait()
    say("told to stop")
    sys.stdin.readline()
    say("batch finished")


def drains() -> int:
    service = a_service()
    service.serve_probes()
    service.worker("reader", lambda: waits_for_its_batch(service))
    return service.run()


def reckons_at_the_end() -> int:
    service = a_service()
    port = service.serve_probes()
    service.worker("reader", lambda: waits_for_its_batch(service))
    return service.run(drained=lambda: say(f"drained: /metrics {asked(port, '/metrics')[0]}"))


def reckons_after_a_failure() -> int:
    service = a_service()

    def fail() -> None:
        raise ValueError("a fault of its own")

    service.worker("sealer", fail)
    return service.run(drained=lambda: say("drained"))


def fails() -> int:
    service = a_service()

    def fail() -> None:
        raise ValueError("a fault of its own")

    service.worker("reader", lambda: waits_for_its_batch(service))
    service.worker("sealer", fail)
    return service.run()


def cannot_be_served() -> int:
    service = a_service()

    def refuse() -> None:
        raise UnsupportedServer("this Redis is too old: upgrade it")

    service.worker("reader", lambda: waits_for_its_batch(service))
    service.worker("sealer", refuse)
    return service.run()


def is_stuck() -> int:
    service = a_service()
    service.serve_probes()

    def hang() -> None:
        says_that_it_works(service)
        threading.Event().wait()

    service.worker("reader", hang)
    return service.run()


def finishes() -> int:
    service = a_service()
    service.worker("reader", lambda: waits_for_its_batch(service))
    service.worker("last", service.stop.set)
    return service.run()


def had_threads_before() -> int:
    """As a library for traces or warehouses starts them."""
    service = a_service()
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    service.worker("reader", lambda: waits_for_its_batch(service))
    return service.run()


def waits_for_redis() -> int:
    service = a_service()
    say(f"port {service.serve_probes()}")
    service.connect()
    return service.run()


def is_told_amid_its_waiting() -> int:
    """The signal comes while the main thread holds the lock of its own waiting."""
    service = a_service()

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        waits = event == "call" and frame.f_code is threading.Condition.wait.__code__
        if waits and has_started(service):
            sys.setprofile(None)
            signal.raise_signal(signal.SIGTERM)

    service.worker("reader", lambda: says_that_it_works(service))
    sys.setprofile(interrupt)
    return service.run()


PROGRAMS: dict[str, Callable[[], int]] = {
    program.__name__: program
    for program in (
        drains,
        reckons_at_the_end,
        fails,
        cannot_be_served,
        reckons_after_a_failure,
        is_stuck,
        finishes,
        had_threads_before,
        waits_for_redis,
        is_told_amid_its_waiting,
    )
}


class Running:
    """One of PROGRAMS in a process of its own; log lines come among what it says."""

    def __init__(self, program: Callable[[], int]) -> None:
        roots = [Path(hourglass.__file__).parents[1], Path(__file__).parents[2]]
        self.process = subprocess.Popen(
            [sys.executable, __file__, program.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, roots))},
        )
        self.said: list[str] = []
        self.patience = threading.Timer(30, self.process.kill)
        self.patience.start()

    def hear(self, pattern: str) -> str:
        """Read on to the first line in which `pattern` is found."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if re.search(pattern, line):
                return self.said[-1]
        raise AssertionError(f"{pattern!r} was not said: {self.said}")

    def tell(self, signal_number: signal.Signals) -> None:
        self.process.send_signal(signal_number)

    def let_go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """The exit status."""
        out, _ = self.process.communicate()
        self.said += out.splitlines()
        return self.process.returncode

    def order(self, *patterns: str) -> list[str]:
        """Which of `patterns` was said, in the order of saying."""
        every = [(line, pattern) for line in self.said for pattern in patterns]
        return [pattern for line, pattern in every if re.search(pattern, line)]


Start = Callable[[Callable[[], int]], Running]


@pytest.fixture
def start() -> Generator[Start]:
    started: list[Running] = []

    def start(program: Callable[[], int]) -> Running:
        started.append(Running(program))
        return started[-1]

    yield start
    for running in started:
        running.patience.cancel()
        with running.process:
            running.process.kill()


def asked(port: int, path: str) -> tuple[int, str]:
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def port_of(running: Running) -> int:
    return int(running.hear(r"listens on port \d+").rpartition(" ")[2])


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_on_sigterm_it_is_unready_then_finishes_its_batch_then_closes(
    start: Start, told: signal.Signals
) -> None:
    running = start(drains)
    running.hear("^working")
    running.tell(told)
    running.hear("^told to stop")
    running.let_go_on()

    assert running.end() == 0
    unready = "stop is set while .*stopping"
    assert running.order(unready, "told to stop", "batch finished", "first res", "second res") == [
        unready,
        "told to stop",
        "batch finished",
        "second res",
        "first res",
    ]


def test_while_it_drains_it_is_live_and_unready(start: Start) -> None:
    running = start(drains)
    port = port_of(running)
    wait_until(lambda: asked(port, "/readyz")[0] == 200, message="the service is ready")
    running.tell(signal.SIGTERM)
    running.hear("^told to stop")

    assert asked(port, "/readyz") == (503, "stop: stopping\n")
    assert asked(port, "/livez")[0] == 200
    running.let_go_on()
    assert running.end() == 0


def test_the_last_reckoning_comes_after_the_workers_and_can_be_scraped(start: Start) -> None:
    running = start(reckons_at_the_end)
    running.hear("^working")
    running.tell(signal.SIGTERM)
    running.hear("^told to stop")
    running.let_go_on()

    assert running.end() == 0
    order = ["^batch finished", "^drained: /metrics 200", "^closed: the second resource"]
    assert running.order(*order) == order


def test_the_last_reckoning_comes_after_a_failure_too(start: Start) -> None:
    running = start(reckons_after_a_failure)

    assert running.end() == 1
    assert running.order("worker sealer failed", "^drained") == ["worker sealer failed", "^drained"]


def test_on_a_second_sigterm_it_still_finishes_its_batch(start: Start) -> None:
    running = start(drains)
    running.hear("^working")
    running.tell(signal.SIGTERM)
    running.hear("^told to stop")
    running.tell(signal.SIGTERM)
    running.let_go_on()

    assert running.end() == 0
    assert "batch finished" in running.said


def test_a_stuck_worker_does_not_keep_it_from_ending(start: Start) -> None:
    running = start(is_stuck)
    running.hear("^working")
    running.tell(signal.SIGTERM)

    assert running.end() == 0
    assert running.order("reader did not finish", "first res") == [
        "reader did not finish",
        "first res",
    ]


def test_a_worker_that_fails_takes_the_service_down_with_a_traceback(start: Start) -> None:
    running = start(fails)
    running.hear("^told to stop")
    running.let_go_on()

    assert running.end() == 1
    assert running.order("worker sealer failed", "ValueError: a fault") == [
        "worker sealer failed",
        "ValueError: a fault",
    ]


def test_a_worker_that_fails_leaves_the_others_time_to_finish(start: Start) -> None:
    running = start(fails)
    running.hear("^told to stop")
    running.let_go_on()
    running.end()

    assert running.order("batch finished", "first res") == ["batch finished", "first res"]


def test_a_worker_that_cannot_be_served_says_so_in_one_line(start: Start) -> None:
    running = start(cannot_be_served)
    running.hear("^told to stop")
    running.let_go_on()

    assert running.end() == 1
    assert running.said[-1] == "test: this Redis is too old: upgrade it"
    assert running.order("batch finished", "first res") == ["batch finished", "first res"]
    assert not running.order("Traceback")


def test_when_its_work_is_finished_it_ends_by_itself(start: Start) -> None:
    running = start(finishes)
    running.hear("^told to stop")
    running.let_go_on()

    assert running.end() == 0
    assert running.order("batch finished", "first res") == ["batch finished", "first res"]


def test_it_heeds_signals_whatever_threads_were_there_before(start: Start) -> None:
    running = start(had_threads_before)
    running.hear("^working")
    running.tell(signal.SIGTERM)
    running.hear("^told to stop")
    running.let_go_on()

    assert running.end() == 0
    assert "batch finished" in running.said


def test_on_sigterm_while_it_waits_for_redis_it_ends(start: Start) -> None:
    running = start(waits_for_redis)
    running.hear("^port")
    wait_until(lambda: heeds_sigterm(running.process.pid), message="signals are heeded")
    running.tell(signal.SIGTERM)

    assert running.end() == 0


def test_while_it_waits_for_redis_it_is_live_and_says_so(start: Start) -> None:
    running = start(waits_for_redis)
    port = int(running.hear(r"^port \d+").split()[1])
    wait_until(lambda: "Redis" in asked(port, "/readyz")[1], message="it does not say why")

    status, said = asked(port, "/readyz")
    assert (status, said.startswith("start: starting: no Redis answers at")) == (503, True)
    assert asked(port, "/livez") == (200, "ok\n")


def test_who_waits_long_for_redis_says_why_in_the_log_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = list[str]()

    def in_vain(_settings: ServiceSettings, _traffic: ClientMetrics) -> Cluster:
        tries.append("one more")
        raise Unreachable("nobody at home")

    monkeypatch.setattr(runtime, "REPORTED_AFTER_S", 0.0)
    monkeypatch.setattr(ServiceSettings, "connect", in_vain)

    def wait() -> None:
        with pytest.raises(SystemExit):
            service.connect()

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: len(tries) >= 3)
    service.stop.set()
    waiting.join()

    said = [record.getMessage() for record in caplog.records]
    assert said == ["waiting for Redis: nobody at home"]


def test_on_sigterm_at_the_worst_moment_it_ends(start: Start) -> None:
    running = start(is_told_amid_its_waiting)

    assert running.end() == 0


def heeds_sigterm(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM; taken to be so where /proc does not tell."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return True
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def leave_alone(*_: object, **__: object) -> None: ...


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Generator[Service]:
    """A service in this process, whose logging and signals stay as they are."""
    monkeypatch.setattr(runtime, "set_up_logging", leave_alone)
    monkeypatch.setattr(Service, "_heed_signals", leave_alone)
    service = Service("test", SETTINGS)
    yield service
    service.stop.set()
    service.resources.close()


def test_a_service_is_unready_until_it_runs(service: Service) -> None:
    assert service.unready_reasons() == ["start: starting"]


def test_a_failure_makes_it_unready_until_it_has_passed(service: Service) -> None:
    service.mark_recovered("start")
    service.mark_failing("publisher", "Redis does not answer")
    assert service.unready_reasons() == ["publisher: Redis does not answer"]

    service.mark_recovered("publisher")
    assert service.unready_reasons() == []


def test_a_failure_never_makes_it_dead(service: Service) -> None:
    service.beat("publisher")
    service.mark_failing("publisher", "Redis does not answer")

    assert service.dead_reasons() == []


def test_a_failure_is_logged_when_it_begins_and_when_it_has_passed(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        service.mark_failing("publisher", "Redis does not answer")
    service.mark_recovered("publisher")
    service.mark_recovered("publisher")

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "publisher: Redis does not answer"),
        ("INFO", "publisher: recovered"),
    ]


def test_a_damage_is_logged_again_when_it_changes_and_an_unforeseen_one_with_its_traceback(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    for what in ("one key", "one key", "another key"):
        service.mark_failing("sealer", CorruptKey(what))
    for _ in range(2):
        service.mark_failing("sealer", Unforeseen.of(KeyError("id"), about="a day"))
    for shard in ("a", "b"):
        service.mark_failing("sealer", Unreachable(shard))

    assert [(each.getMessage(), bool(each.exc_info)) for each in caplog.records] == [
        ("sealer: one key", False),
        ("sealer: another key", False),
        ("sealer: a day: KeyError: 'id'", True),
    ]


def test_a_worker_without_signs_of_life_is_named_dead(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.beat("reader")
    assert service.dead_reasons() == []

    monkeypatch.setattr(runtime, "STUCK_S", -1.0)
    assert [reason.partition(" ")[0] for reason in service.dead_reasons()] == ["reader"]


def test_a_worker_that_waits_for_an_unreachable_redis_is_not_stuck(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "STUCK_S", -1.0)
    service.beat("reader")
    monkeypatch.setattr(ShardGauges, "one_is_silent", True)

    assert service.dead_reasons() == []


def test_a_worker_that_rests_is_not_stuck(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "STUCK_S", -1.0)
    service.beat("reaper", rest_s=3600)

    assert service.dead_reasons() == []


def test_a_worker_that_has_finished_is_not_reported_dead(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.mark_recovered("start")
    service.beat("temps:20250101")
    service.mark_failing("temps:20250101", "Redis does not answer")
    service.retire("temps:20250101")
    monkeypatch.setattr(runtime, "STUCK_S", -1.0)

    assert service.dead_reasons() == []
    assert service.unready_reasons() == []


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (Unreachable, "as the test wants it"),
        (CorruptKey, "as the test wants it"),
        (ValueError, "ValueError: as the test wants it"),
    ],
)
def test_a_step_that_fails_is_taken_again_whatever_it_meets(
    service: Service, error: type[Exception], what: str
) -> None:
    service.mark_recovered("start")
    unready: list[list[str]] = []

    def step() -> None:
        unready.append([*service.unready_reasons()])
        if len(unready) == 1:
            raise error("as the test wants it")

    service.every(0.001, "sealer", step)
    wait_until(lambda: len(unready) > 4)

    assert unready[:3] == [[], [f"sealer: {what}"], []]
    assert service.unready_reasons() == []
    assert not service.stop.is_set()


def test_each_worker_is_a_series_that_says_whether_it_is_failing(service: Service) -> None:
    def failing() -> dict[str, float]:
        samples = next(iter(service.registry.collect())).samples
        return {sample.labels["worker"]: sample.value for sample in samples}

    assert failing() == {"start": 1}
    service.mark_recovered("start")
    service.beat("reader")
    service.mark_failing("sealer", "Redis does not answer")
    assert failing() == {"reader": 0, "sealer": 1}
    service.beat("sealer")
    service.mark_recovered("sealer")
    assert failing() == {"reader": 0, "sealer": 0}
    service.retire("reader")
    assert failing() == {"sealer": 0}


def test_steps_end_when_the_service_stops(service: Service) -> None:
    service.every(3600, "sealer", lambda: None)
    service.stop.set()

    wait_until(lambda: all(thread.name != "sealer" for thread in threading.enumerate()))


def test_an_unnamed_service_has_its_hosts_name(service: Service) -> None:
    assert service.name == "one"
    assert Service("test", ServiceSettings()).name == os.uname().nodename


def main(_: ServiceSettings) -> None:
    sys.exit(PROGRAMS[sys.argv[1]]())


if __name__ == "__main__":
    command = application()
    add_command(command, ServiceSettings, main)
    invoke(command, "test", [])
