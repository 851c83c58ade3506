"""Whatever another program removes, whenever: what is lost and what was counted are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.cluster import RedisCluster

from aggregator.commit import BatchCommitter
from hourglass.model.entries import Entry
from hourglass.model.keys import order_of
from hourglass.monitoring.stream_stats import Removals, removals
from tests.support.keyspace import KEYS
from tests.support.leftovers import delete_keys
from tests.support.pipeline import DAY, Pipeline, at, reading

MEMBERS = 2

members = st.integers(0, MEMBERS - 1)
steps = st.one_of(
    st.tuples(st.just("give"), st.integers(1, 6)),
    st.tuples(st.just("read"), members, st.integers(1, 5)),
    st.tuples(st.just("claim"), members),
    st.tuples(st.just("commit"), members),
    st.tuples(st.just("die"), members),
    st.tuples(st.just("trim"), st.integers(0, 6)),
    st.tuples(st.just("add_and_trim"), st.integers(1, 6)),
    st.tuples(st.just("delete"), st.integers(0, 9), st.integers(1, 3)),
)


class Walk:
    """Two aggregators, a producer, and another program that removes entries.

    given: entries that the stream ever had
    delivered: those that an aggregator was given
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.given = 0
        self.delivered: set[bytes] = set()
        self.held: list[tuple[BatchCommitter, Sequence[Entry]] | None] = [None] * MEMBERS
        self.seconds = count()

    def give(self, readings: int) -> None:
        self.pipeline.produce(
            *(reading(at(0) + next(self.seconds) * 1000) for _ in range(readings))
        )
        self.given += readings

    def read(self, member: int, most: int) -> None:
        if self.held[member] is None and self.given:
            delivery = self.pipeline.delivery()
            if entries := delivery.read(most, None):
                self.held[member] = delivery, entries
                self.delivered |= {entry_id for entry_id, _ in entries}

    def claim(self, member: int) -> None:
        if self.held[member] is None and self.given:
            delivery = self.pipeline.delivery()
            if claimed := delivery.reclaimer.take(0, limit=1_000):
                self.held[member] = delivery, claimed.entries

    def commit(self, member: int) -> None:
        if held := self.held[member]:
            self.pipeline.commit(*held)
        self.held[member] = None

    def die(self, member: int) -> None:
        """With a batch that it has read."""
        self.held[member] = None

    def trim(self, left: int) -> None:
        self.pipeline.cluster.call("XTRIM", DAY.stream, "MAXLEN", "=", left)

    def add_and_trim(self, left: int) -> None:
        if self.given:
            self.pipeline.cluster.call(
                "XADD", DAY.stream, "MAXLEN", "=", left, "*", "ts", at(0), "temp_f", 50
            )
            self.given += 1

    def delete(self, first: int, entries: int) -> None:
        if chosen := self._present()[first : first + entries]:
            self.pipeline.cluster.call("XDEL", DAY.stream, *chosen)

    def check(self) -> None:
        if not self.given:
            return
        present = self._present()
        last = max(map(order_of, self.delivered), default=(0, 0))
        waiting = sum(order_of(each) > last for each in present)
        pending = self.pipeline.pending() if self.delivered else 0
        counted = self.pipeline.record(0).count
        (found,) = removals(self.pipeline.cluster, [DAY])
        assert found is not None
        assert found.entries == self.given - len(present)
        assert found.uncounted == self.given - counted - pending - waiting
        assert found.counted <= found.may_be_counted

    def finish(self) -> None:
        for member in range(MEMBERS):
            self.commit(member)
        if not self.given:
            return
        heir = self.pipeline.delivery()
        while claimed := heir.reclaimer.take(0, limit=1_000):
            self.pipeline.commit(heir, claimed.entries)
        self.pipeline.count()
        removed, counted = self.given - len(self._present()), self.pipeline.record(0).count
        lost = self.given - counted
        (found,) = removals(self.pipeline.cluster, [DAY])
        assert found == Removals(entries=removed, uncounted=lost, counted=removed - lost)
        audit = self.pipeline.audit()
        assert (audit.gone, audit.removed) == (lost, removed - lost)
        assert (audit.lost, audit.twice, len(audit.differences)) == (0, 0, int(lost > 0))

    def _present(self) -> list[bytes]:
        return [each for each, _ in self.pipeline.cluster.call("XRANGE", DAY.stream, "-", "+")]


@given(walk=st.lists(steps, max_size=30))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_lost_entries_are_counted_exactly_whatever_is_removed(
    redis: RedisCluster, redis_url: str, walk: list[tuple[str, int]]
) -> None:
    delete_keys(redis, KEYS)
    with Pipeline(redis_url) as pipeline:
        state = Walk(pipeline)
        for name, *arguments in walk:
            getattr(state, name)(*arguments)
            state.check()
        state.finish()
