"""A cluster that fails over, moves, is full, slow, or hangs up."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

from hourglassctl.local import bootstrap
from tests.lab.drill.fault import Fault
from tests.lab.drill.report import Happened, MayLose, Promise
from tests.lab.drill.stage import Setting, Stage, wait
from tests.support.cluster import Node

FAILS_OVER = Setting(node_timeout_ms=1000)
WITH_WAIT = replace(FAILS_OVER, environment={"HOURGLASS_WAIT_REPLICAS": "1"})
#: How long a lasting fault lasts.
WHILE_S = 4.0


def await_successor(stage: Stage, key: str, lost: Node) -> None:
    wait(lambda: stage.nodes.master_of(key) is not lost, f"the replica of {lost.port} takes over")


def kill_master(stage: Stage) -> Happened:
    stream = stage.today().stream
    lost = stage.nodes.master_of(stream)
    lost.kill()
    await_successor(stage, stream, lost)
    stage.hold()
    lost.restart()
    stage.nodes.await_whole()
    return Happened(text="today's shard was killed, its replica took over; later it came back")


def pause_master(stage: Stage) -> Happened:
    stream = stage.today().stream
    lost = stage.nodes.master_of(stream)
    lost.pause()
    await_successor(stage, stream, lost)
    stage.hold(stage.setting.node_timeout_ms / 1000)
    lost.resume()
    stage.nodes.await_whole()
    return Happened(text="today's shard slept until its replica had taken over, then woke up")


def restart_all(stage: Stage) -> Happened:
    for node in stage.nodes.nodes:
        node.kill()
    stage.hold()
    stage.nodes.restart()
    return Happened(text="all six nodes were killed at once, and started again")


def move_slot(stage: Stage) -> Happened:
    stream = stage.today().stream
    holder = stage.nodes.master_of(stream)
    target = next(node for node in stage.masters() if node is not holder)
    length = int(stage.redis.call("XLEN", stream))
    stage.nodes.move_slot(stream, target)
    return Happened(text=f"{stream} moved to another shard with {length:,} entries in it")


def fill_up(stage: Stage) -> Happened:
    masters = stage.masters()
    for node in masters:
        _tell(node, "CONFIG SET", "maxmemory", 1)
    stage.hold(WHILE_S)
    for node in masters:
        _tell(node, "CONFIG SET", "maxmemory", 0)
    return Happened(text=f"every shard refused writes for {WHILE_S:.0f} s: maxmemory was reached")


def slow_down(stage: Stage) -> Happened:
    """Each master sleeps most of the time, so that whatever is asked of it waits."""
    masters = stage.masters()
    for _ in stage.holding(WHILE_S):
        for node in masters:
            node.pause()
        time.sleep(0.05)
        for node in masters:
            node.resume()
        time.sleep(0.02)
    return Happened(text=f"every command waited for up to 50 ms, for {WHILE_S:.0f} s")


def cut_connections(stage: Stage) -> Happened:
    masters = stage.masters()
    cut = 0
    for _ in stage.holding(WHILE_S):
        for node in masters:
            cut += int(_tell(node, "CLIENT KILL", "TYPE", "normal", "SKIPME", "yes"))
        time.sleep(0.1)
    return Happened(text=f"{cut:,} connections were cut, ten times a second, whatever they carried")


STEPS = ("register", "ingest", "open", "commit", "seal", "publish", "reap")
LOST_REPLIES = ",".join(
    f"{step}.after:lose-reply@{passage}" for step in STEPS for passage in range(5, 55, 5)
)


def lose_replies(stage: Stage) -> Happened:
    """They do from the beginning; some steps are rare."""
    stage.hold(WHILE_S)
    lost = sum(stage.services.said(name).count("lose-reply") for name in stage.services.names)
    return Happened(text=f"{lost} replies got lost after the server had done the work")


def _tell(node: Node, *command: str | int) -> Any:
    with bootstrap.client(node.port, timeout_s=10) as client:
        return cast(Any, client).execute_command(*command)


FAULTS = (
    Fault(
        name="kill-master",
        what="SIGKILL of today's shard, and its replica takes over; no WAIT",
        act=kill_master,
        setting=FAILS_OVER,
        promise=Promise(
            text="what the failover loses, audit names to the reading; sums agree with the rest",
            may_lose=MayLose.WHAT_AUDIT_NAMES,
            may_say="acknowledged readings are missing",
        ),
        rests_on="a partition and its companions share a shard and fail over together: "
        "`hourglass/model/keys.py`; acknowledged readings are compared with stored ones: "
        "`producer/scripts/ingest.lua`",
        proof="tests/system/test_failover.py::"
        "test_without_wait_audit_says_exactly_what_a_failover_lost",
    ),
    Fault(
        name="kill-master-wait",
        what="the same, and producers wait for one replica",
        act=kill_master,
        setting=replace(WITH_WAIT, packed=True),
        rests_on="a batch counts as taken once a replica has it: `producer/writer.py`",
        proof="tests/system/test_failover.py::"
        "test_with_wait_nothing_that_was_taken_is_lost_when_a_master_is_killed",
    ),
    Fault(
        name="pause-master",
        what="SIGSTOP of today's shard for longer than the node time-out; producers wait for one "
        "replica",
        act=pause_master,
        setting=WITH_WAIT,
        rests_on="a batch is committed only over the connection that delivered it: "
        "`aggregator/commit.py`",
        proof="tests/system/test_failover.py::"
        "test_a_master_that_slept_over_the_node_time_out_has_no_say_any_more",
    ),
    Fault(
        name="restart-all",
        what="SIGKILL of all nodes at once, with appendfsync always",
        act=restart_all,
        setting=Setting(redis={"appendfsync": "always"}, packed=True),
        rests_on="Redis' append-only file; services keep nothing: `hourglass/model/clock.py`",
        proof="tests/system/test_failover.py::"
        "test_all_nodes_are_restarted_at_once_and_have_what_they_had",
    ),
    Fault(
        name="move-slot",
        what="today's partition moves to another shard while it is in use",
        act=move_slot,
        rests_on="a redirected batch is dropped and delivered again: `hourglass/cluster/client.py`",
        proof="tests/system/test_failover.py::"
        "test_a_slot_moves_to_another_shard_and_back_while_it_is_in_use",
    ),
    Fault(
        name="redis-full",
        what="every shard is out of memory for a while",
        act=fill_up,
        rests_on="scripts that free or count run all the same (`flags=allow-oom`), producers keep "
        "their readings: `producer/buffer.py`",
        proof="tests/system/test_full_redis.py::test_readings_wait_until_there_is_room_again",
    ),
    Fault(
        name="redis-slow",
        what="every command is delayed",
        act=slow_down,
        rests_on="an hour waits for what had arrived, however long: `aggregator/scripts/seal.lua`",
        proof="tests/system/test_bad_network.py::test_a_slow_redis_delays_and_loses_nothing",
    ),
    Fault(
        name="cut-connections",
        what="every connection is cut, again and again",
        act=cut_connections,
        rests_on="a link never reconnects: what it delivered comes back by redelivery: "
        "`hourglass/cluster/client.py`",
        proof="tests/system/test_bad_network.py::test_connections_are_cut_in_the_middle_of_replies",
    ),
    Fault(
        name="lost-replies",
        what="replies get lost after the server did the work",
        act=lose_replies,
        setting=Setting(faults=LOST_REPLIES, packed=True),
        rests_on="a batch is taken once, an entry acknowledged once, an hour published once",
        proof="tests/system/test_bad_network.py::test_a_reply_is_lost_after_the_server_did_the_work",
    ),
)
