"""The services as the processes they are in use; none outlives the test."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from hourglassctl.guard import Guard
from hourglassctl.processes import Processes
from tests.waiting import wait_until

ENVIRONMENT = {
    "HOURGLASS_HTTP_HOST": "127.0.0.1",
    "HOURGLASS_HTTP_PORT": "0",
    "HOURGLASS_CLAIM_IDLE_MS": "200",
    "HOURGLASS_SEAL_EVERY_MS": "20",
    "HOURGLASS_LINGER_MS": "10",
}


class Services(Processes):
    """Processes by name, seen through their HTTP port and their log."""

    def aggregator(self, name: str = "aggregator", *options: str, **environment: str) -> str:
        self.start(name, "aggregator", *options, **environment)
        return name

    def producer(self, name: str = "producer", *options: str, **environment: str) -> str:
        self.start(name, "producer", *options, **environment)
        return name

    def await_ready(self, *names: str) -> None:
        for name in names:
            wait_until(lambda name=name: self.ready(name), 20, f"{name} is not ready")

    def ready(self, name: str) -> bool:
        return self.get(name, "/readyz")[0] == 200

    def metric(self, name: str, sample: str) -> float | None:
        """The value of a sample, named with its labels as /metrics shows it; None without one."""
        for line in self.get(name, "/metrics")[1].splitlines():
            shown, _, value = line.rpartition(" ")
            if shown == sample:
                return float(value)
        return None

    def get(self, name: str, path: str) -> tuple[int, str]:
        """Status and body; status 0 while nobody answers."""
        ports = re.findall(r" listens on port (\d+)$", self.said(name), re.MULTILINE)
        if not ports:
            return 0, ""
        connection = HTTPConnection("127.0.0.1", int(ports[-1]), timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()

    def said(self, name: str) -> str:
        """The log so far, of every process that had the name."""
        return self.log(name).read_text(errors="replace")

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        self._children[name].wait()

    def terminate(self, name: str) -> tuple[int, float]:
        """SIGTERM; the exit status, and the seconds until it came."""
        began = time.monotonic()
        self.signal(name, signal.SIGTERM)
        return self.exit_status(name), time.monotonic() - began

    def exit_status(self, name: str, timeout_s: float = 20) -> int:
        return self._children[name].wait(timeout_s)

    def cpu_s(self, name: str) -> float:
        """Processor time the process has used so far; Linux only."""
        stat = Path(f"/proc/{self._children[name].pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def services(url: str, **environment: str) -> Generator[Services]:
    """`environment` is for each of them, beside what tests want of all services."""
    with Guard("hourglass-test-") as guard:
        running = Services(guard, {**ENVIRONMENT, "HOURGLASS_REDIS_URL": url, **environment})
        try:
            yield running
        finally:
            running.stop()
