"""The services as the processes they are in use; none outlives the test."""

from __future__ import annotations

import re
import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from hourglassctl.local.processes import ProcessGroup
from tests.support.fork_server import FORKED, SERVICES, fork_server
from tests.support.keyspace import KEYS
from tests.support.processes import ObservedProcesses
from tests.support.waiting import PATIENCE_S, wait_until

ENVIRONMENT = {
    "HOURGLASS_PIPELINE": KEYS.pipeline,
    "HOURGLASS_HTTP_HOST": "127.0.0.1",
    "HOURGLASS_HTTP_PORT": "0",
    "HOURGLASS_WEB_PORT": "0",
    "HOURGLASS_CLAIM_IDLE_MS": "200",
    "HOURGLASS_SEAL_EVERY_MS": "20",
    "HOURGLASS_LINGER_MS": "10",
    "HOURGLASS_PRODUCER_IDLE_S": "0.5",
    # With so short a claim time, what is merely slow must not be taken for what kills.
    "HOURGLASS_DELIVERY_LIMIT": "1000",
}

#: Readings: far fewer than a lane that waits for its shard has within a second.
ON_ITS_WAY = 1_000


class Services(ObservedProcesses):
    """What tests do with processes besides. Services are forked from a process that has them."""

    def _start(
        self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        # What changes how Python itself starts needs a Python of its own.
        if module not in FORKED or (module in SERVICES and "PYTHONPATH" in environment):
            super()._start(name, module, arguments, environment)
            return
        for file in (self.output(name), self.log(name)):
            file.touch()
        process = fork_server().start(
            module,
            arguments,
            environment={**self._environment, **environment},
            output=self.output(name),
            log=self.log(name),
            group=self._guard.group,
        )
        self._children[name] = cast(Any, process)

    def aggregator(
        self, name: str = "aggregator", *options: str, faults: str = "", **environment: str
    ) -> str:
        self.start(name, "aggregator", *options, faults=faults, **environment)
        return name

    def producer(
        self, name: str = "producer", *options: str, faults: str = "", **environment: str
    ) -> str:
        self.start(name, "producer", *options, faults=faults, **environment)
        return name

    def pid(self, name: str) -> int:
        return self._children[name].pid

    def await_ready(self, *names: str) -> None:
        for name in names:
            try:
                wait_until(lambda name=name: self.ready(name), message=f"{name} is not ready")
            except AssertionError as error:
                raise AssertionError(f"{error}: {self.get(name, '/readyz')[1]}") from None

    def await_caught_up(self, producer: str) -> None:
        """Until every lane of it sends, and all readings but those in flight are taken or dropped:
        where a batch takes longer than the pause between ticks, some are always in flight. A lane
        that waits for its shard makes the producer unready."""

        def caught_up() -> bool:
            metrics = self.get(producer, "/metrics")[1]
            produced, taken, dropped = (
                total(metrics, f"hourglass_readings_{what}_total")
                for what in ("produced", "taken", "dropped")
            )
            is_sent = produced > 0 and produced - taken - dropped <= ON_ITS_WAY
            return is_sent and self.ready(producer)

        wait_until(caught_up, message=f"{producer} does not catch up")

    def total(self, name: str, family: str) -> float:
        """The sum of a metric's samples, whatever their labels; 0 while none is shown."""
        return total(self.get(name, "/metrics")[1], family)

    def page(self, name: str) -> str:
        """The address of an averages consumer's web page, once it is served."""

        def addresses() -> list[str]:
            return re.findall(r" the page is at (\S+)$", self.said(name), re.MULTILINE)

        return wait_until(addresses, message=f"{name} serves no page")[-1]

    def pause(self, name: str) -> None:
        self.signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.signal(name, signal.SIGCONT)

    def terminate(self, name: str) -> int:
        """SIGTERM; the exit status."""
        self.signal(name, signal.SIGTERM)
        return self.exit_status(name)

    def exit_status(self, name: str, timeout_s: float = PATIENCE_S) -> int:
        return self._children[name].wait(timeout_s)


def total(metrics: str, family: str) -> float:
    shown = re.findall(rf"^{family}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, shown))


@contextmanager
def services(url: str, **environment: str) -> Generator[Services]:
    """`environment` is for each of them, beside what tests want of all services."""
    with ProcessGroup("hourglass-test-") as guard:
        running = Services(guard, {**ENVIRONMENT, "HOURGLASS_REDIS_URL": url, **environment})
        try:
            yield running
        finally:
            running.stop()
