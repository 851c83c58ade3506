"""One entry per hour of averages, in order, whoever publishes and whatever fails over."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Thread
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aggregator.sealer as sealer_module
from aggregator.sealer import Sealer
from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.cluster.published import rewind
from hourglass.errors import CorruptKey
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.keys import (
    AVERAGES_GROUP,
    AVERAGES_KEPT,
    HOUR_MS,
    PUBLISHED_KEPT,
    Partition,
    iso,
)
from hourglassctl.local import bootstrap
from hourglassctl.replay import DataSet, replay
from hourglassctl.status import gather
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, day_after, reading
from tests.support.replica import Copy
from tests.support.waiting import wait_until

OF_THE_AVERAGES = (
    KEYS.averages,
    KEYS.published_through,
    KEYS.published,
    KEYS.revisions,
    KEYS.too_late,
)
READ = ("XREADGROUP", "GROUP", AVERAGES_GROUP, "loader", "STREAMS", KEYS.averages, ">")
OF_THE_DAY = (DAY.stream, DAY.hours, *(DAY.devices(hour) for hour in range(24)))


def produce_hours(pipeline: Pipeline, *hours: int, day: Partition = DAY) -> None:
    pipeline.produce(*(reading(at(hour, day=day), 50.0 + hour) for hour in hours))


def published(pipeline: Pipeline) -> list[int]:
    """The starts of the published hours, in the order of their entries."""
    return [average.start_ms for average in pipeline.averages()]


def times_published(pipeline: Pipeline) -> int:
    """Entries ever put on the averages stream, the trimmed ones included."""
    return int(pipeline.cluster.call("XINFO STREAM", KEYS.averages)["entries-added"])


def test_an_hour_becomes_one_entry_whose_id_is_its_start(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(7), 40.0), reading(at(7, 30), 41.001, device="attic"))
    pipeline.count()
    pipeline.drive(at(8))

    pipeline.sealer("aggregator-1").step()

    ((entry_id, fields),) = pipeline.cluster.call("XRANGE", KEYS.averages, "-", "+")
    assert entry_id == b"%d-0" % at(7)
    assert fields == {
        b"date": b"2025/01/01",
        b"hour": b"7",
        b"average_temp_f": b"40.5",
        b"num_observations": b"2",
        b"hour_start": b"2025-01-01T07:00:00Z",
        b"sum_temp_f": b"81.001",
        b"min_temp_f": b"40",
        b"max_temp_f": b"41.001",
        b"devices": b"2",
        b"late": b"0",
        b"sealed_by": b"aggregator-1",
    }


def test_hours_are_published_once_and_in_order_across_days(pipeline: Pipeline) -> None:
    produce_hours(pipeline, 22, 23)
    produce_hours(pipeline, 0, 1, day=NEXT_DAY)
    pipeline.count(NEXT_DAY, DAY)
    pipeline.drive(NEXT_DAY.end_ms)

    sealer = pipeline.sealer()
    for _ in range(3):
        sealer.step()
        pipeline.seal()

    assert published(pipeline) == [at(22), at(23), at(0, day=NEXT_DAY), at(1, day=NEXT_DAY)]
    assert times_published(pipeline) == 4


def test_an_hour_without_readings_gets_no_entry(pipeline: Pipeline) -> None:
    produce_hours(pipeline, 3, 9)
    pipeline.count()
    pipeline.drive(DAY.end_ms)

    pipeline.seal()

    assert published(pipeline) == [at(3), at(9)]


def test_an_open_hour_is_not_overtaken_by_a_later_one(pipeline: Pipeline) -> None:
    produce_hours(pipeline, 23)
    produce_hours(pipeline, 0, day=NEXT_DAY)
    pipeline.open(DAY)
    pipeline.count(NEXT_DAY)
    pipeline.drive(at(1, day=NEXT_DAY))

    pipeline.seal()
    assert published(pipeline) == []

    pipeline.count(DAY)
    pipeline.seal()
    assert published(pipeline) == [at(23), at(0, day=NEXT_DAY)]


def test_a_day_sealed_throughout_waits_for_the_day_before_it(pipeline: Pipeline) -> None:
    days = [DAY, NEXT_DAY, day_after(NEXT_DAY)]
    for day in days:
        produce_hours(pipeline, *range(24), day=day)
    pipeline.drive(days[-1].end_ms)
    pipeline.open(DAY)
    pipeline.count(NEXT_DAY)
    sealer = pipeline.sealer()
    sealer.step()

    pipeline.count(*days)
    sealer.step()
    sealer.step()

    assert published(pipeline) == [at(hour, day=day) for day in days for hour in range(24)]


def test_two_sealers_at_once_publish_each_hour_once(pipeline: Pipeline) -> None:
    produce_hours(pipeline, *range(24))
    pipeline.count()
    pipeline.drive(DAY.end_ms)

    sealers = [Thread(target=pipeline.sealer(name).step) for name in ("one", "other", "third")]
    for sealer in sealers:
        sealer.start()
    for sealer in sealers:
        sealer.join()

    assert published(pipeline) == [at(hour) for hour in range(24)]
    assert times_published(pipeline) == 24
    assert pipeline.metric("hourglass_averages_published_total") == 24


def test_the_stream_keeps_exactly_five_days_and_the_memory_ten(pipeline: Pipeline) -> None:
    days = 11
    replay(pipeline.cluster, DataSet(days=days, period_ms=HOUR_MS))
    pipeline.count(*(day_after(DAY, day) for day in range(days)))

    pipeline.seal()

    last = day_after(DAY, days - 1).hour_start_ms(23)
    assert times_published(pipeline) == 24 * days
    assert published(pipeline) == [
        last - (AVERAGES_KEPT - 1 - each) * HOUR_MS for each in range(AVERAGES_KEPT)
    ]
    assert pipeline.cluster.call("ZCARD", KEYS.published) == PUBLISHED_KEPT

    pipeline.sealer("one that has seen nothing yet").step()
    assert pipeline.cluster.call("EXISTS", KEYS.too_late, KEYS.revisions) == 0


def day_published(pipeline: Pipeline, hours: int) -> Sealer:
    """A sealer that has published DAY's first hours, each with a reading of its own."""
    produce_hours(pipeline, *range(hours))
    pipeline.count()
    sealer = pipeline.sealer()
    pipeline.drive(at(hours) if hours < 24 else DAY.end_ms)
    sealer.step()
    sealer.step()
    return sealer


