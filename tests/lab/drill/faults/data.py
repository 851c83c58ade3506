"""Keys that another program destroys, unusable readings, and wrong clocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from hourglass.model.keys import GROUP, HOUR_MS, iso
from hourglassctl.audit.compare import Result
from hourglassctl.local import bootstrap
from tests.lab.drill.fault import Fault
from tests.lab.drill.report import Happened, MayLose, Promise
from tests.lab.drill.stage import AGGREGATORS, PRODUCERS, SPEED, Setting, Stage, wait

BAD_READINGS = 100_000
MEGABYTE = 1 << 20


def destroy_group(stage: Stage) -> Happened:
    stream = stage.today().stream
    stage.redis.refresh_topology()
    stage.redis.call("XGROUP DESTROY", stream, GROUP)
    return Happened(text=f"the group of {stream} was destroyed")


#: The number of readings not counted yet; then the stream is deleted; one step.
_DELETE = """
redis.call('DEL', KEYS[1])
local taken = redis.call('HGET', KEYS[2], ':readings') or 0
return taken - (redis.call('HGET', KEYS[3], 'acknowledged') or 0)
"""


def delete_partition(stage: Stage) -> Happened:
    today = stage.today()
    stage.redis.refresh_topology()
    keys = (today.stream, today.producers, today.hours)
    uncounted = int(stage.redis.call("EVAL", _DELETE, len(keys), *keys))
    return Happened(
        text=f"{today.stream} was deleted with {uncounted:,} readings not counted",
        at_risk=uncounted,
    )


def flush_all(stage: Stage) -> Happened:
    """The clock is set again at once: in real life it is the wall clock, and no key."""
    spec = stage.clock.current().spec
    clock = stage.redis.keyspace.clock
    holder = stage.nodes.master_of(clock)
    flat = [part for pair in spec.fields().items() for part in pair]
    for node in stage.masters():
        with bootstrap.client(node.port, timeout_s=30) as client:
            pipeline: Any = cast(Any, client).pipeline(transaction=True)
            pipeline.execute_command("FLUSHALL")
            if node is holder:
                pipeline.execute_command("HSET", clock, *flat)
            pipeline.execute()
    return Happened(text="FLUSHALL on every shard")


def wrong_type(stage: Stage) -> Happened:
    partition = stage.today()
    stage.redis.refresh_topology()
    key = partition.devices(partition_hour(stage) + 1)
    stage.redis.call("SET", key, "not a hash", "PX", HOUR_MS)
    for name in AGGREGATORS:
        wait(lambda name=name: key in unready_reasons(stage, name), f"{name} names the key")
    stage.hold()
    stage.redis.call("DEL", key)
    return Happened(text=f"{key} was a string until every aggregator had named it")


def partition_hour(stage: Stage) -> int:
    now_ms = stage.now_ms()
    return (now_ms - stage.today().day_ms) // HOUR_MS


def unready_reasons(stage: Stage, name: str) -> str:
    return stage.services.get(name, "/readyz")[1]


def poison(stage: Stage) -> Happened:
    """Readings that are no good, more than a batch of them in a row, and one of a megabyte."""
    partition = stage.today()
    stage.redis.refresh_topology()
    bad = [
        ("temp_f", "hot"), ("temp_f", "nan"), ("temp_f", "1e999"), ("temp_f", "-400"),
        ("temp_f", b"\xff\xfe"), ("temp_f", "7" * 1000), ("humidity", "40"),
        ("temp_f", "50", "ts", "yesterday"), ("temp_f", "50", "ts", partition.day_ms - 1),
        ("temp_f", "50", "device", "x" * 1000),
    ]  # fmt: skip
    link = stage.redis.link(partition.stream)
    script = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)) end"
    for fields in bad:
        each = BAD_READINGS // len(bad)
        for count in [1000] * (each // 1000):
            link.call("EVAL", script, 1, partition.stream, count, *fields)
    link.call("XADD", partition.stream, "*", "temp_f", "7" * MEGABYTE)
    link.close()
    return Happened(
        text=f"{BAD_READINGS + 1:,} readings that are no good in a row, one of a megabyte",
        bad=BAD_READINGS + 1,
    )


def wrong_times(stage: Stage) -> Happened:
    """A writer two hours ahead and one two hours behind, in the middle of a day."""
    wait(lambda: 3 <= partition_hour(stage) <= 20, "it is neither morning nor night")
    stage.hurt()
    stage.redis.refresh_topology()
    each = 1000
    partition, now_ms = stage.today(), stage.now_ms()
    behind_ms = now_ms - 2 * HOUR_MS
    hour = behind_ms - behind_ms % HOUR_MS
    for device, ts_ms in (("ahead", now_ms + 2 * HOUR_MS), ("behind", behind_ms)):
        stage.redis.pipeline(
            [("XADD", partition.stream, "*", "device", device, "ts", ts_ms, "temp_f", "50")] * each
        )
    stage.foreign[hour] = Result(each, each * 50_000)
    return Happened(
        text=f"{each:,} readings two hours ahead are in quarantine, {each:,} two hours behind "
        f"are recorded as late for {iso(hour)}",
        bad=each,
        late=each,
    )


#: However a process asks for the time; except monotonic clocks, which cannot be set.
_SHIFTED = """
import datetime, time
_real, _real_ns, _sign = time.time, time.time_ns, {sign}
def _off():
    return 7200 * (_sign or (1 if int(_real()) % 2 else -1))
