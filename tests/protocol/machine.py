"""Several processes at work on the real scripts and a real cluster, in any order, beside the model.

At each call of each script a process may crash before the script is sent or after the server has
run it, or lose its connection at either moment; a sealer may be overtaken between two of its
scripts by a whole step of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from aggregator.commit import BatchCommitter
from aggregator.opening import open_partition
from hourglass.cluster.groups import group_is_gone, reap
from hourglass.cluster.partitions import candidates
from hourglass.errors import ConnectionLost, Unreachable
from hourglass.model.averages import HourlyAverage, HourRecord
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import GROUP, HOUR_MS, Partition
from hourglass.model.readings import Reading
from producer.batch import Batch, Batcher
from producer.writer import BatchWriter, Outcome
from tests.protocol.reference_model import (
    IMPLAUSIBLE_F,
    Day,
    Gone,
    Lost,
    Model,
    hour_of,
    usable,
)
from tests.support.keyspace import KEYS
from tests.support.leftovers import delete_keys
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, publish

DAYS = (DAY, NEXT_DAY)
#: An hour is due already.
START_MS = at(23)
END_MS = at(2, day=NEXT_DAY)
DELIVERY_LIMIT = 4


class Crash(BaseException):
    """The process is no more, and none of its code catches that."""


def crash(_point: str) -> None:
    raise Crash


def lose_request(_point: str) -> None:
    """As a connection does that breaks before the script is sent."""
    raise ConnectionLost("the connection broke before the script was sent")


def lose_reply(_point: str) -> None:
    raise redis.TimeoutError("the reply was lost")


#: What befalls one call of a script: where, and what happens there.
FATES: dict[str, tuple[str, Callable[[str], None]]] = {
    "crash before": (".before", crash),
    "lose request": (".before", lose_request),
    "crash after": (".after", crash),
    "lose reply": (".after", lose_reply),
}
#: Those after which the server has not run the script.
NOT_SENT = ("crash before", "lose request")


@dataclass(slots=True)
class Worker:
    """An aggregator's work on one partition, and its batch in flight."""

    partition: Partition
    delivery: BatchCommitter | None = None
    incarnation: int = 0
    entries: list[Any] = field(default_factory=list[Any])
    given_up: Sequence[bytes] = ()

    def drop(self) -> None:
        if self.delivery:
            self.delivery.link.close()
        self.delivery, self.entries, self.given_up = None, [], ()


@dataclass(slots=True)
class Producer:
    publisher: BatchWriter
    batcher: Batcher = field(default_factory=lambda: Batcher(limit=1000, partitions=KEYS.undivided))


class FaultPoints:
    """Stands where the processes pass their fault points; `tried` is what has happened there."""

    def __init__(self) -> None:
        self.passed: Callable[[str], None] | None = None
        self.tried: set[tuple[str, str]] = set()

    def __call__(self, point: str) -> None:
        if self.passed:
            self.passed(point)


readings = st.tuples(
    st.sampled_from([at(22), at(22), at(23), at(0, day=NEXT_DAY), at(1, day=NEXT_DAY)]),
    st.integers(0, 59),
    st.sampled_from([-1, 0, 50, 51, IMPLAUSIBLE_F]),
    st.sampled_from([b"porch", b"attic"]),
)
fates = st.sampled_from(["", "", *FATES])
numbers = st.integers(0, 3)


def _one_of(workers: list[Worker], number: int) -> Worker:
    return workers[number % len(workers)]


