"""What the producers' pods say that Redis took of them, the pods that are gone included."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from tests.kubernetes.cluster import Namespace

#: A log ends soon after its container.
LAST_WORD_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Readings, over every producer there was."""

    produced: int
    taken: int
    dropped: int


@dataclass(slots=True)
class Ledger:
    """Reads along every producer's log, because a producer's last line is its tally, and the log
    goes with the pod."""

    namespace: Namespace
    _logs: dict[str, tuple[str, subprocess.Popen[bytes], IO[bytes]]] = field(
        default_factory=dict[str, tuple[str, subprocess.Popen[bytes], IO[bytes]]]
    )

    def follow(self) -> None:
        """The producers that run now; to be called while a new one still runs."""
        for pod in self.namespace.pods("producer"):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            if uid in self._logs:
                continue
            log = tempfile.TemporaryFile()  # noqa: SIM115
            command = ["kubectl", "--namespace", self.namespace.name, "logs", "--follow", name]
            reader = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            self._logs[uid] = name, reader, log

    def total(self) -> Tally:
        """Of the producers followed so far, which must all be told to end by now."""
        said = [self._last_word(*log) for log in self._logs.values()]
        return Tally(
            **{
                each: sum(tally[each] for tally in said)
                for each in ("produced", "taken", "dropped")
            }
        )

    def close(self) -> None:
        for _, reader, log in self._logs.values():
            with suppress(ProcessLookupError):
                reader.kill()
            reader.wait()
            log.close()

    @staticmethod
    def _last_word(name: str, reader: subprocess.Popen[bytes], log: IO[bytes]) -> dict[str, int]:
        reader.wait(LAST_WORD_S)
        log.seek(0)
        last = log.read().decode(errors="replace").rstrip().rpartition("\n")[2]
        if not last.startswith("{"):
            raise AssertionError(f"{name} ended without its tally: {last!r}")
        return json.loads(last)
