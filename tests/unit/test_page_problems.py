"""What is wrong now: each problem is told when it is there, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from averages_consumer.web.problems import PATIENCE_MS, STUCK_MS, problems
from averages_consumer.web.snapshot import (
    REDIS_STALE_MS,
    WAREHOUSE_STALE_MS,
    Snapshot,
    hours_due,
    still_due,
)
from hourglass.model.clock import Mode
from hourglass.model.keys import DAY_MS, HOUR_MS
from hourglass.model.strays import Reason, Strays
from hourglass.monitoring.server_settings import ServerSettings, findings
from tests.support.snapshots import (
    DAY,
    NOW_MS,
    averages_state,
    instant,
    record,
    snapshot,
    state,
    survey,
)

HOUR_9_MS = DAY.hour_start_ms(9)

WRONG: Mapping[str, dict[str, Any]] = {
    "redis-away": {"averages_at_ms": NOW_MS - REDIS_STALE_MS - 1},
    "redis-unreadable": {"unreadable": {"survey": "NOPERM this user has no permissions"}},
    "looking": {"survey": None, "averages": [], "begun_ms": NOW_MS},
    "warehouse-away": {"rows_at_ms": NOW_MS - WAREHOUSE_STALE_MS - 1},
    "not-ready": {"not_ready": ["redis: it does not answer"]},
    "missing-hours": {"missing_hours": 2},
    "eviction": {
        "server_findings": findings(
            [ServerSettings(shard="a:1", policy="volatile-lru", maxmemory=1)],
        )
    },
    "hours-overdue": {"due_since": {DAY.hour_start_ms(8): NOW_MS - PATIENCE_MS - 1}},
    "silence": {"survey": survey(records=[record(7), record(8, count=0, sum_milli_f=0)])},
    "hours-revised": {"survey": survey(revised=1)},
    "hours-too-late": {"survey": survey(too_late={DAY.hour_start_ms(3)})},
    "stray-streams": {"survey": survey(strays={Reason.NAME: Strays(1, "temps:2025-01-01")})},
    "quarantine": {"survey": survey(quarantined={"temps:20241225": 1})},
    "late": {"survey": survey(records=[record(9, late=3)])},
    "lag-unknown": {"survey": survey(partition=state(lag=None))},
    "nobody-reads": {"survey": survey(partition=state(consumers=0, idle_ms=None, lag=1))},
    "pending-stuck": {"survey": survey(partition=state(pending=1, held_ms=STUCK_MS + 1))},
    "readings-at-risk": {"survey": survey(partition=state(lag=1, expires_ms=NOW_MS + HOUR_MS))},
    "averages-not-loaded": {"survey": survey(averages=averages_state(lag=2, idle_ms=None))},
    "partition-damaged": {"survey": survey(damaged={DAY: f"{DAY.hours} is a string"})},
    "never-expires": {"survey": survey(partition=state(expires_ms=None))},
}


def test_hours_too_late_that_the_warehouse_has_are_no_problem() -> None:
    first, second = DAY.hour_start_ms(3), DAY.hour_start_ms(4)
    seen = snapshot(survey=survey(too_late={first, second}), late_and_loaded={first})

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
    wrong = {**WRONG["warehouse-away"], "survey": survey(revised=1, records=[record(9, late=1)])}

    assert codes(snapshot(**wrong)) == ["warehouse-away", "hours-revised", "late"]


def test_an_hour_that_is_just_due_is_not_overdue() -> None:
    assert codes(snapshot(due_since={DAY.hour_start_ms(8): NOW_MS - PATIENCE_MS})) == []


def test_hours_without_readings_are_no_reason_to_wait() -> None:
    empty = record(9, sealed=False, count=0, sum_milli_f=0)
    after = instant(HOUR_9_MS + 2 * HOUR_MS)

    assert hours_due(survey(at=after, records=[empty]).overview) == []
    assert hours_due(survey(at=after).overview) == [HOUR_9_MS]
    assert hours_due(survey(at=after, frontier_hour=9).overview) == []
    assert len(hours_due(survey(at=after, frontier_hour=None).overview)) == 10


def test_an_hour_is_due_since_it_was_first_seen_to_be_until_it_is_published() -> None:
    early, late = instant(HOUR_9_MS + HOUR_MS), instant(HOUR_9_MS + HOUR_MS + 5000)
    first = still_due({}, survey(at=early).overview)

    assert first == {HOUR_9_MS: early.real_ms}
    assert still_due(first, survey(at=late).overview) == first
    assert still_due(first, survey(at=late, frontier_hour=9).overview) == {}


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
        survey=survey(at=now, records=[record(8)]),
        averages_at_ms=now_ms,
        rows_at_ms=now_ms,
    )

    assert ("silence" in codes(seen)) == silent


def test_a_partition_that_is_counted_to_its_end_needs_no_reader() -> None:
    assert codes(snapshot(survey=survey(partition=state(consumers=0, lag=0)))) == []


@pytest.mark.parametrize(
    "left",
    [{"lag": 1}, {"lag": None}, {"pending": 1, "held_ms": 40_000}],
    ids=["not delivered", "unknown", "pending"],
)
def test_consumers_that_are_gone_are_not_taken_for_readers(left: dict[str, Any]) -> None:
    """The group knows them until somebody removes them."""
    gone: dict[str, Any] = {**left, "consumers": 2, "idle_ms": PATIENCE_MS + 1}

    assert "nobody-reads" in codes(snapshot(survey=survey(partition=state(**gone))))
    assert codes(snapshot(survey=survey(averages=averages_state(**gone)))) == [
        "averages-not-loaded"
    ]
    alive: dict[str, Any] = {**gone, "idle_ms": PATIENCE_MS}
    assert "nobody-reads" not in codes(snapshot(survey=survey(partition=state(**alive))))
    assert codes(snapshot(survey=survey(averages=averages_state(**alive)))) == []


def test_averages_that_a_consumer_holds_because_the_warehouse_is_away() -> None:
    held = averages_state(pending=2, held_ms=PATIENCE_MS + 1)

    assert codes(snapshot(survey=survey(averages=held))) == ["averages-not-loaded"]


def test_an_average_that_was_just_published_may_wait() -> None:
    """Before Redis 7.2 a consumer that waits for the next average gives no sign of life."""
    at = instant(HOUR_9_MS + PATIENCE_MS - 1)
    waits = averages_state(lag=1, idle_ms=HOUR_MS)
    seen: dict[str, Any] = {"averages_at_ms": at.real_ms, "rows_at_ms": at.real_ms, "instant": at}

    assert codes(snapshot(**seen, survey=survey(at=at, averages=waits, records=[record(8)]))) == []


def test_a_pipeline_without_readings_is_told_of_and_is_no_error() -> None:
    seen = survey()
    nothing = type(seen.overview)(
        instant=seen.overview.instant, partitions=[], averages=None, last=None, frontier_ms=None
    )

    (problem,) = problems(
        snapshot(survey=type(seen)(overview=nothing, quarantined={}), averages=[])
    )

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
