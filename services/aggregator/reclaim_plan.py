"""Which pending entries to take over next. Pure.

An entry that kills whoever decodes it takes its whole batch down with it. So entries that were
tried often are taken one at a time: then only the culprit's count goes on rising, and only it is
given up at the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

#: Tries after which an entry is handled alone.
ALONE_AFTER = 3
#: The count of an entry that was delivered once and is taken over now.
_FIRST_AGAIN = 2


#: An idle entry as XPENDING lists it: id, consumer, how long it has been idle, deliveries.
Pending: TypeAlias = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """Take over `ids`, with `tries` as the count of those that are claimed.

    To claim an entry costs Redis more than to read and to count it, and no right to count hangs on
    it. So of `untried` entries only the first is claimed: who finds it marked knows that a try has
    failed, and claims them all. Those that are `given_up` go to quarantine without being claimed,
    which would deliver their fields.
    """

    ids: Sequence[bytes]
    tries: int
    given_up: bool = False

    @property
    def untried(self) -> bool:
        """Nobody is known to have died of any of them."""
        return self.tries == _FIRST_AGAIN


def plan(pending: Sequence[Pending], *, limit: int) -> Claim | None:
    """What to take over of the idle entries `pending`, in order of id; None if there are none.

    `limit` is how often an entry may be tried before it is given up without being read.
    """
    if not pending:
        return None
    ids, deliveries = [entry[0] for entry in pending], [entry[3] for entry in pending]
    tried = deliveries[0]
    if tried >= limit:
        at_the_limit = _leading(deliveries, range(limit, max(deliveries) + 1))
        return Claim(ids[:at_the_limit], tried, given_up=True)
    if tried >= ALONE_AFTER:
        return Claim(ids[:1], tried + 1)
    if tried == 1:
        return Claim(ids[: _leading(deliveries, range(1, 2))], _FIRST_AGAIN)
    return Claim(ids[: _leading(deliveries, range(ALONE_AFTER))], tried + 1)


def _leading(deliveries: Sequence[int], like: range) -> int:
    """How many at the beginning are like these."""
    return next((at for at, each in enumerate(deliveries) if each not in like), len(deliveries))
