"""Exhaustive exploration of a model: every state that any interleaving of its steps can reach."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

World = TypeVar("World", bound=Hashable)


class Model(Protocol[World]):
    """What a protocol may do, and what must hold in each of its states. Pure.

    initial: the state that everything starts from
    steps: every atomic step that is possible in a state, with its name and the state it leads to
    violation: what is wrong with a state, or None
    """

    @property
    def initial(self) -> World: ...
    def steps(self, world: World) -> Iterable[tuple[str, World]]: ...
    def violation(self, world: World) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """What is wrong, and the shortest sequence of steps that leads there."""

    damage: str
    trace: tuple[str, ...]
    states: int

    def __str__(self) -> str:
        steps = "".join(f"\n{number:4}. {step}" for number, step in enumerate(self.trace, 1))
        return f"violated after {self.states:,} states: {self.damage}{steps}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """No state that can be reached is wrong."""

    states: int

    def __str__(self) -> str:
        return f"holds in all {self.states:,} states"


def explore(model: Model[World]) -> Holds | Violation:
    """Visit every reachable state, nearest first, until one is wrong."""
    before: dict[World, tuple[World, str] | None] = {model.initial: None}
    queue = deque(before)
    while queue:
        world = queue.popleft()
        if damage := model.violation(world):
            return Violation(damage=damage, trace=_trace(before, world), states=len(before))
        for name, following in model.steps(world):
            if following not in before:
                before[following] = world, name
                queue.append(following)
    return Holds(states=len(before))


def _trace(before: Mapping[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    names: list[str] = []
    while reached := before[world]:
        world, name = reached
        names.append(name)
    return tuple(reversed(names))


def main(
    description: str | None,
    flaws: Iterable[str],
    model: Callable[[str | None, bool], Model[World]],
) -> int:
    """Explore a model as the command line asks, and print the result; 1 if it is violated.

    model: makes one from the name of a flaw, and from whether it is to be large
    """
    first_line = (description or "").partition("\n")[0]
    parser = ArgumentParser(description=first_line)
    parser.add_argument("--flaw", choices=tuple(flaws), help="plant this flaw")
    parser.add_argument("--large", action="store_true", help="minutes and gigabytes, not seconds")
    arguments = parser.parse_args()
    result = explore(model(arguments.flaw, arguments.large))
    print(result)
    return int(isinstance(result, Violation))
