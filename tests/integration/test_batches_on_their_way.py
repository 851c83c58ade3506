"""Several batches on their way at once: refused, cut off or lost by a failover, in any order."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourglass.errors import Unreachable
from hourglass.model.keys import HOUR_MS
from hourglassctl.local import bootstrap
from producer.batch import Batch, Batcher
from producer.writer import BatchWriter, Outcome
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.replica import Copy

#: More than any run sends.
ENOUGH = 200


def batches(count: int, *, each: int = 2) -> list[Batch]:
    readings = (reading(at(0) + number * 1000) for number in range(count * each))
    return list(Batcher(limit=each, partitions=KEYS.undivided).cut(readings))


def sent_ahead(publisher: BatchWriter, batch: Batch) -> None:
    """Send `batch` without waiting for what becomes of it."""
    publisher.put(batch)
    for _ in publisher.settle(leave=ENOUGH):
        pass


def outcomes(publisher: BatchWriter) -> list[Outcome]:
    """Of all that is on its way; errors are tried again."""
    found: list[Outcome] = []
    while True:
        try:
            found += [outcome for _, outcome in publisher.settle()]
        except Unreachable:
            continue
        return found


def stored(pipeline: Pipeline) -> list[int]:
    """The event times in the stream, since the day's start, in its order."""
    entries: list[Any] = pipeline.cluster.call("XRANGE", DAY.stream, "-", "+")
    return [int(fields[b"day_ms"]) for _, fields in entries]


@contextmanager
def full(embedded: EmbeddedCluster) -> Generator[None]:
    """Redis refuses what would write, meanwhile."""
    set_maxmemory(embedded, "1")
    try:
        yield
    finally:
        set_maxmemory(embedded, "0")


def set_maxmemory(embedded: EmbeddedCluster, to: str) -> None:
    with bootstrap.client(embedded.ports[0]) as client:
        client.config_set("maxmemory", to)


def trusted(pipeline: Pipeline) -> tuple[BatchWriter, list[Batch]]:
    """A publisher that has had an answer, so that it sends ahead, and the batches after that."""
    publisher = pipeline.publisher("porch:1")
    first, *rest = batches(5)
    publisher.put(first)
    assert outcomes(publisher) == [Outcome.TAKEN]
    return publisher, rest