class Machine(RuleBasedStateMachine):
    """Two aggregators on two days, two producers, any number of sealers."""

    def __init__(self, client: RedisCluster, url: str, points: FaultPoints) -> None:
        super().__init__()
        delete_keys(client, KEYS)
        points.passed = None
        self.points = points
        self.pipeline = Pipeline(url).__enter__()
        self.cluster = self.pipeline.cluster
        self.model = Model({day: Day() for day in DAYS})
        self.workers = [Worker(day) for day in DAYS for _ in range(2)]
        self.expired: set[Partition] = set()

    @initialize()
    def begin(self) -> None:
        self.now_ms = START_MS
        self.pipeline.drive(START_MS)
        self.incarnations = 0
        self.producers = [self._new_producer() for _ in range(2)]

    # What processes do.

    @rule(
        number=st.integers(0, 1),
        drawn=st.lists(readings, min_size=1, max_size=6),
        script=st.sampled_from(["divide", "register", "ingest"]),
        fate=fates,
    )
    def ingest(
        self, number: int, drawn: list[tuple[int, int, int, bytes]], script: str, fate: str
    ) -> None:
        given = [
            Reading(device, hour_ms + minute * 60_000, temp_f * 1000)
            for hour_ms, minute, temp_f, device in drawn
        ]
        for day in DAYS:
            of_day = [each for each in given if KEYS.containing(each.ts_ms) == day]
            if of_day and day not in self.expired:
                (batch,) = self.producers[number].batcher.cut(of_day)
                taken = self._publish(number, batch, script, fate)
                ids = [each for each, _ in self.cluster.call("XRANGE", day.stream, "-", "+")]
                known = self.model.days[day].entries
                new = [each for each in ids if each not in known]
                assert len(new) == taken * len(of_day), "a batch was not taken exactly once"
                if taken:
                    self.model.days[day].ingest(dict(zip(new, of_day, strict=True)))

    def _publish(self, number: int, batch: Batch, script: str, fate: str) -> bool:
        """Whether the batch is taken. A producer that loses a request or a reply tries again; one
        that crashes is replaced, and its batch is gone unless it was taken."""
        publisher = self.producers[number].publisher
        fault = self._at(script, fate)
        try:
            with fault:
                outcome = publish(publisher, batch)
        except Crash:
            publisher.close()
            self.producers[number] = self._new_producer()
            return (script, fate) == ("ingest", "crash after")
        except Unreachable:
            assert fault.happened
            outcome = publish(publisher, batch)
        again = fault.happened and (script, fate) == ("ingest", "lose reply")
        assert outcome is (Outcome.DUPLICATE if again else Outcome.TAKEN)
        return True

    @rule(number=st.integers(0, 1))
    def producer_is_replaced(self, number: int) -> None:
        """The new one asks for the lanes of each day, and registers them."""
        self.producers[number].publisher.close()
        self.producers[number] = self._new_producer()

    def _new_producer(self) -> Producer:
        self.incarnations += 1
        return Producer(self.pipeline.publisher(f"producer-{self.incarnations}"))

    @precondition(lambda self: self._idle())
    @rule(number=numbers, most=st.integers(1, 6), fate=fates)
    def read(self, number: int, most: int, fate: str) -> None:
        """What was never delivered; the fate is that of opening the partition."""
        self._read(_one_of(self._idle(), number), most, fate)

    def _read(self, worker: Worker, most: int, fate: str = "") -> None:
        self._open(worker, fate)
        if worker.delivery:
            expected = self._expected(self._day(worker).read, most)
            worker.entries = self._done(worker, lambda delivery: delivery.read(most, None)) or []
            assert [each for each, _ in worker.entries] == (expected or [])
            if expected is None:
                worker.drop()

    @precondition(lambda self: self._idle())
    @rule(number=numbers)
    def work_off(self, number: int) -> None:
        """All that was never delivered, and all that is pending for others."""
        self._work_off(_one_of(self._idle(), number))

    def _work_off(self, worker: Worker) -> None:
        while self._day(worker).alive:
            self._claim(worker)
            if not worker.entries:
                self._read(worker, 1000)
            if not worker.entries:
                break
            self._commit(worker, "")

    @precondition(lambda self: self._idle() and self._something_is_pending())
    @rule(number=numbers, fate=fates)
    def claim(self, number: int, fate: str) -> None:
        """What is pending for others; the fate is that of opening the partition."""
        self._claim(_one_of(self._idle(), number), fate)

    def _claim(self, worker: Worker, fate: str = "") -> None:
        self._open(worker, fate)
        if worker.delivery:
            day = self._day(worker)
            tries = self._pending(worker.partition)
            found = self._done(
                worker, lambda delivery: self.pipeline.claim(delivery, 0, limit=DELIVERY_LIMIT)
            )
            assert (found is None) == (not day.has_group)
            if found is None:
                worker.drop()
                return
            worker.entries, worker.given_up = found
            assert day.pending.issuperset(each for each, _ in worker.entries)
            assert day.pending.issuperset(worker.given_up)
            assert bool(worker.entries or worker.given_up) == bool(day.pending), (
                "something is left pending"
            )
            assert all(tries[each] >= DELIVERY_LIMIT for each in worker.given_up)

    @precondition(lambda self: self._busy())
    @rule(number=numbers, fate=fates)
    def commit(self, number: int, fate: str) -> None:
        self._commit(_one_of(self._busy(), number), fate)

    def _commit(self, worker: Worker, fate: str) -> None:
        assert worker.delivery
        ids = [*worker.given_up, *(each for each, _ in worker.entries)]
        outcome: object = None
        if fate not in NOT_SENT:
            outcome = self._expected(
                partial(self._day(worker).commit, whole=bool(fate)),
                worker.incarnation,
                ids,
                worker.given_up,
            )
        with suppress(Crash, ConnectionLost), self._at("commit", fate):
            done = self._done(
                worker,
                lambda each: self.pipeline.commit(each, worker.entries, given_up=worker.given_up),
            )
            assert fate or (done is None) == (outcome is None)
        worker.entries, worker.given_up = [], ()
        if fate or outcome is None:
            worker.drop()

    @precondition(lambda self: self._busy())
    @rule(number=numbers)
    def crash(self, number: int) -> None:
        """With a batch in flight."""
        _one_of(self._busy(), number).drop()

    @rule(passage=st.integers(0, 9), fate=st.sampled_from(["", "", *FATES, *FATES, "overtaken"]))
    def seal_and_publish(self, passage: int, fate: str) -> None:
        """Each script that is done moves the model by one step; the fate is that of one of them."""
        partitions = candidates(self.cluster, self.pipeline.clock.current())
        shards = {each: self.cluster.shard_of(each.stream) for each in partitions}
        model = self.model.sealer_step(shards, self.now_ms)
        next(model, None)
        scripts = 0

        def passed(point: str) -> None:
            nonlocal scripts
            script, _, when = point.partition(".")
            if when == "after":
                scripts += 1
            at_passage = scripts - (when == "after") == passage
            if at_passage and fate == "overtaken" and when == "before":
                self.points.passed = None
                self.seal_and_publish(passage=0, fate="")
                self.points.passed = passed
            if at_passage and fate in FATES and FATES[fate][0] == f".{when}":
                with suppress(StopIteration):
                    model.send(Lost.REQUEST if fate in NOT_SENT else Lost.REPLY)
                self.points.tried.add((script, fate))
                FATES[fate][1](point)
            elif when == "after":
                next(model, None)

        self.points.passed = passed
        try:
            self.pipeline.seal()
        except Crash:
            return
        except Unreachable:
            assert fate in FATES
        finally:
            self.points.passed = None
        assert next(model, "over") == "over", "it did less than it ought to"

    @precondition(lambda self: any(day.has_group for day in self.model.days.values()))
    @rule(day=st.sampled_from(DAYS), fate=fates)
    def reap(self, day: Partition, fate: str) -> None:
        """Consumers with nothing pending go; one that is alive comes back with its next read."""
        with suppress(Crash, Unreachable), self._at("reap", fate):
            reap(self.cluster, day.stream, GROUP, 0)
        if fate not in NOT_SENT and self.model.days[day].has_group:
            consumers = self.cluster.call("XINFO CONSUMERS", day.stream, GROUP)
            assert all(consumer["pending"] for consumer in consumers)

    def steps_with(self, script: str, fate: str) -> Iterator[Callable[[], None]]:
        """The way from readings of two days to their averages; each call of `script` meets `fate`
        once, and its process or another one tries again."""

        def met_by(called: str) -> str:
            return fate if called == script else ""

        for hour_ms in (at(22), at(0, day=NEXT_DAY)):
            drawn = [(hour_ms, minute, 50 + minute, b"porch") for minute in range(3)]
            for called in ("divide", "register", "ingest"):
                yield partial(self.producer_is_replaced, 0)
                yield partial(self.ingest, 0, drawn, called, met_by(called))
            yield partial(self.ingest, 1, drawn, "", "")
        for day, (first, second) in zip(DAYS, (self.workers[:2], self.workers[2:]), strict=True):
            for worker in (first, second):
                yield partial(self._read, worker, 2, met_by("open"))
                if not worker.entries:
                    yield partial(self._read, worker, 2)
                yield partial(self.reap, day, met_by("reap"))
            yield partial(self._commit, first, met_by("commit"))
            yield partial(self._commit, second, "")
            yield partial(self._claim, first)
            yield partial(self._work_off, second)
            if first.entries:
                yield partial(self._commit, first, "")
        seals = fate if script in ("seal", "publish") else ""
        while self.now_ms < END_MS:
            yield self.hour_passes
            for passage in range(8 if seals else 1):
                yield partial(self.seal_and_publish, passage, seals)
        yield partial(self.seal_and_publish, 0, "")

    # What happens to them.

    @precondition(lambda self: self.now_ms < END_MS)
    @rule()
    def hour_passes(self) -> None:
        self.now_ms += HOUR_MS
        self.pipeline.drive(self.now_ms)

    @precondition(lambda self: any(day.has_group for day in self.model.days.values()))
    @rule(day=st.sampled_from(DAYS), sure=st.integers(0, 3))
    def group_is_destroyed(self, day: Partition, sure: int) -> None:
        if sure == 0 and self.model.days[day].has_group:
            self.cluster.call("XGROUP DESTROY", day.stream, GROUP)
            self.model.days[day].destroy_group()

    @precondition(lambda self: self.now_ms > START_MS)
    @rule(day=st.sampled_from(DAYS), sure=st.integers(0, 9))
    def partition_expires(self, day: Partition, sure: int) -> None:
        if sure == 0 and self.model.days[day].alive:
            self.cluster.call("PEXPIREAT", day.stream, 1)
            self.model.days[day].expire()
            self.expired.add(day)

    # What must hold all the time.

    @invariant()
    def everything_is_as_the_model_has_it(self) -> None:
        """In one round trip to each shard: it is checked after every step."""
        replies = iter(
            self.cluster.pipeline(
                [
                    *(
                        command
                        for day in self.model.days
                        for command in (
                            ("HGETALL", day.hours),
                            _all_pending(day),
                            ("XLEN", day.quarantine),
                        )
                    ),
                    ("XRANGE", KEYS.averages, "-", "+"),
                    ("ZCARD", KEYS.too_late),
                    ("ZCARD", KEYS.revisions),
                ]
            )
        )
        for partition, day in self.model.days.items():
            fields = next(replies)
            records = {each.start_ms: each for each in decode_hours(partition, fields)}
            for number, hour in enumerate(day.hours):
                start_ms = partition.hour_start_ms(number)
                empty = HourRecord(start_ms=start_ms, count=0, sum_milli_f=0)
                shown = records.get(start_ms, empty)
                count, total, least, most, devices = hour.result
                assert (shown.count, shown.sum_milli_f) == (count, total)
                assert (shown.min_milli_f, shown.max_milli_f) == (least, most)
                assert (shown.late, shown.late_sum_milli_f) == (hour.late, hour.late_sum)
                assert shown.sealed == hour.sealed
                assert shown.devices == devices
            assert _times_delivered(next(replies)).keys() == day.pending
            assert next(replies) == day.quarantined
            assert int(fields.get(b"acknowledged_entries", 0)) == day.acknowledged
        published = [HourlyAverage.decode(*entry) for entry in next(replies)]
        assert {
            each.start_ms: (
                each.count, each.sum_milli_f, each.min_milli_f, each.max_milli_f, each.devices
            )
            for each in published
        } == self.model.published  # fmt: skip
        assert next(replies) == len(self.model.too_late)
        assert next(replies) == 0

    def teardown(self) -> None:
        try:
            self._check_the_end()
        finally:
            self.points.passed = None
            for worker in self.workers:
                worker.drop()
            self.pipeline.__exit__(None, None, None)

    def _check_the_end(self) -> None:
        """When all is worked off, the records are those of the readings themselves."""
        for worker in self.workers:
            worker.drop()
        for worker in self.workers:
            self._work_off(worker)
        self.everything_is_as_the_model_has_it()
        for partition, day in self.model.days.items():
            if not day.alive:
                continue
            records = self.pipeline.records(partition)
            counted = {hour: each.count + each.late for hour, each in records.items()}
            given: dict[int, int] = {}
            for each in filter(usable, day.entries.values()):
                given[hour_of(each)] = given.get(hour_of(each), 0) + 1
            missing = sum(given.values()) - sum(counted.values())
            bad = sum(not usable(each) for each in day.entries.values())
            assert missing == day.quarantined - bad, "a reading was lost, or counted twice"

    def _idle(self) -> list[Worker]:
        return [each for each in self.workers if not each.entries and self._day(each).alive]

    def _busy(self) -> list[Worker]:
        return [each for each in self.workers if each.entries]

    def _something_is_pending(self) -> bool:
        return any(day.pending for day in self.model.days.values())

    def _open(self, worker: Worker, fate: str = "") -> None:
        """The worker has a delivery afterwards, unless there is no stream or the fate forbids."""
        if worker.delivery is None:
            day = self._day(worker)
            expected = day.open() if fate not in NOT_SENT else None
            try:
                with self._at("open", fate):
                    instant = self.pipeline.clock.current()
                    found = open_partition(self.cluster, worker.partition, instant).found
            except (Crash, Unreachable):
                assert fate
                return
            assert found.value.decode() == expected
            if day.alive:
                worker.delivery = self.pipeline.delivery(worker.partition)
                worker.incarnation = day.incarnation

    def _day(self, worker: Worker) -> Day:
        return self.model.days[worker.partition]

    def _expected(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """What the model answers; None where it is Gone."""
        try:
            answer = step(*arguments)
        except Gone:
            return None
        return True if answer is None else answer

    def _done(self, worker: Worker, step: Callable[[BatchCommitter], Any]) -> Any:
        """What the pipeline answers; None where the group is gone."""
        assert worker.delivery
        try:
            return step(worker.delivery)
        except ResponseError as error:
            if not group_is_gone(error):
                raise
            return None

    def _at(self, script: str, fate: str) -> _Armed:
        return _Armed(self.points, script, fate)

    def _pending(self, partition: Partition) -> dict[bytes, int]:
        """How often each was delivered."""
        (reply,) = self.cluster.pipeline([_all_pending(partition)])
        return _times_delivered(reply)


def _all_pending(partition: Partition) -> tuple[str | int, ...]:
    return ("XPENDING", partition.stream, GROUP, "-", "+", 1000)


def _times_delivered(reply: Any) -> dict[bytes, int]:
    """By entry, from the reply to `_all_pending`; none where the group is gone."""
    if isinstance(reply, ResponseError):
        if not group_is_gone(reply):
            raise reply
        return {}
    return {row["message_id"]: row["times_delivered"] for row in reply}


class _Armed:
    """One fate of one script, at its next call."""

    def __init__(self, points: FaultPoints, script: str, fate: str) -> None:
        self._points, self._script, self._fate = points, script, fate
        when, self._action = FATES.get(fate, ("", crash))
        self._point = f"{script}{when}"
        self.happened = False

    def __enter__(self) -> Self:
        self._points.passed = self._pass
        return self

    def __exit__(self, *_: object) -> None:
        self._points.passed = None

    def _pass(self, point: str) -> None:
        if point == self._point:
            self.happened = True
            self._points.passed = None
            self._points.tried.add((self._script, self._fate))
            self._action(point)
