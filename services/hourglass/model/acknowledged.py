"""What producers were told was taken, beside what is stored of it; `producer/scripts/ingest.lua`
writes both down, in one step."""

from __future__ import annotations

from collections.abc import Mapping

from hourglass.errors import CorruptKey


def gone(producer: bytes) -> int:
    """Readings that one producer was told were taken and that are not there, as its partition's
    hash of producers has it. Raises CorruptKey."""
    try:
        _, told, stored, *_ = map(int, producer.split())
    except ValueError:
        raise CorruptKey(
            "a producers hash holds what no producer wrote: rename or delete it"
        ) from None
    # More is stored than was told where a producer gave up a batch that had been taken after all.
    return max(0, told - stored)


def gone_of(producers: Mapping[bytes, bytes]) -> int:
    """The same of all in a partition's hash of producers, which has tallies beside them, whose
    names begin with a colon. Raises CorruptKey."""
    return sum(gone(each) for name, each in producers.items() if not name.startswith(b":"))
