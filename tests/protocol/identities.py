"""A source that repeats a reading: each is stored once, in every interleaving.

    python -m tests.protocol.identities [--flaw FLAW] [--large]

A source delivers one reading again until it is acknowledged: to the same producer or to another,
each time in a batch of its own. A producer acknowledges it once Redis has replied. The rules:

- The reading's identity has a bit. One script sets it and takes the batch.
- If the bit is set and the producer does not know that, or the reverse, the script takes nothing
  and replies with the bit. The producer leaves the reading out of the batch, or includes it again,
  and sends the batch with the bit that it knows.
- Bits and readings share a slot: a failover takes both back together.

No reading is stored twice. An acknowledged reading was in the stream when the batch was taken;
after that only a failover can lose it.
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

    NO_BIT = "no-bit"  # take whatever comes
    BIT_AFTERWARDS = "bit-afterwards"  # set the bit in a second script
    BIT_BEFORE = "bit-before"  # set the bit in a script before the batch is taken
    OTHER_SLOT = "other-slot"  # keep the bits in a slot of their own
    UNCHECKED = "unchecked"  # take a batch without a reading whether its bit is still set or not


class Redis(NamedTuple):
    """stored: how often the reading is in the stream; bit: whether its bit is set"""

    stored: int = 0
    bit: bool = False


class Producer(NamedTuple):
    """A batch of one reading, which the producer has until the source has its acknowledgement.

    known: it knows that the bit is set, and left the reading out
    half: it has done the first of two scripts, where a flaw divides them
    taken: it has the reply that the batch was taken
    """

    known: bool = False
    half: bool = False
    taken: bool = False


class World(NamedTuple):
    """replica: what the shards' replicas have; both are one unless a flaw divides them
    producers: None has no batch
    deliveries: how often the source delivered the reading
    gone: a batch was taken that left the reading out while the stream did not have it
    """

    redis: Redis = Redis()
    replica: Redis = Redis()
    producers: tuple[Producer | None, ...] = (None, None)
    deliveries: int = 0
    failovers: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """deliveries, failovers: how many there are at most"""

    deliveries: int = 3
    failovers: int = 1
    flaw: Flaw | None = None

    @property
    def initial(self) -> World:
        return World()

    def steps(self, world: World) -> Iterator[Step]:
        """Each is one script, one message, or one failure."""
        for number, producer in enumerate(world.producers):
            name = f"producer {number}"
            if producer is None:
                if world.deliveries < self.deliveries:
                    again = _with(world, number, Producer())
                    delivered = again._replace(deliveries=world.deliveries + 1)
                    yield f"the source delivers the reading to {name}", delivered
                continue
            yield f"{name} crashes", _with(world, number, None)
            if producer.taken:
                yield f"{name} acknowledges the reading", _with(world, number, None)
                continue
            redis, after = self._script(world.redis, producer)
            gone = after.taken and after.known and not redis.stored
            sent = world._replace(redis=redis, gone=world.gone or gone)
            yield f"{name} sends its batch", _with(sent, number, after)
            yield f"{name} sends its batch and crashes", _with(sent, number, None)
        yield from self._shards(world)

    def _script(self, redis: Redis, producer: Producer) -> tuple[Redis, Producer]:
        """What a script call leaves in Redis, and what the producer knows after its reply."""
        taken = producer._replace(taken=True)
        stored = redis._replace(stored=redis.stored + 1)
        if producer.half:
            return (stored if self.flaw is Flaw.BIT_BEFORE else redis._replace(bit=True)), taken
        if not self._is_as_known(redis, producer):
            return redis, producer._replace(known=redis.bit)
        if producer.known:
            return redis, taken
        if self.flaw is Flaw.BIT_BEFORE:
            return redis._replace(bit=True), producer._replace(half=True)
        if self.flaw is Flaw.BIT_AFTERWARDS:
            return stored, producer._replace(half=True)
        return stored._replace(bit=self.flaw is not Flaw.NO_BIT), taken

    def _is_as_known(self, redis: Redis, producer: Producer) -> bool:
        if self.flaw is Flaw.UNCHECKED and producer.known:
            return True
        return redis.bit == producer.known

    def _shards(self, world: World) -> Iterator[Step]:
        redis, replica = world.redis, world.replica
        if redis == replica:
            return
        both = ("stored", "bit")
        for fields in (("stored",), ("bit",)) if self.flaw is Flaw.OTHER_SLOT else (both,):
            name = "shard" if fields == both else f"shard of {fields[0]}"
            copied = {field: getattr(redis, field) for field in fields}
            yield f"the {name} is replicated", world._replace(replica=replica._replace(**copied))
            if world.failovers < self.failovers:
                old = {field: getattr(replica, field) for field in fields}
                lost = world._replace(redis=redis._replace(**old), failovers=world.failovers + 1)
                yield f"THE {name.upper()} FAILS OVER", lost

    def violation(self, world: World) -> str | None:
        if world.redis.stored > 1:
            return "the reading is stored twice"
        if world.gone:
            return "the reading was left out of a batch, and is not in the stream"
        return None


def _with(world: World, number: int, producer: Producer | None) -> World:
    producers = tuple(producer if at == number else each for at, each in enumerate(world.producers))
    return world._replace(producers=producers)


SMALL = Identities()
LARGE = Identities(deliveries=5, failovers=3)

#: The small world that shows a flaw.
WORLDS = {
    Flaw.NO_BIT: Identities(failovers=0),
    Flaw.BIT_AFTERWARDS: Identities(failovers=0),
    Flaw.BIT_BEFORE: Identities(failovers=0),
    Flaw.OTHER_SLOT: SMALL,
    Flaw.UNCHECKED: SMALL,
}


def _chosen(flaw: str | None, large: bool) -> Identities:  # noqa: FBT001
    world = LARGE if large else SMALL
    if flaw is None:
        return world
    chosen = Flaw(flaw)
    return replace(world if large else WORLDS[chosen], flaw=chosen)


if __name__ == "__main__":
    sys.exit(main(__doc__, Flaw, _chosen))
