"""Claiming what others left: an entry that kills its reader is found, and only it is given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.config import AggregatorSettings
from aggregator.reclaim_plan import ALONE_AFTER, plan

LOWEST_LIMIT = ALONE_AFTER + 1

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
    """A partition and whoever reads it, for as long as it takes.

    A process claims what is pending, then reads, and commits each by itself, as the reader does.
    Decoding a killer is the end of the process, and of the commit it was about to make.
    """

    undelivered: list[int]
    killers: frozenset[int]
    limit: int
    batch: int
    look: int
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
        cursor = 0
        while self.pending or self.undelivered:
            idle = sorted(number for number in self.pending if number >= cursor)[: self.look]
            claim = plan([entry(each, self.pending[each]) for each in idle], limit=self.limit)
            cursor = 0
            if claim is not None:
                held = [number_of(each) for each in claim.ids]
                cursor = held[-1] + 1
                if claim.given_up:
                    for number in held:
                        del self.pending[number]
                    self.quarantined += held
                    continue
                for number in held[: 1 if claim.untried else None]:
                    self.pending[number] = claim.tries
                self._decode(held)
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


def test_nothing_pending_is_nothing_to_claim() -> None:
    assert plan([], limit=5) is None


@given(pending=pending_lists, limit=limits)
def test_a_claim_starts_at_the_first_entry_and_takes_at_least_that(
    pending: list[Row], limit: int
) -> None:
    claim = plan(pending, limit=limit)

    if pending:
        assert claim is not None
        assert claim.ids
        assert list(claim.ids) == [each.id for each in pending[: len(claim.ids)]]
        assert claim.tries == pending[0].deliveries + (not claim.given_up)


@given(pending=pending_lists, limit=limits)
def test_an_entry_below_the_limit_is_never_given_up(pending: list[Row], limit: int) -> None:
    claim = plan(pending, limit=limit)
    deliveries = {each.id: each.deliveries for each in pending}

    if claim is not None:
        assert claim.given_up == (deliveries[claim.ids[0]] >= limit)
        assert all((deliveries[each] >= limit) == claim.given_up for each in claim.ids)


@given(pending=pending_lists, limit=limits)
def test_an_entry_at_the_limit_is_never_handed_to_a_decoder(pending: list[Row], limit: int) -> None:
    claim = plan(pending, limit=limit)

    if claim is not None:
        for each in pending[: len(claim.ids)]:
            assert claim.given_up or each.deliveries < limit


@given(pending=pending_lists, limit=limits)
def test_a_suspect_is_decoded_alone(pending: list[Row], limit: int) -> None:
    claim = plan(pending, limit=limit)

    if claim is not None and not claim.given_up:
        decoded = pending[: len(claim.ids)]
        assert len(decoded) <= 1 or all(each.deliveries < ALONE_AFTER for each in decoded)


@given(size=st.integers(1, 1000), limit=limits)
def test_entries_that_were_delivered_once_are_taken_over_together(size: int, limit: int) -> None:
    claim = plan([entry(number, 1) for number in range(size)], limit=limit)

    assert claim is not None
    assert (len(claim.ids), claim.untried, claim.given_up) == (size, True, False)


@given(size=st.integers(1, 1000), limit=limits)
def test_once_a_try_has_failed_every_entry_of_the_next_is_marked(size: int, limit: int) -> None:
    tried = [entry(0, 2), *(entry(number, 1) for number in range(1, size))]
    claim = plan(tried, limit=limit)

    assert claim is not None
    assert (len(claim.ids), claim.untried, claim.tries) == (size, False, 3)


@given(
    size=st.integers(1, 40),
    data=st.data(),
    limit=limits,
    batch=st.integers(1, 40),
    look=st.integers(1, 40),
)
def test_only_what_kills_its_reader_ends_in_quarantine(
    size: int, data: st.DataObject, limit: int, batch: int, look: int
) -> None:
    killers = data.draw(st.frozensets(st.integers(0, size - 1), min_size=1, max_size=3))
    partition = Partition(
        undelivered=list(range(size)), killers=killers, limit=limit, batch=batch, look=look
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
        look=1000,
    )
    partition.work_off()

    assert partition.crashes == limit
    assert partition.quarantined == [500]
    assert len(partition.counted) == 999


def test_the_option_allows_no_limit_that_gives_up_what_was_never_alone() -> None:
    declared = AggregatorSettings.__dataclass_fields__["delivery_limit"].metadata["option"]

    assert declared.minimum >= LOWEST_LIMIT