class _Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(_real() + _off(), tz)
time.time = lambda: _real() + _off()
time.time_ns = lambda: _real_ns() + _off() * 10**9
datetime.datetime = _Shifted
"""


def wrong_pods(stage: Stage) -> Happened:
    """Pods whose own clocks are two hours ahead, two behind, and jumping."""
    restarted: list[str] = []
    for name, sign in zip(AGGREGATORS, (1, -1, 0), strict=True):
        folder = stage.services.log(name).with_name(f"clock-{sign}")
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SHIFTED.format(sign=sign))
        stage.services.kill(name)
        stage.start(name, PYTHONPATH=str(folder))
        restarted.append(name)
    for name in restarted:
        stage.await_ready(name)
    for name, sign in (("producer-3", 1), ("producer-4", -1)):
        folder = Path(stage.services.log(AGGREGATORS[0])).with_name(f"clock-{sign}")
        stage.start(name, PYTHONPATH=str(folder))
        stage.await_ready(name)
    return Happened(
        text="aggregators and producers whose clocks were two hours ahead, behind, and jumping"
    )


def leap(stage: Stage) -> Happened:
    """The pipeline clock is set six hours ahead."""
    stage.unpredictable.update(PRODUCERS)
    instant = stage.clock.refresh()
    ahead_ms = instant.now_ms + 6 * HOUR_MS
    stage.set_clock(ahead_ms, real_ms=instant.real_ms)
    stage.hurt()
    stage.hold(1.0)
    return Happened(text="the pipeline clock was set six hours ahead")


FAULTS = (
    Fault(
        name="group-destroyed",
        what="XGROUP DESTROY of today's group",
        act=destroy_group,
        setting=Setting(packed=True),
        rests_on="the partition is counted again from its first entry: "
        "`aggregator/scripts/open.lua`",
        proof="tests/integration/test_open.py::"
        "test_a_running_aggregator_recounts_when_its_group_is_destroyed",
    ),
    Fault(
        name="partition-deleted",
        what="DEL of today's partition",
        act=delete_partition,
        promise=Promise(
            text="what had been counted stays counted; the rest is gone, and audit says that the "
            "partition was created again",
            may_lose=MayLose.WHAT_WAS_THERE,
            says="was deleted and created again",
        ),
        rests_on="hour records are keys of their own: `aggregator/scripts/open.lua`",
        proof="tests/integration/test_open.py::"
        "test_a_running_aggregator_says_that_a_partition_was_deleted_and_goes_on",
    ),
    Fault(
        name="flushall",
        what="FLUSHALL on every shard",
        act=flush_all,
        promise=Promise(
            text="hours in the warehouse stay; of the hour in progress audit names what is gone",
            may_lose=MayLose.WHAT_AUDIT_NAMES,
            says="acknowledged readings are missing",
        ),
        rests_on="a producer gives with each batch the number acknowledged before: "
        "`producer/scripts/ingest.lua`",
        proof="tests/system/test_flushed.py::test_audit_gives_the_exact_number_of_lost_readings",
    ),
    Fault(
        name="wrong-type",
        what="a companion key of another type",
        act=wrong_type,
        rests_on="scripts look before they change anything: `hourglass/scripts/prelude.lua`",
        proof="tests/system/test_corrupt_keys.py::"
        "test_yesterday_is_published_and_today_follows_once_its_key_is_deleted",
    ),
    Fault(
        name="poison",
        what="100,000 bad readings in a row, and one of a megabyte",
        act=poison,
        rests_on="what cannot be used goes to quarantine in the step that acknowledges it: "
        "`aggregator/scripts/commit.lua`",
        proof="tests/system/test_poison.py::"
        "test_a_hundred_thousand_bad_readings_in_a_row_take_no_room_and_little_time",
    ),
    Fault(
        name="wrong-times",
        what="writers two hours ahead and two hours behind",
        act=wrong_times,
        rests_on="late readings are recorded, those of the future quarantined: "
        "`hourglass/model/readings.py`",
        proof="tests/system/test_clocks.py::"
        "test_a_writer_two_hours_ahead_is_quarantined_and_one_two_hours_behind_is_late",
    ),
    Fault(
        name="wrong-pod-clocks",
        what="pods whose clocks are two hours ahead, two behind, and jumping",
        act=wrong_pods,
        rests_on="time is Redis' TIME through the pipeline clock: `hourglass/model/clock.py`",
        proof="tests/system/test_clocks.py::"
        "test_a_pod_whose_clock_leaps_does_its_work_like_any_other",
    ),
    Fault(
        name="clock-leap",
        what="the pipeline clock is set six hours ahead",
        act=leap,
        rests_on="a cut-off id is set when an hour is due, whatever made it due: "
        "`aggregator/scripts/seal.lua`",
        proof="tests/system/test_clocks.py::test_the_pipeline_clock_leaps_ahead_and_nothing_is_lost",
        setting=Setting(speed=SPEED),
    ),
)
