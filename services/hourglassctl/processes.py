"""The services as child processes of a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from hourglassctl.guard import Guard

_GRACE_S = 3.0


class Processes:
    """Children by name; outputs and logs go to files in the guard's directory."""

    def __init__(self, guard: Guard, environment: Mapping[str, str]) -> None:
        self._guard = guard
        self._environment = {**os.environ, **environment}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, *arguments: str, **environment: str) -> None:
        """Run `python -m module` as `name`; `environment` is for this process alone."""
        with ExitStack() as files:
            out = files.enter_context(self.output(name).open("ab"))
            log = files.enter_context(self.log(name).open("ab"))
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", module, "--name", name, *arguments],
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                process_group=self._guard.group,
            )

    def output(self, name: str) -> Path:
        return self._guard.directory / f"{name}.out"

    def log(self, name: str) -> Path:
        return self._guard.directory / f"{name}.log"

    def running(self, name: str) -> bool:
        return self._children[name].poll() is None

    def signal(self, name: str, number: signal.Signals) -> None:
        self._children[name].send_signal(number)

    def failed(self) -> list[str]:
        """Those that ended with an error of their own."""
        return [
            name
            for name, child in self._children.items()
            if child.poll() not in (None, 0, -signal.SIGKILL)
        ]

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to what is left after the grace period."""
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.terminate()
        for child in self._children.values():
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
