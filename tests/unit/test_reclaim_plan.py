"""The plan of a reclaim: an entry that kills its reader is found, and only it is given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config import AggregatorSettings
from aggregator.reclaim import plan

#: An entry is read together with others when it is new, and once more; then alone.
LOWEST_LIMIT = 3

limits = st.integers(LOWEST_LIMIT, 8)
pending_lists = st.lists(st.integers(1, 10)).map(
    lambda deliveries: [entry(number, count) for number, count in enumerate(deliveries)]
)


class Row(NamedTuple):
    """As XPENDING lists an entry."""

    id: bytes
    consumer: bytes
    idle_ms: int
    deliveries: int


def entry(number: int, deliveries: int) -> Row:
    return Row(b"%d-0" % number, b"gone", 60_000, deliveries)


def number_of(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


@dataclass(slots=True, kw_only=True)
class Partition:
    """A partition and its readers, one after the other.

    A process reclaims and counts what is pending, a step of the plan at a time, and reads new
    entries in between. To decode a killer ends the process, before it commits.
    """

    undelivered: list[int]
    killers: frozenset[int]
    limit: int
    batch: int
    owned: int
    pending: dict[int, int] = field(default_factory=dict[int, int])
    counted: list[int] = field(default_factory=list[int])
    quarantined: list[int] = field(default_factory=list[int])
    crashes: int = 0

    def work_off(self) -> None:
        while self.pending or self.undelivered:
            try:
                self._live()
            except SystemExit:
                self.crashes += 1
                assert self.crashes <= self.limit * len(self.killers), "the loop never ends"

    def _live(self) -> None:
        after = -1
        while self.pending or self.undelivered:
            owned = sorted(number for number in self.pending if number > after)[: self.owned]
            planned = plan([entry(each, self.pending[each]) for each in owned], limit=self.limit)
            if planned is None:
                after = -1
            elif planned.give_up:
                given_up = [number_of(each) for each in planned.give_up]
                for number in given_up:
                    del self.pending[number]
                self.quarantined += given_up
                continue
            else:
                read = [number_of(each) for each in planned.read]
                after = read[-1]
                for number in read:
                    self.pending[number] += 1
                self._decode(read)
            read, self.undelivered = self.undelivered[: self.batch], self.undelivered[self.batch :]
            for number in read:
                self.pending[number] = 1
            self._decode(read)

    def _decode(self, held: Sequence[int]) -> None:
        if self.killers & set(held):
            raise SystemExit
        for number in held:
            del self.pending[number]
        self.counted += held


def test_nothing_pending_is_nothing_to_do() -> None:
    assert plan([], limit=5) is None


@given(pending=pending_lists, limit=limits)
def test_an_entry_is_given_up_if_and_only_if_it_is_at_the_limit(
    pending: list[Row], limit: int
) -> None:
    planned = plan(pending, limit=limit)

    at_the_limit = [each.id for each in pending if each.deliveries >= limit]
    if pending:
        assert planned is not None
        assert list(planned.give_up) == at_the_limit
        assert bool(planned.read) == (not at_the_limit)


@given(pending=pending_lists, limit=limits)
def test_a_read_begins_with_the_first_entry(pending: list[Row], limit: int) -> None:
    planned = plan(pending, limit=limit)

    if planned is not None:
        assert list(planned.read) == [each.id for each in pending[: len(planned.read)]]


@given(pending=pending_lists, limit=limits)
def test_an_entry_that_was_tried_is_read_alone(pending: list[Row], limit: int) -> None:
    planned = plan(pending, limit=limit)

    if planned is not None and planned.read:
        read = pending[: len(planned.read)]
        assert planned.is_untried == (read[0].deliveries == 1)
        assert len(read) == 1 or all(each.deliveries == 1 for each in read)


@given(size=st.integers(1, 1000), tried=st.integers(2, 4), limit=st.integers(5, 8))
def test_all_that_were_delivered_once_are_read_together(size: int, tried: int, limit: int) -> None:
    untried = [entry(number, 1) for number in range(size)]
    planned = plan([*untried, entry(size, tried), entry(size + 1, 1)], limit=limit)

    assert planned is not None
    assert list(planned.read) == [each.id for each in untried]


@given(
    size=st.integers(1, 40),
    data=st.data(),
    limit=limits,
    batch=st.integers(1, 40),
    owned=st.integers(1, 40),
)
def test_only_what_kills_its_reader_ends_in_quarantine(
    size: int, data: st.DataObject, limit: int, batch: int, owned: int
) -> None:
    killers = data.draw(st.frozensets(st.integers(0, size - 1), min_size=1, max_size=3))
    partition = Partition(
        undelivered=list(range(size)), killers=killers, limit=limit, batch=batch, owned=owned
    )
    partition.work_off()

    assert sorted(partition.quarantined) == sorted(killers)
    assert sorted(partition.counted) == sorted(set(range(size)) - killers)


@pytest.mark.parametrize("limit", [LOWEST_LIMIT, AggregatorSettings().delivery_limit])
def test_one_killer_in_a_full_batch_costs_as_many_crashes_as_the_limit(limit: int) -> None:
    partition = Partition(
        undelivered=list(range(1000)),
        killers=frozenset({500}),
        limit=limit,
        batch=1000,
        owned=1000,
    )
    partition.work_off()

    assert partition.crashes == limit
    assert partition.quarantined == [500]
    assert len(partition.counted) == 999


def test_the_option_allows_no_limit_that_gives_up_what_was_never_alone() -> None:
    declared = AggregatorSettings.__dataclass_fields__["delivery_limit"].metadata["option"]

    assert declared.minimum >= LOWEST_LIMIT
