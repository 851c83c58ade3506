"""The current problems, by severity: one line each, with the remedy if there is one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hourglass.cluster.published import AHEAD_MS, ahead_ms, published_ahead
from hourglass.model.clock import Mode
from hourglass.model.keys import HOUR_MS, iso
from hourglass.model.strays import line
from hourglass.monitoring.pipeline_status import PipelineStatus, Snapshot
from hourglass.monitoring.stream_stats import StreamState, counted_line, hours_left, uncounted_line

#: Real time after which a delay is reported. An hour is normally published some seconds after it is
#: due, and a device sends a reading every second.
PATIENCE_MS = 60_000

#: Real time after which a pending entry counts as stuck. Other consumers claim abandoned entries
#: well before that; a stuck entry delays the hours behind it.
STUCK_MS = 300_000
#: Uncounted readings that expire sooner than this are at risk; the alert has the same threshold.
AT_RISK_H = 6.0

Severity: TypeAlias = Literal["error", "warning", "info"]
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One current problem, in one line. `code` and `about` together identify it; `about` is the
    affected stream, empty if there is none."""

    code: str
    severity: Severity
    text: str
    about: str = ""


def problems(snapshot: Snapshot) -> list[Problem]:
    found = [*_sources(snapshot), *_of_this_process(snapshot)]
    found += [
        Problem(code=each.code, severity=each.severity, text=f"{each.text}.")
        for each in snapshot.server_findings
    ]
    if (pipeline := snapshot.pipeline) is not None:
        found += [*_hours(snapshot, pipeline), *_readings(pipeline), *_at_risk(pipeline)]
        found += [*_averages(snapshot, pipeline), *_damaged(pipeline), *_strays(pipeline)]
        found += _removed(pipeline)
        for partition in pipeline.partitions:
            found += _partition(partition.state)
    return sorted(found, key=lambda problem: _ORDER[problem.severity])


def _error(code: str, text: str) -> Problem:
    return Problem(code=code, severity="error", text=text)


def _warning(code: str, text: str, about: str = "") -> Problem:
    return Problem(code=code, severity="warning", text=text, about=about)


def _info(code: str, text: str, about: str = "") -> Problem:
    return Problem(code=code, severity="info", text=text, about=about)


def _sources(snapshot: Snapshot) -> Iterator[Problem]:
    if not snapshot.redis_answers:
        yield _error(
            "redis-away",
            f"Redis has not answered since {iso(snapshot.redis_at_ms)}: "
            "the page shows partitions and averages as of that time.",
        )
    elif snapshot.unreadable:
        yield _error(
            "redis-unreadable",
            "Redis answers, but this page cannot read its data: "
            f"{'; '.join(sorted(set(snapshot.unreadable.values())))}",
        )
    elif snapshot.redis_readable is None:
        yield _info("looking", "The first poll of Redis is in progress: the state is unknown.")
    if not snapshot.warehouse_answers:
        yield _error(
            "warehouse-away",
            f"The warehouse has not answered since {iso(snapshot.rows_at_ms)}: "
            "averages wait in the stream, which keeps five days of them.",
        )


def _of_this_process(snapshot: Snapshot) -> Iterator[Problem]:
    if snapshot.not_ready:
        # Their text may contain hosts, users and databases, which the page must not show.
        workers = sorted({each.partition(":")[0] for each in snapshot.not_ready})
        yield _error(
            "not-ready",
            f"This replica is not ready ({', '.join(workers)}): see its log and its /readyz.",
        )
    if snapshot.missing_hours:
        yield _error(
            "missing-hours",
            f"{_count(snapshot.missing_hours, 'published hour')} can no longer be loaded into the "
            "warehouse: the log of the averages consumer names them.",
        )


def _hours(snapshot: Snapshot, pipeline: PipelineStatus) -> Iterator[Problem]:
    now_ms = snapshot.instant.real_ms
    overdue = [
        hour for hour, since_ms in snapshot.due_since.items() if now_ms - since_ms > PATIENCE_MS
    ]
    if overdue:
        yield _error(
            "hours-overdue",
            f"{_count(len(overdue), 'hour')} should have been published by now, the first is "
            f"{iso(min(overdue))}: check that the aggregators run and keep up.",
        )
    published_through_ms = pipeline.published_through_ms
    if (
        published_through_ms is not None
        and ahead_ms(published_through_ms, pipeline.instant) > AHEAD_MS
    ):
        yield _error("published-ahead", f"{published_ahead(published_through_ms)}.")
    counted = [record.start_ms for record in pipeline.records() if record.count]
    if not pipeline.partitions:
        yield _info(
            "no-readings", "There is no partition: no reading arrived in the last two days."
        )
    elif counted and _fell_silent(snapshot, max(counted) + HOUR_MS):
        yield _warning(
            "silence",
            f"No reading has been counted for any hour after {iso(max(counted))}: "
            "check that the producers run.",
        )
    if pipeline.revised:
        yield _warning(
            "hours-revised",
            f"{_count(pipeline.revised, 'published hour')} had another result when sealed again "
            "after a failover: hourglass audit compares them.",
        )
    if too_late := len(pipeline.too_late - snapshot.late_and_loaded):
        yield _warning(
            "hours-too-late",
            f"{_count(too_late, 'hour')} got the first reading after a later hour was "
            "published, so the stream has no average of it: hourglass audit names it, hourglass "
            "averages backfill loads it into the warehouse, which ends this on the page and in "
            "hourglass status --warehouse-url.",
        )


