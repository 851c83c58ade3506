"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.lab.drill.report import NOTHING_LOST, Happened, Promise
from tests.lab.drill.stage import Setting, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong on purpose.

    what: for people, one line
    act: does it, and puts things right again as far as an operator would
    rests_on: what keeps the promise, with the file it stands in
    proof: the test that fails when that is removed
    """

    name: str
    what: str
    act: Callable[[Stage], Happened]
    rests_on: str
    proof: str
    promise: Promise = NOTHING_LOST
    setting: Setting = field(default_factory=Setting)
