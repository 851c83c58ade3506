"""What the drill wrote into the docs: every fault that there is, every promise kept."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.drill.catalogue import FAULTS
from tests.lab.drill.report import MayLose

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "reliability.md"
WRITTEN = re.compile("<!-- drill:begin -->\n(.*?)<!-- drill:end -->", re.DOTALL)


def tables() -> list[list[list[str]]]:
    """The rows of both tables, cell by cell, without their heads."""
    (written,) = WRITTEN.findall(PAGE.read_text("utf-8"))
    return [
        [
            [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in table.splitlines()[2:]
        ]
        for table in written.strip().split("\n\n")
    ]


def test_no_promise_was_broken() -> None:
    outcomes, _ = tables()
    assert [row[0].strip("`") for row in outcomes] == list(FAULTS)
    for row in outcomes:
        fault = FAULTS[row[0].strip("`")]
        _, happened, rate, again, lost, twice, promise = row
        assert happened
        assert int(rate.replace(",", "")) > 0
        assert re.fullmatch(r"[0-9.]+ s", again)
        assert twice == "0"
        assert lost == "0" or fault.promise.may_lose is not MayLose.NOTHING
        assert promise == fault.promise.text


def test_what_each_promise_rests_on_is_told_as_it_is() -> None:
    outcomes, reasons = tables()
    faults = [FAULTS[row[0].strip("`")] for row in outcomes]
    assert reasons == [[f"`{each.name}`", each.rests_on, f"`{each.proof}`"] for each in faults]
