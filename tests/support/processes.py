"""The services as child processes that a test or a drill makes fail, and measures."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from hourglassctl.local.processes import Processes
from tests.support import fault_injection

ROOT = Path(__file__).resolve().parents[2]


class ObservedProcesses(Processes):
    """Children with fault points, and what they use of the machine."""

    def start(
        self, name: str, module: str, *arguments: str, faults: str = "", **environment: str
    ) -> None:
        """`faults`: POINT:ACTION[@PASSAGE][,…] of tests/support/fault_injection.py."""
        if not faults:
            super().start(name, module, *arguments, **environment)
            return
        # The tests are no installed package: a child finds them from any working directory.
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        injected = {fault_injection.VARIABLE: faults, "PYTHONPATH": path, **environment}
        self._start(name, fault_injection.MODULE, [module, "--name", name, *arguments], injected)

    @property
    def names(self) -> list[str]:
        """Of all that were started."""
        return list(self._children)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        self._children[name].wait()

    def stopped(self, name: str) -> bool:
        """Whether SIGSTOP has stopped it."""
        return psutil.Process(self.pid(name)).status() == psutil.STATUS_STOPPED

    def pid(self, name: str) -> int:
        return self._children[name].pid

    def cpu_s(self, name: str) -> float:
        """Processor time the process has used so far."""
        times = psutil.Process(self.pid(name)).cpu_times()
        return times.user + times.system

    def rss_mib(self, name: str) -> float:
        """Memory the process has resident."""
        return psutil.Process(self.pid(name)).memory_info().rss / 2**20
