"""What a consumer left behind is counted by another one, and the consumer is forgotten."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from aggregator.commit import BatchCommitter
from hourglass.cluster.groups import reap
from hourglass.cluster.link import Link
from hourglass.model.keys import GROUP
from hourglass.model.readings import Rules
from hourglassctl.quarantine import quarantined
from tests.support.keyspace import KEYS
from tests.support.leftovers import delete_keys
from tests.support.pipeline import DAY, Pipeline, at, reading

HALF_A_MINUTE_MS = 30_000


def left_behind(pipeline: Pipeline, count: int, *, name: str = "") -> list[bytes]:
    """Readings delivered to a consumer that will never commit them; their ids."""
    pipeline.produce(*(reading(at(0, 0, each % 60)) for each in range(count)))
    return [entry_id for entry_id, _ in pipeline.delivery(name=name).read(count, 1)]


def let_idle(pipeline: Pipeline, ids: list[bytes]) -> None:
    """As if they had been in their consumer's hands for a minute."""
    link = pipeline.delivery().link
    link.call("XCLAIM", DAY.stream, GROUP, "gone", 0, *ids, "IDLE", 60_000, "JUSTID")


def consumers(pipeline: Pipeline) -> set[str]:
    infos: list[dict[str, Any]] = pipeline.cluster.call("XINFO CONSUMERS", DAY.stream, GROUP)
    return {info["name"].decode() for info in infos}


def test_idle_entries_of_a_dead_consumer_are_claimed_and_counted_once(pipeline: Pipeline) -> None:
    ids = left_behind(pipeline, 10)
    let_idle(pipeline, ids[:7])
    heir = pipeline.delivery()

    entries, given_up = pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)
    pipeline.commit(heir, entries)

    assert [entry_id for entry_id, _ in entries] == ids[:7]
    assert not given_up
    assert (pipeline.record(0).count, pipeline.pending()) == (7, 3)
    assert pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5) == ([], [])


def test_two_that_reclaim_the_same_entries_count_each_once(pipeline: Pipeline) -> None:
    ids = left_behind(pipeline, 10)
    slow, quick = pipeline.delivery(), pipeline.delivery()
    read, _ = pipeline.claim(slow, 0, limit=50)
    while entries := pipeline.claim(quick, 0, limit=50)[0]:
        pipeline.commit(quick, entries)

    assert [entry_id for entry_id, _ in read] == ids
    assert not pipeline.commit(slow, read)
    assert (pipeline.record(0).count, pipeline.pending()) == (10, 0)


def test_claiming_reaches_the_end_of_a_long_list_whose_head_is_not_idle(
    pipeline: Pipeline,
) -> None:
    ids = left_behind(pipeline, 20_000)
    let_idle(pipeline, ids[-50:])

    entries, _ = pipeline.claim(pipeline.delivery(), HALF_A_MINUTE_MS, limit=5)

    assert [entry_id for entry_id, _ in entries] == ids[-50:]


def test_claiming_passes_through_the_whole_list_though_its_head_is_idle_again(
    pipeline: Pipeline,
) -> None:
    ids = left_behind(pipeline, 2_500)
    heir = pipeline.delivery()

    rounds: list[list[bytes]] = []
    for _ in range(4):
        let_idle(pipeline, ids)
        rounds.append(
            [entry_id for entry_id, _ in pipeline.claim(heir, HALF_A_MINUTE_MS, limit=9)[0]]
        )

    # In the second pass, each of them was delivered before: they are read one at a time.
    assert rounds == [ids[:1000], ids[1000:2000], ids[2000:], ids[:1]]


def test_only_what_kills_whoever_decodes_it_is_given_up(pipeline: Pipeline) -> None:
    ids = left_behind(pipeline, 20)
    poison = ids[13]

    lives = 0
    while pipeline.pending():
        lives += 1
        assert lives < 30, "the pending list is never worked off"
        work_until_dead(pipeline, pipeline.delivery(), poison)

    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    assert (item.original_id, item.reason) == (poison, "delivered too often without being counted")
    assert item.fields == (b"device", b"porch", b"day_ms", b"13000", b"temp_f", b"50")
    assert pipeline.record(0).count == 19


def work_until_dead(pipeline: Pipeline, heir: BatchCommitter, poison: bytes) -> None:
    """Claim and commit, and be killed by the poison as a process would be."""
    while True:
        entries, given_up = pipeline.claim(heir, 0, limit=5)
        if not (entries or given_up) or any(entry_id == poison for entry_id, _ in entries):
            return
        pipeline.commit(heir, entries, given_up=given_up)


