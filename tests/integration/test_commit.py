"""A reading is counted in the step that acknowledges it, once, and exactly."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from redis.exceptions import ResponseError

from aggregator.commit import BatchCommitter
from aggregator.opening import Found
from hourglass.cluster.groups import reap
from hourglass.cluster.scripts import Script, packed
from hourglass.errors import ConnectionLost, CorruptKey, Unreachable
from hourglass.model.keys import GROUP
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import DAY, Pipeline, at, reading

TEN = [reading(at(0, 0, second), 50 + second / 10) for second in range(10)]
TEN_SUM = sum(each.milli_f for each in TEN)


def amount(pipeline: Pipeline, hour: int = 0) -> tuple[int, int]:
    """Count and sum of an hour."""
    record = pipeline.record(hour)
    return record.count, record.sum_milli_f


def test_what_is_delivered_and_not_committed_is_not_counted(pipeline: Pipeline) -> None:
    pipeline.produce(*TEN)
    delivery = pipeline.delivery()

    entries = delivery.read(10, 1)
    assert (pipeline.pending(), amount(pipeline)) == (10, (0, 0))

    pipeline.commit(delivery, entries)
    assert (pipeline.pending(), amount(pipeline)) == (0, (10, TEN_SUM))


def test_a_second_commit_of_a_batch_counts_nothing(pipeline: Pipeline) -> None:
    pipeline.produce(*TEN)
    delivery = pipeline.delivery()
    entries = delivery.read(10, 1)
    pipeline.commit(delivery, entries)

    pipeline.commit(delivery, entries)

    assert amount(pipeline) == (10, TEN_SUM)


def test_an_entry_delivered_again_counts_once(pipeline: Pipeline) -> None:
    pipeline.produce(*TEN)
    pipeline.delivery().read(10, 1)
    second, third = pipeline.delivery(), pipeline.delivery()

    claimed_first, _ = pipeline.claim(second, 0, limit=9)
    claimed_again = [entry for _ in TEN for entry in pipeline.claim(third, 0, limit=9)[0]]
    assert len(claimed_first) == len(claimed_again) == 10
    pipeline.commit(second, claimed_first)
    pipeline.commit(third, claimed_again)

    assert (pipeline.pending(), amount(pipeline)) == (0, (10, TEN_SUM))


def take_over(entries: list[bytes], thief: BatchCommitter) -> list[object]:
    """Claim these entries, as XAUTOCLAIM would once they are idle."""
    claimed: list[object] = thief.link.call(
        "XCLAIM", DAY.stream, GROUP, thief.consumer, 0, *entries
    )
    return claimed


@pytest.mark.parametrize("stolen", [slice(0, 4), slice(3, 7), slice(6, 10), slice(0, 10, 2)])
@pytest.mark.parametrize("thief_first", [False, True])
def test_what_another_consumer_claimed_is_counted_by_who_commits_first(
    pipeline: Pipeline, stolen: slice, *, thief_first: bool
) -> None:
    pipeline.produce(*TEN)
    owner, thief = pipeline.delivery(), pipeline.delivery()
    entries = owner.read(10, 1)
    taken = take_over([entry[0] for entry in entries[stolen]], thief)

    first, second = (thief, owner) if thief_first else (owner, thief)
    batches = {thief.consumer: taken, owner.consumer: entries}
    assert pipeline.commit(first, batches[first.consumer])
    assert amount(pipeline)[0] == (len(taken) if thief_first else 10)
    assert not pipeline.commit(second, batches[second.consumer])

    assert (pipeline.pending(), amount(pipeline)) == (0, (10, TEN_SUM))
    assert pipeline.metric("hourglass_commit_conflicts_total") == 1


def test_what_was_acknowledged_among_entries_that_are_no_longer_own_counts_nothing(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(*TEN, *TEN)
    owner, thief = pipeline.delivery(), pipeline.delivery()
    entries = owner.read(10, 1)
    ids = [entry[0] for entry in entries]
    take_over(ids[:4], thief)
    pipeline.cluster.call("XACK", DAY.stream, GROUP, *ids[2:6])

    pipeline.commit(owner, entries)

    expected = [each for number, each in enumerate(TEN) if number not in range(2, 6)]
    assert amount(pipeline) == (6, sum(each.milli_f for each in expected))
    assert pipeline.pending() == 0


def test_entries_pushed_on_a_consumer_that_never_saw_them_end_its_connection(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(*TEN)
    owner, other = pipeline.delivery(), pipeline.delivery()
    entries = owner.read(5, 1)
    take_over([entry[0] for entry in other.read(5, 1)], owner)

    with pytest.raises(ConnectionLost, match="never given"):
        pipeline.commit(owner, entries)

    assert (pipeline.pending(), amount(pipeline)) == (10, (0, 0))


def test_a_batch_is_dropped_when_the_connection_that_delivered_it_broke(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(*TEN)
    delivery = pipeline.delivery()
    entries = delivery.read(10, 1)
    connection = delivery.link.call("CLIENT", "ID")
    pipeline.delivery().link.call("CLIENT", "KILL", "ID", connection)

    with pytest.raises(ConnectionLost):
        pipeline.commit(delivery, entries)

    assert (pipeline.pending(), amount(pipeline)) == (10, (0, 0))


def test_acknowledged_by_one_outsider_and_pushed_on_by_another_is_counted_again(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(*TEN)
    owner, other = pipeline.delivery(), pipeline.delivery()
    entries = owner.read(5, 1)
    pushed = [entry[0] for entry in other.read(5, 1)]
    # The owner has five entries pending, as it should, and two of them are not those it was given.
    assert owner.link.call("XACK", DAY.stream, GROUP, *(entry[0] for entry in entries[:2])) == 2
    take_over(pushed[:2], owner)

    with pytest.raises(ResponseError, match="NOGROUP"):
        pipeline.commit(owner, entries)
    assert pipeline.open() is Found.RECOUNT
    pipeline.count()

    assert (pipeline.pending(), amount(pipeline)) == (0, (10, TEN_SUM))


def test_a_batch_with_unusable_readings_counts_the_rest(pipeline: Pipeline) -> None:
    pipeline.produce(*TEN[:5])
    pipeline.xadd(humidity=40)
    pipeline.produce(*TEN[5:])

    pipeline.count()

    assert (pipeline.pending(), amount(pipeline)) == (0, (10, TEN_SUM))
    assert pipeline.cluster.call("XLEN", DAY.quarantine) == 1


@pytest.mark.parametrize("companion", [DAY.hours, DAY.quarantine, DAY.devices(1)])
def test_a_companion_of_the_wrong_type_leaves_everything_as_it_was(
    pipeline: Pipeline, companion: str
) -> None:
    pipeline.produce(reading(at(0)), reading(at(1)), reading(at(1), temp_f=999.0))
    delivery = pipeline.delivery()
    entries = delivery.read(10, 1)
    pipeline.cluster.call("DEL", companion)
    pipeline.cluster.call("SET", companion, "in the way", "EX", 60)

    with pytest.raises(CorruptKey, match=f"{companion} is a string, not a .*: rename or delete it"):
        pipeline.commit(delivery, entries)

    assert pipeline.pending() == 3
    pipeline.cluster.call("DEL", companion)
    assert [record for record in pipeline.records().values() if record.count] == []
    with suppress(ResponseError):  # without its records the partition has to be opened again
        pipeline.commit(delivery, entries)
    pipeline.count()
    assert (amount(pipeline, 0), amount(pipeline, 1)) == ((1, 50_000), (1, 50_000))


def test_sum_least_and_greatest_do_not_depend_on_order_or_batches(pipeline: Pipeline) -> None:
    random = Random(7)
    milli_f = [random.randint(-150_000, 250_000) for _ in range(500)]
    pipeline.produce(*(reading(at(3), each / 1000) for each in milli_f))

    delivery = pipeline.delivery()
    while entries := delivery.read(37, None):
        pipeline.commit(delivery, entries)

    record = pipeline.record(3)
    assert (record.count, record.sum_milli_f) == (500, sum(milli_f))
    assert (record.min_milli_f, record.max_milli_f) == (min(milli_f), max(milli_f))


def test_each_device_counts_once_in_each_hour_whoever_counts_it(pipeline: Pipeline) -> None:
    pipeline.produce(
        *(reading(at(hour), device=device) for hour in (0, 1) for device in ("a", "b", "a")),
        reading(at(1), device="c"),
    )
    pipeline.xadd(ts=at(1), temp_f=50)
    first, second = pipeline.delivery(), pipeline.delivery()
    for delivery in (first, second, first, second):
        pipeline.commit(delivery, delivery.read(2, 1))
    pipeline.drive(at(2))

    pipeline.seal()

    assert (pipeline.record(0).devices, pipeline.record(1).devices) == (2, 4)


def test_every_entry_of_the_largest_batch_is_counted_once(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0), device=f"device-{each}") for each in range(5_000)))
    delivery = pipeline.delivery()

    pipeline.commit(delivery, delivery.read(5_000, 1))
    pipeline.drive(at(1))
    pipeline.seal()

    assert (pipeline.record(0).count, pipeline.record(0).devices) == (5_000, 5_000)


@pytest.mark.embedded(masters=1)
def test_a_full_redis_refuses_readings_and_goes_on_counting_what_it_has(
    embedded: EmbeddedCluster,
) -> None:
    with Pipeline(embedded.url) as pipeline:
        pipeline.produce(*TEN)
        pipeline.xadd(humidity=40)
        pipeline.drive(at(1))
        with bootstrap.client(embedded.ports[0]) as client:
            client.config_set("maxmemory", "1")

        with pytest.raises(Unreachable, match="maxmemory"):
            pipeline.produce(reading(at(0)))
        pipeline.count()
        pipeline.seal()

        assert (pipeline.pending(), amount(pipeline)) == (0, (10, TEN_SUM))
        assert [average.count for average in pipeline.averages()] == [10]
        reap(pipeline.cluster, DAY.stream, GROUP, idle_ms=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_stay_exact_beyond_what_a_float_holds(pipeline: Pipeline, sign: int) -> None:
    beyond = sign * (2**53 + 1)
    pipeline.produce(*TEN[:3])
    delivery = pipeline.delivery()

    for _ in range(3):
        ((entry_id, _),) = delivery.read(1, 1)
        commit_a_sum(delivery, entry_id, beyond)

    assert amount(pipeline) == (3, 3 * beyond)


def commit_a_sum(delivery: BatchCommitter, entry_id: bytes, sum_milli_f: int) -> None:
    """Run the script as `BatchCommitter` does, with a sum that no reading would give."""
    script = Script.load("aggregator", "commit", library="partials")
    far_ms = 1 << 42
    tally = [0, 1, str(sum_milli_f), 0, 0, [b"porch", b"\x01"]]
    reply = delivery.link.run(
        script,
        [DAY.stream, DAY.hours, DAY.quarantine, DAY.devices(0)],
        [
            GROUP,
            delivery.incarnation,
            delivery.consumer,
            0,
            far_ms,
            far_ms,
            packed([[entry_id], [tally], []]),
        ],
    )
    assert reply == [1, 0]
