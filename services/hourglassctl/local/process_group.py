"""A directory and a process group that are removed when their owner ends, however it ends."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

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