def test_a_consumer_that_is_gone_with_nothing_pending_is_forgotten(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    gone = pipeline.delivery(name="gone")
    pipeline.commit(gone, gone.read(10, 1))

    assert reap(pipeline.cluster, DAY.stream, GROUP, idle_ms=0) == 1

    assert consumers(pipeline) == set()


def test_a_consumer_with_something_pending_is_kept(pipeline: Pipeline) -> None:
    left_behind(pipeline, 3, name="gone")

    assert reap(pipeline.cluster, DAY.stream, GROUP, idle_ms=0) == 0

    assert (consumers(pipeline), pipeline.pending()) == ({"gone"}, 3)


def test_a_consumer_that_lives_is_kept(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    alive = pipeline.delivery(name="alive")
    pipeline.commit(alive, alive.read(10, 1))

    assert reap(pipeline.cluster, DAY.stream, GROUP, idle_ms=HALF_A_MINUTE_MS) == 0

    assert consumers(pipeline) == {"alive"}


def test_reaping_what_is_not_there_is_no_error(pipeline: Pipeline) -> None:
    assert reap(pipeline.cluster, DAY.stream, GROUP, idle_ms=0) == 0

    pipeline.xadd(temp_f=73)
    assert reap(pipeline.cluster, DAY.stream, GROUP, idle_ms=0) == 0
    pipeline.open()


def owners(pipeline: Pipeline) -> list[str]:
    """Who holds each pending entry, in order."""
    rows: list[dict[str, Any]] = pipeline.cluster.call(
        "XPENDING", DAY.stream, GROUP, "-", "+", 100, parse_detail=True
    )
    return [row["consumer"].decode() for row in rows]


def deliveries(pipeline: Pipeline) -> list[int]:
    rows: list[dict[str, Any]] = pipeline.cluster.call(
        "XPENDING", DAY.stream, GROUP, "-", "+", 100, parse_detail=True
    )
    return [row["times_delivered"] for row in rows]


def read_alone(pipeline: Pipeline, heir: BatchCommitter, *, limit: int = 5) -> list[bytes]:
    """The ids that the next step of a reclaim reads together."""
    return [entry_id for entry_id, _ in pipeline.claim(heir, 0, limit=limit)[0]]


def test_entries_delivered_once_are_read_together_and_after_a_failed_attempt_each_alone(
    pipeline: Pipeline,
) -> None:
    ids = left_behind(pipeline, 4)

    assert read_alone(pipeline, pipeline.delivery(name="first")) == ids
    assert owners(pipeline) == ["first-claims"] * 4
    assert deliveries(pipeline) == [2, 2, 2, 2]

    second = pipeline.delivery(name="second")
    assert read_alone(pipeline, second) == ids[:1]
    assert owners(pipeline) == ["second-claims"] * 4
    assert deliveries(pipeline) == [3, 2, 2, 2]
    assert read_alone(pipeline, second) == ids[1:2]
    assert deliveries(pipeline) == [3, 3, 2, 2]


def set_deliveries(pipeline: Pipeline, ids: list[bytes], counts: list[int]) -> None:
    """As if each had been delivered so often, and was idle since."""
    link = pipeline.delivery().link
    for entry_id, count in zip(ids, counts, strict=True):
        link.call(
            "XCLAIM", DAY.stream, GROUP, "gone", 0, entry_id,
            "IDLE", 60_000, "RETRYCOUNT", count, "JUSTID",
        )  # fmt: skip


def test_an_entry_at_the_limit_is_given_up_before_others_are_read(pipeline: Pipeline) -> None:
    ids = left_behind(pipeline, 6)
    set_deliveries(pipeline, ids, [1, 1, 5, 1, 9, 4])
    heir = pipeline.delivery()

    entries, given_up = pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)
    assert (list(entries), given_up) == ([], [ids[2], ids[4]])
    pipeline.commit(heir, [], given_up=given_up)

    assert read_alone(pipeline, heir) == [ids[0], ids[1], ids[3]]
    assert read_alone(pipeline, heir) == [ids[5]]


def test_pending_entries_that_were_deleted_hold_up_no_hour(pipeline: Pipeline) -> None:
    ids = left_behind(pipeline, 10)
    let_idle(pipeline, ids)
    pipeline.cluster.call("XDEL", DAY.stream, ids[0], ids[4], ids[9])
    heir = pipeline.delivery()

    while entries := pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)[0]:
        pipeline.commit(heir, entries)

    assert (pipeline.pending(), pipeline.record(0).count) == (0, 7)


def interrupted(
    pipeline: Pipeline,
    heir: BatchCommitter,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    *command: str | bytes | int,
) -> None:
    """Another process gives this command once, before the heir gives its next command `before`."""
    send = heir.link.send
    commands = [command]

    def interrupt(*own: str | bytes | int) -> None:
        if own[0] == before and commands:
            pipeline.cluster.call(*commands.pop())
        send(*own)

    monkeypatch.setattr(heir.link, "send", interrupt)