def test_a_failover_of_the_averages_is_made_good_with_the_same_entries(
    pipeline: Pipeline,
) -> None:
    day_published(pipeline, 10)
    copy = Copy(pipeline, OF_THE_AVERAGES)
    produce_hours(pipeline, *range(10, 24))
    pipeline.count()
    pipeline.drive(DAY.end_ms)
    sealer = pipeline.sealer()
    sealer.step()
    sealer.step()  # the day is settled: nobody would look at it for a while
    before = pipeline.averages()

    copy.restore()
    assert len(pipeline.averages()) == 10
    sealer.step()

    assert pipeline.averages() == before
    assert pipeline.audit().clean


def test_a_failover_between_reading_the_published_through_hour_and_publishing_skips_no_hour(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    day_published(pipeline, 5)
    copy = Copy(pipeline, OF_THE_AVERAGES)
    produce_hours(pipeline, *range(5, 11))
    pipeline.count()
    pipeline.drive(at(10))
    pipeline.seal()
    pipeline.drive(at(11))
    look = sealer_module.published_through_ms

    def look_and_fail_over(cluster: Cluster) -> int | None:
        seen = look(cluster)
        copy.restore()
        return seen

    monkeypatch.setattr(sealer_module, "published_through_ms", look_and_fail_over)
    sealer = pipeline.sealer()
    sealer.step()
    assert published(pipeline) == [at(hour) for hour in range(5)]
    monkeypatch.undo()
    sealer.step()

    assert published(pipeline) == [at(hour) for hour in range(11)]
    assert pipeline.metric("hourglass_averages_too_late_total") == 0
    assert pipeline.audit().differences == []


def test_averages_lost_altogether_are_published_again(pipeline: Pipeline) -> None:
    nothing = Copy(pipeline, OF_THE_AVERAGES)
    sealer = day_published(pipeline, 24)
    before = pipeline.averages()

    nothing.restore()
    sealer.step()

    assert len(before) == 24
    assert pipeline.averages() == before


def test_a_published_hour_sealed_again_with_the_same_result_is_no_revision(
    pipeline: Pipeline,
) -> None:
    produce_hours(pipeline, 0)
    pipeline.count()
    copy = Copy(pipeline, OF_THE_DAY)
    pipeline.drive(at(1))
    pipeline.seal()

    copy.restore()
    pipeline.seal()

    assert pipeline.record(0).sealed
    assert times_published(pipeline) == 1
    assert pipeline.metric("hourglass_averages_revised_total") == 0


def test_another_result_is_reported_once_and_never_published_over_the_first(
    pipeline: Pipeline,
) -> None:
    produce_hours(pipeline, 0)
    pipeline.count()
    copy = Copy(pipeline, OF_THE_DAY)
    pipeline.produce(reading(at(0), 60.0))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    before = pipeline.averages()

    copy.restore()  # the second reading is lost with its shard's newest writes
    sealers = [pipeline.sealer("one"), pipeline.sealer("other")]
    for sealer in (*sealers, *sealers):
        sealer.step()

    assert pipeline.record(0).count == 1
    assert pipeline.averages() == before
    assert pipeline.metric("hourglass_averages_revised_total") == 1
    assert pipeline.cluster.call("ZRANGE", KEYS.revisions, 0, -1) == [b"%d:1:50000" % at(0)]
    assert not pipeline.audit().clean


def test_an_hour_that_begins_after_a_later_one_was_published_is_too_late(
    pipeline: Pipeline,
) -> None:
    produce_hours(pipeline, 0, day=NEXT_DAY)
    pipeline.count(NEXT_DAY)
    pipeline.drive(at(1, day=NEXT_DAY))
    pipeline.seal()

    produce_hours(pipeline, 23)
    pipeline.count(DAY)
    sealers = [pipeline.sealer("one"), pipeline.sealer("other")]
    for sealer in (*sealers, *sealers):
        sealer.step()

    assert published(pipeline) == [at(0, day=NEXT_DAY)]
    assert pipeline.record(23).count == 1
    assert pipeline.metric("hourglass_averages_too_late_total") == 1
    assert pipeline.cluster.call("ZRANGE", KEYS.too_late, 0, -1) == [b"%d:1:73000" % at(23)]
    found = pipeline.audit()
    assert [each.hour for each in found.differences] == [iso(at(23))]
    assert found.too_late == 1


def test_only_what_was_published_has_a_span(pipeline: Pipeline) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))

    def step() -> list[str]:
        """The spans of a step of a process that knows of nothing."""
        spans.clear()
        pipeline.sealer(tracer=provider.get_tracer("test")).step()
        return sorted(each.name for each in spans.get_finished_spans())

    produce_hours(pipeline, 0, 1)
    pipeline.count()
    pipeline.drive(at(2))

    assert step() == [*[f"seal {DAY.stream}"] * 2, *[f"send {KEYS.averages}"] * 2]
    assert step() == []


