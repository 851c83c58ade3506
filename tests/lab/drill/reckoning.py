"""What became of every reading, hour by hour, with exact integers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hourglassctl.audit.compare import Result

Hours = Mapping[int, Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a producer process reported at its end; `taken` is what was acknowledged to it, and
    simulated devices give nothing that is `repeated`."""

    produced: int
    taken: int
    repeated: int = 0
    dropped: int = 0

    @property
    def whole(self) -> bool:
        """Every reading of its devices was taken, so that the generator knows them all."""
        return self.taken == self.produced


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What can be found after a run, by hour start.

    ledgers: of the producers that ended by themselves
    acknowledged: of those that were killed, the readings acknowledged to them, as reported last
    generated: what the devices of those with a whole ledger gave
    stored: by producer, the readings in the partitions, each device and time once
    foreign: good readings that the drill itself wrote
    counted: what the hour records have counted, late readings included; where no record is left,
        what the warehouse has
    """

    ledgers: Mapping[str, Ledger] = field(default_factory=dict[str, Ledger])
    acknowledged: Mapping[str, int] = field(default_factory=dict[str, int])
    generated: Mapping[str, Hours] = field(default_factory=dict[str, Hours])
    stored: Mapping[str, Hours] = field(default_factory=dict[str, Hours])
    foreign: Hours = field(default_factory=dict[int, Result])
    counted: Hours = field(default_factory=dict[int, Result])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """`lost` readings are those that were acknowledged to producers, or that stood in a partition,
    and that no hour has; they are added up hour by hour, so that a loss hides no gain."""

    expected: int
    lost: int
    twice: int
    wrong_sums: tuple[int, ...]


def reckon(evidence: Evidence) -> Reckoning:
    """A producer with a whole ledger is held against the generator. Of another one the readings
    that are stored must be counted, and be no fewer than were acknowledged to it."""
    parts: list[Hours] = [evidence.foreign, *evidence.generated.values()]
    lost = twice = 0
    acknowledged = {
        **evidence.acknowledged,
        **{name: each.taken for name, each in evidence.ledgers.items()},
    }
    for name in {*evidence.stored, *acknowledged} - evidence.generated.keys():
        stored = evidence.stored.get(name, {})
        parts.append(stored)
        there = sum(each.count for each in stored.values())
        lost += max(0, acknowledged.get(name, 0) - there)
    expected = added(parts)
    wrong: list[int] = []
    nothing = Result(0, 0)
    for hour in sorted({*expected, *evidence.counted}):
        want, have = expected.get(hour, nothing), evidence.counted.get(hour, nothing)
        lost += max(0, want.count - have.count)
        twice += max(0, have.count - want.count)
        if want.count == have.count and want != have:
            wrong.append(hour)
    return Reckoning(
        expected=sum(each.count for each in expected.values()),
        lost=lost,
        twice=twice,
        wrong_sums=tuple(wrong),
    )


def added(parts: Iterable[Hours]) -> dict[int, Result]:
    """Hour by hour."""
    total: dict[int, Result] = {}
    for part in parts:
        for hour, each in part.items():
            before = total.get(hour, Result(0, 0))
            total[hour] = Result(before.count + each.count, before.sum_milli_f + each.sum_milli_f)
    return total