@pytest.mark.parametrize("before", ["XAUTOCLAIM", "XREADGROUP"])
def test_a_partition_that_goes_while_it_is_claimed_from_is_to_be_opened_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    let_idle(pipeline, left_behind(pipeline, 10))
    heir = pipeline.delivery()
    interrupted(pipeline, heir, monkeypatch, before, "DEL", DAY.stream)

    with pytest.raises(ResponseError, match=r"^NOGROUP"):
        pipeline.claim(heir, 0, limit=5)


@pytest.mark.parametrize("deleted", [1, 3, 5])
def test_entries_deleted_between_reclaim_and_read_are_passed_over_and_dropped(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    ids = left_behind(pipeline, 5)
    let_idle(pipeline, ids)
    heir = pipeline.delivery()
    interrupted(pipeline, heir, monkeypatch, "XREADGROUP", "XDEL", DAY.stream, *ids[:deleted])

    while entries := pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)[0]:
        pipeline.commit(heir, entries)
    pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)

    assert (pipeline.pending(), pipeline.record(0).count) == (0, 5 - deleted)


@pytest.mark.parametrize(
    "take", [("XACK", DAY.stream, GROUP), ("XCLAIM", DAY.stream, GROUP, "other", 0)]
)
def test_what_another_process_takes_before_the_read_brings_no_tried_entry_into_the_batch(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, take: tuple[str | int, ...]
) -> None:
    ids = left_behind(pipeline, 4)
    set_deliveries(pipeline, ids, [1, 1, 3, 1])
    heir = pipeline.delivery()
    interrupted(pipeline, heir, monkeypatch, "XREADGROUP", *take, ids[0])

    assert read_alone(pipeline, heir) == [ids[1]]
    assert deliveries(pipeline)[-2:] == [4, 1]
    assert read_alone(pipeline, heir, limit=9) == [ids[2]]


def test_an_entry_at_the_limit_is_not_delivered_whatever_is_taken_before_the_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = left_behind(pipeline, 4)
    set_deliveries(pipeline, ids, [1, 1, 5, 1])
    heir = pipeline.delivery()
    interrupted(pipeline, heir, monkeypatch, "XREADGROUP", "XACK", DAY.stream, GROUP, ids[0])

    while any(step := pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)):
        pipeline.commit(heir, step[0], given_up=step[1])

    assert (pipeline.pending(), pipeline.record(0).count) == (0, 2)
    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    assert item.original_id == ids[2]


def test_a_thousand_that_were_trimmed_away_are_dropped_by_one_command(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = left_behind(pipeline, 3000)
    let_idle(pipeline, ids)
    pipeline.cluster.call("XTRIM", DAY.stream, "MAXLEN", 1)
    heir = pipeline.delivery()
    send, commands = heir.link.send, list[str | bytes | int]()

    def watched(*command: str | bytes | int) -> None:
        commands.append(command[0])
        send(*command)

    monkeypatch.setattr(heir.link, "send", watched)
    entries, _ = pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)

    assert [entry_id for entry_id, _ in entries] == ids[-1:]
    assert commands.count("XAUTOCLAIM") == 3
    assert pipeline.pending() == 1


def test_pending_entries_far_apart_are_all_found(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0, 0, each % 60)) for each in range(3_000)))
    delivery = pipeline.delivery()
    held = [entry for _ in range(3) for entry in delivery.read(1000, 1)]
    kept = [entry for number, entry in enumerate(held) if number % 10]
    for start in range(0, len(kept), 900):
        pipeline.cluster.call(
            "XACK", DAY.stream, GROUP, *(entry[0] for entry in kept[start : start + 900])
        )
    left = [entry[0] for number, entry in enumerate(held) if number % 10 == 0]
    let_idle(pipeline, left)
    heir = pipeline.delivery()

    while entries := pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)[0]:
        pipeline.commit(heir, entries)

    assert (pipeline.pending(), pipeline.record(0).count) == (0, len(left))


def recover(pipeline: Pipeline, heir: BatchCommitter) -> bool:
    return heir.recover(Rules(), pipeline.clock.current(), idle_ms=HALF_A_MINUTE_MS, limit=5)


def test_whatever_lies_between_all_that_was_left_behind_is_counted_once(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0, 0, each % 60)) for each in range(9_000)))
    holder = pipeline.delivery()
    held = [entry_id for _ in range(9) for entry_id, _ in holder.read(1000, 1)]
    counted, deleted = held[1500:4200], [held[0], *held[4900:5100], held[8999]]
    for start in range(0, len(counted), 900):
        pipeline.cluster.call("XACK", DAY.stream, GROUP, *counted[start : start + 900])
    let_idle(pipeline, sorted({*held} - {*counted}))
    pipeline.cluster.call("XDEL", DAY.stream, *deleted)
    heir = pipeline.delivery()

    while recover(pipeline, heir):
        pass

    left = len(held) - len(counted) - len(deleted)
    assert (pipeline.pending(), pipeline.record(0).count) == (0, left)


