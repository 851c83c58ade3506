"""Entries of partitions that another program removed: before they were counted, they are lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hourglass.cluster.client import Cluster
from hourglass.cluster.scripts import Script
from hourglass.model.keys import GROUP, Partition

REMOVED = Script.load("hourglass", "removed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Removals:
    """Of one stream. An entry is a reading, or a packed one many.

    entries: removed in all
    uncounted: removed before they were counted, at least; None if it is not known
    counted: removed after they were counted, at least; they are in their hours
    """

    entries: int = 0
    uncounted: int | None = 0
    counted: int = 0

    @classmethod
    def decode(cls, reply: Sequence[int]) -> Removals | None:
        """The script's reply; None if there is no stream."""
        match reply:
            case [entries, uncounted, counted]:
                return cls(entries=entries, uncounted=uncounted, counted=counted)
            case [entries]:
                return cls(entries=entries, uncounted=None)
            case _:
                return None

    def after(self, before: Removals) -> Removals:
        """This, and what was known of the same stream before; another stream begins from zero."""
        if self.entries < before.entries or self.uncounted is None:
            return self
        return replace(self, uncounted=max(self.uncounted, before.uncounted or 0))

    @property
    def may_be_counted(self) -> int:
        """Entries removed after they were counted, at most."""
        return self.entries - (self.uncounted or 0)


def uncounted_line(stream: str, removed: Removals) -> str:
    """For people; empty if nothing is lost, as far as is known."""
    entries = f"{stream}: another program removed (XDEL, XTRIM, MAXLEN)"
    if removed.uncounted is None:
        return (
            f"{entries} {removed.entries:,} entries; its records do not know how many of them had "
            "been counted, because an earlier release made them"
        )
    if not removed.uncounted:
        return ""
    at_least = "at least " if removed.uncounted + removed.counted < removed.entries else ""
    return f"{entries} {at_least}{removed.uncounted:,} entries that had not been counted"


def counted_line(stream: str, removed: Removals) -> str:
    """For people; empty if all that was counted is there, as far as is known."""
    if not removed.counted:
        return ""
    return (
        f"{stream}: another program removed {removed.counted:,} entries after they had been "
        "counted: their hours have them, and an audit cannot count them again"
    )


def removals(cluster: Cluster, partitions: Sequence[Partition]) -> Iterator[Removals | None]:
    """Of each partition; None if its stream is not there, or a key of it is damaged. One round trip
    to each shard. Raises Unreachable."""
    calls = [((each.stream, each.hours), (GROUP,)) for each in partitions]
    replies: list[Any] = cluster.read_each(REMOVED, calls)
    for reply in replies:
        yield None if isinstance(reply, Exception) else Removals.decode(reply)
