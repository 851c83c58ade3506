"""Aggregators fall asleep, come and go, and leave much behind: every reading is counted once."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest

from hourglass.model.keys import GROUP
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import Services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

BATCH = "--batch-entries=100"
CONFLICTS = "hourglass_commit_conflicts_total"
#: As far as the cursor of a recovery has to come.
PENDING = 100_000


def produce(pipeline: Pipeline, count: int) -> None:
    pipeline.produce(*(reading(at(0) + 30 * each) for each in range(count)))


def consumers(pipeline: Pipeline) -> set[str]:
    infos: list[dict[str, Any]] = pipeline.cluster.call("XINFO CONSUMERS", DAY.stream, GROUP)
    # The process' name, what tells its lives apart, and which hand it is.
    return {re.sub(r"-[0-9a-f]{8}-.*", "", info["name"].decode()) for info in infos}


@pytest.mark.parametrize("point", ["commit.before", "commit.after"])
def test_an_aggregator_stopped_until_its_batch_is_reclaimed_counts_nothing_twice(
    pipeline: Pipeline, running: Services, point: str
) -> None:
    produce(pipeline, 1_000)
    sleeper = running.aggregator("sleeper", BATCH, faults=f"{point}:stop@2")
    wait_until(lambda: f"fault point {point}" in running.said(sleeper))

    running.aggregator("heir", BATCH)
    wait_until(lambda: pipeline.record(0).count == 1_000, message="the heir does not take over")
    running.signal(sleeper, signal.SIGCONT)
    running.await_ready(sleeper)
    produce(pipeline, 500)

    wait_until(lambda: pipeline.record(0).count == 1_500, message="they do not go on")
    if point == "commit.before":
        wait_until(
            lambda: (running.metric(sleeper, CONFLICTS) or 0) >= 1, message="it never woke up"
        )
    assert pipeline.audit().differences == []


def test_consumers_that_ended_are_removed_and_new_ones_go_on(
    pipeline: Pipeline, running: Services
) -> None:
    def scale(wanted: int) -> None:
        for name in present[wanted:]:
            assert running.terminate(name) == 0
        names = [f"aggregator-{each}" for each in range(wanted)]
        for name in names[len(present) :]:
            running.aggregator(name, BATCH)
        # Each waits for entries before there are some, so that each is given its share.
        running.await_ready(*names)
        present[:] = names

    present: list[str] = []
    produced = 0
    for wanted in (1, 8, 0, 3):
        scale(wanted)
        produce(pipeline, 2_000)
        produced += 2_000
        if wanted:
            wait_until(lambda: pipeline.record(0).count == produced, message="not all is counted")  # noqa: B023
            # Those that are there may be missing: a slow machine takes one that waits for gone.
            wait_until(
                lambda: consumers(pipeline) <= set(present), message="consumers that left stay"
            )
            assert pipeline.pending() == 0
    assert pipeline.audit().differences == []


def test_the_pending_list_of_a_dead_consumer_is_reclaimed_however_long(
    pipeline: Pipeline, running: Services
) -> None:
    produce(pipeline, PENDING)
    link = pipeline.delivery(name="dead").link
    read = ("XREADGROUP", "GROUP", GROUP, "dead", "COUNT", PENDING, "STREAMS", DAY.stream, ">")
    ((_, entries),) = link.call(*read)
    ids = [entry_id for entry_id, _ in entries]

    def let_idle(ids: list[bytes]) -> None:
        """As if they had been in the dead one's hands for a minute."""
        for start in range(0, len(ids), 1_000):
            chunk = ids[start : start + 1_000]
            link.call("XCLAIM", DAY.stream, GROUP, "dead", 0, *chunk, "IDLE", 60_000, "JUSTID")

    # Behind 99,000 that it may not claim yet.
    let_idle(ids[-1_000:])
    running.aggregator("heir", "--claim-idle-ms=20000")
    wait_until(lambda: counted(pipeline) >= 1_000, message="the tail is never reached")

    let_idle(ids)
    wait_until(lambda: counted(pipeline) == PENDING, message="the rest is never recovered")
    assert pipeline.pending() == 0
    assert pipeline.audit().differences == []


def counted(pipeline: Pipeline) -> int:
    return sum(each.count for each in pipeline.records().values())
