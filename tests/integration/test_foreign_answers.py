"""Whatever another writer puts under the keys of one day is the failure of that day alone: no step
on it fails with an error that a service does not expect, and the other day is published."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ResponseError

from aggregator.collectors import LostReadingsGauges
from aggregator.collectors import read_progress as look_at_progress
from averages_consumer.gaps import hours_of
from hourglass.cluster.partitions import with_each
from hourglass.errors import CorruptKey
from hourglass.model.keys import GREATEST_ID, GROUP, HOURS, Partition
from hourglass.monitoring.pipeline_status import collect
from hourglassctl.quarantine import quarantined
from hourglassctl.status import gather
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, batch_of, publish, reading

MOST = GREATEST_ID.decode()
Command = tuple[str, ...]


def of_another_type(partition: Partition) -> dict[str, Command]:
    keys = (partition.stream, *partition.companions[:6], partition.devices(0))
    found = {f"string at {key}": ("SET", key, "in the way", "EX", "3600") for key in keys}
    return found | {f"list at {key}": ("RPUSH", key, "in the way") for key in keys}


def of_another_content(partition: Partition) -> dict[str, Command]:
    hours, producers = partition.hours, partition.producers
    fields = ("count", "sum", "min", "devices", "late", "cut_off", "ended", "sealed", "trace")
    return {
        "greatest id": ("XADD", partition.stream, MOST, "temp_f", "70"),
        "greatest id but one": ("XADD", partition.stream, f"{MOST[:-1]}4", "temp_f", "70"),
        "id far ahead": ("XADD", partition.stream, "99999999999999999-1", "temp_f", "70"),
        "greatest id in quarantine": ("XADD", partition.quarantine, MOST, "a", "b"),
        "entry in quarantine": ("XADD", partition.quarantine, "*", "a", "b"),
        "lanes that are none": ("SET", partition.lanes, "7,x", "EX", "3600"),
        "lanes beyond all": ("SET", partition.lanes, "99999999999999999999", "EX", "3600"),
        "watermark of a foreigner": ("ZADD", partition.watermarks, "-inf", "x"),
        "producers' entries": ("HSET", producers, ":entries", "many"),
        "producers' call": ("HSET", producers, ":called", "now", ":resumed", "then"),
        "a producer's name": ("HSET", producers, "porch", "first"),
        "acknowledged": ("HSET", hours, "acknowledged", "all"),
        "quarantined": ("HSET", hours, "quarantined", "none"),
        "opened": ("HSET", hours, "opened", "at noon"),
        **{f"00:{field}": ("HSET", hours, f"00:{field}", "much\xff") for field in fields},
        "devices": ("HSET", partition.devices(0), "block", "\xff" * 100),
        "a group": ("XGROUP CREATE", partition.stream, GROUP, MOST, "MKSTREAM"),
    }


FOREIGN = of_another_type(NEXT_DAY) | of_another_content(NEXT_DAY)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("counted", [False, True], ids=["before", "after"])
def test_a_foreign_command_is_the_failure_of_its_day_alone(
    pipeline: Pipeline, name: str, *, counted: bool
) -> None:
    pipeline.produce(*(reading(at(hour)) for hour in range(HOURS)))
    pipeline.produce(reading(at(0, day=NEXT_DAY)), next_ms=at(0, 1, day=NEXT_DAY))
    pipeline.xadd(to=NEXT_DAY, temp_f="warm")
    if counted:
        pipeline.count(NEXT_DAY)
    command = FOREIGN[name]
    if command[0] in ("SET", "RPUSH"):
        pipeline.cluster.call("DEL", command[1])
    with suppress(
        CorruptKey, ResponseError
    ):  # refused where the key, or the group, is there already
        pipeline.cluster.call(*command)
    pipeline.cluster.call("EXPIRE", command[1], 3600, "NX")
    pipeline.drive(at(1, day=NEXT_DAY))

    cluster, clock = pipeline.cluster, pipeline.clock
    of_the_day: list[Callable[[], object]] = [
        lambda: publish(
            pipeline.publisher("porch"), batch_of(reading(at(0, 2, day=NEXT_DAY), device="hall"))
        ),
        lambda: pipeline.count(NEXT_DAY),
        lambda: pipeline.sealer().step(),
        lambda: list(quarantined(cluster, clock.current())),
    ]
    for step in of_the_day:
        with suppress(CorruptKey):
            step()
    pipeline.count(DAY)
    with suppress(CorruptKey):
        pipeline.sealer().step()

    assert [each.start_ms for each in pipeline.averages()][:HOURS] == [
        at(hour) for hour in range(HOURS)
    ]
    # What looks at all days shows the others.
    found = collect(cluster, clock.refresh())
    assert DAY in [each.partition for each in found.partitions]
    gather(cluster, clock, period_s=1.0)
    LostReadingsGauges(CollectorRegistry()).poll(cluster, clock.current())
    look_at_progress(cluster, clock.current(), settling_ms=0)
    assert at(0) in [record.start_ms for record in hours_of(cluster, [DAY, NEXT_DAY])]
    assert pipeline.audit().hours >= HOURS


def test_an_error_that_no_code_expects_is_the_failure_of_its_partition_alone(
    pipeline: Pipeline,
) -> None:
    done: list[Partition] = []

    def act(partition: Partition) -> None:
        if partition == DAY:
            raise KeyError("id")
        done.append(partition)

    with pytest.raises(CorruptKey, match=f"{DAY.stream}: KeyError: 'id'"):
        with_each(pipeline.cluster, [DAY, NEXT_DAY], act)

    assert done == [NEXT_DAY]


def test_the_greatest_id_is_reclaimed_quarantined_and_audited(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.cluster.call("XADD", DAY.stream, MOST, "temp_f", "70")
    dead = pipeline.delivery()
    assert len(dead.read(10, 1)) == 2

    heir = pipeline.delivery()
    assert len(pipeline.claim(heir, 0, limit=5)[0]) == 2
    for _ in range(2):  # a second pass through the list, an entry at a time
        entries, _ = pipeline.claim(heir, 0, limit=5)
        pipeline.commit(heir, entries)
    pipeline.drive(at(1))
    pipeline.seal()

    assert pipeline.claim(heir, 0, limit=5)[0] == []
    assert [each.count for each in pipeline.averages()] == [1]
    assert [
        each.original_id.decode()
        for each in quarantined(pipeline.cluster, pipeline.clock.current())
    ] == [MOST]
    assert pipeline.audit().differences == []


def test_an_entry_in_quarantine_that_no_aggregator_put_there_is_named_with_its_remedy(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.xadd(temp_f="warm")
    pipeline.count()
    foreign = pipeline.cluster.call("XADD", DAY.quarantine, "*", "a", "b")
    said = f"{DAY.quarantine} has the entry {foreign.decode()}"

    with pytest.raises(CorruptKey, match=re.escape(said)):
        list(quarantined(pipeline.cluster, pipeline.clock.current()))
    assert [each.what[: len(said)] for each in pipeline.audit().differences] == [said]

    pipeline.cluster.call("XDEL", DAY.quarantine, foreign)
    assert len(list(quarantined(pipeline.cluster, pipeline.clock.current()))) == 1
    assert pipeline.audit().differences == []


def test_a_quarantine_without_room_costs_no_reading_its_hour(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.xadd(temp_f="warm")
    delivery = pipeline.delivery()
    entries = delivery.read(10, 1)
    pipeline.cluster.call("XADD", DAY.quarantine, MOST, "a", "b")
    pipeline.cluster.call("EXPIRE", DAY.quarantine, 3600)

    with pytest.raises(CorruptKey, match=f"{DAY.quarantine} takes no more entries"):
        pipeline.commit(delivery, entries)
    assert pipeline.pending() == 2
    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    with pytest.raises(CorruptKey, match=f"{DAY.quarantine} takes no more entries"):
        pipeline.open()

    pipeline.cluster.call("DEL", DAY.quarantine)
    pipeline.count()
    assert pipeline.record(0).count == 1
    assert pipeline.cluster.call("XLEN", DAY.quarantine) == 1
