"""A source that repeats readings: Redis takes one of each device and tick, in whatever batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha1
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from redis.cluster import RedisCluster

from hourglass.cluster.scripts import packed
from hourglass.errors import CorruptKey, Unreachable
from hourglass.model.keys import DAY_MS, RETENTION_MS
from hourglass.model.readings import Reading
from producer import writer
from producer.batch import MOST_DEDUPLICATED, Batch, Batcher
from producer.identities import TICK_MS
from producer.packed_batches import Packer
from producer.writer import BatchWriter, Outcome
from tests.support.keyspace import KEYS
from tests.support.leftovers import delete_keys
from tests.support.pipeline import DAY, Pipeline, at, reading, tick
from tests.support.replica import Copy

#: Of one device, and a reading every second.
BYTES_A_DAY = 10_800


def batches(*readings: Reading) -> list[Batch]:
    """The batches of a new producer."""
    batcher = Batcher(limit=1000, partitions=KEYS.undivided, deduplicate_ms=TICK_MS)
    return list(batcher.cut(readings))


def sent(publisher: BatchWriter, *all_of_them: Batch) -> list[Batch]:
    """The batches as Redis took them."""
    for batch in all_of_them:
        publisher.put(batch)
    return [batch for batch, outcome in publisher.settle() if outcome is Outcome.TAKEN]


def send(pipeline: Pipeline, name: str, *readings: Reading) -> list[Batch]:
    """The batches of a new producer of that name, as Redis took them."""
    return sent(pipeline.publisher(name), *batches(*readings))


def identities(pipeline: Pipeline) -> dict[bytes, bytes]:
    return pipeline.cluster.call("HGETALL", DAY.identities)


def test_a_reading_in_another_batch_of_another_producer_is_left_out(pipeline: Pipeline) -> None:
    first = [reading(at(0, 0, second)) for second in (0, 1, 2)]
    send(pipeline, "porch:1", *first)

    (batch,) = send(pipeline, "porch:2", *first[1:], reading(at(0, 0, 3)))

    assert (batch.count, batch.repeated) == (1, 2)
    assert sorted(pipeline.stored()) == [(b"porch", at(0, 0, second)) for second in range(4)]


def test_a_repeated_reading_in_one_batch_is_left_out(pipeline: Pipeline) -> None:
    (batch,) = send(pipeline, "porch:1", reading(at(0), 50), reading(at(0), 51), reading(at(1), 52))

    assert (batch.count, batch.repeated, batch.size) == (2, 1, 3)
    assert pipeline.stored() == [(b"porch", at(0)), (b"porch", at(1))]


def test_readings_of_other_devices_and_ticks_are_taken(pipeline: Pipeline) -> None:
    devices = ["porch", "pod", *(f"pod-{number}" for number in (0, 1, 2, 3, 511, 1023, 1024, 9999))]
    devices += ["pod-00", "pod-02", "pod--2", "", "pod-12345678"]
    given = [
        reading(at(0, minute, second), device=device)
        for device in devices
        for minute in (0, 58)
        for second in range(3)
    ]

    for number, each in enumerate(given):
        send(pipeline, f"porch:{number}", each)

    assert len(pipeline.stored()) == len(given)
    (batch,) = send(pipeline, "porch:again", *given)
    assert (batch.count, batch.repeated) == (0, len(given))


def test_a_batch_that_holds_nothing_new_still_moves_the_watermark(pipeline: Pipeline) -> None:
    send(pipeline, "porch:1", reading(at(0)))
    batcher = Batcher(limit=10, partitions=KEYS.undivided, deduplicate_ms=TICK_MS)

    sent(pipeline.publisher("porch:2"), *batcher.cut([reading(at(0))], next_ms=at(5)))

    assert float(pipeline.cluster.call("ZSCORE", DAY.watermarks, "porch:2")) == at(5) - DAY.day_ms


def test_batches_behind_one_with_repeated_readings_are_taken(pipeline: Pipeline) -> None:
    times = [at(0, 0, second) for second in range(8)]
    send(pipeline, "porch:1", *(reading(times[each]) for each in (2, 4, 5)))
    batcher = Batcher(limit=2, partitions=KEYS.undivided, deduplicate_ms=TICK_MS)
    publisher = pipeline.publisher("porch:2")
    done: list[Batch] = []

    for batch in batcher.cut(map(reading, times)):
        publisher.put(batch)
        done += [each for each, _ in publisher.settle(leave=3)]
    done += [each for each, _ in publisher.settle()]

    assert [(each.count, each.repeated) for each in done] == [(2, 0), (1, 1), (0, 2), (2, 0)]
    assert sorted(pipeline.stored()) == [(b"porch", ts_ms) for ts_ms in times]


def test_a_producer_that_does_not_deduplicate_sets_no_bit(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.produce(reading(at(0)))

    assert len(pipeline.stored()) == 2
    assert identities(pipeline) == {}


def pack(pipeline: Pipeline, name: str, *ticks: Any, device: str = "pod") -> list[Batch]:
    packer = Packer(device, partitions=KEYS.undivided, deduplicate_ms=TICK_MS)
    return sent(pipeline.publisher(name), *packer.cut(ticks))


def test_readings_in_packed_entries_are_left_out_one_by_one(pipeline: Pipeline) -> None:
    pack(pipeline, "pod:1", tick(at(0), 50, None, 52), tick(at(0, 0, 1), 53, 54, None))

    (batch,) = pack(pipeline, "pod:2", tick(at(0), 50, 51, 52), tick(at(0, 0, 1), 53, 54, 55))

    assert (batch.count, batch.repeated) == (2, 4)
    everything = [(b"pod-%d" % n, at(0, 0, second)) for second in (0, 1) for n in range(3)]
    assert sorted(pipeline.stored()) == sorted(everything)
    (batch,) = pack(pipeline, "pod:3", tick(at(0), 50, 51, 52))
    assert (batch.count, batch.entries, batch.repeated) == (0, 0, 3)


def test_a_reading_is_the_same_in_a_plain_and_in_a_packed_entry(pipeline: Pipeline) -> None:
    names = [f"pod-{number}" for number in range(1100)]
    send(pipeline, "pod:1", *(reading(at(0, 0, 1), device=name) for name in names[::2]))

    taken = pack(pipeline, "pod:2", *(tick(at(0, 0, s), *[50] * 1100) for s in range(3)))

    assert sum(batch.repeated for batch in taken) == 550
    assert len(pipeline.stored()) == len(set(pipeline.stored())) == 3300
    again = send(pipeline, "pod:3", *(reading(at(0, 0, 2), device=name) for name in names))
    assert sum(batch.repeated for batch in again) == 1100


def test_one_packed_device_without_a_number_is_the_plain_device(pipeline: Pipeline) -> None:
    pack(pipeline, "pod:1", tick(at(0), 50), tick(at(0, 0, 1), 51), device="porch")

    (batch,) = send(pipeline, "pod:2", reading(at(0)), reading(at(0, 0, 2)))

    assert (batch.count, batch.repeated) == (1, 1)


def test_a_tick_wider_than_the_period_of_packed_devices_is_refused() -> None:
    packer = Packer("pod", partitions=KEYS.undivided, deduplicate_ms=TICK_MS)

    with pytest.raises(ValueError, match="must not exceed the distance of two ticks"):
        list(packer.cut([tick(at(0), 50), tick(at(0) + 500, 50)]))


def test_the_bits_live_as_long_as_a_reading_of_their_day_can_be_taken(pipeline: Pipeline) -> None:
    send(pipeline, "porch:1", reading(at(0)))

    left_ms = pipeline.cluster.call("PTTL", DAY.identities)

    assert left_ms == pytest.approx(DAY_MS + RETENTION_MS, abs=60_000)
    assert left_ms > pipeline.cluster.call("PTTL", DAY.stream)


def test_a_day_of_a_device_costs_little_more_than_its_bits(pipeline: Pipeline) -> None:
    publisher = pipeline.publisher("porch:1")
    batcher = Batcher(limit=1000, partitions=KEYS.undivided, deduplicate_ms=TICK_MS)
    for batch in batcher.cut(reading(DAY.day_ms + ms) for ms in range(0, DAY_MS, 1000)):
        publisher.put(batch)
        list(publisher.settle())

    used = pipeline.cluster.call("MEMORY USAGE", DAY.identities, "SAMPLES", 0)

    assert sum(map(len, identities(pipeline).values())) == BYTES_A_DAY
    assert used < 1.15 * BYTES_A_DAY


def test_a_flood_of_devices_takes_bounded_memory_and_its_readings_are_stored(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "local MOST_BLOCKS = 131072", "local MOST_BLOCKS = 5")
    flood = [reading(at(0), device=f"device {number}") for number in range(8)]

    (batch,) = send(pipeline, "porch:1", *flood)

    assert (batch.count, batch.repeated, batch.unidentified) == (8, 0, 3)
    assert len(identities(pipeline)) == 5
    (batch,) = send(pipeline, "porch:2", *flood)  # those without a bit are stored again
    assert (batch.count, batch.repeated, batch.unidentified) == (3, 5, 3)


def test_a_batch_that_is_deduplicated_has_bounded_work() -> None:
    batcher = Batcher(limit=5000, partitions=KEYS.undivided, deduplicate_ms=TICK_MS)
    flood = [reading(at(0), device=f"device {number}") for number in range(2500)]

    assert max(len(batch.blocks) for batch in batcher.cut(flood)) == MOST_DEDUPLICATED


def test_a_lost_reply_to_a_batch_without_its_repeated_readings_adds_nothing(
    pipeline: Pipeline,
) -> None:
    send(pipeline, "porch:1", reading(at(0)))
    publisher = pipeline.publisher("porch:2")
    (batch,) = batches(reading(at(0)), reading(at(1)))
    ((taken, outcome),) = [*_settled(publisher, batch)]
    assert (taken.count, outcome) == (1, Outcome.TAKEN)
    publisher.close()

    ((again, outcome),) = [*_settled(publisher, batch)]

    assert outcome is Outcome.DUPLICATE
    assert (again.size, publisher.held) == (2, 0)
    assert len(pipeline.stored()) == 2


def _settled(publisher: BatchWriter, batch: Batch) -> Sequence[tuple[Batch, Outcome]]:
    publisher.put(batch)
    return list(publisher.settle())


def test_readings_that_a_failover_lost_meanwhile_are_not_left_out(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis replies that it has a reading, and a failover loses it before the batch is sent again
    without it."""
    replica = Copy(pipeline, (DAY.stream, *DAY.companions))
    send(pipeline, "porch:1", reading(at(0)))
    leave_out = Batch.without

    def failover(batch: Batch, known: Sequence[bytes | None]) -> Batch:
        monkeypatch.setattr(Batch, "without", leave_out)
        replica.restore()
        return batch.without(known)

    monkeypatch.setattr(Batch, "without", failover)
    (batch,) = send(pipeline, "porch:2", reading(at(0)), reading(at(1)))

    assert (batch.count, batch.repeated) == (2, 0)
    assert pipeline.stored() == [(b"porch", at(0)), (b"porch", at(1))]


