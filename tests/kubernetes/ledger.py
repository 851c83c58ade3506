"""The readings that Redis acknowledged to the producers, those of removed pods included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from tests.kubernetes.cluster import Manifest, Namespace
from tests.support.waiting import wait_until

#: A pod's status follows its end within moments.
TALLY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Readings, over every producer there was."""

    produced: int
    taken: int
    dropped: int


@dataclass(slots=True)
class Ledger:
    """Watches every producer's pod to its end, because a producer prints its tally at exit, and the
    pod's status, which keeps it, goes with the pod."""

    namespace: Namespace
    _watch: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None

    def open(self) -> None:
        """Before the first producer is installed."""
        seen = tempfile.TemporaryFile()  # noqa: SIM115
        watch = (
            f"kubectl --namespace {self.namespace.name} get pods --watch --output json "
            "--selector app.kubernetes.io/name=producer"
        )
        # A watch ends when its connection is lost; the next one begins with the pods there are.
        command = ["bash", "-c", f"while sleep 0.2; do {watch}; done"]
        self._watch = (
            subprocess.Popen(
                command, stdout=seen, stderr=subprocess.DEVNULL, start_new_session=True
            ),
            seen,
        )

    def total(self) -> Tally:
        """Of all producers that ever ran; all must be stopping or gone."""
        tallies = wait_until(self._tallies, TALLY_WITHIN_S, "a producer ended without its tally")
        return Tally(
            **{
                each: sum(tally[each] for tally in tallies)
                for each in ("produced", "taken", "dropped")
            }
        )

    def close(self) -> None:
        if self._watch is not None:
            watcher, seen = self._watch
            os.killpg(watcher.pid, signal.SIGKILL)
            watcher.wait()
            seen.close()

    def _tallies(self) -> list[dict[str, int]]:
        """Empty while the tally of a producer is missing."""
        assert self._watch is not None, "the ledger was not opened"
        watcher, seen = self._watch
        # Read without moving the place where the watcher writes.
        text = os.pread(seen.fileno(), os.fstat(seen.fileno()).st_size, 0).decode()
        assert watcher.poll() is None, f"kubectl watches no longer: {text[-500:]}"
        messages = exit_messages(each for each in states(text) if each["kind"] == "Pod")
        if not messages or not all(messages.values()):
            return []
        return [json.loads(each) for each in messages.values()]


def states(text: str) -> Iterator[Manifest]:
    """The objects that `kubectl --watch --output json` printed so far, in order."""
    decoder = json.JSONDecoder()
    at = 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        try:
            state, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:  # not all of it is written
            return
        yield state


def exit_messages(pods: Iterable[Manifest]) -> Mapping[str, str]:
    """The termination message of each container that ever ran; empty until it ends."""
    messages: dict[str, str] = {}
    for pod in pods:
        for container in pod["status"].get("containerStatuses", ()):
            if "running" in container["state"]:
                messages.setdefault(container["containerID"], "")
            for state in (container["lastState"], container["state"]):
                if ended := state.get("terminated"):
                    messages[ended["containerID"]] = ended.get("message", "")
    return messages
