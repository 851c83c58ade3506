"""Programs forked from one process that has them loaded, so that a start costs no import.

Python takes half a second to two seconds to import a service or the operator's command, which on a
busy machine is most of what a test of processes waits for. The children are processes as any other:
they have a process group, an environment and files of their own, and die of SIGKILL.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from tests.support import fault_injection

SERVICES = ("producer", "aggregator", "averages_consumer")
_PROGRAMS = (*SERVICES, "hourglassctl")
#: What can be forked.
FORKED = (*_PROGRAMS, fault_injection.MODULE)
#: What is loaded before the first fork: all that a program imports when it runs.
_PRELOADED = (
    *(f"{module}.__main__" for module in _PROGRAMS),
    "alembic.command",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "uvicorn.protocols.http.h11_impl",
)


class ForkedProcess:
    """A child of the fork server, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self._server.receive(0)
            self.returncode = self._server.statuses.get(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self._server.receive(0.1)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks. Safe to share between threads.

    Its children are reaped by it, and it reports their exit statuses in the order of exit.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # One thread: more than one are not safe to fork.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                cwd=Path(__file__).parents[2],
            )
        self._lock = Lock()
        self._unread = b""
        self._started: list[int] = []
        self.statuses: dict[int, int] = {}

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        output: Path,
        log: Path,
        group: int,
        directory: Path | None = None,
    ) -> ForkedProcess:
        """Run `module` as `python -m` would; `output` and `log` are appended to.

        group: the process group it joins; 0 for one of its own
        """
        request = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "output": str(output),
            "log": str(log),
            "group": group,
            "directory": str(directory or Path.cwd()),
        }
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while not self._started:
                self._receive(None)
            pid = self._started.pop()
        return ForkedProcess(self, pid)

    def receive(self, timeout_s: float) -> None:
        """Note the exits reported by now, or within `timeout_s`."""
        with self._lock:
            self._receive(timeout_s)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def _receive(self, timeout_s: float | None) -> None:
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return
        received = self._socket.recv(65536)
        if not received:
            raise RuntimeError("the fork server has ended")
        *lines, self._unread = (self._unread + received).split(b"\n")
        for pid, status in map(json.loads, lines):
            if status is None:
                self._started.append(pid)
                self.statuses.pop(pid, None)  # of an earlier process that had the number
            else:
                self.statuses[pid] = status


@cache
def fork_server() -> ForkServer:
    """The one of this process, started when it is first asked for."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def _serve(connection: socket.socket) -> Mapping[str, Any] | None:
    """Fork for each request and report each exit, until the other end is closed.

    Returns in each child what it is to become, and None in the server at its end.
    """
    for module in _PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is loaded stays shared with the children
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    unread = b""
    while True:
        ready, _, _ = select.select([connection, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _report_exits(connection)
        if connection in ready:
            received = connection.recv(65536)
            if not received:
                return None
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    connection.close()
                    os.close(wake)
                    os.close(woken)
                    return request
                # Here and in the child: whichever runs first, it is in its group from now on.
                with suppress(ProcessLookupError, PermissionError):
                    os.setpgid(pid, request["group"])
                _send(connection, pid, None)


def _report_exits(connection: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(connection, pid, os.waitstatus_to_exitcode(status))


def _send(connection: socket.socket, pid: int, status: int | None) -> None:
    connection.sendall(json.dumps([pid, status]).encode() + b"\n")


def _become(request: Mapping[str, Any]) -> None:
    """The child: run the program to its end, which is this interpreter's."""
    os.setpgid(0, request["group"])
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, name in ((1, "output"), (2, "log")):
        file = os.open(request[name], append, 0o644)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["arguments"]]
    module = request["module"]
    importlib.import_module(f"{module}.__main__" if module in _PROGRAMS else module).main()


if __name__ == "__main__":
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