WRONG_BITS: dict[str, Any] = {
    "no array": "x",
    "no list of four": [b"a", 0, b"\1"],
    "nested": [[b"a"], 0, b"\1", b""],
    "no bits": [b"a", 0, b"", b""],
    "an offset that is text": [b"a", "0x", b"\1", b""],
    "a negative offset": [b"a", -1, b"\1", b""],
    "an offset with a fraction": [b"a", 0.5, b"\1", b""],
    "bits beyond the block": [b"a", 1000, b"\1", b""],
    "more bits than a block": [b"a", 0, b"\1" * 1001, b""],
    "fewer known bits": [b"a", 0, b"\1\1", b"\1"],
    "known bits that are a number": [b"a", 0, b"\1", 1],
}


@pytest.mark.parametrize("bits", WRONG_BITS.values(), ids=WRONG_BITS)
def test_wrong_bits_are_refused_before_anything_is_changed(pipeline: Pipeline, bits: Any) -> None:
    send(pipeline, "porch:1", reading(at(0)))
    before = {key: pipeline.cluster.call("DUMP", key) for key in pipeline.cluster.keys("*")}
    keys = [DAY.stream, DAY.producers, DAY.watermarks, DAY.identities]
    expires = pipeline.clock.current().real_ms + DAY_MS
    batch = packed([[b"porch", b"0", b"50"], []])

    with pytest.raises(CorruptKey, match=r"bits|batch"):
        pipeline.cluster.run(
            writer._INGEST,  # pyright: ignore[reportPrivateUsage]
            keys,
            ["me", 1, 0, 0, expires, expires, 1, 0, batch, expires, packed(bits)],
        )

    assert before == {key: pipeline.cluster.call("DUMP", key) for key in pipeline.cluster.keys("*")}


