"""The rule for when an hour may be sealed, in every interleaving of a small world with outages.

    python -m tests.protocol.watermarks [--flaw FLAW] [--large]

One partition and one hour; producers that take a reading at each moment and send what they hold,
oldest first, while Redis can be reached; a sealer. The model specifies the rule, and promises two
things of it: a reading of a producer that lives, and that the shard knew, is never late, however
long Redis was unreachable; and an hour is sealed in bounded time, whichever process dies.

The shard keeps, by its own clock:

- of each producer its watermark, before which every reading is taken, and when a batch of it was
  last received;
- when it was last called, by any process, and `resumed`: since when it has been called without a
  gap. A gap is an outage;
- `ended`: when the hour was first found over. That call seals nothing.

An hour may be sealed when

1. the lateness has passed since `ended`, and the idle time since `resumed`; and
2. every producer whose watermark lies before the hour's end has been idle for the idle time,
   counted from the later of its last batch and `resumed`.

Which of the entries then in the stream the hour has to wait for is another model:
tests/protocol/sealing.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from tests.protocol.explorer import main

Step = tuple[str, "World"]


class Flaw(StrEnum):
    """A rule that is left out."""

    FIRST_SIGHT = "first-sight"  # seal the first time that the hour is found over for the lateness
    NO_RESUMED = "no-resumed"  # count idle time through an outage
    NO_WATERMARK = "no-watermark"  # wait for the lateness alone
    NO_IDLE = "no-idle"  # wait for a producer without a bound


class Producer(NamedTuple):
    """held: times of the readings that are taken and not sent
    watermark, received: the shard's; None until its first batch is there
    known: the shard knew it when the hour was sealed
    """

    lives: bool = True
    held: tuple[int, ...] = (0,)
    watermark: int | None = None
    received: int | None = None
    known: bool = False


class World(NamedTuple):
    producers: tuple[Producer, ...]
    now: int = 0
    reachable: bool = True
    reachable_since: int = 0
    outages: int = 0
    called: int = 0  # the shard's, as are the next three
    resumed: int = 0
    ended: int | None = None
    sealed: bool = False
    late: bool = False  # a reading that must not be


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermarks:
    """Times are in moments of this world's clock.

    end: the hour's end
    horizon: where the exploration ends
    gap: the longest time between two calls, while Redis can be reached; an outage that is no
        longer goes unnoticed
    idle: longer than `sends_within` and as many unnoticed outages as there may be together
    sends_within: the longest time between two batches of a producer that holds readings
    """

    end: int = 2
    horizon: int = 14
    lateness: int = 1
    idle: int = 6
    gap: int = 1
    sends_within: int = 1
    outages: int = 2
    producers: int = 2
    flaw: Flaw | None = None

    @property
    def initial(self) -> World:
        return World(producers=(Producer(),) * self.producers)

    def steps(self, world: World) -> Iterator[Step]:
        yield from self._time_passes(world)
        if world.reachable and world.outages < self.outages:
            yield (
                self._at(world, "an outage begins"),
                world._replace(reachable=False, outages=world.outages + 1),
            )
        if not world.reachable:
            yield (
                self._at(world, "the outage ends"),
                world._replace(reachable=True, reachable_since=world.now),
            )
        for number, producer in enumerate(world.producers):
            if producer.lives:
                yield from self._produce(world, number, producer)
        if world.reachable and not world.sealed:
            yield self._at(world, "the sealer calls"), self._sealer_calls(world)

    def _time_passes(self, world: World) -> Iterator[Step]:
        """Unless something must happen first: a call, or a batch of a producer that lives."""
        silent = world.now - max(world.called, world.reachable_since)
        if world.now >= self.horizon or (world.reachable and silent >= self.gap):
            return
        if any(self._must_send(world, producer) for producer in world.producers):
            return
        now = world.now + 1
        producers = tuple(
            producer._replace(held=(*producer.held, now))
            if producer.lives and now <= self.end
            else producer
            for producer in world.producers
        )
        yield self._at(world, "time passes"), world._replace(now=now, producers=producers)

    def _must_send(self, world: World, producer: Producer) -> bool:
        since = max(producer.received or 0, world.reachable_since)
        waits = world.reachable and producer.lives and producer.held
        return bool(waits) and world.now - since >= self.sends_within

    def _produce(self, world: World, number: int, producer: Producer) -> Iterator[Step]:
        if world.reachable and producer.held:
            yield (
                self._at(world, f"producer {number} sends the reading of {producer.held[0]}"),
                self._received(world, number, producer),
            )
        if all(each.lives for each in world.producers):
            dead = producer._replace(lives=False)
            yield self._at(world, f"producer {number} dies"), _put(world, number, dead)

    def _received(self, world: World, number: int, producer: Producer) -> World:
        """A batch moves the watermark to the next reading that the producer will send."""
        first, held = producer.held[0], producer.held[1:]
        late = world.sealed and first < self.end and producer.known
        sent = producer._replace(
            held=held, watermark=held[0] if held else world.now + 1, received=world.now
        )
        called = self._called(world)
        return _put(called._replace(late=called.late or late), number, sent)

    def _called(self, world: World) -> World:
        """By any process."""
        after_gap = world.now - world.called > self.gap
        return world._replace(called=world.now, resumed=world.now if after_gap else world.resumed)

    def _sealer_calls(self, world: World) -> World:
        world = self._called(world)
        if world.now < self.end:
            return world
        if self.flaw is Flaw.FIRST_SIGHT:
            return _sealed(world) if world.now >= self.end + self.lateness else world
        if world.ended is None:
            return world._replace(ended=world.now)
        return _sealed(world) if self._may_seal(world, world.ended) else world

    def _may_seal(self, world: World, ended: int) -> bool:
        if world.now < ended + self.lateness:
            return False
        if self.flaw is not Flaw.NO_RESUMED and world.now < world.resumed + self.idle:
            return False
        return self.flaw is Flaw.NO_WATERMARK or not any(
            self._is_waited_for(world, producer) for producer in world.producers
        )

    def _is_waited_for(self, world: World, producer: Producer) -> bool:
        if producer.watermark is None or producer.received is None:
            return False
        if producer.watermark >= self.end:
            return False
        if self.flaw is Flaw.NO_IDLE:
            return True
        resumed = 0 if self.flaw is Flaw.NO_RESUMED else world.resumed
        return world.now - max(producer.received, resumed) < self.idle

    def violation(self, world: World) -> str | None:
        if world.late:
            return "a reading of a producer that lives, and that the shard knew, is late"
        # One moment more for each call that the rule takes: `ended`, and the one that seals.
        bound = self.idle + self.lateness + 2 * self.gap
        waited = world.now - max(world.reachable_since, world.resumed)
        if world.now == self.horizon and world.reachable and waited > bound and not world.sealed:
            return "the hour is not sealed, though every producer that lives sent all"
        return None

    @staticmethod
    def _at(world: World, step: str) -> str:
        return f"at {world.now}: {step}"


def _sealed(world: World) -> World:
    producers = tuple(
        producer._replace(known=producer.watermark is not None) for producer in world.producers
    )
    return world._replace(sealed=True, producers=producers)


def _put(world: World, number: int, producer: Producer) -> World:
    producers = world.producers
    return world._replace(producers=(*producers[:number], producer, *producers[number + 1 :]))


SMALL = Watermarks(horizon=11, idle=4, outages=1)
LARGE = Watermarks()

#: The small world that shows a flaw.
WORLDS = {
    Flaw.FIRST_SIGHT: SMALL,
    Flaw.NO_RESUMED: SMALL,
    Flaw.NO_WATERMARK: SMALL,
    Flaw.NO_IDLE: replace(SMALL, outages=0),
}


def _chosen(flaw: str | None, large: bool) -> Watermarks:  # noqa: FBT001
    if flaw is None:
        return LARGE if large else SMALL
    chosen = Flaw(flaw)
    return replace(LARGE if large else WORLDS[chosen], flaw=chosen)


if __name__ == "__main__":
    sys.exit(main(__doc__, Flaw, _chosen))
