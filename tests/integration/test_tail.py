"""Following the averages without a group: all of them, then what comes, also after a reset."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from threading import Thread

import pytest

from hourglass.cluster.published import Tail, Update
from tests.support.keyspace import KEYS
from tests.support.pipeline import Pipeline
from tests.support.snapshots import average


@pytest.fixture
def feed(pipeline: Pipeline) -> Generator[Tail]:
    with closing(pipeline.cluster.link(KEYS.averages)) as link:
        yield Tail(link, KEYS.averages)


def test_what_stands_there_comes_first_and_then_what_is_published(
    pipeline: Pipeline, feed: Tail
) -> None:
    pipeline.publish(average(0), average(1))
    assert feed.next(1) == Update([average(0), average(1)], replaces=True)
    assert feed.next(1) == Update()

    pipeline.publish(average(2))
    assert feed.next(1) == Update([average(2)])


def test_an_average_is_not_waited_for_longer_than_it_takes_to_come(
    pipeline: Pipeline, feed: Tail
) -> None:
    assert feed.next(1) == Update([], replaces=True)
    publishing = Thread(target=pipeline.publish, args=(average(0),))
    publishing.start()

    assert feed.next(60_000) == Update([average(0)])
    publishing.join()


def test_a_stream_deleted_and_created_again_is_read_from_its_first_entry(
    pipeline: Pipeline, feed: Tail
) -> None:
    pipeline.publish(average(8))
    feed.next(1)
    pipeline.cluster.call("DEL", KEYS.averages)
    assert feed.next(1) == Update([], replaces=True)

    pipeline.publish(average(3))
    assert feed.next(1) == Update([average(3)])


def test_a_stream_that_a_failover_took_back_is_read_again(pipeline: Pipeline, feed: Tail) -> None:
    pipeline.publish(average(0), average(1))
    feed.next(1)
    pipeline.cluster.call("DEL", KEYS.averages)
    pipeline.publish(average(0))

    assert feed.next(1) == Update([average(0)], replaces=True)


def test_an_entry_that_is_no_average_is_passed_over(pipeline: Pipeline, feed: Tail) -> None:
    pipeline.publish(average(0))
    pipeline.cluster.call("XADD", KEYS.averages, f"{average(1).start_ms}-0", "temp_f", "50")
    pipeline.publish(average(2))

    assert feed.next(1) == Update([average(0), average(2)], replaces=True)
    assert feed.next(1) == Update()


@pytest.mark.parametrize(
    ("update", "known"),
    [
        (Update([average(5)]), [2, 3, 5]),
        (Update([average(hour) for hour in range(6, 9)]), [6, 7, 8]),
        (Update([average(1)], replaces=True), [1]),
        (Update([], replaces=True), []),
        (Update(), [2, 3]),
    ],
)
def test_as_many_are_known_as_the_stream_keeps(update: Update, known: list[int]) -> None:
    assert update.added_to([average(2), average(3)], 3) == [average(hour) for hour in known]
