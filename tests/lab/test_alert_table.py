"""Which alert tells of which fault: how the table is made, and what it says in the docs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.lab.drill.catalogue import FAULTS
from tools.alert_table import HEAD, NoPlace, Observation, line, rewritten, span

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "runbooks" / "README.md"
EMPTY = "before\n<!-- alerts:begin -->\n<!-- alerts:end -->\nafter\n"


def alerts() -> set[str]:
    return {
        rule["alert"]
        for file in (ROOT / "charts").glob("*/files/alerts.yaml")
        for rule in yaml.safe_load(file.read_text("utf-8"))
    }


def rows() -> list[Sequence[str]]:
    """The cells of the table in the docs, without its head."""
    _, _, behind = PAGE.read_text("utf-8").partition("<!-- alerts:begin -->\n")
    table, _, _ = behind.partition("<!-- alerts:end -->")
    head, lines = table.splitlines()[:2], table.splitlines()[2:]
    assert tuple(head) == HEAD
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", each)[1:-1]] for each in lines]


def test_the_page_has_each_fault_as_the_drill_tells_it() -> None:
    shown = [(name.strip("`"), what.replace("\\|", "|")) for name, what, *_ in rows()]
    assert shown == [(each.name, each.what) for each in FAULTS.values()]


def test_the_page_names_alerts_that_there_are_with_their_runbooks() -> None:
    existing = alerts()
    for fault, _, first, after, _ in rows():
        linked = re.findall(r"\[(\w+)\]\((\w+)\.md\)", first)
        assert bool(linked) == bool(after), fault
        if not linked:
            assert re.fullmatch(r"none within \d+ min", first), fault
        for name, page in linked:
            assert name == page, fault
            assert name in existing, fault
            assert (PAGE.parent / f"{page}.md").exists(), fault


def test_a_fault_that_keeps_an_average_back_has_an_alert() -> None:
    for fault, _, first, _, average in rows():
        assert average == "not meanwhile" or re.fullmatch(r"(\d+ min ?)?(\d+ s)?", average), fault
        if first.startswith("none"):
            assert average != "not meanwhile", fault


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (42.2, "42 s"), (60, "1 min"), (310, "5 min 10 s")]
)
def test_a_time_is_shown_in_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_an_alert_leads_to_its_runbook() -> None:
    seen = Observation(fault="flood", alerts=["Wet"], alert_s=65, average_s=None)
    assert line(seen, "water | mud") == (
        "| `flood` | water \\| mud | [Wet](Wet.md) | 1 min 5 s | not meanwhile |"
    )


def test_alerts_of_one_evaluation_are_all_named() -> None:
    seen = Observation(fault="flood", alerts=["Cold", "Wet"], alert_s=5, average_s=6)
    assert "| [Cold](Cold.md) and [Wet](Wet.md) | 5 s | 6 s |" in line(seen, "water")


def test_without_an_alert_the_line_says_how_long_was_waited() -> None:
    seen = Observation(fault="drizzle", alerts=(), alert_s=601.5, average_s=66)
    assert line(seen, "water") == "| `drizzle` | water | none within 10 min |  | 1 min 6 s |"


def test_lines_measured_again_take_the_place_of_the_old_ones_in_the_catalogues_order() -> None:
    order = ["kill-it", "drown-it"]
    first = rewritten(EMPTY, {"drown-it": "| `drown-it` | old |"}, order)
    both = rewritten(first, {"kill-it": "| `kill-it` | new |"}, order)
    again = rewritten(both, {"drown-it": "| `drown-it` | new |"}, order)
    table = "\n".join([*HEAD, "| `kill-it` | new |", "| `drown-it` | new |"])
    assert again == f"before\n<!-- alerts:begin -->\n{table}\n<!-- alerts:end -->\nafter\n"


def test_the_line_of_a_fault_that_is_no_more_goes() -> None:
    before = rewritten(EMPTY, {"gone": "| `gone` | old |"}, ["gone"])
    assert "gone" not in rewritten(before, {}, ["kill-it"])


def test_a_document_without_a_place_is_refused() -> None:
    with pytest.raises(NoPlace):
        rewritten("no table here", {}, [])
