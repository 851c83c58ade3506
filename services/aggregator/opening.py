"""A partition gets its consumer group, or gets it again, before it is read."""

from __future__ import annotations

import logging
from enum import Enum
from typing import NamedTuple

from aggregator.metrics import Metrics
from aggregator.publisher import sealed_without
from hourglass.cluster.client import Cluster
from hourglass.cluster.scripts import Script
from hourglass.model.clock import Instant
from hourglass.model.keys import GROUP, HOURS, RECORDS_KEPT_MS, RETENTION_MS, Partition

log = logging.getLogger(__name__)

_OPEN = Script.load("aggregator", "open")


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


def report(partition: Partition, found: Found, instant: Instant, metrics: Metrics) -> None:
    """Log and count what opening `partition` found, if it is worth a line."""
    stream = partition.stream
    facts = {"partition": stream}
    match found:
        case Found.ABSENT if instant.now_ms < partition.day_ms + RETENTION_MS:
            log.warning(
                "partition %s was deleted before any of its readings expired: what was not "
                "counted yet is lost",
                stream,
                extra=facts,
            )
        case Found.ABSENT:
            log.info("partition %s is over", stream, extra=facts)
        case Found.RECOUNT:
            metrics.recounted()
            log.warning(
                "the group of %s was destroyed: counting again from its first entry",
                stream,
                extra=facts,
            )
        case Found.REMADE:
            metrics.remade()
            log.warning(
                "partition %s was deleted and created again: its readings add to those that "
                "were counted",
                stream,
                extra=facts,
            )
        case _:
            pass
