"""What is wrong now: each problem is told when it is there, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from averages_consumer.web.document_store import still_due
from hourglass.model.clock import Mode
from hourglass.model.keys import DAY_MS, HOUR_MS
from hourglass.model.strays import Reason, Strays
from hourglass.monitoring.pipeline_status import REDIS_STALE_MS, WAREHOUSE_STALE_MS, Snapshot
from hourglass.monitoring.problems import PATIENCE_MS, STUCK_MS, problems
from hourglass.monitoring.server_settings import ServerSettings, findings
from hourglass.monitoring.stream_stats import Removals
from tests.support.snapshots import (
    DAY,
    NOW_MS,
    averages_state,
    instant,
    polled,
    record,
    snapshot,
    state,
)

HOUR_9_MS = DAY.hour_start_ms(9)

WRONG: Mapping[str, dict[str, Any]] = {
    "redis-away": {"averages_at_ms": NOW_MS - REDIS_STALE_MS - 1},
    "redis-unreadable": {"unreadable": {"pipeline": "NOPERM this user has no permissions"}},
    "looking": {"pipeline": None, "averages": [], "begun_ms": NOW_MS},
    "warehouse-away": {"rows_at_ms": NOW_MS - WAREHOUSE_STALE_MS - 1},
    "not-ready": {"not_ready": ["redis: it does not answer"]},
    "missing-hours": {"missing_hours": 2},
    "eviction": {
        "server_findings": findings(
            [ServerSettings(shard="a:1", policy="volatile-lru", maxmemory=1)],
        )
    },
    "hours-overdue": {"due_since": {DAY.hour_start_ms(8): NOW_MS - PATIENCE_MS - 1}},
    "silence": {"pipeline": polled(records=[record(7), record(8, count=0, sum_milli_f=0)])},
    "hours-revised": {"pipeline": polled(revised=1)},
    "hours-too-late": {"pipeline": polled(too_late={DAY.hour_start_ms(3)})},
    "stray-streams": {"pipeline": polled(strays={Reason.NAME: Strays(1, "temps:2025-01-01")})},
    "quarantine": {"pipeline": polled(quarantined={"temps:20241225": 1})},
    "late": {"pipeline": polled(records=[record(9, late=3)])},
    "lag-unknown": {"pipeline": polled(partition=state(lag=None))},
    "no-consumer": {"pipeline": polled(partition=state(consumers=0, idle_ms=None, lag=1))},
    "pending-stuck": {"pipeline": polled(partition=state(pending=1, held_ms=STUCK_MS + 1))},
    "readings-at-risk": {"pipeline": polled(partition=state(lag=1, expires_ms=NOW_MS + HOUR_MS))},
    "averages-not-loaded": {"pipeline": polled(averages=averages_state(lag=2, idle_ms=None))},
    "partition-damaged": {"pipeline": polled(damaged={DAY: f"{DAY.hours} is a string"})},
    "readings-lost": {"pipeline": polled(removals={DAY.stream: Removals(entries=1, uncounted=1)})},
    "entries-removed": {"pipeline": polled(removals={DAY.stream: Removals(entries=1, counted=1)})},
    "removals-unknown": {"pipeline": polled(removals=None)},
    "never-expires": {"pipeline": polled(partition=state(expires_ms=None))},
}


def test_hours_too_late_that_the_warehouse_has_are_no_problem() -> None:
    first, second = DAY.hour_start_ms(3), DAY.hour_start_ms(4)
    seen = snapshot(pipeline=polled(too_late={first, second}), late_and_loaded={first})

    (problem,) = problems(seen)
    assert problem.text.startswith("1 hour got")
    assert codes(replace(seen, late_and_loaded={first, second})) == []


def codes(seen: Snapshot) -> list[str]:
    return [problem.code for problem in problems(seen)]


def test_nothing_is_wrong_with_a_pipeline_that_is_well() -> None:
    assert codes(snapshot()) == []


@pytest.mark.parametrize("code", WRONG)
def test_what_is_wrong_is_told_in_one_line_and_nothing_else_is(code: str) -> None:
    (problem,) = problems(snapshot(**WRONG[code]))

    assert problem.code == code
    assert "\n" not in problem.text
    assert problem.text[0].isupper() or problem.text.startswith(("temps:", "1 ", "2 ", "3 "))


def test_the_worst_comes_first() -> None:
    wrong = {
        **WRONG["warehouse-away"],
        "pipeline": polled(revised=1, records=[record(9, late=1)]),
    }

    assert codes(snapshot(**wrong)) == ["warehouse-away", "hours-revised", "late"]


def test_an_hour_that_is_just_due_is_not_overdue() -> None:
    assert codes(snapshot(due_since={DAY.hour_start_ms(8): NOW_MS - PATIENCE_MS})) == []


def test_hours_without_readings_are_no_reason_to_wait() -> None:
    empty = record(9, sealed=False, count=0, sum_milli_f=0)
    after = instant(HOUR_9_MS + 2 * HOUR_MS)

    assert polled(at=after, records=[empty]).hours_due() == []
    assert polled(at=after).hours_due() == [HOUR_9_MS]
    assert polled(at=after, published_hour=9).hours_due() == []
    assert len(polled(at=after, published_hour=None).hours_due()) == 10


def test_an_hour_is_due_since_it_was_first_seen_to_be_until_it_is_published() -> None:
    early, late = instant(HOUR_9_MS + HOUR_MS), instant(HOUR_9_MS + HOUR_MS + 5000)
    first = still_due({}, polled(at=early))

    assert first == {HOUR_9_MS: early.real_ms}
    assert still_due(first, polled(at=late)) == first
    assert still_due(first, polled(at=late, published_hour=9)) == {}


@pytest.mark.parametrize(
    ("now_ms", "mode", "silent"),
    [
        (HOUR_9_MS + PATIENCE_MS - 1, Mode.WALL, False),
        (HOUR_9_MS + PATIENCE_MS, Mode.WALL, True),
        (HOUR_9_MS + DAY_MS, Mode.MANUAL, False),
    ],
)
def test_silence_is_an_hour_without_readings_unless_the_clock_stands(
    now_ms: int, mode: Mode, *, silent: bool
) -> None:
    now = instant(now_ms, mode=mode)
    seen = snapshot(
        instant=now,
        pipeline=polled(at=now, records=[record(8)]),
        averages_at_ms=now_ms,
        rows_at_ms=now_ms,
    )

    assert ("silence" in codes(seen)) == silent


def test_a_partition_that_is_counted_to_its_end_needs_no_reader() -> None:
    assert codes(snapshot(pipeline=polled(partition=state(consumers=0, lag=0)))) == []


@pytest.mark.parametrize(
    "left",
    [{"lag": 1}, {"lag": None}, {"pending": 1, "held_ms": 40_000}],
    ids=["not delivered", "unknown", "pending"],
)
def test_consumers_that_are_gone_are_not_taken_for_readers(left: dict[str, Any]) -> None:
    """The group knows them until somebody removes them."""
    gone: dict[str, Any] = {**left, "consumers": 2, "idle_ms": PATIENCE_MS + 1}

    assert "no-consumer" in codes(snapshot(pipeline=polled(partition=state(**gone))))
    assert codes(snapshot(pipeline=polled(averages=averages_state(**gone)))) == [
        "averages-not-loaded"
    ]
    alive: dict[str, Any] = {**gone, "idle_ms": PATIENCE_MS}
    assert "no-consumer" not in codes(snapshot(pipeline=polled(partition=state(**alive))))
    assert codes(snapshot(pipeline=polled(averages=averages_state(**alive)))) == []


def test_averages_that_a_consumer_holds_because_the_warehouse_is_away() -> None:
    held = averages_state(pending=2, held_ms=PATIENCE_MS + 1)

    assert codes(snapshot(pipeline=polled(averages=held))) == ["averages-not-loaded"]


def test_an_average_that_was_just_published_may_wait() -> None:
    """Before Redis 7.2 a consumer that waits for the next average gives no sign of life."""
    at = instant(HOUR_9_MS + PATIENCE_MS - 1)
    waits = averages_state(lag=1, idle_ms=HOUR_MS)
    seen: dict[str, Any] = {"averages_at_ms": at.real_ms, "rows_at_ms": at.real_ms, "instant": at}

    assert (
        codes(snapshot(**seen, pipeline=polled(at=at, averages=waits, records=[record(8)]))) == []
    )


def test_a_pipeline_without_readings_is_reported_and_is_no_error() -> None:
    seen = polled()
    empty = replace(seen, partitions=[], averages=None, last=None, published_through_ms=None)

    (problem,) = problems(snapshot(pipeline=empty, averages=[]))

    assert (problem.code, problem.severity) == ("no-readings", "info")


def test_why_a_replica_is_not_ready_is_for_its_log_and_not_for_the_page() -> None:
    reasons = [
        "warehouse: the warehouse postgresql://me:***@db.internal/averages does not answer",
        "redis: Error 111 connecting to 10.0.0.7:6379",
    ]
    (problem,) = problems(snapshot(not_ready=reasons))

    assert "(redis, warehouse)" in problem.text
    assert not [
        each for each in ("db.internal", "me:", "averages", "10.0.0.7") if each in problem.text
    ]