@pytest.mark.embedded(masters=1)
def test_a_refused_batch_is_not_overtaken_by_the_one_behind_it(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline:
        publisher, (second, third, *_) = trusted(pipeline)
        with full(embedded):
            sent_ahead(publisher, second)
        sent_ahead(publisher, third)
        with pytest.raises(Unreachable, match="maxmemory"):
            list(publisher.settle())

        assert stored(pipeline) == [0, 1000]
        assert outcomes(publisher) == [Outcome.TAKEN, Outcome.TAKEN]
        assert stored(pipeline) == [number * 1000 for number in range(6)]


def test_batches_whose_answers_were_cut_off_are_taken_once(pipeline: Pipeline) -> None:
    publisher, (second, third, *_) = trusted(pipeline)
    sent_ahead(publisher, second)
    sent_ahead(publisher, third)
    publisher.close()

    assert set(outcomes(publisher)) <= {Outcome.TAKEN, Outcome.DUPLICATE}

    assert stored(pipeline) == [number * 1000 for number in range(6)]


def test_what_follows_an_expired_batch_is_taken(pipeline: Pipeline) -> None:
    publisher, (second, third, *_) = trusted(pipeline)
    pipeline.drive(at(0) + 3 * 24 * HOUR_MS)
    sent_ahead(publisher, second)
    pipeline.drive(at(0))
    sent_ahead(publisher, third)

    assert outcomes(publisher) == [Outcome.EXPIRED, Outcome.TAKEN]

    assert stored(pipeline) == [0, 1000, 4000, 5000]


def test_batches_of_two_days_are_each_taken_by_their_own(pipeline: Pipeline) -> None:
    publisher = pipeline.publisher("porch:1")
    times = [at(23, 59, 58), at(23, 59, 59), NEXT_DAY.day_ms, NEXT_DAY.day_ms + 1000]
    for batch in Batcher(limit=1, partitions=KEYS.undivided).cut(reading(ts_ms) for ts_ms in times):
        publisher.put(batch)

    assert outcomes(publisher) == [Outcome.TAKEN] * 4

    lengths = [pipeline.cluster.call("XLEN", day.stream) for day in (DAY, NEXT_DAY)]
    assert lengths == [2, 2]


def test_scripts_that_were_flushed_are_sent_again(pipeline: Pipeline) -> None:
    publisher, (second, third, *_) = trusted(pipeline)
    with bootstrap.client(pipeline.master_of(DAY.stream)) as client:
        cast(Any, client).script_flush()
    sent_ahead(publisher, second)
    sent_ahead(publisher, third)

    assert outcomes(publisher) == [Outcome.TAKEN, Outcome.TAKEN]

    assert stored(pipeline) == [number * 1000 for number in range(6)]


def test_the_entries_acknowledged_to_a_producer_are_the_entries_in_the_stream(
    pipeline: Pipeline,
) -> None:
    publisher, rest = trusted(pipeline)
    for batch in rest:
        sent_ahead(publisher, batch)
    publisher.close()
    outcomes(publisher)
    pipeline.count()

    found = pipeline.audit()

    assert (found.gone, found.lost, found.twice, found.counted) == (0, 0, 0, 10)


def test_with_wait_none_is_sent_ahead(pipeline: Pipeline) -> None:
    publisher = pipeline.publisher("porch:1", wait_replicas=1, wait_timeout_ms=1)
    for batch in batches(3):
        publisher.put(batch)
    with pytest.raises(Unreachable, match="0 of 1 replicas"):
        list(publisher.settle(leave=ENOUGH))

    assert stored(pipeline) == [0, 1000]


actions = st.lists(
    st.sampled_from(["send", "send", "send", "settle", "refuse", "allow", "cut", "copy", "lose"]),
    max_size=25,
)


@pytest.mark.embedded(masters=1)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=actions)
def test_whatever_happens_on_their_way_no_reading_is_lost_or_taken_twice(
    embedded: EmbeddedCluster, history: list[str]
) -> None:
    set_maxmemory(embedded, "0")
    with Pipeline(embedded.url) as pipeline:
        pipeline.cluster.call("DEL", DAY.stream, *DAY.companions)
        World(embedded, pipeline).live(history)


class World:
    """A producer, and what befalls it; what a failover may have lost is known by number."""

    def __init__(self, embedded: EmbeddedCluster, pipeline: Pipeline) -> None:
        self._embedded = embedded
        self._pipeline = pipeline
        self._publisher = pipeline.publisher("porch:1")
        self._batches = iter(batches(ENOUGH, each=1))
        self._replica = Copy(pipeline, (DAY.stream, DAY.producers))
        self._sent = 0
        self._confirmed = 0
        self._copied = 0
        self._lost: set[int] = set()

    def live(self, history: list[str]) -> None:
        for action in history:
            getattr(self, f"_{action}")()
        self._allow()
        while self._publisher_has_more():
            pass
        times = stored(self._pipeline)
        assert len(times) == len(set(times)), "taken twice"
        assert times == sorted(times), "taken out of order"
        wanted = {number * 1000 for number in range(self._sent)}
        assert set(times) <= wanted
        assert wanted - set(times) <= {number * 1000 for number in self._lost}, "lost"

    def _publisher_has_more(self) -> bool:
        self._settle()
        return self._confirmed < self._sent

    def _send(self) -> None:
        self._publisher.put(next(self._batches))
        self._sent += 1
        self._confirm(leave=ENOUGH)

    def _settle(self) -> None:
        self._confirm(leave=0)

    def _confirm(self, *, leave: int) -> None:
        try:
            for _, outcome in self._publisher.settle(leave=leave):
                assert outcome is not Outcome.EXPIRED
                self._confirmed += 1
        except Unreachable:
            pass

    def _refuse(self) -> None:
        set_maxmemory(self._embedded, "1")

    def _allow(self) -> None:
        set_maxmemory(self._embedded, "0")

    def _cut(self) -> None:
        self._publisher.close()

    def _copy(self) -> None:
        """A replica gets what there is."""
        self._replica = Copy(self._pipeline, (DAY.stream, DAY.producers))
        self._copied = self._confirmed

    def _lose(self) -> None:
        """That replica takes over: connections break, and what came later is gone."""
        self._publisher.close()
        self._allow()
        self._replica.restore()
        self._lost |= set(range(self._copied, self._confirmed))
