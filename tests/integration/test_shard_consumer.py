"""One consumer for all partitions of a shard: while a batch is aggregated, the server reads the
next, and what one partition's keys answer stops no other partition."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from aggregator import subscriptions
from aggregator.config import AggregatorSettings
from aggregator.consumer import ShardConsumer
from aggregator.metrics import Metrics
from aggregator.subscriptions import Subscription
from hourglass.cluster.link import Link
from hourglass.errors import ConnectionLost
from hourglass.model.keys import GROUP, LANE_NUMBERS, Partition
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.workers import RecordedWorkers

#: More than one partition that lies on the shard of DAY.
SHARE = 3


@contextmanager
def consuming(
    pipeline: Pipeline, *partitions: Partition, name: str = "porch", **options: int
) -> Generator[ShardConsumer]:
    """A consumer of these partitions, of DAY if none is named."""
    known = partitions or (DAY,)
    consumer = ShardConsumer(
        pipeline.cluster.shard_of(known[0].stream),
        RecordedWorkers(name),
        pipeline.cluster,
        pipeline.clock,
        replace(AggregatorSettings(linger_ms=0), **cast(Any, options)),
        Metrics(CollectorRegistry()),
    )
    for each in known:
        assert consumer.add(each)
    yield consumer
    consumer.close()


def neighbours(pipeline: Pipeline) -> list[Partition]:
    """Lanes on one shard."""
    shard = pipeline.cluster.shard_of(DAY.stream)
    lanes = (KEYS.partition(DAY.day_ms, number) for number in range(LANE_NUMBERS))
    found = [each for each in lanes if pipeline.cluster.shard_of(each.stream) == shard]
    return found[:SHARE]


def write(pipeline: Pipeline, partition: Partition, entries: int) -> None:
    commands = [
        ("XADD", partition.stream, "*", "ts", at(0), "temp_f", 50.0) for _ in range(entries)
    ]
    pipeline.cluster.pipeline([*commands, ("EXPIRE", partition.stream, 3600)])


def work_off(consumer: ShardConsumer) -> None:
    while consumer.step(wait=False):
        pass


def counted(pipeline: Pipeline, partition: Partition = DAY) -> int:
    return pipeline.record(0, partition).count


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The entries of each read that found some."""
    found: list[int] = []
    delivered = Subscription.delivered

    def watched(self: Subscription, entries: int, **options: Any) -> None:
        found.extend([entries] * bool(entries))
        delivered(self, entries, **options)

    monkeypatch.setattr(Subscription, "delivered", watched)
    return found


@pytest.mark.parametrize("entries", [1, 9, 10, 11, 19, 20, 21, 100])
def test_every_reading_is_counted_once_wherever_the_last_batch_ends(
    pipeline: Pipeline, batches: list[int], entries: int
) -> None:
    pipeline.produce(*(reading(at(0), milli / 10) for milli in range(entries)))

    with consuming(pipeline, batch_entries=10) as consumer:
        work_off(consumer)

    assert batches == [10] * (entries // 10) + [entries % 10] * bool(entries % 10)
    assert (pipeline.pending(), counted(pipeline)) == (0, entries)
    assert pipeline.record(0).sum_milli_f == sum(range(entries)) * 100


def test_the_next_batch_is_read_while_one_is_aggregated(pipeline: Pipeline) -> None:
    write(pipeline, DAY, 30)
    with consuming(pipeline, batch_entries=10) as consumer:
        consumer.step()

        assert (counted(pipeline), pipeline.pending()) == (10, 10)


def test_what_was_read_ahead_when_a_process_dies_is_counted_by_another(pipeline: Pipeline) -> None:
    write(pipeline, DAY, 30)
    with consuming(pipeline, batch_entries=10) as consumer:
        consumer.step()
    assert (counted(pipeline), pipeline.pending()) == (10, 10)

    heir = pipeline.delivery()
    while entries := pipeline.claim(heir, 0, limit=5)[0]:
        pipeline.commit(heir, entries)
    pipeline.count()

    assert (pipeline.pending(), counted(pipeline)) == (0, 30)


def test_a_batch_that_was_delivered_is_committed_after_sigterm_and_none_is_read(
    pipeline: Pipeline,
) -> None:
    write(pipeline, DAY, 40)
    with consuming(pipeline, batch_entries=10) as consumer:
        consumer.step()
        consumer.workers.stop.set()

        consumer.run()

    assert (pipeline.pending(), counted(pipeline)) == (0, 20)


def test_a_group_destroyed_while_the_next_batch_is_read_is_made_again(pipeline: Pipeline) -> None:
    write(pipeline, DAY, 30)
    with consuming(pipeline, batch_entries=10) as consumer:
        consumer.step()
        pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)

        work_off(consumer)

    assert (pipeline.pending(), counted(pipeline)) == (0, 30)