def plant(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    """Replace a part of the ingest script."""
    script = writer._INGEST  # pyright: ignore[reportPrivateUsage]
    assert script.source.count(right) == 1
    source = script.source.replace(right, wrong)
    sha = sha1(source.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(writer, "_INGEST", replace(script, source=source, sha=sha))


class RepeatingSource(RuleBasedStateMachine):
    """Producers that are given the same readings again and again, on a shard that fails over.

    `stored` is what must be in the stream, `copied` what the replica has.
    """

    def __init__(self, client: RedisCluster, url: str) -> None:
        super().__init__()
        delete_keys(client, KEYS)
        self.pipeline = Pipeline(url).__enter__()
        self.stored: set[tuple[bytes, int]] = set()
        self.names = 0

    @initialize()
    def begin(self) -> None:
        self.producers = [self._new() for _ in range(2)]
        self.copy()

    def _new(self) -> tuple[BatchWriter, Batcher, BatchWriter, Packer]:
        """One producer writes plain entries, and one packed ones."""
        self.names += 1
        return (
            self.pipeline.publisher(f"plain:{self.names}"),
            Batcher(limit=4, partitions=KEYS.undivided, deduplicate_ms=TICK_MS),
            self.pipeline.publisher(f"packed:{self.names}"),
            Packer("pod", partitions=KEYS.undivided, deduplicate_ms=TICK_MS, limit=4),
        )

    @rule(
        number=st.integers(0, 1),
        drawn=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=9),
        loses_reply=st.booleans(),
    )
    def plain(self, number: int, drawn: list[tuple[int, int]], *, loses_reply: bool) -> None:
        given = [reading(at(0, 0, s), device=f"pod-{device}") for s, device in drawn]
        publisher, batcher, *_ = self.producers[number]
        self._send(publisher, list(batcher.cut(given)), len(given), loses_reply=loses_reply)
        self.stored |= {(each.device, each.ts_ms) for each in given}

    @rule(
        number=st.integers(0, 1),
        seconds=st.integers(0, 3),
        present=st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
        loses_reply=st.booleans(),
    )
    def packed(self, number: int, seconds: int, present: list[bool], *, loses_reply: bool) -> None:
        temps = [50.0 if each else None for each in present]
        ticks = [tick(at(0, 0, s), *temps) for s in (seconds, seconds + 1)]
        *_, publisher, packer = self.producers[number]
        given = {
            (b"pod-%d" % device, each.ts_ms)
            for each in ticks
            for device, is_there in enumerate(present)
            if is_there
        }
        self._send(publisher, list(packer.cut(ticks)), len(given), loses_reply=loses_reply)
        self.stored |= given

    def _send(
        self, publisher: BatchWriter, sent: list[Batch], given: int, *, loses_reply: bool
    ) -> None:
        for batch in sent:
            publisher.put(batch)
        done = 0
        if loses_reply:
            done += sum(batch.size for batch, _ in publisher.settle(leave=len(sent)))
            publisher.close()
        while publisher.held:
            try:
                for batch, outcome in publisher.settle():
                    assert outcome is not Outcome.EXPIRED
                    done += batch.size
            except Unreachable:
                continue
        assert done == given

    @rule(number=st.integers(0, 1))
    def producer_is_killed(self, number: int) -> None:
        self._close(number)
        self.producers[number] = self._new()

    def _close(self, number: int) -> None:
        plain, _, packed, _ = self.producers[number]
        plain.close()
        packed.close()

    @rule()
    def copy(self) -> None:
        """The replica gets what there is."""
        self.replica = Copy(self.pipeline, (DAY.stream, *DAY.companions))
        self.copied = set(self.stored)

    @rule()
    def fail_over(self) -> None:
        for number in range(2):
            self._close(number)
        self.replica.restore()
        self.stored = set(self.copied)

    def teardown(self) -> None:
        try:
            found = self.pipeline.stored()
            assert len(found) == len(set(found)), "a reading is stored twice"
            assert set(found) == self.stored, "a reading is lost"
        finally:
            self.pipeline.__exit__(None, None, None)


RUN = settings(
    max_examples=60,
    stateful_step_count=25,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def run(client: RedisCluster, url: str) -> None:
    machine: Any = partial(RepeatingSource, client, url)
    run_state_machine_as_test(machine, settings=RUN)


@pytest.mark.timeout(300)
def test_whatever_is_repeated_lost_and_killed_each_reading_is_stored_once(
    redis: RedisCluster, redis_url: str
) -> None:
    run(redis, redis_url)


BUGS = {
    "no bit is set": ("for i = 1, #set, 2 * AT_ONCE do", "for i = 1, 0 do"),
    "no bit is read": ("if not is_as_known then return found end", ""),
    "bits are replaced": ("with(block or '', bits", "with('', bits"),
}  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_planted_bug_is_found(
    redis: RedisCluster, redis_url: str, monkeypatch: pytest.MonkeyPatch, bug: tuple[str, str]
) -> None:
    plant(monkeypatch, *bug)

    with pytest.raises(AssertionError):
        run(redis, redis_url)
