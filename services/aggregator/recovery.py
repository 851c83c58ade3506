"""Which pending entries to take over next. Pure.

An entry that kills whoever decodes it takes its whole batch down with it. So entries that were
tried often are taken one at a time: then only the culprit's count goes on rising, and only it is
given up at the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

#: Tries after which an entry is handled alone.
ALONE_AFTER = 3
#: The count of an entry that was delivered once and is taken over now.
_FIRST_AGAIN = 2


class Pending(NamedTuple):
    """One idle entry of the pending list."""

    id: bytes
    deliveries: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Take over `ids`, of which the first `marked` are claimed with `tries` as their count.

    To claim an entry costs Redis more than to read and to count it, and no right to count hangs on
    it. So of entries that nobody has tried yet only the first is claimed: who finds it marked knows
    that a try has failed, and claims them all. Those in `undeliverable` go to quarantine.
    """

    ids: tuple[bytes, ...]
    marked: int
    tries: int
    undeliverable: frozenset[bytes] = frozenset()

    @property
    def untried(self) -> bool:
        """Nobody is known to have died of any of them."""
        return self.tries == _FIRST_AGAIN


def plan(pending: Sequence[Pending], *, limit: int) -> Claim | None:
    """What to take over of the idle entries `pending`, in order of id; None if there are none.

    `limit` is how often an entry may be tried before it is given up without being decoded.
    """
    if not pending:
        return None
    tried = pending[0].deliveries
    if tried >= limit:
        ids = _leading(pending, lambda deliveries: deliveries >= limit)
        return Claim(ids, len(ids), tried + 1, frozenset(ids))
    if tried >= ALONE_AFTER:
        return Claim((pending[0].id,), 1, tried + 1)
    if tried == 1:
        return Claim(_leading(pending, lambda deliveries: deliveries == 1), 1, _FIRST_AGAIN)
    ids = _leading(pending, lambda deliveries: deliveries < ALONE_AFTER)
    return Claim(ids, len(ids), tried + 1)


def _leading(pending: Sequence[Pending], belongs: Callable[[int], bool]) -> tuple[bytes, ...]:
    return tuple(entry.id for entry in takewhile(lambda e: belongs(e.deliveries), pending))