class Interrupted:
    """A link for a reclaimer; other processes act before its commands.

    deeds: each before the next command of that name: what is done, and to which entry
    deliveries: of each entry, as Redis counts them
    """

    def __init__(
        self, pipeline: Pipeline, link: Link, deliveries: dict[bytes, int], limit: int
    ) -> None:
        self.link, self.limit = link, limit
        self.other = pipeline.delivery().link
        self.deliveries = deliveries
        self.deeds: list[tuple[str, str, int]] = []
        self.settled: set[bytes] = set()
        self._sent: list[str | bytes | int] = []

    def send(self, *command: str | bytes | int) -> None:
        while self.deeds and self.deeds[0][0] == command[0]:
            _, deed, number = self.deeds.pop(0)
            self._do(deed, [*self.deliveries][number % len(self.deliveries)])
        self._sent.append(command[0])
        self.link.send(*command)

    def _do(self, deed: str, entry_id: bytes) -> None:
        group = (DAY.stream, GROUP)
        match deed:
            case "acknowledge":
                self.other.call("XACK", *group, entry_id)
                self.settled.add(entry_id)
            case "delete":
                self.other.call("XDEL", DAY.stream, entry_id)
                self.settled.add(entry_id)
            case _:
                self.other.call("XCLAIM", *group, "other", 0, entry_id, "IDLE", 60_000, "JUSTID")

    def receive(self) -> Any:
        reply = self.link.receive()
        if self._sent.pop(0) == "XREADGROUP":
            for entry_id, fields in reply[0][1]:
                if fields is not None:
                    assert self.deliveries[entry_id] < self.limit
                    self.deliveries[entry_id] += 1
        return reply


@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    deeds=st.lists(
        st.tuples(
            st.sampled_from(["XAUTOCLAIM", "XPENDING", "XREADGROUP"]),
            st.sampled_from(["acknowledge", "take", "delete"]),
            st.integers(0, 11),
        ),
        max_size=6,
    ),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_other_processes_do_no_delivery_is_above_the_limit_and_no_tried_entry_has_company(
    redis: RedisCluster, redis_url: str, counts: list[int], deeds: list[tuple[str, str, int]]
) -> None:
    limit = 5
    delete_keys(redis, KEYS)
    with Pipeline(redis_url) as pipeline:
        ids = left_behind(pipeline, len(counts))
        set_deliveries(pipeline, ids, counts)
        heir = pipeline.delivery()
        link = Interrupted(pipeline, heir.link, dict(zip(ids, counts, strict=True)), limit)
        link.deeds = deeds
        heir.reclaimer.link = cast(Any, link)
        counted, given_up = list[bytes](), list[bytes]()
        for _ in range(2):
            while any(step := pipeline.claim(heir, HALF_A_MINUTE_MS, limit=limit)):
                entries = [entry_id for entry_id, _ in step[0]]
                assert len(entries) <= 1 or {link.deliveries[each] for each in entries} == {2}
                assert all(link.deliveries[each] >= limit for each in step[1])
                pipeline.commit(heir, step[0], given_up=step[1])
                counted += entries
                given_up += step[1]
            link.deeds = []
            let_idle(pipeline, ids)

        assert pipeline.pending() == 0
        assert pipeline.record(0).count == len(counted) == len({*counted} - {*given_up})
        assert {*counted, *given_up, *link.settled} == {*ids}


def test_two_that_recover_at_once_count_every_entry_once(pipeline: Pipeline) -> None:
    let_idle(pipeline, left_behind(pipeline, 6_000))
    heirs = [pipeline.delivery(), pipeline.delivery()]

    while pipeline.pending():
        for heir in heirs:
            recover(pipeline, heir)

    assert pipeline.record(0).count == 6_000


@pytest.mark.parametrize(
    ("suspects", "counted_at_once"),
    [(slice(0, 10), 1), (slice(3, 10), 3), (slice(0, 1), 1)],
)
def test_nothing_is_marked_while_somebody_may_die_of_what_is_counted_or_of_that(
    pipeline: Pipeline, suspects: slice, counted_at_once: int
) -> None:
    ids = left_behind(pipeline, 10)
    let_idle(pipeline, ids)
    idle = ("IDLE", 60_000, "RETRYCOUNT", 3, "JUSTID")
    pipeline.delivery().link.call("XCLAIM", DAY.stream, GROUP, "gone", 0, *ids[suspects], *idle)
    tries = deliveries(pipeline)
    heir = pipeline.delivery()

    recover(pipeline, heir)
    assert deliveries(pipeline) == tries[counted_at_once:]

    while recover(pipeline, heir):
        pass
    assert (pipeline.pending(), pipeline.record(0).count) == (0, 10)
