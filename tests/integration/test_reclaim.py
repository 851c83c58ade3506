"""What a consumer left behind is counted by another one, and the consumer is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from aggregator.commit import BatchCommitter
from hourglass.cluster.groups import reap
from hourglass.model.keys import GROUP
from hourglass.model.readings import Rules
from hourglassctl.quarantine import quarantined
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.waiting import wait_until

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


def test_two_heirs_count_every_entry_once(pipeline: Pipeline) -> None:
    let_idle(pipeline, left_behind(pipeline, 100))
    heirs = [pipeline.delivery(), pipeline.delivery()]

    claims = [pipeline.claim(heir, 0, limit=50) for heir in heirs]
    for heir, (entries, _) in zip(heirs, claims, strict=True):
        pipeline.commit(heir, entries)

    assert [len(entries) for entries, _ in claims] == [100, 100]
    assert (pipeline.record(0).count, pipeline.pending()) == (100, 0)


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

    assert rounds == [ids[:1000], ids[1000:2000], ids[2000:], ids[:1000]]


def test_only_what_kills_whoever_decodes_it_is_given_up(pipeline: Pipeline) -> None:
    ids = left_behind(pipeline, 20)
    poison = ids[13]

    lives = 0
    while pipeline.pending():
        lives += 1
        assert lives < 30, "the pending list is never worked off"
        work_until_dead(pipeline, pipeline.delivery(), poison)

    (item,) = quarantined(pipeline.cluster, pipeline.clock.look())
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


def test_of_what_nobody_has_tried_only_the_first_is_marked_and_then_all(pipeline: Pipeline) -> None:
    let_idle(pipeline, left_behind(pipeline, 4))

    pipeline.claim(pipeline.delivery(name="first"), HALF_A_MINUTE_MS, limit=5)
    assert owners(pipeline) == ["first-claims", "gone", "gone", "gone"]
    assert deliveries(pipeline) == [2, 1, 1, 1]

    pipeline.claim(pipeline.delivery(name="second"), 0, limit=5)
    assert set(owners(pipeline)) == {"second-claims"}
    assert deliveries(pipeline) == [3, 3, 3, 3]


def test_who_finds_that_another_has_counted_it_all_counts_nothing(pipeline: Pipeline) -> None:
    let_idle(pipeline, left_behind(pipeline, 10))
    quick, slow = pipeline.delivery(), pipeline.delivery()
    seen, _ = pipeline.claim(slow, HALF_A_MINUTE_MS, limit=5)
    also_seen, _ = pipeline.claim(quick, HALF_A_MINUTE_MS, limit=5)

    assert (len(seen), len(also_seen)) == (10, 9)
    assert pipeline.commit(quick, also_seen)
    assert not pipeline.commit(slow, seen)

    assert (pipeline.pending(), pipeline.record(0).count) == (0, 10)


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
    *command: str | bytes,
) -> None:
    """Somebody gives this command before the heir gives `before`: XCLAIM, after it has looked for
    what it may claim, or XRANGE, after it has claimed."""
    send = heir.link.send

    def interrupt(*own: str | bytes | int) -> None:
        if own[0] == before:
            if before == "XRANGE":
                wait_until(lambda: f"{heir.consumer}-claims" in owners(pipeline))
            pipeline.cluster.call(*command)
        send(*own)

    monkeypatch.setattr(heir.link, "send", interrupt)


@pytest.mark.parametrize("before", ["XCLAIM", "XRANGE"])
def test_a_partition_that_goes_while_it_is_claimed_from_is_to_be_opened_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    let_idle(pipeline, left_behind(pipeline, 10))
    heir = pipeline.delivery()
    interrupted(pipeline, heir, monkeypatch, before, "DEL", DAY.stream)

    with pytest.raises(ResponseError, match=r"^NOGROUP"):
        pipeline.claim(heir, 0, limit=5)


@pytest.mark.parametrize("deleted", [1, 3])
def test_entries_that_are_deleted_while_they_are_claimed_are_passed_over(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    ids = left_behind(pipeline, 10)
    link = pipeline.delivery().link
    link.call("XACK", DAY.stream, GROUP, *ids[1:9])  # they stand in the stream between the two
    let_idle(pipeline, [ids[0], ids[9]])
    heir = pipeline.delivery()
    interrupted(pipeline, heir, monkeypatch, "XRANGE", "XDEL", DAY.stream, *ids[:deleted])

    entries, _ = pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)

    assert [entry_id for entry_id, _ in entries] == [ids[9]]
    assert pipeline.pending() == 1


@pytest.mark.parametrize("tried", [(), ("RETRYCOUNT", "2")])
def test_what_its_slow_holder_counts_while_it_is_claimed_takes_no_other_along(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tried: tuple[str, ...]
) -> None:
    ids = left_behind(pipeline, 10)
    link = pipeline.delivery().link
    link.call("XACK", DAY.stream, GROUP, *ids[1:9])  # they stand in the stream between the two
    idle = ("IDLE", 60_000, *tried, "JUSTID")
    link.call("XCLAIM", DAY.stream, GROUP, "gone", 0, ids[0], ids[9], *idle)
    heir = pipeline.delivery()
    interrupted(pipeline, heir, monkeypatch, "XCLAIM", "XACK", DAY.stream, GROUP, ids[0])

    while entries := pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)[0]:
        pipeline.commit(heir, entries)

    assert (pipeline.pending(), pipeline.record(0).count) == (0, 1)


def test_many_that_were_trimmed_away_cost_one_look_for_a_thousand(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = left_behind(pipeline, 3000)
    let_idle(pipeline, ids)
    pipeline.cluster.call("XTRIM", DAY.stream, "MAXLEN", 1)
    heir = pipeline.delivery()
    send, looks = heir.link.send, list[str]()

    def watched(*command: str | bytes | int) -> None:
        if command[0] == "XPENDING":
            looks.append("look")
        send(*command)

    monkeypatch.setattr(heir.link, "send", watched)
    entries, _ = pipeline.claim(heir, HALF_A_MINUTE_MS, limit=5)

    assert [entry_id for entry_id, _ in entries] == ids[-1:]
    assert len(looks) <= 8


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
    return heir.recover(Rules(), pipeline.clock.look(), idle_ms=HALF_A_MINUTE_MS, limit=5)


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
