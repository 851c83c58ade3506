"""What a benchmark finds, as values. Pure: nothing here measures anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure has to reach: the ratio to its ceiling, or the value where it has none."""

    bound: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One kind of work: its value in each repeat, beside the ceiling of the same repeat.

    work: which kind, in a few words
    how: how it was measured
    unit: of values and ceilings
    ceiling: what the ceiling is; empty without one
    """

    work: str
    how: str
    unit: str
    values: Sequence[float]
    ceiling: str = ""
    ceilings: Sequence[float] = ()
    target: Target | None = None

    @property
    def ratios(self) -> list[float]:
        """Value by ceiling, repeat by repeat; empty without a ceiling."""
        if not self.ceilings:
            return []
        return [value / limit for value, limit in zip(self.values, self.ceilings, strict=True)]

    @property
    def judged(self) -> list[float]:
        """What a target is about, and a reader compares: ratios, else values."""
        return self.ratios or list(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None without one."""
        return None if self.target is None else self.target.met(median(self.judged))

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        data |= {"kind": "figure", "median": median(self.values), "met": self.met}
        data["target"] = None if self.target is None else str(self.target)
        data["ratios"] = self.ratios
        data["median_ratio"] = median(self.ratios) if self.ratios else None
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How something changes with something else: a median for each x, line by line.

    name: a file's name, without its ending
    flat: the most that any line may grow from the first x to the last, as a multiple
    """

    name: str
    title: str
    x: str
    y: str
    xs: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    flat: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether no line grows more than it may; None where any may, or growth is unknown."""
        growths = [by for by in self.growth.values() if by is not None]
        return None if self.flat is None or not growths else max(growths) <= self.flat

    @property
    def growth(self) -> dict[str, float | None]:
        """For each line its value at the largest x as a multiple of that at the smallest; None
        where that one is 0: less processor time than the kernel's clock resolves."""
        return {
            line: values[-1] / values[0] if values[0] > 0 else None
            for line, values in self.lines.items()
        }

    def as_data(self) -> dict[str, Any]:
        return {"kind": "curve", **asdict(self), "growth": self.growth, "met": self.met}


class Samples:
    """Several values for each x of each line, in whatever order they are found."""

    def __init__(self) -> None:
        self._values: dict[str, dict[float, list[float]]] = {}

    def add(self, line: str, x: float, value: float) -> None:
        self._values.setdefault(line, {}).setdefault(x, []).append(value)

    def add_each(self, x: float, lines: Sequence[str], values: Sequence[float]) -> None:
        """A value to each of several lines."""
        for line, value in zip(lines, values, strict=True):
            self.add(line, x, value)

    def medians(self, xs: Sequence[float]) -> dict[str, list[float]]:
        """For each line the median at each of `xs`."""
        return {line: [median(of[x]) for x in xs] for line, of in self._values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What has more than one number to a row; every cell is text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def as_data(self) -> dict[str, Any]:
        return {"kind": "table", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMeasured:
    """A kind of work that could not be measured here, and what it takes; or that did not do what it
    should, which is `wrong`."""

    work: str
    why: str
    wrong: bool = False

    def as_data(self) -> dict[str, Any]:
        return {"kind": "not measured", **asdict(self)}


Finding: TypeAlias = Figure | Curve | Table | NotMeasured


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that is no less than `percent` of them (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