def test_a_published_through_hour_that_is_lost_alone_is_restored_and_publishing_goes_on(
    pipeline: Pipeline,
) -> None:
    day_published(pipeline, 3)
    for remembered in ([KEYS.published_through], [KEYS.published_through, KEYS.published]):
        pipeline.cluster.call("DEL", *remembered)
        pipeline.seal()  # restores it
        produce_hours(pipeline, next_hour := len(published(pipeline)))
        pipeline.count()
        pipeline.drive(at(next_hour + 1))
        sealer = pipeline.sealer()
        sealer.step()
        sealer.step()

    assert published(pipeline) == [at(hour) for hour in range(5)]
    assert times_published(pipeline) == 5
    assert pipeline.metric("hourglass_averages_too_late_total") == 0


def remedy_named_by(step: Callable[[], None]) -> list[str]:
    """The Redis command that the refusal of `step` names."""
    with pytest.raises(CorruptKey) as refused:
        step()
    found = re.search(r"(XDEL \S+ \S+)|rename or (delete) it", str(refused.value))
    assert found, f"no remedy in {refused.value}"
    if found[1]:
        return found[1].split(" ")
    return ["DEL", next(key for key in OF_THE_AVERAGES if key in str(refused.value).split())]


def test_the_remedy_for_a_foreign_entry_of_the_averages_works(pipeline: Pipeline) -> None:
    sealer = day_published(pipeline, 3)
    cluster = pipeline.cluster
    cluster.call("XGROUP CREATE", KEYS.averages, AVERAGES_GROUP, "0")
    cluster.call("XADD", KEYS.averages, "*", "foo", "bar")
    last = b"18446744073709551615-18446744073709551615"
    cluster.call("XADD", KEYS.averages, last, "foo", "bar")
    cluster.call(*READ)
    produce_hours(pipeline, 3)
    pipeline.count()
    pipeline.drive(at(4))

    for _ in range(2):
        cluster.call(*remedy_named_by(sealer.step))
    sealer.step()

    assert published(pipeline) == [at(hour) for hour in range(4)]
    (group,) = cluster.call("XINFO GROUPS", KEYS.averages)
    assert group["lag"] == 1
    assert cluster.call(*READ)[0][1][0][0] == b"%d-0" % at(3)
    (group,) = cluster.call("XINFO GROUPS", KEYS.averages)
    assert group["lag"] == 0