def test_a_partition_that_is_gone_ends_without_a_failure(pipeline: Pipeline) -> None:
    lanes = neighbours(pipeline)
    for each in lanes:
        write(pipeline, each, 1)
    with consuming(pipeline, *lanes) as consumer:
        work_off(consumer)
        pipeline.cluster.call("DEL", lanes[0].stream)
        step_until(consumer, lambda: lanes[0] not in consumer.partitions)

        workers = recorded(consumer)
        assert (workers.retired, workers.failures) == ([lanes[0].stream], {})
        assert sorted(consumer.partitions) == lanes[1:]


def test_a_consumer_without_partitions_ends_and_takes_none(pipeline: Pipeline) -> None:
    write(pipeline, DAY, 1)
    with consuming(pipeline) as consumer:
        work_off(consumer)
        pipeline.cluster.call("DEL", DAY.stream)

        consumer.run()

        assert not consumer.add(DAY)


def recorded(consumer: ShardConsumer) -> RecordedWorkers:
    assert isinstance(consumer.workers, RecordedWorkers)
    return consumer.workers


def step_until(consumer: ShardConsumer, done: Callable[[], object]) -> None:
    """As many passes as it takes, the pauses between attempts included."""
    for _ in count():
        if done():
            return
        consumer.step()


def corrupt_record(partition: Partition) -> Sequence[Sequence[str]]:
    return [("HSET", partition.hours, "00:count", "many")]


def another_type(partition: Partition) -> Sequence[Sequence[str]]:
    return [
        ("DEL", partition.stream),
        ("SET", partition.stream, "in the way", "EX", "3600"),
    ]


@pytest.mark.parametrize("corrupt", [corrupt_record, another_type])
def test_a_corrupt_key_is_the_failure_of_its_partition_and_its_neighbours_go_on(
    pipeline: Pipeline, corrupt: Callable[[Partition], Sequence[Sequence[str]]]
) -> None:
    lanes = neighbours(pipeline)
    for each in lanes:
        write(pipeline, each, 1)
    with consuming(pipeline, *lanes, batch_entries=6) as consumer:
        work_off(consumer)
        for each in lanes:
            write(pipeline, each, 20)
        for command in corrupt(lanes[1]):
            pipeline.cluster.call(*command)

        workers = recorded(consumer)
        step_until(consumer, lambda: counted(pipeline, lanes[2]) == 21)
        step_until(consumer, lambda: counted(pipeline, lanes[0]) == 21)
        step_until(consumer, lambda: workers.failures)

    assert list(workers.failures) == [lanes[1].stream]
    assert [pipeline.pending(each) for each in (lanes[0], lanes[2])] == [0, 0]


def test_entries_are_not_delivered_again_while_their_hour_record_is_corrupt(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "CORRUPT_S", 0.0)
    monkeypatch.setattr(subscriptions, "MOST_CORRUPT_S", 0.0)
    write(pipeline, DAY, 1)
    with consuming(pipeline, claim_idle_ms=100, delivery_limit=4) as consumer:
        work_off(consumer)
        write(pipeline, DAY, 10)
        pipeline.cluster.call("HSET", DAY.hours, "00:count", "many")
        workers = recorded(consumer)

        # Many more attempts than an entry may be delivered, each of them when it is idle.
        for attempt in range(1, 10):
            step_until(consumer, lambda wanted=attempt: failures(workers) >= wanted)
            let_idle(pipeline)
        assert deliveries(pipeline) == [1] * 10

        pipeline.cluster.call("HSET", DAY.hours, "00:count", 1)
        step_until(consumer, lambda: counted(pipeline) == 11)
        assert workers.failing == {}

    assert (pipeline.pending(), pipeline.cluster.call("EXISTS", DAY.quarantine)) == (0, 0)


def failures(workers: RecordedWorkers) -> int:
    return workers.failures.get(DAY.stream, 0)


def deliveries(pipeline: Pipeline) -> list[int]:
    pending = pipeline.cluster.call("XPENDING", DAY.stream, GROUP, "-", "+", 100, parse_detail=True)
    return [each["times_delivered"] for each in pending]


