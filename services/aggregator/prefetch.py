"""Two deliveries on one connection that take turns, so that client and server work at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from opentelemetry.trace import Tracer

from aggregator.commit import BatchCommitter
from aggregator.metrics import Metrics
from aggregator.seen_devices import SeenDevices
from hourglass.cluster.link import Link
from hourglass.model.clock import Instant
from hourglass.model.entries import Entry
from hourglass.model.keys import Partition
from hourglass.model.readings import Rules
from hourglass.service.tracing import NO_TRACER


@dataclass(slots=True)
class Prefetch:
    """While one hand's batch is folded, the server reads for the other; while that batch arrives,
    the server commits the first."""

    hand: BatchCommitter
    other: BatchCommitter

    @classmethod
    def over(
        cls,
        link: Link,
        partition: Partition,
        incarnation: bytes,
        name: str,
        metrics: Metrics,
        *,
        tracer: Tracer = NO_TRACER,
        renewed: Callable[[], tuple[Rules, Instant]] | None = None,
    ) -> Self:
        """Both as consumers of `partition`, named after `name`."""
        roster = SeenDevices()
        hand, other = (
            BatchCommitter(
                link, partition, incarnation, f"{name}-{each}", metrics, roster, tracer, renewed
            )
            for each in (1, 2)
        )
        return cls(hand, other)

    def read(self, count: int, block_ms: int | None) -> Sequence[Entry]:
        """New entries, at most `count`; waits for them up to `block_ms`."""
        return self.hand.read(count, block_ms)

    def turn(
        self, entries: Sequence[Entry], rules: Rules, instant: Instant, *, ahead: int
    ) -> Sequence[Entry]:
        """Commit `entries`, which the last read or turn returned; the next ones that are there.

        At most `ahead` of them, none if that is 0. Raises ConnectionLost, ResponseError.
        """
        if ahead:
            self.other.request(ahead)
        self.hand.submit(entries, rules, instant)
        following = self.other.receive() if ahead else []
        self.hand.settle()
        if ahead:  # else the other hand is idle, and its name is forgotten
            self.hand, self.other = self.other, self.hand
        return following
