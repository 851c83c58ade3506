"""Two hands on one connection: while one's batch is folded, the server reads for the other."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from aggregator.prefetch import Prefetch
from hourglass.model.keys import GROUP
from hourglass.model.readings import Rules
from tests.support.pipeline import DAY, Pipeline, at, reading


def hands(pipeline: Pipeline, name: str = "porch") -> Prefetch:
    """On a link of their own."""
    delivery = pipeline.delivery(name=name)
    return Prefetch.over(delivery.link, DAY, delivery.incarnation, name, delivery.metrics)


def work_off(pipeline: Pipeline, pair: Prefetch, size: int) -> int:
    """Turn until nothing is there; how many batches that took."""
    batches = 0
    entries = pair.read(size, None)
    while entries:
        batches += 1
        ahead = size if len(entries) == size else 0
        entries = pair.turn(entries, Rules(), pipeline.clock.look(), ahead=ahead)
    return batches


@pytest.mark.parametrize("count", [1, 9, 10, 11, 19, 20, 21, 100])
def test_every_reading_is_counted_once_wherever_the_last_batch_ends(
    pipeline: Pipeline, count: int
) -> None:
    pipeline.produce(*(reading(at(0), milli / 10) for milli in range(count)))

    batches = work_off(pipeline, hands(pipeline), 10)

    assert batches == -(-count // 10)
    assert (pipeline.pending(), pipeline.record(0).count) == (0, count)
    assert pipeline.record(0).sum_milli_f == sum(range(count)) * 100


def test_without_a_full_batch_nothing_is_read_ahead(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0)) for _ in range(9)))
    pair = hands(pipeline)

    assert pair.turn(pair.read(9, None), Rules(), pipeline.clock.look(), ahead=0) == []

    assert pipeline.record(0).count == 9


def test_what_was_read_ahead_when_a_process_dies_is_counted_by_another(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0)) for _ in range(30)))
    pair = hands(pipeline)
    following = pair.turn(pair.read(10, None), Rules(), pipeline.clock.look(), ahead=10)
    assert (len(following), pipeline.pending(), pipeline.record(0).count) == (10, 10, 10)

    pair.hand.link.close()
    heir = pipeline.delivery()
    while entries := pipeline.claim(heir, 0, limit=5)[0]:
        pipeline.commit(heir, entries)
    pipeline.count()

    assert (pipeline.pending(), pipeline.record(0).count) == (0, 30)


def test_what_is_taken_from_one_hand_does_not_hinder_the_other(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0)) for _ in range(20)))
    pair, thief = hands(pipeline), pipeline.delivery()
    entries = pair.read(10, None)
    ids = [entry_id for entry_id, _ in entries]
    taken = thief.link.call("XCLAIM", DAY.stream, GROUP, "thief", 0, *ids[:5], "JUSTID")
    thief.link.call("XACK", DAY.stream, GROUP, *taken)  # counted there, say

    following = pair.turn(entries, Rules(), pipeline.clock.look(), ahead=10)
    pair.turn(following, Rules(), pipeline.clock.look(), ahead=0)

    assert thief.read(10, None) == []
    assert (pipeline.pending(), pipeline.record(0).count) == (0, 15)


def test_a_group_destroyed_while_the_next_batch_is_read_is_noticed(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0)) for _ in range(20)))
    pair = hands(pipeline)
    entries = pair.read(10, None)
    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)

    with pytest.raises(ResponseError, match="NOGROUP"):
        pair.turn(entries, Rules(), pipeline.clock.look(), ahead=10)

    assert pipeline.record(0).count == 0


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    counts=st.lists(st.integers(0, 25), max_size=6),
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=2),
    stolen=st.lists(st.integers(0, 40), max_size=6),
)
def test_two_pairs_and_a_thief_count_every_reading_once(
    pipeline: Pipeline, counts: list[int], sizes: list[int], stolen: list[int]
) -> None:
    pipeline.cluster.call("DEL", DAY.stream, *DAY.companions)
    pipeline.produce(reading(at(0)))
    pairs = [hands(pipeline, name) for name in ("porch", "attic")]
    held = [pair.read(1, None) for pair in pairs]
    thief = pipeline.delivery().link
    for count in counts:
        if count:
            pipeline.produce(*(reading(at(0)) for _ in range(count)))
        pending = thief.call("XPENDING", DAY.stream, GROUP, "-", "+", 100)
        for number in stolen:
            if number < len(pending):
                thief.call("XCLAIM", DAY.stream, GROUP, "thief", 0, pending[number][0], "JUSTID")
        held = [
            pair.turn(entries, Rules(), pipeline.clock.look(), ahead=size) if entries
            else pair.read(size, None)
            for pair, entries, size in zip(pairs, held, sizes, strict=True)
        ]  # fmt: skip
    for pair in pairs:
        pair.hand.link.close()
    heir = pipeline.delivery()
    while entries := pipeline.claim(heir, 0, limit=99)[0]:
        pipeline.commit(heir, entries)
    pipeline.count()

    total = 1 + sum(counts)
    assert (pipeline.pending(), pipeline.record(0).count) == (0, total)
