"""What was found, as lines, as data, and as the page docs/benchmarks.md. Pure but for `machine`."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from hourglassctl.local.embedded import find_server
from tests.lab.bench.figures import Curve, Figure, Finding, NotMeasured, Table

_HEAD = """# Benchmarks

Written by `make bench WRITE=1`, on one machine, in one run; numbers of different runs are not
comparable, ratios to a ceiling of the same run are. Each figure is the median of its repeats, which
alternate with those of its ceiling; behind it the least and the greatest.

What others do needs `make peers`, and RedisTimeSeries a server that has it, or its module:
`make bench TIME_SERIES=…/redistimeseries.so`. What is missing is named.

How a figure is measured: `tests/lab/bench`, a module for each kind of work.
"""


def machine() -> dict[str, str]:
    """What it was measured on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = re.findall(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)
        processor = models[0] if models else processor
    return {
        "processor": f"{os.cpu_count()} cores, {processor}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "redis": find_server().version,
        "load at the start": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def as_data(machine: Mapping[str, str], findings: Sequence[Finding]) -> dict[str, Any]:
    return {"machine": dict(machine), "findings": [finding.as_data() for finding in findings]}


def lines(finding: Finding) -> list[str]:
    """For the terminal."""
    match finding:
        case Figure():
            return [f"  {finding.work:34} {_measured(finding):>24}  {_judgement(finding)}"]
        case NotMeasured():
            return [f"  {finding.work:34} not measured: {finding.why}"]
        case Table():
            widths = [
                max(map(len, column)) for column in zip(finding.head, *finding.rows, strict=True)
            ]
            rows = [
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                for row in (finding.head, *finding.rows)
            ]
            return [f"  {finding.title}", *(f"    {row}" for row in rows)]
        case Curve():
            grown = ", ".join(
                f"{line} {'from 0' if by is None else f'{by:.2f} times'}"
                for line, by in finding.growth.items()
            )
            return [
                f"  {finding.title}: {finding.y}",
                f"    {finding.x:34} {'  '.join(f'{x:>9,.0f}' for x in finding.xs)}",
                *(
                    f"    {line:34} {'  '.join(f'{_number(y):>9}' for y in values)}"
                    for line, values in finding.lines.items()
                ),
                f"    from the first to the last: {grown}{_flatness(finding)}",
            ]


def page(machine: Mapping[str, str], findings: Sequence[Finding], images: str) -> str:
    """As Markdown; `images` is where the plots lie, as seen from the page."""
    parts = [_HEAD, _rows(("machine", ""), [(name, value) for name, value in machine.items()])]
    figures = [finding for finding in findings if isinstance(finding, Figure)]
    if figures:
        head = ("work", "measured", "of its ceiling", "target", "how")
        parts.append("## Figures\n\n" + _rows(head, [_cells(figure) for figure in figures]))
    for finding in findings:
        if isinstance(finding, Table):
            parts.append(
                f"## {finding.title}\n\n" + _rows(finding.head, finding.rows) + finding.note
            )
        elif isinstance(finding, Curve):
            parts.append(
                f"## {finding.title}\n\n![{finding.title}]({images}/{finding.name}.svg)\n\n"
                + _rows(
                    (finding.x, *(f"{x:,.0f}" for x in finding.xs)),
                    [(line, *map(_number, values)) for line, values in finding.lines.items()],
                )
                + f"In {finding.y}{_flatness(finding, mark=True)}."
            )
    missing = [finding for finding in findings if isinstance(finding, NotMeasured)]
    if missing:
        parts.append(
            "## Not measured\n\n" + "\n".join(f"- {each.work}: {each.why}" for each in missing)
        )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _cells(figure: Figure) -> Sequence[str]:
    ratio, target = "", ""
    if figure.ratios:
        ratio = f"{_number(median(figure.ratios))} ({_spread(figure.ratios)}) of {figure.ceiling}"
    if figure.target:
        target = f"{figure.target} {'✓' if figure.met else '✗'}"
    return (figure.work, _measured(figure), ratio, target, figure.how)


def _measured(figure: Figure) -> str:
    spread = "" if len(figure.values) == 1 or figure.ratios else f" ({_spread(figure.values)})"
    return f"{_number(median(figure.values))} {figure.unit}{spread}"


def _judgement(figure: Figure) -> str:
    parts: list[str] = []
    if figure.ratios:
        ceiling = f"{figure.ceiling}, {_number(median(figure.ceilings))}"
        parts.append(f"{_number(median(figure.ratios))} ({_spread(figure.ratios)}) of {ceiling}")
    if figure.target:
        parts.append(f"target {figure.target}: {'met' if figure.met else 'MISSED'}")
    return "  ".join(parts)


def _flatness(curve: Curve, *, mark: bool = False) -> str:
    if curve.flat is None:
        return ""
    limit = f"; from the first to the last it may grow {curve.flat:g} times at most: "
    if curve.met is None:
        return f"{limit}unknown"
    return limit + (("✓" if curve.met else "✗") if mark else "met" if curve.met else "MISSED")


def _spread(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [head, ["---"] * len(head), *rows]
    return (
        "".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in table
        )
        + "\n"
    )
