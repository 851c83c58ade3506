"""Whether a promise was kept, and how that is shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Protocol

from hourglass.model.keys import iso
from hourglassctl.audit.compare import Audit
from tests.lab.drill.reckoning import Reckoning


class MayLose(Enum):
    """How much of the acknowledged readings."""

    NOTHING = "nothing"
    WHAT_AUDIT_NAMES = "what audit names as gone"
    WHAT_WAS_THERE = "what was not counted yet when it was destroyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What holds whatever the fault does; nothing is ever counted twice.

    text: for people
    may_lose: judged with exact numbers
    says: what audit must say about it, a regular expression
    may_say: what it may say besides; any other difference breaks the promise
    """

    text: str
    may_lose: MayLose = MayLose.NOTHING
    says: str = ""
    may_say: str = ""


NOTHING_LOST = Promise(text="nothing lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What a fault did.

    at_risk: readings that were not counted when it destroyed them
    bad: readings that are in quarantine if all is well
    late: readings that it made late itself; no outage makes one late
    """

    text: str
    at_risk: int = 0
    bad: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One row of the table.

    again_s: from the damage until an hour that ended after it was in the warehouse; None if that
        never came
    broken: what breaks the promise; empty if it was kept
    """

    fault: str
    happened: str
    again_s: float | None
    lost: int
    twice: int
    late: int
    readings: int
    rate: int
    broken: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        return not self.broken


def judge(promise: Promise, happened: Happened, reckoning: Reckoning, audit: Audit) -> list[str]:
    """What breaks the promise, one phrase each."""
    broken: list[str] = []
    if reckoning.twice:
        broken.append(f"{reckoning.twice:,} readings were counted twice")
    broken += [f"the sum of {iso(hour)} is wrong" for hour in reckoning.wrong_sums]
    match promise.may_lose:
        case MayLose.NOTHING if reckoning.lost:
            broken.append(f"{reckoning.lost:,} readings were lost")
        case MayLose.WHAT_AUDIT_NAMES if reckoning.lost != audit.gone:
            broken.append(f"{reckoning.lost:,} readings were lost, audit names {audit.gone:,}")
        case MayLose.WHAT_WAS_THERE if reckoning.lost != happened.at_risk:
            broken.append(
                f"{reckoning.lost:,} readings were lost, {happened.at_risk:,} were not counted"
            )
        case _:
            pass
    if audit.quarantined != happened.bad:
        broken.append(f"{audit.quarantined:,} readings are in quarantine, not {happened.bad:,}")
    if audit.late != happened.late:
        broken.append(f"{audit.late:,} readings came late, not {happened.late:,}")
    if audit.too_late:
        broken.append(f"{audit.too_late:,} hours came late as a whole")
    found = [f"{each.hour} {each.what}".strip() for each in audit.differences]
    foreseen = [pattern for pattern in (promise.says, promise.may_say) if pattern]
    broken += [
        f"audit: {what}" for what in found if not any(re.search(each, what) for each in foreseen)
    ]
    if promise.says and not any(re.search(promise.says, what) for what in found):
        broken.append(f"audit does not say: {promise.says}")
    return broken


COLUMNS = ("fault", "what happened", "averages again", "lost", "twice", "late", "")


def rows(outcomes: Iterable[Outcome]) -> list[Sequence[str]]:
    """The table's cells, in the order of COLUMNS."""
    return [
        (
            each.fault,
            each.happened,
            "never" if each.again_s is None else f"{each.again_s:.1f} s",
            f"{each.lost:,}",
            f"{each.twice:,}",
            f"{each.late:,}",
            "kept" if each.kept else "BROKEN: " + "; ".join(each.broken),
        )
        for each in outcomes
    ]


def as_data(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    return [{**asdict(each), "kept": each.kept} for each in outcomes]


class Told(Protocol):
    """What the document has of a fault beside its outcome."""

    @property
    def promise(self) -> Promise: ...
    @property
    def rests_on(self) -> str: ...
    @property
    def proof(self) -> str: ...


_HEADINGS = ("fault", "what happened", "readings a second", *COLUMNS[2:-1], "promise")


def markdown(outcomes: Sequence[Outcome], faults: Mapping[str, Told]) -> str:
    """The table of docs/reliability.md, and under it what each promise rests on."""
    lines = [
        f"| {' | '.join(_HEADINGS)} |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for each, cells in zip(outcomes, rows(outcomes), strict=True):
        fault, happened, again, *numbers, _ = (cell.replace("|", "\\|") for cell in cells)
        promise = faults[each.fault].promise.text + ("" if each.kept else ": **broken**")
        lines.append(
            f"| `{fault}` | {happened} | {each.rate:,} | {again} | {' | '.join(numbers)} "
            f"| {promise} |"
        )
    lines += ["", "| fault | the promise rests on | and is shown by |", "| --- | --- | --- |"]
    for each in outcomes:
        fault = faults[each.fault]
        lines.append(f"| `{each.fault}` | {fault.rests_on} | `{fault.proof}` |")
    return "\n".join(lines)


_PLACE = re.compile("(<!-- drill:begin -->\n).*?(<!-- drill:end -->)", re.DOTALL)


def rewritten(document: str, table: str) -> str | None:
    """`document` with the table in its place; None if it has no such place."""
    made, found = _PLACE.subn(lambda match: f"{match[1]}{table}\n{match[2]}", document)
    return made if found == 1 else None
