"""The pipeline clock: the time that all services share through Redis.

A spec stored in Redis says how pipeline time follows from Redis time ("real" time here):

    wall     it is Redis time
    simulated  from `origin_ms` on, `speed` times as fast; before `origin_real_ms` it stands just
             before `origin_ms`, so that nothing is due yet
    manual   it stands at `origin_ms` until a replay moves it

Without the key it is the wall clock. When Redis is flushed under a simulated or manual clock, the
clock becomes the wall clock, as after `hourglass clock wall`, and a log line reports it. No process
restores the lost clock, because it cannot distinguish a loss from a reset.

`ClockSpec` is the arithmetic; `PipelineClock` reads the spec and Redis' TIME, and fills the gaps
between two readings from the process's monotonic clock, so that a pod's wall clock plays no part.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, inf
from typing import NamedTuple, Protocol

from hourglass.errors import ConfigurationError, CorruptKey
from hourglass.model.keys import DAY_MS, RECORDS_KEPT_MS, RETENTION_MS, Keyspace, iso

log = logging.getLogger(__name__)

#: Real time for which a key is kept that has expired already by the pipeline clock when written.
RESPITE_MS = 3_600_000
_SOON_MS = 1000
#: A century before the calendar of partitions ends.
LAST_ORIGIN_MS = 250_000_000_000_000


class Mode(StrEnum):
    WALL = "wall"
    SIMULATED = "simulated"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSpec:
    """How pipeline time follows from real time; all times in ms since the epoch."""

    mode: Mode = Mode.WALL
    origin_ms: int = 0
    origin_real_ms: int = 0
    speed: float = 1.0

    def now(self, real_ms: int) -> int:
        """Pipeline time at `real_ms`."""
        match self.mode:
            case Mode.WALL:
                return real_ms
            case Mode.SIMULATED:
                elapsed = real_ms - self.origin_real_ms
                return self.origin_ms + (int(elapsed * self.speed) if elapsed >= 0 else -1)
            case Mode.MANUAL:
                return self.origin_ms

    def real(self, at_ms: int, real_now_ms: int) -> int:
        """The first millisecond of real time at which the pipeline clock shows `at_ms` or more.

        A manual clock is taken to go on at speed 1 from `real_now_ms`.
        """
        match self.mode:
            case Mode.WALL:
                return at_ms
            case Mode.SIMULATED:
                return self.origin_real_ms + ceil((at_ms - self.origin_ms) / self.speed)
            case Mode.MANUAL:
                return real_now_ms + at_ms - self.origin_ms

    def shown(self, at_real_ms: int, real_now_ms: int) -> int:
        """Pipeline time at `at_real_ms`; the inverse of `real`."""
        if self.mode is Mode.MANUAL:
            return self.origin_ms + at_real_ms - real_now_ms
        return self.now(at_real_ms)

    def passed_ms(self, real_now_ms: int) -> int:
        """The latest pipeline time that has passed; -1 if there is none.

        What a simulated clock begins with has passed at its origin: readings by the clock before it
        may be on their way.
        """
        if self.mode is Mode.SIMULATED and real_now_ms < self.origin_real_ms:
            return -1
        return self.now(real_now_ms)

    def due_ms(self, at_ms: int) -> int | None:
        """The real time from which `passed_ms` is `at_ms` or more; None under a manual clock, which
        says nothing of when."""
        match self.mode:
            case Mode.WALL:
                return at_ms
            case Mode.SIMULATED:
                return max(self.origin_real_ms, self.real(at_ms, 0))
            case Mode.MANUAL:
                return None

    def is_due(self, at_ms: int, *, lateness_ms: int, real_now_ms: int) -> bool:
        """Whether `at_ms` has passed, and `lateness_ms` of real time after it."""
        return self.passed_ms(real_now_ms - lateness_ms) >= at_ms

    def continues(self, earlier: ClockSpec) -> bool:
        """Whether a clock that followed `earlier` only went on and was not set to another."""
        if self.mode is Mode.MANUAL and earlier.mode is Mode.MANUAL:
            return self.origin_ms >= earlier.origin_ms
        return self == earlier

    def latest_plausible(self, real_now_ms: int, tolerance_ms: int) -> int | None:
        """The latest event time to believe; None under a manual clock, whose readings lead it."""
        if self.mode is Mode.MANUAL:
            return None
        return self.now(real_now_ms) + int(tolerance_ms * self.speed)

    @property
    def can_be_kept(self) -> bool:
        return 0 <= self.origin_ms <= LAST_ORIGIN_MS and 0 < self.speed < inf

    def fields(self) -> dict[str, str]:
        return {
            "mode": str(self.mode),
            "origin_ms": str(self.origin_ms),
            "origin_real_ms": str(self.origin_real_ms),
            "speed": repr(self.speed),
        }

    @classmethod
    def decode(cls, fields: Mapping[bytes, bytes], *, key: str) -> ClockSpec:
        """The spec in the clock's hash, which is at `key`; an empty hash is the wall clock. Raises
        CorruptKey."""
        if not fields:
            return cls()
        with suppress(KeyError, ValueError):
            spec = cls(
                mode=Mode(fields[b"mode"].decode()),
                origin_ms=int(fields[b"origin_ms"]),
                origin_real_ms=int(fields[b"origin_real_ms"]),
                speed=float(fields[b"speed"]),
            )
            if spec.can_be_kept:
                return spec
        raise CorruptKey(f"{key} holds no clock: set it with hourglass clock")


class Expiring(NamedTuple):
    """A key that has a TTL, or a stream in the index of partitions, which has a time to be dropped
    at; `is_stream`: raw readings or what names them, which records outlive."""

    key: str
    stream: str = ""
    is_stream: bool = False

    @property
    def kept_ms(self) -> int:
        """It is kept this long after it was begun, at most."""
        return DAY_MS + (RETENTION_MS if self.is_stream else RECORDS_KEPT_MS)


class ClockSource(Protocol):
    """Where the clock is kept."""

    keyspace: Keyspace

    def clock(self) -> tuple[Mapping[bytes, bytes], int]:
        """The clock's hash, and Redis' TIME in ms, from the shard that holds the clock."""
        ...

    def set_clock(self, fields: Mapping[str, str]) -> None: ...

    def expiries(self) -> Mapping[Expiring, int]:
        """When what the pipeline has written expires, in real time."""
        ...

    def extend(self, expiries: Mapping[Expiring, int]) -> None:
        """Put these off until then; none is shortened."""
        ...


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the clock: the spec, and the real time it was read at."""

    spec: ClockSpec
    real_ms: int

    @property
    def now_ms(self) -> int:
        return self.spec.now(self.real_ms)

    def deadline(self, at_ms: int) -> int:
        """The real time of pipeline time `at_ms`, or the epoch if that is earlier: what a key's
        expiry is set to."""
        return max(0, self.spec.real(at_ms, self.real_ms))

    def expiry(self, at_ms: int) -> int:
        """As `deadline`, but never in the past, where setting it would delete what it is set on."""
        deadline = self.deadline(at_ms)
        return deadline if deadline > self.real_ms + _SOON_MS else self.real_ms + RESPITE_MS

    def translated(self, expires_ms: int, before: Instant, *, kept_ms: int) -> int:
        """When something expires by this clock that was to expire at `expires_ms`, in real time, by
        the clock `before`: at the same pipeline time. A clock that goes back, or waits for its
        start, keeps it no longer than the real time that `kept_ms` take, or are."""
        at_ms = before.spec.shown(expires_ms, before.real_ms)
        longest_ms = ceil(kept_ms / min(1.0, self.spec.speed))
        return min(self.spec.real(at_ms, self.real_ms), self.real_ms + longest_ms)

    @property
    def passed_ms(self) -> int:
        return self.spec.passed_ms(self.real_ms)

    def is_due(self, at_ms: int, lateness_ms: int) -> bool:
        return self.spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=self.real_ms)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a refresh found; real time is the monotonic clock and `offset_ms`."""

    spec: ClockSpec
    offset_ms: int
    asked_ms: int


class PipelineClock:
    """The pipeline clock of one process; safe to share between threads.

    `refresh` reads Redis; `current` does not.
    """

    def __init__(
        self, source: ClockSource, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: _Known | None = None

    def refresh(self) -> Instant:
        """Read the spec and Redis' TIME; raises Unreachable."""
        asked_ms = self._monotonic_ms()
        fields, real_ms = self._source.clock()
        spec = ClockSpec.decode(fields, key=self._source.keyspace.clock)
        with self._lock:
            known = self._known
            if known is None or known.asked_ms <= asked_ms:  # else another thread knows better
                if known and not spec.continues(known.spec):
                    log.warning(
                        "the pipeline clock was changed: %s, %s", spec.mode, iso(spec.now(real_ms))
                    )
                self._known = _Known(spec, real_ms - self._monotonic_ms(), asked_ms)
        return Instant(spec, real_ms)

    def current(self) -> Instant:
        """The time by the last refresh and the monotonic clock; refreshes if there was none."""
        known = self._known
        if known is None:
            return self.refresh()
        return Instant(known.spec, self._monotonic_ms() + known.offset_ms)

    def set(self, spec: ClockSpec) -> None:
        """Make `spec` the clock of every service. What lives expires at the same pipeline time as
        before, if that is later. Raises ConfigurationError, Unreachable."""
        if not spec.can_be_kept:
            raise ConfigurationError(
                f"a clock cannot begin at {spec.origin_ms} ms, or go at {spec.speed:g} times its "
                f"speed: give a time from {iso(0)} to {iso(LAST_ORIGIN_MS)}, and a speed above 0"
            )
        self._extend(spec)
        self._source.set_clock({} if spec.mode is Mode.WALL else spec.fields())
        self._known = None
        self.refresh()

    def _extend(self, spec: ClockSpec) -> None:
        """Before the clock is set, so that a failure leaves nothing to make good."""
        try:
            before = self.refresh()
        except CorruptKey:  # what the expiry was by is lost
            return
        if spec.continues(before.spec):
            return
        after = Instant(spec, before.real_ms)
        self._source.extend(
            {
                each: after.translated(expires_ms, before, kept_ms=each.kept_ms)
                for each, expires_ms in self._source.expiries().items()
            }
        )

    def _monotonic_ms(self) -> int:
        return int(self._monotonic() * 1000)
