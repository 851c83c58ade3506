"""Which time it is, by the clocks of several Redis servers of which any may be wrong.

Each master's clock is compared with the process's own monotonic clock. Real time is the median of
the masters; what it says is believed while it goes on as the monotonic clock does. A median that
leaps is believed once it has gone on so for a while: the servers' clocks have been set, or the
machine of this process was suspended. Until then time goes on by the monotonic clock.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass

#: A clock that deviates by more is in doubt.
TOLERANCE_MS = 2_000
#: An answer that took longer tells too little, once there has been one.
WIDE_MS = 1_000
#: A leap of the median is believed after this long.
STEADY_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """How far a server's clock is ahead of the monotonic clock: from `least_ms` to `most_ms`,
    because the server looked at its clock at any time between the question and the answer."""

    least_ms: int
    most_ms: int

    @classmethod
    def of(cls, time_ms: int, *, asked_ms: int, answered_ms: int) -> Offset:
        return cls(least_ms=time_ms - answered_ms, most_ms=time_ms - asked_ms)

    @property
    def middle_ms(self) -> int:
        return (self.least_ms + self.most_ms) // 2

    def ahead_of(self, other: Offset) -> int:
        """How far it is ahead for certain, in ms; negative if behind, 0 if they may be the same."""
        return max(0, self.least_ms - other.most_ms) - max(0, other.least_ms - self.most_ms)


def median(offsets: Collection[Offset], believed: Offset | None) -> Offset:
    """The median of the servers' offsets. Where two are in the middle, what was believed before
    decides between them, or the earlier: an hour is rather late than early."""
    ordered = [*offsets, believed] if believed and len(offsets) % 2 == 0 else offsets
    in_order = sorted(ordered, key=lambda each: each.middle_ms)
    return in_order[(len(in_order) - 1) // 2]


class ServerClocks:
    """The clocks of the masters, as one process sees them; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[str, Offset] = {}
        self._believed: Offset | None = None
        #: Where the median has leapt to, and when that was first seen.
        self._leapt: tuple[Offset, int] | None = None

    @property
    def known(self) -> bool:
        return self._believed is not None

    def see(self, answers: Mapping[str, Offset | None], *, now_ms: int) -> None:
        """`answers`: by master, None for one that did not answer; `now_ms` is by the monotonic
        clock."""
        with self._lock:
            for master, offset in answers.items():
                if offset is None:
                    self._offsets.pop(master, None)
                elif offset.most_ms - offset.least_ms <= WIDE_MS or self._believed is None:
                    self._offsets[master] = offset
            if self._offsets:
                self._believe(median(self._offsets.values(), self._believed), now_ms)

    def keep(self, masters: Collection[str]) -> None:
        """Forget the servers that are masters no more."""
        with self._lock:
            self._offsets = {name: self._offsets[name] for name in masters if name in self._offsets}

    def _believe(self, middle: Offset, now_ms: int) -> None:
        if self._believed is None or _agree(middle, self._believed):
            self._believed, self._leapt = middle, None
        elif self._leapt is None or not _agree(middle, self._leapt[0]):
            self._leapt = middle, now_ms
        elif now_ms - self._leapt[1] >= STEADY_MS:
            self._believed, self._leapt = middle, None

    def real_ms(self, now_ms: int) -> int:
        """Real time at `now_ms` of the monotonic clock. Not before any master has answered."""
        believed = self._believed
        if believed is None:
            raise ValueError("no master has answered yet")
        return now_ms + believed.middle_ms

    def deviations_ms(self) -> dict[str, int]:
        """How far each master is ahead of the time that is believed; negative if behind."""
        with self._lock:
            if self._believed is None:
                return {}
            return {
                master: offset.ahead_of(self._believed) for master, offset in self._offsets.items()
            }

    def doubts(self) -> dict[str, str]:
        """What is wrong with a master's clock, as what follows on its name, by master: of those
        alone that are not believed."""
        leapt, found = self._leapt, dict[str, str]()
        for master, ahead_ms in sorted(self.deviations_ms().items()):
            if abs(ahead_ms) > TOLERANCE_MS:
                way = "ahead" if ahead_ms > 0 else "behind"
                found[master] = (
                    f"has a clock that is {abs(ahead_ms) / 1000:,.0f} s {way}: no hour is sealed "
                    "or published there until it is set right"
                )
            elif leapt:
                found[master] = (
                    "is in a cluster most of whose clocks have leapt: no hour is sealed or "
                    f"published until they have been steady for {STEADY_MS // 1000} s"
                )
        return found


def _agree(one: Offset, other: Offset) -> bool:
    return abs(one.ahead_of(other)) <= TOLERANCE_MS
