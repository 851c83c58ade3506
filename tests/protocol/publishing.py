"""Publishing with wrong clocks, lost keys and an operator, in every interleaving of a small world.

    python -m tests.protocol.publishing [--flaw FLAW] [--large]

Three hours with a reading each, a sealer, and the averages' slot: the stream, the set of published
hours, and the published-through hour, which is a key of its own. The rules:

- A sealer reads what is published through, then the clock, and publishes the next hour if it is
  sealed and over by that clock.
- The slot refuses an hour while its own clock deviates from the sealer's, and an hour that is not
  over by its own clock.
- When the key of the published-through hour is lost alone, it is restored from the set, or from the
  stream, before anything is published.
- An operator who has set the pipeline clock too far ahead sets it back, and then takes back what is
  published of hours that are not over: stream, set and published-through hour in one step. The last
  deleted id does not stop the next entry.

No hour is published twice, passed over, or before it is over by the pipeline clock, which no single
clock decides; and publishing always goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from tests.protocol.explorer import main

HOURS = 3

Step = tuple[str, "World"]


class Flaw(StrEnum):
    """A rule that is left out."""

    OWN_CLOCK = "own-clock"  # publish whatever the slot's own clock says of the hour
    DEVIATION = "deviation"  # publish though the slot's clock deviates
    NO_RESTORATION = "no-restoration"  # take a lost key for nothing published
    NO_WAY_BACK = "no-way-back"  # publish nothing while the key is lost
    SET_ALONE = "set-alone"  # restore it from the set, and never from the stream
    REWIND_KEEPS_IT = "rewind-keeps-it"  # take back entries, and not the published-through hour
    DELETED_ID = "deleted-id"  # leave the last deleted id as the stream's last one
    CLOCK_FIRST = "clock-first"  # read the clock, then what is published through


class Averages(NamedTuple):
    """through: the last published hour; None before the first, or when the key is lost
    last_id: the greatest id that the stream has had
    """

    stream: tuple[int, ...] = ()
    published: tuple[int, ...] = ()
    through: int | None = None
    last_id: int = -1


class View(NamedTuple):
    """What a sealer has read so far.

    over, ahead: how many hours are over by the clock, and how far that is set ahead
    """

    through: int | None = None
    has_through: bool = False
    over: int | None = None
    ahead: int = 0


class World(NamedTuple):
    """now: hours that are over by real time
    ahead: how far the operator has set the pipeline clock ahead, in hours
    sealer_ahead, slot_ahead: how far a clock has leapt
    """

    now: int = 0
    ahead: int = 0
    sealer_ahead: int = 0
    slot_ahead: int = 0
    sealed: int = 0
    averages: Averages = Averages()
    view: View | None = None
    leaps: int = 0
    losses: int = 0
    settings: int = 0
    early: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """leaps, losses, settings: how often a clock leaps, a key is lost, and the pipeline clock is
        set ahead
    slow: whether a sealer may be overtaken between its read of the clock and publishing
    """

    leaps: int = 0
    losses: int = 0
    settings: int = 0
    slow: bool = False
    flaw: Flaw | None = None

    @property
    def initial(self) -> World:
        return World()

    def steps(self, world: World) -> Iterator[Step]:
        """Each is one script, one read, or one failure."""
        if world.now < HOURS:
            yield f"hour {world.now} is over", world._replace(now=world.now + 1)
        yield from self._clocks(world)
        yield from self._losses(world)
        yield from self._operator(world)
        if world.sealed < self._over(world):
            yield f"hour {world.sealed} is sealed", world._replace(sealed=world.sealed + 1)
        yield from self._sealer(world)

    def _clocks(self, world: World) -> Iterator[Step]:
        if world.leaps < self.leaps and not (world.sealer_ahead or world.slot_ahead):
            leapt = world._replace(leaps=world.leaps + 1)
            yield "the sealer's clock leaps ahead", leapt._replace(sealer_ahead=1)
            yield "the slot's clock leaps ahead", leapt._replace(slot_ahead=1)
        if world.sealer_ahead or world.slot_ahead:
            yield "the clock is right again", world._replace(sealer_ahead=0, slot_ahead=0)

    def _losses(self, world: World) -> Iterator[Step]:
        averages = world.averages
        if world.losses < self.losses:
            lost = world._replace(losses=world.losses + 1)
            if averages.through is not None:
                without = averages._replace(through=None)
                yield "the published-through hour is lost", lost._replace(averages=without)
            if averages.published:
                yield "the set is lost", lost._replace(averages=averages._replace(published=()))

    def _operator(self, world: World) -> Iterator[Step]:
        if world.settings < self.settings and not world.ahead:
            yield (
                "the pipeline clock is set ahead",
                world._replace(ahead=1, settings=world.settings + 1),
            )
        if world.ahead:
            yield "the pipeline clock is set back", world._replace(ahead=0)
        elif world.settings and world.averages.through is not None:
            rewound = self._rewound(world.averages, world.now)
            if rewound != world.averages:
                yield "what is ahead of it is taken back", world._replace(averages=rewound)

    def _rewound(self, averages: Averages, now: int) -> Averages:
        published = tuple(hour for hour in averages.published if hour < now)
        through = max(published, default=None)
        return averages._replace(
            stream=tuple(hour for hour in averages.stream if hour < now),
            published=published,
            through=averages.through if self.flaw is Flaw.REWIND_KEEPS_IT else through,
        )

    def _sealer(self, world: World) -> Iterator[Step]:
        view = world.view
        if view is None:
            first = View()
            if self.flaw is Flaw.CLOCK_FIRST:
                yield "a sealer reads the clock", world._replace(view=self._clock(world, first))
            else:
                yield (
                    "a sealer reads what is published",
                    world._replace(view=_through(world, first)),
                )
        elif not view.has_through:
            yield "it publishes", self._published(world, _through(world, view))
        elif view.over is None and self.slow:
            yield "it reads the clock", world._replace(view=self._clock(world, view))
        elif view.over is None:
            yield "it publishes", self._published(world, self._clock(world, view))
        else:
            yield "it publishes", self._published(world, view)

    def _over(self, world: World) -> int:
        """As the sealer sees it."""
        return min(HOURS, world.now + world.ahead + world.sealer_ahead)

    def _clock(self, world: World, view: View) -> View:
        return view._replace(over=self._over(world), ahead=world.ahead)

    def _published(self, world: World, view: View) -> World:
        """The next hour, if it is sealed and over; the first one where nothing is published."""
        done = world._replace(view=None)
        hour = 0 if view.through is None else view.through + 1
        if hour >= world.sealed or hour >= (view.over or 0):
            return done
        averages = self._publish(world, view, hour)
        grown = len(averages.stream) > len(world.averages.stream)
        early = grown and world.now + world.ahead <= hour
        return done._replace(averages=averages, early=world.early or early)

    def _publish(self, world: World, view: View, hour: int) -> Averages:
        """The script, in the slot of the averages."""
        averages, flaw = world.averages, self.flaw
        deviates = world.slot_ahead != world.sealer_ahead and flaw is not Flaw.DEVIATION
        own = world.now + world.slot_ahead + view.ahead
        if deviates or (own <= hour and flaw is not Flaw.OWN_CLOCK):
            return averages
        if averages.through is None and flaw is not Flaw.NO_RESTORATION:
            if flaw is Flaw.NO_WAY_BACK and world.losses:
                return averages
            known = averages.published or averages.stream
            if flaw is Flaw.SET_ALONE:
                known = averages.published
            if known:
                return averages._replace(through=max(known))
        if averages.through != view.through:
            return averages
        newest = max(averages.stream, default=-1)
        if hour <= (averages.last_id if flaw is Flaw.DELETED_ID else newest):
            return averages  # XADD refuses the id
        return Averages((*averages.stream, hour), (*averages.published, hour), hour, hour)

    def violation(self, world: World) -> str | None:
        stream = world.averages.stream
        if len(set(stream)) < len(stream):
            return f"hours are published twice: {stream}"
        if stream != tuple(range(len(stream))):
            return f"an hour is passed over: {stream}"
        if world.early:
            return "an hour is published before it is over by the pipeline clock"
        if self._is_stuck(world):
            return "nothing is published any more"
        return None

    def _is_stuck(self, world: World) -> bool:
        """When all is over, sealed and put right, a sealer publishes the rest in a few steps."""
        wrong = world.ahead or world.sealer_ahead or world.slot_ahead or world.view
        if wrong or min(world.now, world.sealed) < HOURS:
            return False
        for _ in range(2 * HOURS):
            world = self._published(world, self._clock(world, _through(world, View())))
        return len(world.averages.stream) < HOURS


def _through(world: World, view: View) -> View:
    return view._replace(through=world.averages.through, has_through=True)


#: Leaps of one clock after another, and lost keys.
LEAPS = Publishing(leaps=2, slow=True)
LOSSES = Publishing(losses=2, slow=True)
#: An operator, who does not come between the second read of a sealer and publishing, milliseconds
#: later: an hour that the sealer publishes then is ahead again, and is taken back again.
OPERATOR = Publishing(settings=1, losses=1)
LARGE = Publishing(leaps=2, losses=2, slow=True)

#: The small world that shows a flaw.
WORLDS = {
    Flaw.OWN_CLOCK: LEAPS,
    Flaw.DEVIATION: LEAPS,
    Flaw.NO_RESTORATION: LOSSES,
    Flaw.NO_WAY_BACK: LOSSES,
    Flaw.SET_ALONE: LOSSES,
    Flaw.REWIND_KEEPS_IT: OPERATOR,
    Flaw.DELETED_ID: OPERATOR,
    Flaw.CLOCK_FIRST: OPERATOR,
}


def _chosen(flaw: str | None, large: bool) -> Publishing:  # noqa: FBT001
    if flaw is None:
        return LARGE if large else OPERATOR
    chosen = Flaw(flaw)
    return replace(WORLDS[chosen], flaw=chosen)


if __name__ == "__main__":
    sys.exit(main(__doc__, Flaw, _chosen))
