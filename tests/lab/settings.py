"""The options of each command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from hourglass.model.keys import MOST_LANES
from hourglass.service.config import option

flag = partial(option, env=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillSettings:
    names: list[str] | None = option(
        None, "Faults, by name; none names all.", env=False, positional=True
    )
    list_: bool = flag(False, "List the faults, and end.")
    json: bool = flag(False, "Print JSON instead of a table.")
    rate: int = flag(20_000, "Load, at least.", unit="readings a second", minimum=1000)
    seed: int = flag(0, "Of the moments at which faults happen; 0 draws one, and prints it.")
    lanes: int = flag(1, "Lanes that each day is shared out to.", minimum=1, maximum=MOST_LANES)
    packed: bool = flag(False, "Pack readings under every fault, not under some of them only.")
    logs: str = flag("", "Folder to keep the services' logs in, each fault's in one of its name.")
    write: str = flag("", "Write the table into this document, between its drill:begin and end.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertDrillSettings:
    names: list[str] | None = option(
        None, "Faults, by name; none names all.", env=False, positional=True
    )
    at_once: int = flag(os.cpu_count() or 1, "How many faults run at once.", minimum=1)
    write: str = flag(
        "docs/runbooks/README.md",
        "Write the table into this document, between its alerts:begin and end.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    only: str = flag("", "Kinds of work to measure, separated by commas; empty takes all.")
    repeats: int = flag(5, "How often to measure; the median is shown.", minimum=1)
    quick: bool = flag(False, "Take every step in a few seconds; the numbers mean nothing.")
    json: bool = flag(False, "Print JSON instead of text.")
    write: str = flag("", "Also write the page FILE, and its plots into images/ beside it.")
    time_series: str = flag("", "RedisTimeSeries' module, a file, to be measured beside.")