def _fell_silent(snapshot: Snapshot, at_ms: int) -> bool:
    """Whether `at_ms` passed more than PATIENCE_MS ago; False for a manual clock, which stands
    still between replays."""
    instant = snapshot.instant
    return instant.spec.mode is not Mode.MANUAL and instant.is_due(at_ms, PATIENCE_MS)


def _readings(pipeline: PipelineStatus) -> Iterator[Problem]:
    quarantined = sum(pipeline.quarantined.values())
    if quarantined:
        yield _warning(
            "quarantine",
            f"{_count(quarantined, 'reading')} cannot be used: hourglass quarantine list "
            "shows the reason, hourglass quarantine redrive counts them after a fix.",
        )
    late = sum(record.late for record in pipeline.records())
    if late > 0:
        yield _info(
            "late",
            f"{_count(late, 'reading')} arrived after their hour was sealed: "
            "they are recorded, but not in the published averages.",
        )


def _strays(pipeline: PipelineStatus) -> Iterator[Problem]:
    for reason, strays in pipeline.strays.items():
        yield _warning("stray-streams", f"{line(reason, strays)}.", strays.first)


def _removed(pipeline: PipelineStatus) -> Iterator[Problem]:
    if pipeline.removals is None:
        yield _info(
            "removals-unknown",
            "Whether another program removed readings is unknown, because the Redis user of this "
            "process may not run EVALSHA_RO on partitions: install this release's "
            "deploy/redis/users.acl.",
        )
        return
    for stream, removed in pipeline.removals.items():
        if text := uncounted_line(stream, removed):
            yield _warning("readings-lost", f"{text}.", stream)
        if text := counted_line(stream, removed):
            yield _info("entries-removed", f"{text}.", stream)


def _damaged(pipeline: PipelineStatus) -> Iterator[Problem]:
    for partition, what in sorted(pipeline.damaged.items()):
        yield Problem(
            code="partition-damaged",
            severity="error",
            text=f"{partition.stream} cannot be processed: {what}.",
            about=partition.stream,
        )


def _at_risk(pipeline: PipelineStatus) -> Iterator[Problem]:
    left = hours_left(pipeline.instant, [each.state for each in pipeline.partitions])
    if left is not None and left < AT_RISK_H:
        yield _error(
            "readings-at-risk",
            f"Uncounted readings expire in {left:.1f} hours and are then lost: "
            "check that the aggregators run.",
        )


def _averages(snapshot: Snapshot, pipeline: PipelineStatus) -> Iterator[Problem]:
    """A problem if averages have waited for longer than PATIENCE_MS to be loaded."""
    state, published_through_ms = pipeline.averages, pipeline.published_through_ms
    if state is None or published_through_ms is None or not state.waits:
        return
    is_old = snapshot.instant.is_due(published_through_ms + HOUR_MS, PATIENCE_MS)
    if is_old and (_deserted(state) or (state.held_ms or 0) > PATIENCE_MS):
        yield _error(
            "averages-not-loaded",
            f"{_to_load(state)} to be loaded: check that an averages consumer runs and reaches "
            "the warehouse.",
        )


def _to_load(state: StreamState) -> str:
    if state.lag is None:
        return "Averages wait"
    waiting = state.lag + state.pending
    return f"{_count(waiting, 'average')} wait{'s' if waiting == 1 else ''}"


def _deserted(state: StreamState) -> bool:
    """Whether every consumer has been idle for more than PATIENCE_MS."""
    return state.idle_ms is None or state.idle_ms > PATIENCE_MS


def _partition(state: StreamState) -> Iterator[Problem]:
    if state.lag is None:
        yield _warning(
            "lag-unknown",
            f"Redis does not know the lag of {state.stream}: it is unknown, not zero.",
            state.stream,
        )
    if state.waits and _deserted(state):
        yield _warning(
            "no-consumer",
            f"No consumer reads {state.stream}: check that the aggregators run.",
            state.stream,
        )
    elif state.held_ms is not None and state.held_ms > STUCK_MS:
        yield _warning(
            "pending-stuck",
            f"An entry of {state.stream} has been pending for {state.held_ms // 60_000} minutes "
            "and is not counted: see /readyz of the aggregators.",
            state.stream,
        )
    if state.expires_ms is None:
        yield _warning("never-expires", f"{state.stream} has no expiry time.", state.stream)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