@pytest.mark.parametrize("key", OF_THE_AVERAGES)
@pytest.mark.parametrize("damage", ["SADD", "SET"])
def test_the_remedy_for_a_damaged_key_of_the_averages_works(
    pipeline: Pipeline, key: str, damage: str
) -> None:
    sealer = day_published(pipeline, 3)
    produce_hours(pipeline, 3)
    pipeline.count()
    pipeline.drive(at(4))
    pipeline.cluster.call("DEL", key)
    pipeline.cluster.call(damage, key, "nonsense")

    pipeline.cluster.call(*remedy_named_by(sealer.step))
    sealer.step()
    sealer.step()

    before = [] if key == KEYS.averages else [at(hour) for hour in range(3)]
    assert published(pipeline) == [*before, at(3)]


def published_by_a_clock_that_was_ahead(pipeline: Pipeline) -> None:
    """Hours 0 to 5, the last of them while the clock showed what it shows no more."""
    day_published(pipeline, 3)
    produce_hours(pipeline, 5)
    pipeline.count()
    pipeline.drive(at(6))
    pipeline.seal()
    pipeline.drive(at(3, 30))


def test_hours_published_by_a_clock_that_was_ahead_are_a_problem(pipeline: Pipeline) -> None:
    published_by_a_clock_that_was_ahead(pipeline)

    pipeline.seal()

    assert pipeline.metric("hourglass_published_ahead_seconds") == 2.5 * 3600
    (difference,) = pipeline.audit().differences
    assert difference.hour == "2025-01-01T05:00:00Z"
    status = gather(pipeline.cluster, pipeline.clock, period_s=1.0)
    (problem,) = [each for each in status.problems if each.code == "published-ahead"]
    assert difference.what in problem.text
    assert not status.healthy


def test_the_remedy_for_hours_published_by_a_clock_that_was_ahead_works(
    pipeline: Pipeline,
) -> None:
    published_by_a_clock_that_was_ahead(pipeline)
    cluster = pipeline.cluster
    cluster.call("XGROUP CREATE", KEYS.averages, AVERAGES_GROUP, "$")
    produce_hours(pipeline, 3)
    pipeline.count()
    pipeline.drive(at(4))
    sealer = pipeline.sealer()
    sealer.step()
    assert pipeline.metric("hourglass_averages_too_late_total") == 1

    assert rewind(cluster, pipeline.clock.current()) == 1
    sealer.step()

    assert published(pipeline) == [at(hour) for hour in range(4)]
    assert pipeline.audit().clean
    assert pipeline.audit().too_late == 0
    assert cluster.call(*READ)[0][1][0][0] == b"%d-0" % at(3)
    pipeline.drive(at(6))
    sealer.step()
    assert published(pipeline) == [at(hour) for hour in (0, 1, 2, 3, 5)]


