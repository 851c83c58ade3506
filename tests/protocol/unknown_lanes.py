"""A lane that no producer decided on: found, sealed and published in every interleaving.

    python -m tests.protocol.unknown_lanes [--flaw FLAW] [--large]

One hour, with a reading that the plain partition has counted, and one that a foreign writer puts
into a lane at any time. Plain partition, lane and averages are on a shard each. The rules:

- An aggregator that finds the lane notes it beside the plain partition, and then enters it into the
  index. An aggregator opens it when the index has it, and counts its reading then.
- A sealer seals the plain partition, reads the lanes in the same step, and seals the lane if it
  knows one. It publishes the sum of both; another result than the published one is a revision.
- When the lane is opened for the first time, the hour is sealed there if it is sealed in the plain
  partition or published; not if all other partitions have sealed it with another result than the
  published one. A reading that is counted afterwards is late.

A reading is never both published and late, and unless a failover has lost a reading that was
counted, no hour is revised.
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

    NOT_CLOSED = "not-closed"  # open the lane with no hour sealed
    PUBLISHED_ALONE = "published-alone"  # close a published hour alone
    SEALED_ALONE = "sealed-alone"  # close an hour that the plain partition has sealed alone
    EVERY_PUBLISHED = "every-published"  # close a published hour that the lane is part of, too
    ALWAYS_CLOSED = "always-closed"  # close an hour that no partition has sealed


class Plain(NamedTuple):
    """The plain partition, which has counted one reading; `lane`: the lane is noted beside it."""

    sealed: bool = False
    lane: bool = False


class Lane(NamedTuple):
    written: bool = False
    opened: bool = False
    sealed: bool = False
    counted: bool = False
    late: bool = False


class View(NamedTuple):
    """What a sealer knows: whether there is a lane, and how many readings that one has sealed."""

    lane: bool
    readings: int | None = None


class World(NamedTuple):
    """published: how many readings, 0 while nothing is
    opening: whether the aggregator that is about to open the lane closes the hour
    """

    plain: Plain = Plain()
    lane: Lane = Lane()
    published: int = 0
    replicas: tuple[Plain, Lane, int] = (Plain(), Lane(), 0)
    due: bool = False
    indexed: bool = False
    opening: bool | None = None
    view: View | None = None
    failovers: int = 0
    needless: bool = False
    revised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownLanes:
    """failovers: how many shards may fail over
    slow: whether a sealer may be overtaken between its scripts
    """

    failovers: int = 0
    slow: bool = False
    flaw: Flaw | None = None

    @property
    def initial(self) -> World:
        return World()

    def steps(self, world: World) -> Iterator[Step]:
        """Each is one script, one read, or one failure."""
        yield from self._lane(world)
        if not world.due:
            yield "the hour is due", world._replace(due=True)
        else:
            yield from self._sealer(world)
        if world.failovers < self.failovers:
            yield from self._fail_over(world)

    def _lane(self, world: World) -> Iterator[Step]:
        lane = world.lane
        if not lane.written:
            written = world._replace(lane=lane._replace(written=True))
            yield "a reading is written to the lane", written
            return
        if not world.plain.lane:
            noted = world._replace(plain=world.plain._replace(lane=True))
            yield "the lane is noted beside the plain partition", noted
        if world.plain.lane and not world.indexed:
            yield "the lane is entered into the index", world._replace(indexed=True)
        if world.indexed and not lane.opened:
            if world.opening is None:
                opening = world._replace(opening=self._is_closed(world))
                yield "an aggregator looks at what is sealed and published", opening
            else:
                yield "the lane is opened", self._opened(world, closed=world.opening)
        if lane.opened and not (lane.counted or lane.late):
            counted = lane._replace(counted=not lane.sealed, late=lane.sealed)
            yield "the reading is counted", world._replace(lane=counted)

    def _is_closed(self, world: World) -> bool:
        if self.flaw is Flaw.NOT_CLOSED:
            return False
        if self.flaw is Flaw.ALWAYS_CLOSED:
            return True
        plain_sealed = world.plain.sealed and self.flaw is not Flaw.PUBLISHED_ALONE
        if not world.published:
            return plain_sealed
        if self.flaw is Flaw.SEALED_ALONE and not world.plain.sealed:
            return False
        part_of_it = world.plain.sealed and world.published != 1
        return not part_of_it or self.flaw is Flaw.EVERY_PUBLISHED

    def _opened(self, world: World, *, closed: bool) -> World:
        lane = world.lane._replace(opened=True, sealed=world.lane.sealed or closed)
        # A failover may take back what has been seen.
        needless = closed and not (world.plain.sealed or world.published or world.failovers)
        return world._replace(lane=lane, opening=None, needless=world.needless or needless)

    def _sealer(self, world: World) -> Iterator[Step]:
        """Through all of its scripts at once, and where it may be slow, one by one."""
        if not world.plain.sealed:
            sealed = self._plain_sealed(world)._replace(view=world.view)
            yield "a sealer seals the plain partition, and crashes", sealed
        done = self._published(self._lane_sealed(self._plain_sealed(world)))
        yield "a sealer seals and publishes", done._replace(view=world.view)
        if self.slow and world.view is None:
            yield "a slow sealer seals the plain partition", self._plain_sealed(world)
        elif self.slow and world.view and world.view.lane and world.view.readings is None:
            yield "the slow sealer seals the lane", self._lane_sealed(world)
        elif self.slow:
            yield "the slow sealer publishes", self._published(world)

    def _plain_sealed(self, world: World) -> World:
        plain = world.plain._replace(sealed=True)
        return world._replace(plain=plain, view=View(plain.lane or world.indexed))

    def _lane_sealed(self, world: World) -> World:
        """Once its reading is counted; or closed before."""
        lane, view = world.lane, world.view
        if view and view.lane and (lane.sealed or lane.counted):
            sealed = view._replace(readings=int(lane.counted))
            return world._replace(lane=lane._replace(sealed=True), view=sealed)
        return world

    def _published(self, world: World) -> World:
        view = world.view
        if view is None or (view.lane and view.readings is None):
            return world._replace(view=None)
        readings = 1 + (view.readings or 0)
        return world._replace(
            view=None,
            published=world.published or readings,
            revised=world.revised or world.published not in (0, readings),
        )

    def _fail_over(self, world: World) -> Iterator[Step]:
        """Each shard by itself; a replica is as old as its last copy."""
        now = world.plain, world.lane, world.published
        for number, name in enumerate(("PLAIN PARTITION'S", "LANE'S", "AVERAGES'")):
            old = world.replicas
            if now[number] == old[number]:
                continue
            copies = tuple(now[i] if i == number else old[i] for i in range(3))
            yield f"the {name.lower()} shard is replicated", world._replace(replicas=copies)
            after = [old[i] if i == number else now[i] for i in range(3)]
            yield (
                f"THE {name} SHARD FAILS OVER",
                world._replace(
                    plain=after[0],
                    lane=after[1],
                    published=after[2],
                    opening=None,
                    failovers=world.failovers + 1,
                ),
            )

    def violation(self, world: World) -> str | None:
        if world.revised:
            return "the hour is revised, though no reading was lost that had been counted"
        if world.lane.late and world.published > 1:
            return "the reading of the lane is published and late"
        if world.needless:
            return "the hour is closed to the lane, though no partition has sealed it"
        return None


#: A sealer that is overtaken between its scripts, or a failover; not one within the other, nor two
#: failovers: these may make a revision of what is late.
SLOW = UnknownLanes(slow=True)
FAILOVER = UnknownLanes(failovers=1)

#: The small world that shows a flaw.
WORLDS = {
    Flaw.NOT_CLOSED: UnknownLanes(),
    Flaw.PUBLISHED_ALONE: SLOW,
    Flaw.SEALED_ALONE: FAILOVER,
    Flaw.EVERY_PUBLISHED: FAILOVER,
    Flaw.ALWAYS_CLOSED: UnknownLanes(),
}


def _chosen(flaw: str | None, large: bool) -> UnknownLanes:  # noqa: FBT001
    if flaw is None:
        return FAILOVER if large else SLOW
    chosen = Flaw(flaw)
    return replace(FAILOVER if large else WORLDS[chosen], flaw=chosen)


if __name__ == "__main__":
    sys.exit(main(__doc__, Flaw, _chosen))
