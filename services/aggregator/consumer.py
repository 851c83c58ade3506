"""Following one partition from its first entry until it expires: read, fold, commit."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from opentelemetry.trace import Tracer

from aggregator.commit import BatchCommitter
from aggregator.config import AggregatorSettings
from aggregator.metrics import Metrics
from aggregator.prefetch import Prefetch
from aggregator.publisher import sealed_without
from hourglass.cluster.client import Cluster
from hourglass.cluster.groups import group_is_gone
from hourglass.cluster.link import ResponseError
from hourglass.cluster.scripts import Script
from hourglass.errors import CorruptKey, Unforeseen, Unreachable, UnsupportedServer
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.entries import Entry
from hourglass.model.keys import GROUP, HOURS, RECORDS_KEPT_MS, RETENTION_MS, Partition
from hourglass.model.readings import MILLI, Rules
from hourglass.service.runtime import Service

log = logging.getLogger(__name__)

_OPEN = Script.load("aggregator", "open")

BLOCK_MS = 500
RETRY_S = 0.2
#: A damaged key is tried again after this, and after twice as long each time, up to a limit.
DAMAGE_S = 1.0
MOST_DAMAGE_S = 8.0


class Found(Enum):
    """What opening a partition found; the script's replies."""

    ABSENT = b"absent"
    OPEN = b"open"
    OPENED = b"opened"
    RECOUNT = b"recount"
    REMADE = b"remade"


class Opened(NamedTuple):
    """What was found, and the incarnation of the partition's group and records."""

    found: Found
    incarnation: bytes


def open_partition(cluster: Cluster, partition: Partition, instant: Instant) -> Opened:
    """Give `partition` its group, unless it has one or does not exist. Raises Unreachable,
    CorruptKey."""
    without_it = sealed_without(cluster, partition)
    found, incarnation = cluster.run(
        _OPEN,
        [
            partition.stream,
            partition.hours,
            partition.quarantine,
            *(partition.devices(hour) for hour in range(HOURS)),
        ],
        [
            GROUP,
            instant.expiry(partition.end_ms + RETENTION_MS),
            instant.expiry(partition.end_ms + RECORDS_KEPT_MS),
            "".join("01"[partition.hour_start_ms(hour) in without_it] for hour in range(HOURS)),
            instant.now_ms,
        ],
    )
    return Opened(Found(found), incarnation)


