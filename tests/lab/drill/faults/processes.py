"""Services that are killed, frozen, or come and go."""

from __future__ import annotations

import re
import signal
import time
from typing import Any

from hourglass.cluster.partitions import candidates
from hourglass.model.keys import AVERAGES_GROUP, GROUP
from tests.lab.drill.fault import Fault
from tests.lab.drill.report import Happened
from tests.lab.drill.stage import CLAIM_IDLE_S, Setting, Stage, wait
from tests.support.fault_injection import LOAD

#: Steps of each service at which it can be killed, before and after.
STEPS = {
    "producer": ("divide", "register", "ingest"),
    "aggregator": ("open", "commit", "seal", "publish", "reap"),
}
#: Of those, the ones that a process takes at its start and once a day.
ONCE_A_DAY = ("divide", "register", "open")


def consumers(stage: Stage, name: str) -> list[dict[str, Any]]:
    """This process's consumers, as XINFO CONSUMERS shows them."""
    streams = [(each.stream, GROUP) for each in candidates(stage.redis, stage.clock.current())]
    streams.append((stage.redis.keyspace.averages, AVERAGES_GROUP))
    groups = stage.redis.pipeline([("XINFO CONSUMERS", *each) for each in streams])
    return [
        consumer
        for known in groups
        if not isinstance(known, Exception)  # no such stream, or no such group yet
        for consumer in known
        if re.fullmatch(f"{name}(-[0-9a-f]{{8}}(-.*)?)?", consumer["name"].decode())
    ]


def held_by(stage: Stage, name: str) -> int:
    """Entries that are pending for this process's consumers."""
    return sum(consumer["pending"] for consumer in consumers(stage, name))


def kill_producer(stage: Stage) -> Happened:
    time.sleep(stage.random.random())
    stage.hurt()
    stage.services.kill("producer-1")
    stage.hold()
    stage.start("producer-3")
    stage.await_ready("producer-3")
    return Happened(text="producer-1 was killed, and producer-3 started")


def stop_before_a_commit(stage: Stage) -> tuple[str, int]:
    """Start an aggregator that sends itself SIGSTOP between reading a batch and committing it; its
    name, and how many entries are pending for it."""
    name = stage.start("aggregator-4", faults="commit.before:stop@3")
    wait(lambda: stage.services.stopped(name), f"{name} stops before its third commit")
    return name, held_by(stage, name)


def kill_aggregator(stage: Stage) -> Happened:
    """Between reading a batch and committing it."""
    name, held = stop_before_a_commit(stage)
    stage.hurt()
    stage.services.kill(name)
    stage.hold()
    stage.start(name)
    stage.await_ready(name)
    return Happened(text=f"{name} was killed with {held:,} pending entries, and restarted")


def kill_consumer(stage: Stage) -> Happened:
    stage.start("consumer-3", faults="load.after-commit:kill")
    wait(lambda: not stage.services.running("consumer-3"), "consumer-3 is killed")
    stage.hurt()
    time.sleep(stage.random.random())
    stage.services.kill("consumer-1")
    stage.hold()
    stage.start("consumer-1")
    stage.await_ready("consumer-1")
    return Happened(text="two were killed, one of them between commit and acknowledgement")


def kill_at_every_step(stage: Stage) -> Happened:
    points = [
        (service, step, f"{step}.{when}")
        for service, steps in STEPS.items()
        for step in steps
        for when in ("before", "after")
    ]
    points += [("consumer", "load", point) for point in LOAD]
    for number, (service, step, point) in enumerate(points):
        name = f"{service}-{10 + number}"
        # In the middle of its work, where that is not rare: the others publish and load as well.
        passage = "" if step in (*ONCE_A_DAY, "publish", "load") else "@2"
        stage.start(name, faults=f"{point}:kill{passage}")
        wait(lambda name=name: not stage.services.running(name), f"{name} is killed at {point}")
    return Happened(text=f"{len(points)} processes were killed, each at a step of its own")


def freeze_aggregator(stage: Stage) -> Happened:
    name, held = stop_before_a_commit(stage)
    stage.hurt()
    wait(lambda: held_by(stage, name) == 0, f"others reclaim what is pending for {name}")
    stage.hold(CLAIM_IDLE_S)
    stage.services.signal(name, signal.SIGCONT)
    stage.await_ready(name)
    return Happened(
        text=f"{name} was stopped until others had reclaimed its {held:,} pending entries, then "
        "went on"
    )


