"""What the producers' pods say that Redis took of them, the pods that are gone included."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from tests.kubernetes.cluster import Manifest, Namespace
from tests.support.waiting import wait_until

#: A pod's status follows its end within moments.
LAST_WORD_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Readings, over every producer there was."""

    produced: int
    taken: int
    dropped: int


@dataclass(slots=True)
class Ledger:
    """Watches every producer's pod to its end, because a producer's last word is its tally, and the
    pod's status, which keeps it, goes with the pod."""

    namespace: Namespace
    _watch: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None

    def open(self) -> None:
        """Before the first producer is installed."""
        seen = tempfile.TemporaryFile()  # noqa: SIM115
        command = ["kubectl", "--namespace", self.namespace.name, "get", "pods"]
        command += ["--selector", "app.kubernetes.io/name=producer", "--watch", "--output", "json"]
        self._watch = subprocess.Popen(command, stdout=seen, stderr=subprocess.STDOUT), seen

    def total(self) -> Tally:
        """Of all producers there were, which must all be told to end by now."""
        said = wait_until(self._tallies, LAST_WORD_S, "a producer ended without its tally")
        return Tally(
            **{
                each: sum(tally[each] for tally in said)
                for each in ("produced", "taken", "dropped")
            }
        )

    def close(self) -> None:
        if self._watch is not None:
            watcher, seen = self._watch
            watcher.kill()
            watcher.wait()
            seen.close()

    def _tallies(self) -> list[dict[str, int]]:
        """None of them while one of the producers has still to say it."""
        assert self._watch is not None, "the ledger was not opened"
        watcher, seen = self._watch
        # Read without moving the place where the watcher writes.
        text = os.pread(seen.fileno(), os.fstat(seen.fileno()).st_size, 0).decode()
        assert watcher.poll() is None, f"kubectl watches no longer: {text[-500:]}"
        words = last_words(states(text))
        if not words or not all(words.values()):
            return []
        return [json.loads(word) for word in words.values()]


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


def last_words(pods: Iterable[Manifest]) -> Mapping[str, str]:
    """What each container that ever ran said at its end; empty until then."""
    said: dict[str, str] = {}
    for pod in pods:
        for container in pod["status"].get("containerStatuses", ()):
            if "running" in container["state"]:
                said.setdefault(container["containerID"], "")
            for state in (container["lastState"], container["state"]):
                if ended := state.get("terminated"):
                    said[ended["containerID"]] = ended.get("message", "")
    return said
