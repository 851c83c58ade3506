"""What `status` tells: who is at work, how far the hour in progress is, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aggregator.collectors import LostReadings, Progress
from aggregator.collectors import read_lost_readings as look_for_losses
from aggregator.collectors import read_progress as look_at_hour
from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import Unlisted, left_out_line, unlisted
from hourglass.model.averages import HourlyAverage
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import AVERAGES_GROUP, GROUP, HOUR_MS
from hourglass.monitoring.pipeline_status import PipelineStatus, Snapshot, collect
from hourglass.monitoring.problems import Problem, problems
from hourglass.monitoring.server_settings import clock_findings, findings, read
from hourglass.service.cli import printable
from hourglassctl.silent_devices import SilentDevices, read_silent_devices, silent

#: What these tell of is over, is the devices' own, or is a setting of Redis that harms nothing now:
#: an operator should check, and the pipeline is healthy.
NO_FAULT_OF_ITS = frozenset({
    "devices-silent", "entries-removed", "eviction-policy", "full-coverage", "hours-revised",
    "hours-too-late", "late", "no-append-only-file", "no-readings", "quarantine", "readings-lost",
    "removals-unknown",
})  # fmt: skip

#: The hour in progress is read as it was this long ago, so that readings in flight are counted.
SETTLING_MS = 5_000
AVERAGES_SHOWN = 5
_CONSUMER = re.compile(r"(.+)-[0-9a-f]{8}(?:-\d)?(?:-claims)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One process, as the groups know it: what it holds over all streams, and how long ago it last
    gave a sign of life."""

    group: str
    name: str
    pending: int
    idle_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything at one instant. `producers`: those that have written to the newest day, by name;
    of when they did last there is no record."""

    pipeline: PipelineStatus
    consumers: Sequence[Consumer]
    producers: Sequence[str]
    progress: Progress
    silence: SilentDevices
    averages: Sequence[HourlyAverage]
    problems: Sequence[Problem]

    @property
    def healthy(self) -> bool:
        return all(each.code in NO_FAULT_OF_ITS for each in self.problems)


def gather(
    cluster: Cluster,
    clock: PipelineClock,
    *,
    period_s: float,
    warehouse: Warehouse | None = None,
) -> Status:
    """A few round trips, however many partitions live. Raises Unreachable, CorruptKey,
    UnsupportedServer, WarehouseUnreachable.

    period_s: between two readings of a device; 0 if devices have none in common
    """
    cluster.look_at_clocks()
    instant = clock.refresh()
    pipeline = collect(cluster, instant)
    averages = cluster.keyspace.averages
    newest = cluster.call("XREVRANGE", averages, "+", "-", "COUNT", AVERAGES_SHOWN)
    progress = look_at_hour(cluster, instant, settling_ms=SETTLING_MS)
    silence = read_silent_devices(cluster, pipeline, progress, period_ms=period_s * 1000)
    return Status(
        pipeline=pipeline,
        consumers=_consumers(cluster, [each.state.stream for each in pipeline.partitions]),
        producers=_producers(cluster, pipeline),
        progress=progress,
        silence=silence,
        averages=list(_averages(newest)),
        problems=[
            *problems(
                Snapshot(
                    instant=instant,
                    pipeline=pipeline,
                    averages_at_ms=instant.real_ms,
                    rows_at_ms=instant.real_ms,
                    late_and_loaded=warehouse.among(pipeline.too_late)
                    if warehouse
                    else frozenset(),
                    due_since={
                        hour: instant.deadline(hour + HOUR_MS) for hour in pipeline.hours_due()
                    },
                    server_findings=[
                        *clock_findings(cluster.clocks.doubts()),
                        *findings(read(cluster)),
                    ],
                )
            ),
            *silent(silence),
            *_losses(look_for_losses(cluster, instant)),
            *_left_out(unlisted(cluster, instant)),
        ],
    )


def _left_out(lanes: Unlisted) -> Iterable[Problem]:
    if lanes.left_out:
        yield Problem(
            code="lanes-not-read", severity="error", text=f"{left_out_line(lanes.left_out)}."
        )


def _losses(losses: LostReadings) -> Iterable[Problem]:
    for stream, readings in losses.taken.items():
        if readings:
            yield Problem(
                code="readings-lost",
                severity="warning",
                text=f"{readings:,} acknowledged readings of {stream} are "
                "missing: hourglass audit says how many of which partition.",
            )


def _consumers(cluster: Cluster, partitions: Sequence[str]) -> list[Consumer]:
    averages = (cluster.keyspace.averages, AVERAGES_GROUP)
    asked = [*((stream, GROUP) for stream in partitions), averages]
    replies = cluster.pipeline([("XINFO CONSUMERS", *each) for each in asked])
    rows: list[tuple[str, str, int, int]] = []
    for (_, group), reply in zip(asked, replies, strict=True):
        if not isinstance(reply, Exception):  # it has no group yet
            rows += [
                (group, process_of(printable(each["name"])), each["pending"], each["idle"])
                for each in reply
            ]
    return together(rows)


def process_of(consumer: str) -> str:
    """The process's name: a consumer's goes on with its connection's, its hand's, and `claims` for
    what it took over, as in aggregator-0-5e6f7a8b-1-claims."""
    found = _CONSUMER.fullmatch(consumer)
    return found[1] if found else consumer


def together(rows: Iterable[tuple[str, str, int, int]]) -> list[Consumer]:
    """One line a process, from group, process, pending and idle time of each consumer."""
    found: dict[tuple[str, str], Consumer] = {}
    for group, name, pending, idle_ms in rows:
        before = found.get((group, name))
        found[group, name] = Consumer(
            group=group,
            name=name,
            pending=pending + (before.pending if before else 0),
            idle_ms=min(idle_ms, before.idle_ms) if before else idle_ms,
        )
    return [found[key] for key in sorted(found)]


def _producers(cluster: Cluster, pipeline: PipelineStatus) -> list[str]:
    partitions = [each.partition for each in pipeline.partitions]
    last = [each for each in partitions if each.day_ms == partitions[-1].day_ms]
    replies = cluster.pipeline([("HGETALL", each.producers) for each in last]) if last else []
    named: list[Mapping[bytes, bytes]] = [r for r in replies if not isinstance(r, Exception)]
    # What begins with a colon is no name, but kept for all of them.
    names = {printable(name).partition(":")[0] for each in named for name in each}
    return sorted(names - {""})


def _averages(newest: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> Iterable[HourlyAverage]:
    for entry_id, fields in newest:
        try:
            yield HourlyAverage.decode(entry_id, fields)
        except ValueError:  # the averages consumer says so, and counts it
            continue
