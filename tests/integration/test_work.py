"""No call of a script holds a shard up: what each of them amounts to is bounded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import msgpack
import pytest

from aggregator.aggregates import MOST_WORK, work_of
from aggregator.window import MOST_BYTES, MOST_FIELDS
from hourglass.cluster.link import Link
from hourglass.cluster.scripts import Script
from hourglass.model.entries import MOST_PACKED
from hourglass.model.readings import Reason, Rules
from hourglassctl.quarantine import quarantined
from tests.support.pipeline import DAY, Pipeline, at

#: Fields and values in turn of the entry with this number.
Writer = Callable[[int], Sequence[str | bytes | int]]

WIDEST = struct.pack(f"<{MOST_PACKED}h", *[700] * MOST_PACKED)
LONG = "x" * MOST_BYTES


class Commit(NamedTuple):
    """A call of the commit script."""

    ids: list[bytes]
    tallies: list[Any]
    rejects: list[Any]

    @property
    def bits(self) -> int:
        """Bytes of devices."""
        return sum(len(bits) for *_, devices in self.tallies for bits in devices[1::2])

    @property
    def fields(self) -> int:
        """Bytes for quarantine."""
        return sum(len(fields) for _, _, fields, *_ in self.rejects)


def widest(number: int) -> Sequence[str | bytes | int]:
    """Devices that no other entry has, as many as an entry may have."""
    name = f"pod{number}"
    return "device", name, "first", 0, "ts", at(0), "encoding", "i16/10", "temps_f", WIDEST


def all_day(number: int) -> Sequence[str | bytes | int]:
    """Devices that no other entry has, in every hour of the day."""
    ticks = ("devices", MOST_PACKED // 24, "period_ms", 3_600_000)
    values = WIDEST[: 2 * 24 * (MOST_PACKED // 24)]
    array = ("encoding", "i16/10", "temps_f", values)
    return "device", f"pod{number}", "ts", at(0), *ticks, *array


def widest_reject(number: int) -> Sequence[str | bytes | int]:
    """As many bytes as quarantine keeps."""
    return [part for each in range(MOST_FIELDS) for part in (f"{number}-{each}{LONG}", LONG)]


def strange_name(number: int) -> Sequence[str | bytes | int]:
    """A device that shares its block with no other."""
    return "device", f"porch{number}", "ts", at(0), "temp_f", 50


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[Commit]:
    """Each call of the commit script."""
    calls: list[Commit] = []

    def begin(
        self: Link,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any],
        begin: Any = Link.begin,
    ) -> None:
        if script.name == "commit":
            calls.append(Commit(*cast(Any, msgpack).unpackb(arguments[-1], raw=True)[:3]))
        begin(self, script, keys, arguments)

    monkeypatch.setattr(Link, "begin", begin)
    return calls


def write(pipeline: Pipeline, count: int, writer: Writer) -> None:
    for start in range(0, count, 100):
        pipeline.cluster.pipeline(
            [("XADD", DAY.stream, "*", *writer(start + each)) for each in range(100)]
        )


@pytest.mark.parametrize(
    ("writer", "count", "readings"),
    [
        (widest, 400, MOST_PACKED),
        (all_day, 400, MOST_PACKED // 24 * 24),
        (strange_name, 5000, 1),
    ],
)
def test_a_batch_is_committed_in_parts_that_hold_no_shard_up(
    pipeline: Pipeline, commits: list[Commit], writer: Writer, count: int, readings: int
) -> None:
    write(pipeline, count, writer)
    delivery = pipeline.delivery()
    entries = delivery.read(count, 1)

    assert pipeline.commit(delivery, entries)

    assert [each for commit in commits for each in commit.ids] == [each for each, _ in entries]
    assert 1 < len(commits) < 30
    for commit in commits:
        assert work_of(*commit) <= MOST_WORK
        assert commit.bits <= 40_000
        assert sum(len(devices) for *_, devices in commit.tallies) <= 2 * 2_000
    records = [pipeline.record(hour) for hour in range(24)]
    assert sum(record.count for record in records) == count * readings
    assert sum(record.devices for record in records) == count * readings
    assert pipeline.pending() == 0


def test_bad_readings_of_many_bytes_are_committed_in_parts_that_hold_no_shard_up(
    pipeline: Pipeline, commits: list[Commit]
) -> None:
    write(pipeline, 300, widest_reject)
    delivery = pipeline.delivery()

    assert pipeline.commit(delivery, delivery.read(300, 1))

    assert max(commit.fields for commit in commits) <= 2_000_000
    assert all(work_of(*commit) <= MOST_WORK for commit in commits)
    assert 1 < len(commits) < 10
    assert pipeline.pending() == 0
    assert len(list(quarantined(pipeline.cluster, pipeline.clock.current()))) == 300


@pytest.mark.parametrize("writer", [widest, all_day, widest_reject])
def test_no_entry_is_more_work_than_a_commit_may_be(
    pipeline: Pipeline, commits: list[Commit], writer: Writer
) -> None:
    pipeline.cluster.call("XADD", DAY.stream, "*", *writer(0))
    pipeline.count()

    (commit,) = commits
    assert work_of(*commit) <= MOST_WORK // 8


def test_an_ordinary_batch_is_one_commit(pipeline: Pipeline, commits: list[Commit]) -> None:
    write(pipeline, 1000, strange_name)
    pipeline.count()

    assert len(commits) == 1


@pytest.mark.parametrize("stolen", [slice(0, 400), slice(0, 1), slice(399, 400), slice(0, 400, 7)])
def test_what_another_consumer_counts_between_two_parts_is_counted_once(
    pipeline: Pipeline, stolen: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(pipeline, 400, widest)
    owner, thief = pipeline.delivery(), pipeline.delivery()
    entries = owner.read(400, 1)
    parts = 0

    def begin(self: Link, *call: Any, begin: Any = Link.begin) -> None:
        nonlocal parts
        parts += self is owner.link
        if self is owner.link and parts == 3:
            pipeline.commit(thief, entries[stolen])
        begin(self, *call)

    monkeypatch.setattr(Link, "begin", begin)
    pipeline.commit(owner, entries)

    assert parts > 3
    assert pipeline.record(0).count == 400 * MOST_PACKED
    assert (pipeline.pending(), pipeline.audit().differences) == (0, [])


def test_a_batch_that_is_given_up_is_bounded_too(pipeline: Pipeline, commits: list[Commit]) -> None:
    write(pipeline, 5000, strange_name)
    delivery = pipeline.delivery()
    ids = [each for each, _ in delivery.read(5000, 1)]

    assert pipeline.commit(delivery, [], given_up=ids)

    assert [each for commit in commits for each in commit.ids] == ids
    assert all(work_of(*commit) <= MOST_WORK for commit in commits)
    items = quarantined(pipeline.cluster, pipeline.clock.current())
    assert {item.reason for item in items} == {Reason.UNDELIVERABLE}
    assert Rules().max_entry_bytes > 2 * MOST_FIELDS * MOST_BYTES
