"""The partitions of one shard: when each is due, what it delivered, and how it fails alone."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import NamedTuple, Protocol

from aggregator.commit import BatchCommitter
from hourglass.cluster.groups import group_is_gone
from hourglass.cluster.link import ResponseError
from hourglass.errors import (
    ConnectionLost,
    CorruptKey,
    DeliveryLost,
    HourglassError,
    Unforeseen,
    Unreachable,
    UnsupportedServer,
)
from hourglass.model.entries import Entry
from hourglass.model.keys import Partition

log = logging.getLogger(__name__)

#: Pause before another attempt on a shard or a partition that does not answer, and on a corrupt
#: key. A partition's pause doubles with each attempt, up to the second number.
RETRY_S, MOST_RETRY_S = 0.2, 2.0
CORRUPT_S, MOST_CORRUPT_S = 1.0, 8.0
#: Least and longest pause between two polls of a partition that delivers nothing.
ACTIVE_S, QUIET_S = 1 / 32, 1.0


class Workers(Protocol):
    """The part of `Service` that a consumer needs: who is at work, and who fails."""

    name: str
    stop: Event

    def beat(self, worker: str) -> None: ...
    def retire(self, worker: str) -> None: ...
    def mark_failing(self, worker: str, what: str | HourglassError) -> bool: ...
    def mark_recovered(self, worker: str) -> None: ...


@dataclass(slots=True, eq=False)
class Subscription:
    """The state of one partition. Times are monotonic.

    due: when to poll the partition; to open it, if it is not open
    pause_s: between the last poll and the next one
    backoff_s: between the last attempt that failed and the next one
    reclaim_due: when to look for entries that other consumers left behind
    active: when it last delivered entries
    lingers: its last poll delivered entries, so the next ones gather
    is_full: its last poll left entries behind
    committers: two, so that one's batch is read while the other's is committed; none if not open
    """

    partition: Partition
    due: float = 0.0
    pause_s: float = ACTIVE_S
    backoff_s: float = 0.0
    reclaim_due: float = 0.0
    active: float = 0.0
    lingers: bool = False
    is_full: bool = False
    committers: tuple[BatchCommitter, ...] = ()

    @property
    def worker(self) -> str:
        """Its name in /readyz, metrics and log."""
        return self.partition.stream

    def open(self, *committers: BatchCommitter) -> None:
        self.committers = committers
        self.due = self.reclaim_due = time.monotonic()
        self.pause_s, self.lingers, self.is_full = ACTIVE_S, False, False

    def close(self) -> None:
        """What it delivered is void. It is due to be opened again."""
        self.committers, self.due = (), time.monotonic()

    def back_off(self, least_s: float, most_s: float, *, begins: bool) -> None:
        """Close it for a pause that doubles with each attempt, from `least_s` up to `most_s`."""
        self.close()
        self.backoff_s = least_s if begins else min(most_s, max(least_s, 2 * self.backoff_s))
        self.due += self.backoff_s

    def delivered(self, entries: int, *, limit: int, linger_s: float) -> None:
        """Note what a poll for at most `limit` entries has found."""
        now = time.monotonic()
        self.lingers, self.is_full = entries > 0, entries == limit
        if entries:
            self.active, self.pause_s = now, ACTIVE_S
            self.due = now if self.is_full else now + linger_s
        else:
            # Quiet partitions have due times in common: one round trip serves them all.
            self.due = (now // self.pause_s + 1) * self.pause_s
            self.pause_s = min(QUIET_S, 2 * self.pause_s)


class Request(NamedTuple):
    """A read of at most `limit` entries."""

    subscription: Subscription
    committer: BatchCommitter
    limit: int


class Batch(NamedTuple):
    """Entries that were delivered and are not committed yet."""

    subscription: Subscription
    committer: BatchCommitter
    entries: Sequence[Entry]


@dataclass(slots=True)
class Subscriptions:
    """What one thread consumes. `add` and `partitions` are for other threads too.

    delivered: batches that the connection delivered and that are not committed
    redirected: the shard does not serve one of the keys; the topology has changed
    """

    workers: Workers
    delivered: deque[Batch] = field(default_factory=deque[Batch])
    redirected: bool = False
    _by_partition: dict[Partition, Subscription] = field(
        default_factory=dict[Partition, Subscription]
    )
    _lock: Lock = field(default_factory=Lock)
    _ended: bool = False

    def add(self, partition: Partition) -> bool:
        """Consume `partition` too; False after the end."""
        with self._lock:
            if not self._ended:
                self._by_partition.setdefault(partition, Subscription(partition))
            return not self._ended

    def go_on(self) -> bool:
        """False, from then on, once no partition is left, or the service stops and every batch is
        committed."""
        with self._lock:
            stops = self.workers.stop.is_set() and not self.delivered
            self._ended = stops or not self._by_partition
            return not self._ended

    @property
    def all(self) -> Sequence[Subscription]:
        with self._lock:
            return [*self._by_partition.values()]

    @property
    def opened(self) -> Sequence[Subscription]:
        return [each for each in self.all if each.committers]

    def release(self, each: Subscription) -> None:
        """Consume the partition no more."""
        with self._lock:
            del self._by_partition[each.partition]
        self.workers.retire(each.worker)

    def requests(self, limit: int, beside: BatchCommitter | None) -> Sequence[Request]:
        """Reads of the partitions that are due, altogether for about `limit` entries: of the one
        whose last poll left entries behind, or a share of each other one.

        beside: holds a batch, so that its partition is read by the other one
        """
        now = time.monotonic()
        due = [each for each in self.opened if each.due <= now]
        if not due:
            return []
        first = min(due, key=lambda each: each.due)
        due = [first] if first.is_full else [each for each in due if not each.is_full]
        share = max(1, limit // len(due))
        return [
            Request(each, next(free for free in each.committers if free is not beside), share)
            for each in due
        ]

    @contextmanager
    def own_failure(self, each: Subscription) -> Generator[None]:
        """What the keys of one partition answer is the failure of that partition alone. A lost
        connection is the failure of the shard, and is raised."""
        try:
            yield
        except UnsupportedServer:
            raise
        except DeliveryLost as error:
            self.redirected = True
            self.put_off(each, error, RETRY_S, MOST_RETRY_S)
        except ConnectionLost:
            raise
        except Unreachable as error:
            self.put_off(each, error, RETRY_S, MOST_RETRY_S)
        except Exception as error:
            if isinstance(error, ResponseError) and group_is_gone(error):
                log.debug("%s: %s", each.worker, error)
                self.drop(each)  # to open it again shows whether it is over
                return
            log.debug("%s", each.worker, exc_info=True)
            corrupt = error if isinstance(error, CorruptKey) else Unforeseen.of(error)
            self.put_off(each, corrupt, CORRUPT_S, MOST_CORRUPT_S)

    def put_off(
        self, each: Subscription, error: HourglassError, least_s: float, most_s: float
    ) -> None:
        """The partition fails: drop what it delivered, and open it again later."""
        begins = self.workers.mark_failing(each.worker, error)
        self.drop(each)
        each.back_off(least_s, most_s, begins=begins)

    def drop(self, each: Subscription) -> None:
        """Close the partition. What it delivered and is not committed is delivered again."""
        self.delivered = deque(one for one in self.delivered if one.subscription is not each)
        each.close()