@dataclass(frozen=True, slots=True)
class PartitionConsumer:
    """Reads partitions for one process; each call of `follow` is a thread of its own."""

    service: Service
    cluster: Cluster
    clock: PipelineClock
    settings: AggregatorSettings
    metrics: Metrics
    tracer: Tracer

    def follow(self, partition: Partition) -> None:
        """Read `partition` until it is over or the service stops."""
        worker = partition.stream
        pause_s = DAMAGE_S
        while not self.service.stop.is_set():
            self.service.beat(worker)
            try:
                instant = self.clock.look()
                opened = open_partition(self.cluster, partition, instant)
                self._tell(partition, opened.found, instant)
                if opened.found is Found.ABSENT:
                    break
                self._read(partition, worker, opened.incarnation)
            except Unreachable as error:
                self.service.mark_failing(worker, error)
                self.service.stop.wait(RETRY_S)
                self._refresh_topology()
            except UnsupportedServer:
                raise
            except Exception as error:
                log.debug("%s", worker, exc_info=True)
                # Whatever the keys of one partition answer is the failure of this one alone.
                damage = error if isinstance(error, CorruptKey) else Unforeseen.of(error)
                begins = self.service.mark_failing(worker, damage)
                pause_s = DAMAGE_S if begins else min(MOST_DAMAGE_S, 2 * pause_s)
                self.service.stop.wait(pause_s)
        self.service.retire(worker)

    def _tell(self, partition: Partition, found: Found, instant: Instant) -> None:
        stream = partition.stream
        facts = {"partition": stream}
        match found:
            case Found.ABSENT if instant.now_ms < partition.day_ms + RETENTION_MS:
                log.warning(
                    "partition %s is gone before any of its readings expired: somebody deleted it, "
                    "and what was not counted yet is lost",
                    stream,
                    extra=facts,
                )
            case Found.ABSENT:
                log.info("partition %s is over", stream, extra=facts)
            case Found.RECOUNT:
                self.metrics.recounted()
                log.warning(
                    "the group of %s was destroyed: counting again from its first entry",
                    stream,
                    extra=facts,
                )
            case Found.REMADE:
                self.metrics.remade()
                log.warning(
                    "partition %s was deleted and made anew: its readings add to those that had "
                    "been counted",
                    stream,
                    extra=facts,
                )
            case _:
                pass

    def _read(self, partition: Partition, worker: str, incarnation: bytes) -> None:
        """Read, fold, commit over one link, until the group is gone or the service stops."""
        stop, count = self.service.stop, self.settings.batch_entries
        name = f"{self.service.name}-{uuid.uuid4().hex[:8]}"
        link = self.cluster.link(partition.stream)
        hands = Prefetch.over(
            link, partition, incarnation, name, self.metrics,
            tracer=self.tracer, renewed=self._renewed,
        )  # fmt: skip
        recoverer = hands.hand
        try:
            entries: Sequence[Entry] = []
            next_claim = time.monotonic()
            while entries or not stop.is_set():
                self.service.beat(worker)
                if not entries:
                    recovering = time.monotonic() >= next_claim
                    if recovering and not self._recover(recoverer):
                        recovering = False
                        next_claim = time.monotonic() + self.settings.claim_idle_ms / 4000
                    entries = hands.read(count, None if recovering else BLOCK_MS)
                # A full batch says that more is there.
                taken, recovered = len(entries), time.monotonic() < next_claim
                more = taken == count and recovered
                instant = self.clock.look()
                entries = hands.turn(
                    entries,
                    self._rules(instant),
                    instant,
                    ahead=count if more and not stop.is_set() else 0,
                )
                self.service.mark_recovered(worker)
                if 0 < taken < count and recovered:
                    # The next batch fills meanwhile: however many aggregators there are for the
                    # same entries, none of them is woken for each.
                    stop.wait(self.settings.linger_ms / 1000)
            if recoverer.has_claimed:
                self._recover(recoverer, on=False)
        except ResponseError as error:
            if not group_is_gone(error):
                raise
            log.debug("%s: %s", partition.stream, error)
        finally:
            link.close()

    def _recover(self, delivery: BatchCommitter, *, on: bool = True) -> bool:
        """Count what others left behind; False if there is nothing, or somebody is at it."""
        instant = self.clock.look()
        return delivery.recover(
            self._rules(instant),
            instant,
            idle_ms=self.settings.claim_idle_ms,
            limit=self.settings.delivery_limit,
            on=on,
        )

    def _renewed(self) -> tuple[Rules, Instant]:
        with suppress(Unreachable, CorruptKey):  # then by the time that is known
            self.clock.refresh()
        instant = self.clock.look()
        return self._rules(instant), instant

    def _rules(self, instant: Instant) -> Rules:
        settings = self.settings
        return Rules(
            min_milli_f=round(settings.min_temp_f * MILLI),
            max_milli_f=round(settings.max_temp_f * MILLI),
            overrun_ms=round(settings.lateness_s * 1000),
            max_entry_bytes=settings.max_entry_bytes,
            latest_ms=instant.spec.latest_plausible(
                instant.real_ms, round(settings.future_tolerance_s * 1000)
            ),
            no_reading_milli_f=settings.no_reading_milli_f,
        )

    def _refresh_topology(self) -> None:
        try:
            self.cluster.refresh_topology()
        except Unreachable as error:
            log.debug("topology: %s", error)
