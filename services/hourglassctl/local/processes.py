"""Runs the services as child processes of a command."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from hourglass.service.config import ENV_PREFIX

# The guard process reads a pipe that its owner keeps open. When the owner's end closes, even after
# SIGKILL, or when the guard itself gets a signal, it removes the directory and kills the group,
# itself included. The second rm removes files that a child created during the first one.
_WATCH = """end() {
  rm -rf "$1" 2>/dev/null || rm -rf "$1"
  kill -KILL 0
}
trap 'end "$1"' HUP INT TERM
echo
read -r _
end "$1"
"""


class ProcessGroup:
    """Start children with `process_group=guard.group`: a Ctrl-C in the terminal then does not reach
    them, and they end with the guard."""

    def __init__(self, prefix: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=prefix))
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "hourglass-guard", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        # Wait until its trap is set: a signal before that would leave the group running.
        if self._process.stdout:
            with self._process.stdout as ready:
                ready.readline()

    @property
    def group(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Kill the group and remove the directory."""
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_GRACE_S = 3.0


class Processes:
    """The child processes by name, with access to their HTTP ports. Their outputs and logs go to
    files in the guard's directory."""

    def __init__(self, guard: ProcessGroup, environment: Mapping[str, str]) -> None:
        self._guard = guard
        # Do not pass on the caller's own settings, above all not its warehouse URL.
        outer = {n: v for n, v in os.environ.items() if not n.startswith(ENV_PREFIX)}
        self._environment = {**outer, **environment}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, *arguments: str, **environment: str) -> None:
        """Run `python -m module` as `name`; `environment` applies to this process only."""
        self._start(name, module, ["--name", name, *arguments], environment)

    def _start(
        self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        with ExitStack() as files:
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=files.enter_context(self.output(name).open("ab")),
                stderr=files.enter_context(self.log(name).open("ab")),
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

    def ready(self, name: str) -> bool:
        return self.get(name, "/readyz")[0] == 200

    def metric(self, name: str, sample: str) -> float | None:
        """The value of a sample in /metrics, by its name with labels; None if there is none."""
        for line in self.get(name, "/metrics")[1].splitlines():
            shown, _, value = line.rpartition(" ")
            if shown == sample:
                return float(value)
        return None

    def get(self, name: str, path: str, *, accept: str = "") -> tuple[int, str]:
        """Status and body of a GET request; status 0 if there is no answer."""
        port = self.port(name)
        if port is None:
            return 0, ""
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", path, headers={"Accept": accept} if accept else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()

    def port(self, name: str) -> int | None:
        """The HTTP port of the process; None before it listens."""
        ports = re.findall(r" listens on port (\d+)\b", self.said(name))
        return int(ports[-1]) if ports else None

    def said(self, name: str) -> str:
        """The log so far, of all processes that have had this name."""
        return self.log(name).read_text(errors="replace")

    def failed(self) -> list[str]:
        """The names of processes that ended with an error, except those killed by SIGKILL."""
        return [
            name
            for name, child in self._children.items()
            if child.poll() not in (None, 0, -signal.SIGKILL)
        ]

    def failure(self) -> str:
        """The last log line of a process that ended with an error; empty if there is none."""
        for name in self.failed():
            lines = self.said(name).strip().splitlines()
            return f"{name} ended: {lines[-1] if lines else 'its log is empty'}"
        return ""

    def stop(self) -> None:
        """Send SIGTERM to all, and SIGKILL to those that still run after the grace period."""
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.terminate()
        for child in self._children.values():
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