def scale(stage: Stage) -> Happened:
    first = "aggregator-1"
    more = [f"aggregator-{number}" for number in range(2, 9)]
    for name in more:
        stage.start(name)
    for name in more:
        stage.await_ready(name)
    stage.hurt()
    for name in (first, *more):
        stage.services.signal(name, signal.SIGTERM)
    for name in (first, *more):
        wait(lambda name=name: not stage.services.running(name), f"{name} ends")
    stage.hold(1.0)
    for name in ("aggregator-11", "aggregator-12", "aggregator-13"):
        stage.start(name)
        stage.await_ready(name)
    for name in (first, *more):
        wait(lambda name=name: not consumers(stage, name), f"{name}'s consumers are removed")
    return Happened(text="1 aggregator, 8, none, 3; the consumers that had left were removed")


def deep_pending(stage: Stage) -> Happened:
    """One consumer reads a hundred thousand entries and never comes back."""
    for name in ("aggregator-1", "aggregator-2", "aggregator-3"):
        stage.services.signal(name, signal.SIGSTOP)
    partition = stage.today()
    link = stage.redis.link(partition.stream)
    taken = 0
    while taken < DEEP:
        reply = link.call(
            "XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 10_000, "BLOCK", 500,
            "STREAMS", partition.stream, ">",
        )  # fmt: skip
        taken += len(reply[0][1]) if reply else 0
        if stage.today() != partition:
            break
    link.close()
    for name in ("aggregator-1", "aggregator-2", "aggregator-3"):
        stage.services.signal(name, signal.SIGCONT)
    wait(lambda: held_by(stage, "dead") == 0, "the pending list is worked off")
    return Happened(text=f"{taken:,} entries were delivered to a consumer that never came back")


DEEP = 100_000

FAULTS = (
    Fault(
        name="kill-producer",
        what="SIGKILL of a producer at a random moment",
        act=kill_producer,
        rests_on="a batch is taken once, by its producer's sequence number: "
        "`producer/scripts/ingest.lua`",
        proof="tests/system/test_fault_points.py::test_a_producer_is_killed",
    ),
    Fault(
        name="kill-aggregator",
        what="SIGKILL of an aggregator between reading a batch and committing it",
        act=kill_aggregator,
        rests_on="to acknowledge and to count are one step: `aggregator/scripts/commit.lua`",
        proof="tests/system/test_killed_aggregators.py::"
        "test_every_reading_is_counted_once_whichever_aggregator_is_killed",
    ),
    Fault(
        name="kill-consumer",
        what="SIGKILL of averages consumers",
        act=kill_consumer,
        setting=Setting(takes_hours=True),
        rests_on="a row is upserted by its hour, then acknowledged: "
        "`averages_consumer/consumer.py`",
        proof="tests/integration/test_averages_consumer.py::"
        "test_a_kill_between_commit_and_acknowledgement_loses_and_doubles_nothing",
    ),
    Fault(
        name="kill-at-every-step",
        what="SIGKILL before and after each step of each service",
        act=kill_at_every_step,
        setting=Setting(takes_hours=True, packed=True),
        rests_on="each step is one script on one slot, and can be taken again",
        proof="tests/system/test_fault_points.py::test_an_aggregator_is_killed",
    ),
    Fault(
        name="freeze-aggregator",
        what="SIGSTOP of an aggregator for longer than the claim time",
        act=freeze_aggregator,
        setting=Setting(packed=True),
        rests_on="a commit counts only what is still pending: `aggregator/scripts/commit.lua`",
        proof="tests/system/test_stopped_and_scaled.py::"
        "test_an_aggregator_stopped_until_its_batch_is_reclaimed_counts_nothing_twice",
    ),
    Fault(
        name="scale",
        what="aggregators from 1 to 8, to none, and up again",
        act=scale,
        setting=Setting(aggregators=1),
        rests_on="a consumer is removed only with nothing pending: `hourglass/scripts/reap.lua`",
        proof="tests/system/test_stopped_and_scaled.py::"
        "test_consumers_that_ended_are_removed_and_new_ones_go_on",
    ),
    Fault(
        name="deep-pending",
        what="a pending list of 100,000 entries of a dead consumer",
        act=deep_pending,
        setting=Setting(takes_hours=True),
        rests_on="the place in the pending list is kept from call to call: `aggregator/reclaim.py`",
        proof="tests/system/test_stopped_and_scaled.py::"
        "test_the_pending_list_of_a_dead_consumer_is_reclaimed_however_long",
    ),
)
