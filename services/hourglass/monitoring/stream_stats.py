"""What the streams look like from outside: lengths, lags, time to live. Never a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from hourglass.cluster.client import Cluster
from hourglass.cluster.scripts import Script
from hourglass.model.clock import Instant
from hourglass.model.hour_records import ACKNOWLEDGED
from hourglass.model.keys import GROUP, HOUR_MS, Partition
from hourglass.model.readings import Rules, Unusable, event_time

FIRST = Script.load("hourglass", "first")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """One stream and one consumer group on it.

    lag: entries not yet delivered to the group; None if Redis cannot tell, which is not zero
    lag_readings: readings in a partition that are not counted yet, pending ones included; None
                  where lag is, and for streams of something else
    pending: entries delivered and not acknowledged
    expires_ms: real time at which the stream expires; None if it has no TTL
    memory_bytes: what the stream takes in Redis, estimated from samples
    last_delivered: the id of the last entry that the group was given; None without a group
    oldest_pending: the id of the first entry that is pending; None if none is
    deliveries: how often that one was delivered; 0 if none is pending
    held_ms: how long ago that one was last delivered; None if none is pending
    idle_ms: since one of the group's consumers gave a sign of life; None if there is no consumer
    """

    stream: str
    group: str
    shard: str
    length: int
    lag: int | None
    pending: int
    consumers: int
    expires_ms: int | None
    lag_readings: int | None = None
    memory_bytes: int | None = None
    last_delivered: bytes | None = None
    oldest_pending: bytes | None = None
    deliveries: int = 0
    held_ms: int | None = None
    idle_ms: int | None = None

    @property
    def waits(self) -> bool:
        """Whether there may be entries that are not acknowledged."""
        return bool(self.lag is None or self.lag or self.pending)


def read_streams(cluster: Cluster, streams: Sequence[str], group: str) -> list[StreamState]:
    """The state of each of `streams` that exists, in one round trip to each shard."""
    commands: list[tuple[str | int, ...]] = []
    named = {stream: cluster.keyspace.named(stream) for stream in streams}
    for stream, partition in named.items():
        commands += [
            ("XLEN", stream),
            ("XINFO GROUPS", stream),
            ("PEXPIRETIME", stream),
            ("XPENDING", stream, group, "-", "+", 1),
            ("XINFO CONSUMERS", stream, group),
            ("MEMORY USAGE", stream),
        ]
        if partition:
            commands.append(("HMGET", partition.producers, ":entries", ":readings"))
            commands.append(("HMGET", partition.hours, *ACKNOWLEDGED))
    replies = iter(cluster.pipeline(commands))
    states: list[StreamState] = []
    for stream, partition in named.items():
        length, groups, expires, pending, consumers, memory = islice(replies, 6)
        books = [*islice(replies, 2)] if partition else []
        if isinstance(groups, Exception) or isinstance(length, Exception) or expires == -2:
            continue
        info = _group(groups, group)
        # Of no group there are none.
        first = next(iter([] if isinstance(pending, Exception) else pending), None)
        idle = [] if isinstance(consumers, Exception) else [each["idle"] for each in consumers]
        states.append(
            StreamState(
                stream=stream,
                group=group,
                shard=cluster.shard_of(stream),
                length=length,
                lag=_lag(length, info),
                pending=0 if info is None else info["pending"],
                consumers=0 if info is None else info["consumers"],
                expires_ms=expires if expires >= 0 else None,
                lag_readings=_lag_readings(length, info, books),
                memory_bytes=None if isinstance(memory, Exception) else memory,
                last_delivered=None if info is None else info["last-delivered-id"],
                oldest_pending=None if first is None else first["message_id"],
                deliveries=0 if first is None else first["times_delivered"],
                held_ms=None if first is None else first["time_since_delivered"],
                idle_ms=min(idle, default=None),
            )
        )
    return states


def _lag(length: int, info: Mapping[str, Any] | None) -> int | None:
    """Entries to deliver. Redis counts those that were trimmed before they were delivered, too."""
    if info is None:
        return length
    return None if info["lag"] is None else min(info["lag"], length)


def _lag_readings(length: int, info: Mapping[str, Any] | None, books: Sequence[Any]) -> int | None:
    """Readings that wait, by what producers wrote and what was acknowledged since the stream began.

    An entry of another program counts as one reading: how many its packed entries hold is unknown
    until they are read. If entries were removed unread, those that still wait count as the average
    of all that were not acknowledged.

    info: of the group, if there is one
    books: entries and readings that producers wrote; entries and readings that were acknowledged
    """
    lag, pending, read = length, 0, 0
    if info is not None:
        lag, pending, read = info["lag"], info["pending"], info["entries-read"] or 0
    if lag is None or not books or any(isinstance(book, Exception) for book in books):
        return None
    (entries, readings), (entries_done, readings_done) = books
    try:
        foreign = max(0, read + lag - int(entries or 0))
        unread = int(readings or 0) + foreign - int(readings_done or 0)
        # An earlier release counted acknowledged readings only.
        known = entries_done is not None or not readings_done
        unread_entries = int(entries or 0) + foreign - int(entries_done or 0) if known else 0
    except ValueError:  # the aggregators report it
        return None
    waiting = min(lag + pending, length)
    if 0 < waiting < unread_entries:
        unread = round(unread * waiting / unread_entries)
    return max(waiting, unread) if waiting else 0


def _group(groups: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    return next((info for info in groups if info["name"] == name.encode()), None)


def oldest_waiting_ms(
    cluster: Cluster, instant: Instant, states: Sequence[StreamState]
) -> int | None:
    """The event time of the oldest reading that waits to be counted in one of these partitions;
    None if none does. One round trip to each shard.

    An entry may be larger than what this process may allocate, so a script reads its time alone.
    One that was delivered again is not even read by Redis: it is taken to be as old as its id.
    """
    calls: dict[str, Sequence[bytes]] = {}
    found: list[int] = []
    for state in states:
        if not state.waits:
            continue
        undelivered = b"-" if state.last_delivered is None else b"(" + state.last_delivered
        calls[state.stream] = [undelivered, b"+"]
        oldest = state.oldest_pending
        if oldest is not None and state.deliveries > 1:
            found.append(_arrival_ms(instant, oldest))
        elif oldest is not None:
            calls[state.stream] = [undelivered, b"+", oldest, oldest]
    replies = cluster.read_each(FIRST, (((stream,), ranges) for stream, ranges in calls.items()))
    for stream, reply in zip(calls, replies, strict=True):
        partition = cluster.keyspace.named(stream)
        if partition is not None and not isinstance(reply, Exception):
            found += [_event_ms(instant, partition, *entry) for entry in reply]
    return min(found, default=None)


def hours_left(instant: Instant, states: Sequence[StreamState]) -> float | None:
    """Hours of event time until the first partition with uncounted readings expires; None if every
    reading is counted."""
    expiries = [each.expires_ms for each in states if each.waits and each.expires_ms is not None]
    if not expiries:
        return None
    return max(0.0, (min(expiries) - instant.real_ms) * instant.spec.speed / HOUR_MS)


def hours_left_line(hours: float | None) -> str:
    """For people."""
    if hours is None:
        return "every reading is counted"
    return f"readings that are not counted yet expire in {hours:.1f} hours"


def _event_ms(
    instant: Instant, partition: Partition, entry_id: bytes, times: Sequence[bytes]
) -> int:
    """When it was measured; of what cannot be read, when it arrived."""
    with suppress(Unusable):
        fields = dict(zip(times[::2], times[1::2], strict=True))
        at_ms = event_time(partition, entry_id, fields, Rules())
        if partition.day_ms <= at_ms < partition.end_ms:
            return at_ms
    return _arrival_ms(instant, entry_id)


def _arrival_ms(instant: Instant, entry_id: bytes) -> int:
    return instant.spec.now(int(entry_id.partition(b"-")[0]))


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