def let_idle(pipeline: Pipeline) -> None:
    """All pending entries are as idle as those of a consumer that died a minute ago."""
    link = pipeline.cluster.link(DAY.stream)
    for entry_id, consumer, _, tries in link.call("XPENDING", DAY.stream, GROUP, "-", "+", 100):
        link.call(
            "XCLAIM", DAY.stream, GROUP, consumer, 0, entry_id,
            "IDLE", 60_000, "RETRYCOUNT", tries, "JUSTID",
        )  # fmt: skip
    link.close()


def test_a_lost_connection_commits_nothing_it_delivered_and_all_of_it_is_counted_once(
    pipeline: Pipeline,
) -> None:
    lanes = neighbours(pipeline)
    for each in lanes:
        write(pipeline, each, 1)
    with consuming(pipeline, *lanes, batch_entries=9, claim_idle_ms=100) as consumer:
        work_off(consumer)
        for each in lanes:
            write(pipeline, each, 100)
        step_until(consumer, lambda: sum(pipeline.pending(each) for each in lanes) > 0)
        assert consumer.link
        consumer.link.close()
        before = sum(counted(pipeline, each) for each in lanes)

        with pytest.raises(ConnectionLost) as lost:
            work_off(consumer)
        assert sum(counted(pipeline, each) for each in lanes) == before
        consumer.lose_link(lost.value)
        assert set(recorded(consumer).failing) == {each.stream for each in lanes}
        step_until(consumer, lambda: sum(counted(pipeline, each) for each in lanes) == 303)

    assert [pipeline.pending(each) for each in lanes] == [0] * SHARE


def test_a_partition_that_another_shard_holds_is_let_go_and_its_neighbours_go_on(
    pipeline: Pipeline,
) -> None:
    lanes = neighbours(pipeline)
    for each in lanes:
        write(pipeline, each, 5)
    elsewhere = next(
        KEYS.partition(DAY.day_ms, number)
        for number in range(LANE_NUMBERS)
        if pipeline.cluster.shard_of(KEYS.partition(DAY.day_ms, number).stream)
        != pipeline.cluster.shard_of(lanes[0].stream)
    )
    write(pipeline, elsewhere, 5)
    with consuming(pipeline, *lanes, elsewhere) as consumer:
        step_until(consumer, lambda: elsewhere not in consumer.partitions)
        work_off(consumer)

        assert sorted(consumer.partitions) == lanes
        assert recorded(consumer).retired == [elsewhere.stream]

    assert [counted(pipeline, each) for each in lanes] == [5] * SHARE
    assert counted(pipeline, elsewhere) == 0


def test_quiet_partitions_are_polled_in_one_round_trip(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = neighbours(pipeline)
    for each in lanes:
        write(pipeline, each, 1)
    sent: list[str] = []
    send, receive = Link.send, Link.receive

    def sending(self: Link, *command: Any) -> None:
        sent.append("ask" if command[0] == "XREADGROUP" else "other")
        send(self, *command)

    def receiving(self: Link) -> Any:
        sent.append("answer")
        return receive(self)

    with consuming(pipeline, *lanes) as consumer:
        work_off(consumer)
        for each in consumer.consumed.opened:
            each.due, each.lingers = 0.0, False
        monkeypatch.setattr(Link, "send", sending)
        monkeypatch.setattr(Link, "receive", receiving)
        consumer.step(wait=False)

    assert sent == ["ask"] * SHARE + ["answer"] * SHARE


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    counts=st.lists(st.integers(0, 25), max_size=6),
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=2),
    stolen=st.lists(st.integers(0, 40), max_size=6),
)
def test_two_consumers_and_a_thief_count_every_reading_once(
    pipeline: Pipeline, counts: list[int], sizes: list[int], stolen: list[int]
) -> None:
    pipeline.cluster.call("DEL", DAY.stream, *DAY.companions)
    write(pipeline, DAY, 1)
    thief = pipeline.delivery().link
    with (
        consuming(pipeline, name="porch", batch_entries=sizes[0]) as porch,
        consuming(pipeline, name="attic", batch_entries=sizes[1]) as attic,
    ):
        for entries in counts:
            write(pipeline, DAY, entries)
            pending = thief.call("XPENDING", DAY.stream, GROUP, "-", "+", 100)
            for number in stolen:
                if number < len(pending):
                    thief.call(
                        "XCLAIM", DAY.stream, GROUP, "thief", 0, pending[number][0], "JUSTID"
                    )
            for each in (porch, attic):
                each.step(wait=False)
    heir = pipeline.delivery()
    while entries := pipeline.claim(heir, 0, limit=99)[0]:
        pipeline.commit(heir, entries)
    pipeline.count()

    assert (pipeline.pending(), counted(pipeline)) == (0, 1 + sum(counts))
