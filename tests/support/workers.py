"""The workers of a process, as a consumer in a test reports them."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event

from hourglass.errors import HourglassError


@dataclass(slots=True)
class RecordedWorkers:
    """failing: worker and reason, of those that fail now; `failures`: how often each has failed"""

    name: str = "consumer"
    stop: Event = field(default_factory=Event)
    failing: dict[str, str] = field(default_factory=dict[str, str])
    failures: dict[str, int] = field(default_factory=dict[str, int])
    retired: list[str] = field(default_factory=list[str])

    def beat(self, worker: str) -> None: ...

    def retire(self, worker: str) -> None:
        self.failing.pop(worker, None)
        self.retired.append(worker)

    def mark_failing(self, worker: str, what: str | HourglassError) -> bool:
        begins = worker not in self.failing
        self.failing[worker] = str(what)
        self.failures[worker] = self.failures.get(worker, 0) + 1
        return begins

    def mark_recovered(self, worker: str) -> None:
        self.failing.pop(worker, None)
