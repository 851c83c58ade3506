"""The protocol holds in every state of a small world, and each rule that is left out breaks it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.protocol import identities, publishing, sealing, unknown_lanes, watermarks
from tests.protocol.explorer import Holds, Violation, explore

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Counter:
    """Counts by one or by two; `forbidden` is wrong."""

    forbidden: int | None
    initial: int = 0

    def steps(self, world: int) -> Iterator[tuple[str, int]]:
        if world < 10:
            yield "one more", world + 1
            yield "two more", world + 2

    def violation(self, world: int) -> str | None:
        return f"it is {world}" if world == self.forbidden else None


def test_every_state_is_visited_once() -> None:
    assert explore(Counter(forbidden=None)) == Holds(states=12)


def test_the_shortest_way_to_a_violation_is_found() -> None:
    found = explore(Counter(forbidden=3))

    assert isinstance(found, Violation)
    assert found.damage == "it is 3"
    assert found.trace == ("one more", "two more")
    assert "violated after" in str(found)
    assert "2. two more" in str(found)


@pytest.mark.parametrize(
    "world",
    [sealing.PARTITION_FAILS_OVER, sealing.AVERAGES_FAIL_OVER],
    ids=["the partition fails over", "the averages fail over"],
)
def test_no_reading_is_lost_or_counted_twice_and_no_hour_is_published_twice(
    world: sealing.Sealing,
) -> None:
    assert isinstance(found := explore(world), Holds), found
    assert found.states > 1_000


SEALING_DAMAGE = {
    sealing.Flaw.TRUST_OWNERSHIP: "reading 0 is counted twice",
    sealing.Flaw.ANY_CONNECTION: "reading 0 is counted and is not in the stream",
    sealing.Flaw.PUBLISHED_IN_PARTITION: "hour 0 is sealed and can never be published",
    sealing.Flaw.NO_CUT_OFF: "hour 0 is sealed without reading 1",
    sealing.Flaw.UNSEEN_PUBLISHED_THROUGH: "hours are published twice or out of order: [0, 0]",
}


@pytest.mark.parametrize("flaw", sealing.Flaw)
def test_the_protocol_without_one_of_its_rules_does_damage(flaw: sealing.Flaw) -> None:
    found = explore(replace(sealing.WORLDS[flaw], flaw=flaw))

    assert isinstance(found, Violation), found
    assert found.damage == SEALING_DAMAGE[flaw]


def test_no_reading_of_a_known_producer_is_late_and_every_hour_is_sealed() -> None:
    assert isinstance(found := explore(watermarks.SMALL), Holds), found
    assert found.states > 1_000


LATE = "a reading of a producer that lives, and that the shard knew, is late"
WATERMARKS_DAMAGE = {
    watermarks.Flaw.FIRST_SIGHT: LATE,
    watermarks.Flaw.NO_RESUMED: LATE,
    watermarks.Flaw.NO_WATERMARK: LATE,
    watermarks.Flaw.NO_IDLE: "the hour is not sealed, though every producer that lives sent all",
}


@pytest.mark.parametrize("flaw", watermarks.Flaw)
def test_the_rule_for_sealing_without_one_of_its_parts_does_damage(flaw: watermarks.Flaw) -> None:
    found = explore(replace(watermarks.WORLDS[flaw], flaw=flaw))

    assert isinstance(found, Violation), found
    assert found.damage == WATERMARKS_DAMAGE[flaw]


@pytest.mark.parametrize(
    "world", [unknown_lanes.SLOW, unknown_lanes.FAILOVER], ids=["a sealer is slow", "a failover"]
)
def test_what_an_unknown_lane_has_of_a_published_hour_is_no_revision(
    world: unknown_lanes.UnknownLanes,
) -> None:
    assert isinstance(found := explore(world), Holds), found
    assert found.states > 50


REVISED = "the hour is revised, though no reading was lost that had been counted"
NEEDLESS = "the hour is closed to the lane, though no partition has sealed it"
UNKNOWN_LANES_DAMAGE = {
    unknown_lanes.Flaw.NOT_CLOSED: REVISED,
    unknown_lanes.Flaw.PUBLISHED_ALONE: REVISED,
    unknown_lanes.Flaw.SEALED_ALONE: REVISED,
    unknown_lanes.Flaw.EVERY_PUBLISHED: "the reading of the lane is published and late",
    unknown_lanes.Flaw.ALWAYS_CLOSED: NEEDLESS,
}


@pytest.mark.parametrize("flaw", unknown_lanes.Flaw)
def test_the_rule_for_unknown_lanes_without_one_of_its_parts_does_damage(
    flaw: unknown_lanes.Flaw,
) -> None:
    found = explore(replace(unknown_lanes.WORLDS[flaw], flaw=flaw))

    assert isinstance(found, Violation), found
    assert found.damage == UNKNOWN_LANES_DAMAGE[flaw]


@pytest.mark.parametrize(
    "world",
    [publishing.LEAPS, publishing.LOSSES, publishing.OPERATOR],
    ids=["clocks leap", "keys are lost", "an operator takes back"],
)
def test_hours_are_published_in_order_and_when_they_are_over_and_publishing_goes_on(
    world: publishing.Publishing,
) -> None:
    assert isinstance(found := explore(world), Holds), found
    assert found.states > 500


EARLY = "an hour is published before it is over by the pipeline clock"
STUCK = "nothing is published any more"
PUBLISHING_DAMAGE = {
    publishing.Flaw.OWN_CLOCK: EARLY,
    publishing.Flaw.DEVIATION: EARLY,
    publishing.Flaw.NO_RESTORATION: STUCK,
    publishing.Flaw.NO_WAY_BACK: STUCK,
    publishing.Flaw.SET_ALONE: STUCK,
    publishing.Flaw.REWIND_KEEPS_IT: STUCK,
    publishing.Flaw.DELETED_ID: STUCK,
    publishing.Flaw.CLOCK_FIRST: EARLY,
}


@pytest.mark.parametrize("flaw", publishing.Flaw)
def test_publishing_without_one_of_its_rules_does_damage(flaw: publishing.Flaw) -> None:
    found = explore(replace(publishing.WORLDS[flaw], flaw=flaw))

    assert isinstance(found, Violation), found
    assert found.damage == PUBLISHING_DAMAGE[flaw]


def test_a_repeated_reading_is_stored_once_and_is_there_when_it_is_acknowledged() -> None:
    assert isinstance(found := explore(identities.LARGE), Holds), found
    assert found.states > 500


TWICE = "the reading is stored twice"
LEFT_OUT = "the reading was left out of a batch, and is not in the stream"
IDENTITIES_DAMAGE = {
    identities.Flaw.NO_BIT: TWICE,
    identities.Flaw.BIT_AFTERWARDS: TWICE,
    identities.Flaw.BIT_BEFORE: LEFT_OUT,
    identities.Flaw.OTHER_SLOT: TWICE,
    identities.Flaw.UNCHECKED: LEFT_OUT,
}


@pytest.mark.parametrize("flaw", identities.Flaw)
def test_the_bits_without_one_of_their_rules_do_damage(flaw: identities.Flaw) -> None:
    found = explore(replace(identities.WORLDS[flaw], flaw=flaw))

    assert isinstance(found, Violation), found
    assert found.damage == IDENTITIES_DAMAGE[flaw]


@pytest.mark.parametrize(
    ("module", "arguments", "exit_code", "output"),
    [
        ("sealing", ["--flaw", "no-cut-off"], 1, "hour 0 is sealed without reading 1"),
        ("watermarks", ["--flaw", "first-sight"], 1, "at 0: "),
        ("watermarks", ["--help"], 0, "no-resumed"),
        ("unknown_lanes", ["--large"], 0, "holds in all"),
        ("identities", ["--flaw", "unchecked"], 1, "THE SHARD FAILS OVER"),
        ("publishing", ["--flaw", "deleted-id"], 1, "nothing is published any more"),
    ],
)
def test_a_model_can_be_run_by_itself(
    module: str, arguments: list[str], exit_code: int, output: str
) -> None:
    command = [sys.executable, "-m", f"tests.protocol.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == exit_code, done.stderr
    assert output in done.stdout