def test_an_hour_that_is_taken_back_leaves_groups_what_they_have_pending(
    pipeline: Pipeline,
) -> None:
    published_by_a_clock_that_was_ahead(pipeline)
    cluster = pipeline.cluster
    cluster.call("XGROUP CREATE", KEYS.averages, AVERAGES_GROUP, "0")
    cluster.call("XGROUP CREATECONSUMER", KEYS.averages, AVERAGES_GROUP, "idle")
    cluster.call(*READ[:4], "COUNT", 2, *READ[4:])
    cluster.call("XCLAIM", KEYS.averages, AVERAGES_GROUP, "other", 0, f"{at(1)}-0")

    def state() -> Any:
        consumers = cluster.call("XINFO CONSUMERS", KEYS.averages, AVERAGES_GROUP)
        listed = ("XPENDING", KEYS.averages, AVERAGES_GROUP, "-", "+", 9)
        pending = cluster.call(*listed, parse_detail=True)
        return (
            [(each["name"], each["pending"]) for each in consumers],
            [(each["message_id"], each["consumer"], each["times_delivered"]) for each in pending],
        )

    before, added = state(), cluster.call("XINFO STREAM", KEYS.averages)["entries-added"]

    assert rewind(cluster, pipeline.clock.current()) == 1
    produce_hours(pipeline, 3)
    pipeline.count()
    pipeline.drive(at(4))
    pipeline.seal()

    assert state() == before
    assert cluster.call("XINFO STREAM", KEYS.averages)["entries-added"] == added + 1
    assert [each for each, _ in cluster.call(*READ)[0][1]] == [b"%d-0" % at(2), b"%d-0" % at(3)]


def a_reader_is_blocked(pipeline: Pipeline) -> bool:
    with bootstrap.client(pipeline.master_of(KEYS.averages)) as client:
        clients = cast(Any, client).client_list()
    return any("b" in each["flags"] and each["cmd"] == "xreadgroup" for each in clients)


def test_a_consumer_that_waits_gets_the_hour_after_one_that_is_taken_back(
    pipeline: Pipeline,
) -> None:
    published_by_a_clock_that_was_ahead(pipeline)
    cluster = pipeline.cluster
    cluster.call("XGROUP CREATE", KEYS.averages, AVERAGES_GROUP, "$")
    assert rewind(cluster, pipeline.clock.current()) == 1
    produce_hours(pipeline, 3)
    pipeline.count()
    pipeline.drive(at(4))

    with closing(connect(pipeline.url, keyspace=KEYS)) as another, ThreadPoolExecutor() as pool:
        waiting = pool.submit(another.call, *READ[:4], "BLOCK", 30_000, *READ[4:])
        wait_until(lambda: a_reader_is_blocked(pipeline), message="no consumer waits")
        pipeline.seal()
        assert waiting.result()[0][1][0][0] == b"%d-0" % at(3)


def test_a_clock_set_back_between_two_reads_of_a_sealer_publishes_nothing_ahead_of_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sealer reads what is published, then the clock; the operator is done in between."""
    day_published(pipeline, 2)
    look_at_published_through, refresh = sealer_module.published_through_ms, PipelineClock.refresh
    done: list[str] = []

    def set_back() -> None:
        if not done:
            done.append("set back")
            instant = pipeline.drive(at(1))
            assert rewind(pipeline.cluster, instant) == 1

    def look_then_set_back(cluster: Cluster) -> int | None:
        seen = look_at_published_through(cluster)
        set_back()
        return seen

    def refresh_then_set_back(clock: PipelineClock) -> Instant:
        seen = refresh(clock)
        set_back()
        return seen

    monkeypatch.setattr(sealer_module, "published_through_ms", look_then_set_back)
    monkeypatch.setattr(PipelineClock, "refresh", refresh_then_set_back)
    sealer = pipeline.sealer()
    sealer.step()
    sealer.step()

    assert done
    assert published(pipeline) == [at(0)]


def test_nothing_is_taken_back_of_hours_that_are_over(pipeline: Pipeline) -> None:
    day_published(pipeline, 3)
    before = pipeline.averages()

    assert rewind(pipeline.cluster, pipeline.clock.current()) == 0

    assert pipeline.averages() == before


def test_all_that_was_published_is_taken_back_where_none_of_it_is_over(pipeline: Pipeline) -> None:
    day_published(pipeline, 3)
    pipeline.cluster.call("XGROUP CREATE", KEYS.averages, AVERAGES_GROUP, "$")
    pipeline.drive(DAY.day_ms)

    assert rewind(pipeline.cluster, pipeline.clock.current()) == 3
    assert published(pipeline) == []

    pipeline.drive(at(3))
    pipeline.seal()
    assert published(pipeline) == [at(hour) for hour in range(3)]
    (group,) = pipeline.cluster.call("XINFO GROUPS", KEYS.averages)
    assert group["lag"] == 3
    assert len(pipeline.cluster.call(*READ)[0][1]) == 3
