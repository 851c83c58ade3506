"""Streams under the pipeline's prefix that no aggregator reads, because of their names.

A foreign writer makes them: `XADD temps:2025-01-01`, or a day that is over or far ahead. Only
streams count: a key of another type holds no reading, and may be another program's. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hourglass.errors import CorruptKey
from hourglass.model.clock import Instant, Mode
from hourglass.model.keys import RETENTION_MS, Keyspace, Partition

#: Of a name that others chose, at most so much is shown.
_SHOWN = 80


class Reason(StrEnum):
    """Why no aggregator reads a stream."""

    NAME = "name"
    OVER = "over"
    AHEAD = "ahead"


_WHY: Mapping[Reason, str] = {
    Reason.NAME: "no partition has such a name",
    Reason.OVER: "the day has been over for two days",
    Reason.AHEAD: "the day begins more than two days from now",
}


@dataclass(frozen=True, slots=True)
class Strays:
    """Streams that one reason holds for: how many, and the name of the first."""

    count: int
    first: str


def reason_of(
    keyspace: Keyspace, stream: str, instant: Instant, known: Collection[Partition]
) -> Reason | None:
    """Why no aggregator reads the stream called `stream`, and none will; None if one does or may,
    or if the name is another key's of the pipeline.

    A day that begins within RETENTION_MS is read then; a later one's stream, whose TTL is as long,
    expires before its day begins, and never under a reader. No day is too far ahead of a manual
    clock, which says nothing of when.

    known: partitions that are read whatever their day is
    """
    partition = keyspace.named(stream)
    if partition is None:
        return None if keyspace.owns(stream) else Reason.NAME
    if partition in known:
        return None
    if partition.end_ms + RETENTION_MS <= instant.now_ms:
        return Reason.OVER
    is_far = partition.day_ms > instant.now_ms + RETENTION_MS
    return Reason.AHEAD if is_far and instant.spec.mode is not Mode.MANUAL else None


def expires(keyspace: Keyspace, stream: bytes) -> bool:
    """Whether a stray stream is given a TTL: its name begins as a partition's does. Any other may
    be another program's, whose data is not ours to end."""
    prefix = f"{keyspace.pipeline}:".encode()
    return stream.startswith(prefix) and stream[len(prefix) : len(prefix) + 1].isdigit()


def shown(stream: bytes) -> str:
    """The name for a line of text, which it must not break."""
    text = stream.decode(errors="backslashreplace")[:_SHOWN]
    return "".join(each if each.isprintable() else "?" for each in text)


def line(reason: Reason, strays: Strays) -> str:
    """For people, with the remedy."""
    pipeline = strays.first.partition(":")[0]
    which = "Not read:"
    if strays.count > 1:
        which = f"{strays.count:,} streams are not read, the first is"
    return (
        f"{which} {strays.first}: {_WHY[reason]}. Have the writer use {pipeline}:YYYYMMDD of today "
        "in UTC, add again there, with ts, what should count, and delete or rename the stream"
    )


def encode(found: Mapping[Reason, Strays]) -> str:
    """The text of the pipeline's key for it."""
    return "\n".join(f"{reason} {each.count} {each.first}" for reason, each in found.items())


def decode(text: bytes | None, *, key: str) -> Mapping[Reason, Strays]:
    """As it stands in its key, `key`. Raises CorruptKey."""
    found: dict[Reason, Strays] = {}
    try:
        for each in (text or b"").decode().splitlines():
            reason, count, first = each.split(" ", 2)
            found[Reason(reason)] = Strays(int(count), first)
    except ValueError:
        raise CorruptKey(f"{key} holds no stray streams: delete it") from None
    return found
