"""Which alert told of which fault, as a table of Markdown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

HEAD = (
    "| fault | what goes wrong | first alert | after | next average after |",
    "| --- | --- | --- | ---: | ---: |",
)
_PLACE = re.compile("(<!-- alerts:begin -->\n).*?(<!-- alerts:end -->)", re.DOTALL)
_FAULT = re.compile(r"\| `([\w-]+)` \|")


class NoPlace(Exception):
    """The document has none for the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one fault showed; times in seconds from its beginning.

    alerts: those that fired first, in the same evaluation; none if none did
    alert_s: when they did; without one, how long was waited
    average_s: when the average of the hour in which the fault began was in the warehouse; None if
        it was not as long as anybody watched
    """

    fault: str
    alerts: Sequence[str]
    alert_s: float
    average_s: float | None


def span(seconds: float) -> str:
    """`42 s` or `5 min 10 s`."""
    minutes, rest = divmod(round(seconds), 60)
    parts = [f"{minutes} min"] * (minutes > 0) + [f"{rest} s"] * (rest > 0 or not minutes)
    return " ".join(parts)


def line(seen: Observation, what: str) -> str:
    """The row of one fault."""
    links = " and ".join(f"[{name}]({name}.md)" for name in seen.alerts)
    cells = (
        f"`{seen.fault}`",
        what.replace("|", "\\|"),
        links or f"none within {seen.alert_s // 60:.0f} min",
        span(seen.alert_s) if seen.alerts else "",
        "not meanwhile" if seen.average_s is None else span(seen.average_s),
    )
    return f"| {' | '.join(cells)} |"


def rewritten(document: str, measured: Mapping[str, str], order: Iterable[str]) -> str:
    """`document` with these lines, by fault, in its table; those of other faults stay as they are,
    if there are such faults. Raises NoPlace."""
    place = _PLACE.search(document)
    if not place:
        raise NoPlace("no place between alerts:begin and alerts:end")
    written = ((_FAULT.match(each), each) for each in place[0].splitlines())
    before = {found[1]: each for found, each in written if found}
    lines = before | dict(measured)
    table = "\n".join([*HEAD, *(lines[fault] for fault in order if fault in lines)])
    return _PLACE.sub(lambda match: f"{match[1]}{table}\n{match[2]}", document)
