"""Which sealed hours may be published: in order, and none past an hour that is still open, unless
that one has been overtaken already."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from aggregator.publish_order import SealedHours, joined, publishable, unpublished
from hourglass.model.averages import HourRecord
from hourglass.model.keys import DAY_MS, HOUR_MS, HOURS, Keyspace, Partition

DAY_1 = Keyspace().containing(1_735_689_600_000)  # 1 January 2025
DAY_2 = Keyspace().partition(DAY_1.end_ms)
DAY_3 = Keyspace().partition(DAY_2.end_ms)
BEFORE_ALL_MS = -1


def record(partition: Partition, hour: int, count: int = 3600) -> HourRecord:
    return HourRecord(
        start_ms=partition.hour_start_ms(hour), count=count, sum_milli_f=73_000 * count, sealed=True
    )


def sealed(
    partition: Partition, hours: int, *, waiting: int = 0, silent: frozenset[int] = frozenset()
) -> SealedHours:
    """The first `hours` hours sealed, but for the `silent` ones, which have no readings; the next
    ones wait."""
    return SealedHours(
        partition=partition,
        records=tuple(record(partition, hour) for hour in range(hours) if hour not in silent),
        over=hours + waiting,
        waiting=frozenset(range(hours, hours + waiting)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> list[SealedHours]:
    """Some days in any order, any of their hours sealed."""
    days = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
    world: list[SealedHours] = []
    for day in days:
        partition = Keyspace().partition(DAY_1.day_ms + day * DAY_MS)
        over = draw(st.sampled_from([0, 3, HOURS]))
        states = [draw(st.sampled_from([None, 0, 1, 3600, "waits"])) for _ in range(over)]
        world.append(
            SealedHours(
                partition=partition,
                records=tuple(
                    record(partition, hour, state)
                    for hour, state in enumerate(states)
                    if isinstance(state, int)
                ),
                over=over,
                waiting=frozenset(hour for hour, state in enumerate(states) if state == "waits"),
            )
        )
    return world


after = st.one_of(
    st.just(BEFORE_ALL_MS),
    st.integers(0, 6 * HOURS).map(lambda hour: DAY_1.day_ms + hour * HOUR_MS),
)


def first_open_ms(world: list[SealedHours], after_ms: int) -> float:
    """The start of the first hour after `after_ms` that waits or is not over, in a day that has
    sealed hours or such that wait."""
    starts = {
        each.partition.hour_start_ms(hour)
        for each in world
        if each.records or each.waiting
        for hour in (*each.waiting, *range(each.over, HOURS))
    }
    return min((start for start in starts if start > after_ms), default=float("inf"))


@given(world=worlds(), after_ms=after)
def test_every_hour_with_readings_before_the_first_open_one_is_published_in_order(
    world: list[SealedHours], after_ms: int
) -> None:
    open_ms = first_open_ms(world, after_ms)
    every = sorted((each for day in world for each in day.records), key=lambda each: each.start_ms)

    assert publishable(world, after_ms=after_ms) == [
        each for each in every if each.count and after_ms < each.start_ms < open_ms
    ]


@given(world=worlds(), after_ms=after)
def test_nothing_overtakes_an_open_hour(world: list[SealedHours], after_ms: int) -> None:
    open_ms = first_open_ms(world, after_ms)

    assert all(each.start_ms < open_ms for each in publishable(world, after_ms=after_ms))


@given(world=worlds(), after_ms=after)
def test_nothing_up_to_the_published_through_hour_is_published_again(
    world: list[SealedHours], after_ms: int
) -> None:
    assert all(each.start_ms > after_ms for each in publishable(world, after_ms=after_ms))


@given(world=worlds(), after_ms=after, seed=st.integers())
def test_the_order_in_which_partitions_are_looked_at_changes_nothing(
    world: list[SealedHours], after_ms: int, seed: int
) -> None:
    shuffled = [*world]
    Random(seed).shuffle(shuffled)

    assert publishable(shuffled, after_ms=after_ms) == publishable(world, after_ms=after_ms)


def test_an_hour_that_waits_holds_back_the_next_day() -> None:
    world = [sealed(DAY_1, 23, waiting=1), sealed(DAY_2, 5)]

    assert publishable(world, after_ms=BEFORE_ALL_MS) == list(world[0].records)


def test_an_hour_that_waits_holds_back_the_later_ones_of_its_day() -> None:
    day = replace(sealed(DAY_1, 5), waiting=frozenset({2}))
    day = replace(day, records=tuple(r for r in day.records if r != record(DAY_1, 2)))

    assert publishable([day], after_ms=BEFORE_ALL_MS) == [record(DAY_1, 0), record(DAY_1, 1)]


def test_an_hour_that_waits_before_the_published_through_hour_holds_back_nothing() -> None:
    world = [sealed(DAY_1, 3, waiting=21), sealed(DAY_2, 5)]

    assert publishable(world, after_ms=DAY_2.hour_start_ms(1)) == [
        record(DAY_2, hour) for hour in (2, 3, 4)
    ]


def test_a_day_of_which_every_hour_waits_holds_back_the_next() -> None:
    world = [sealed(DAY_1, 0, waiting=24), sealed(DAY_2, 5)]

    assert publishable(world, after_ms=BEFORE_ALL_MS) == []


def test_a_day_that_holds_nothing_due_holds_nothing_back() -> None:
    world = [sealed(DAY_1, 24), sealed(DAY_2, 0), sealed(DAY_3, 1)]

    assert publishable(world, after_ms=DAY_1.hour_start_ms(22)) == [
        record(DAY_1, 23),
        record(DAY_3, 0),
    ]


def test_an_hour_without_readings_is_passed_over_and_not_published() -> None:
    world = [sealed(DAY_1, 3, silent=frozenset({1}))]

    hours = [each.start_ms for each in publishable(world, after_ms=BEFORE_ALL_MS)]
    assert hours == [DAY_1.hour_start_ms(0), DAY_1.hour_start_ms(2)]


LANES = tuple(Keyspace().partition(DAY_1.day_ms, number) for number in range(3))


@st.composite
def days_of_lanes(draw: st.DrawFn) -> list[SealedHours]:
    """A day whose partitions have sealed different ones of the hours that are over."""
    over = draw(st.integers(0, HOURS))
    members: list[SealedHours] = []
    for partition in (DAY_1, *LANES[: draw(st.integers(0, len(LANES)))]):
        states = [draw(st.sampled_from([None, 0, 9, "waits"])) for _ in range(over)]
        members.append(
            SealedHours(
                partition=partition,
                records=tuple(
                    record(partition, hour, state)
                    for hour, state in enumerate(states)
                    if isinstance(state, int)
                ),
                over=over,
                waiting=frozenset(hour for hour, state in enumerate(states) if state == "waits"),
            )
        )
    lanes = tuple(each.partition for each in members[1:])
    return [replace(members[0], lanes=lanes), *members[1:]]


@given(members=days_of_lanes())
def test_a_day_has_sealed_the_hours_that_all_its_partitions_have(
    members: list[SealedHours],
) -> None:
    day = joined(members)

    sealed = [{each.start_ms: each.count for each in member.records} for member in members]
    assert {each.start_ms: each.count for each in day.records} == {
        start_ms: sum(member[start_ms] for member in sealed)
        for start_ms in sealed[0]
        if all(start_ms in member for member in sealed)
    }
    assert [each.start_ms for each in day.records] == sorted({e.start_ms for e in day.records})


@given(members=days_of_lanes())
def test_an_hour_of_a_day_waits_while_a_partition_of_it_may_get_readings_or_has_to_seal_none(
    members: list[SealedHours],
) -> None:
    day = joined(members)

    for hour in range(day.over):
        waits = any(hour in member.waiting for member in members)
        is_counted = any(hour in member.sealed_with_readings for member in members)
        is_sealed = all(hour in member.sealed for member in members)
        assert (hour in day.waiting) == (waits or (is_counted and not is_sealed))


@given(hours=st.integers(0, 12), waiting=st.integers(0, 12))
def test_a_plain_partition_alone_is_its_day(hours: int, waiting: int) -> None:
    plain = sealed(DAY_1, hours, waiting=waiting)

    assert joined([plain]) == plain
    assert joined([replace(plain, lanes=(DAY_1,))]) == plain


@given(members=days_of_lanes())
def test_a_day_of_which_a_lane_was_not_asked_has_sealed_nothing(
    members: list[SealedHours],
) -> None:
    plain, *lanes = members
    unasked = Keyspace().partition(DAY_1.day_ms, 9)

    day = joined([replace(plain, lanes=(*plain.lanes, unasked)), *lanes])

    assert (day.records, day.waiting) == ((), frozenset(range(plain.over)))


def test_a_day_without_its_plain_partition_has_sealed_nothing() -> None:
    assert joined([sealed(LANES[0], 3)]).records == ()


def test_a_lane_that_waits_holds_back_its_day_and_the_next() -> None:
    members = [sealed(DAY_1, 5), sealed(LANES[0], 5), sealed(LANES[1], 3, waiting=2)]

    ready = publishable([joined(members), sealed(DAY_2, 5)], after_ms=BEFORE_ALL_MS)

    assert [each.start_ms for each in ready] == [DAY_1.hour_start_ms(hour) for hour in range(3)]


def test_an_hour_with_readings_is_unpublished_until_the_published_through_hour_has_passed_it() -> (
    None
):
    day = sealed(DAY_1, 5, waiting=2, silent=frozenset({4}))

    counts = [
        unpublished([day], after_ms=after_ms)
        for after_ms in (BEFORE_ALL_MS, *map(DAY_1.hour_start_ms, range(7)))
    ]

    # Hours 0 to 3 are sealed with readings, 4 without; 5 and 6 wait.
    assert counts == [6, 5, 4, 3, 2, 2, 1, 0]


def test_of_a_day_on_an_unreachable_shard_no_further_hour_is_published() -> None:
    unknown = replace(sealed(DAY_1, 0, waiting=24), known=False)

    assert unpublished([unknown], after_ms=DAY_1.hour_start_ms(20)) == 3
    assert publishable([unknown, sealed(DAY_2, 2)], after_ms=DAY_1.hour_start_ms(20)) == []
    assert len(publishable([unknown, sealed(DAY_2, 2)], after_ms=DAY_1.hour_start_ms(23))) == 2
    assert not joined([sealed(DAY_1, 2), replace(sealed(LANES[0], 0), known=False)]).known
