"""Whatever happens to a day with lanes, in whatever order: no reading is lost or counted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.cluster import RedisCluster

from aggregator.commit import BatchCommitter
from aggregator.sealer import Sealer
from hourglass.model.entries import Entry
from hourglass.model.keys import Partition, iso
from tests.support.keyspace import KEYS
from tests.support.leftovers import delete_keys
from tests.support.pipeline import DAY, Pipeline, Writer, at, reading

HOURS = 4
WANTED = (1, 3, 4)
MEMBERS = 5
DEVICES = 6

writes = st.tuples(
    st.just("write"), st.integers(0, len(WANTED) - 1), st.integers(0, HOURS - 1), st.integers(1, 8)
)
steps = st.one_of(
    writes,
    writes,
    st.tuples(st.just("foreign"), st.integers(0, HOURS - 1)),
    st.tuples(st.just("read"), st.integers(0, MEMBERS - 1), st.integers(1, 9)),
    st.tuples(st.just("commit"), st.integers(0, MEMBERS - 1)),
    st.tuples(st.just("drive")),
    st.tuples(st.just("seal"), st.integers(0, 1)),
    st.tuples(st.just("lose"), st.sampled_from(["index", "record"])),
    st.tuples(st.just("renew"), st.integers(0, len(WANTED) - 1)),
)


class Walk:
    """Producers of several minds, two sealers, and consumers that hold what they have read."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.writers: list[Writer] = [pipeline.writer(f"porch:{n}", lanes=n) for n in WANTED]
        self.sealers: list[Sealer] = [pipeline.sealer("one"), pipeline.sealer("other")]
        self.held: dict[Partition, tuple[BatchCommitter, Sequence[Entry]]] = {}
        self.written: Counter[int] = Counter()
        self.hour = 0
        self.lost = False

    def write(self, writer: int, hour: int, devices: int) -> None:
        times = [(at(hour), f"porch-{each}") for each in range(devices)]
        self.writers[writer].produce(*(reading(ts, 50.0, device) for ts, device in times))
        self.written[hour] += devices

    def foreign(self, hour: int) -> None:
        self.pipeline.xadd(ts=at(hour), temp_f=50)
        self.written[hour] += 1

    def read(self, member: int, count: int) -> None:
        alive = self.pipeline.partitions()
        if member < len(alive) and alive[member] not in self.held:
            delivery = self.pipeline.delivery(alive[member])
            if entries := delivery.read(count, None):
                self.held[alive[member]] = (delivery, entries)

    def commit(self, member: int) -> None:
        if member < len(self.held):
            delivery, entries = self.held.pop(sorted(self.held)[member])
            self.pipeline.commit(delivery, entries)

    def drive(self) -> None:
        self.hour = min(self.hour + 1, HOURS)
        self.pipeline.drive(at(self.hour))

    def seal(self, sealer: int) -> None:
        self.sealers[sealer].step()

    def lose(self, what: str) -> None:
        """One loss in a walk: who has lost both may publish an hour without a lane, and says so."""
        if not self.lost:
            self.lost = True
            self.pipeline.cluster.call("DEL", KEYS.partitions if what == "index" else DAY.lanes)

    def renew(self, writer: int) -> None:
        self.writers[writer].days.renew()

    def finish(self) -> None:
        for writer in self.writers:
            writer.days.renew()
        while self.held:
            self.commit(0)
        self.pipeline.drive(at(HOURS))
        for partition in self.pipeline.partitions():
            self.pipeline.count(partition)
        for sealer in (*self.sealers, *self.sealers):
            sealer.step()
        self.check()

    def too_late(self) -> Sequence[bytes]:
        """Hours that were empty until a later one was published."""
        members: Sequence[bytes] = self.pipeline.cluster.call(
            "ZRANGE", self.pipeline.keyspace.too_late, 0, -1
        )
        return members

    def check(self) -> None:
        records = [
            record
            for partition in self.pipeline.partitions()
            for record in self.pipeline.records(partition).values()
        ]
        counted: Counter[int] = Counter()
        late: Counter[int] = Counter()
        for record in records:
            hour = (record.start_ms - DAY.day_ms) // 3_600_000
            counted[hour] += record.count
            late[hour] += record.late
        assert counted + late == self.written
        published = {each.start_ms: each.count for each in self.pipeline.averages()}
        overtaken = {int(each.split(b":")[0]) for each in self.too_late()}
        assert all(start_ms < max(published) for start_ms in overtaken)
        assert published == {
            at(hour): n for hour, n in sorted((+counted).items()) if at(hour) not in overtaken
        }
        assert self.pipeline.metric("hourglass_averages_revised_total") == 0
        found = self.pipeline.audit()
        assert {each.hour for each in found.differences} == {iso(start) for start in overtaken}


@given(walk=st.lists(steps, max_size=40))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_reading_of_a_day_with_lanes_is_counted_once_and_published(
    redis: RedisCluster, redis_url: str, walk: list[tuple[str, int]]
) -> None:
    delete_keys(redis, KEYS)
    with Pipeline(redis_url) as pipeline:
        state = Walk(pipeline)
        for name, *arguments in walk:
            getattr(state, name)(*arguments)
        state.finish()
