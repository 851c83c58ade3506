"""Which pending entries to claim next. Pure.

An entry that kills whoever decodes it takes its whole batch down with it. So entries that were
delivered often are claimed one at a time: then only the culprit's count goes on rising, and only
it is given up at the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

#: Deliveries after which an entry is handled alone.
ALONE_AFTER = 3


class Pending(NamedTuple):
    """One idle entry of the pending list."""

    id: bytes
    deliveries: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim `count` entries from `start` on; those in `undeliverable` go to quarantine."""

    start: bytes
    count: int
    undeliverable: frozenset[bytes]


def plan(pending: Sequence[Pending], *, limit: int) -> Claim | None:
    """What to claim of the idle entries `pending`, in order of id; None if there are none.

    `limit` is how often an entry may be delivered before it is given up without being decoded.
    """
    if not pending:
        return None
    if pending[0].deliveries >= limit:
        given_up = _leading(pending, lambda deliveries: deliveries >= limit)
        return Claim(pending[0].id, len(given_up), frozenset(entry.id for entry in given_up))
    if pending[0].deliveries >= ALONE_AFTER:
        return Claim(pending[0].id, 1, frozenset())
    together = _leading(pending, lambda deliveries: deliveries < ALONE_AFTER)
    return Claim(pending[0].id, len(together), frozenset())


def _leading(pending: Sequence[Pending], belongs: Callable[[int], bool]) -> Sequence[Pending]:
    return list(takewhile(lambda entry: belongs(entry.deliveries), pending))
