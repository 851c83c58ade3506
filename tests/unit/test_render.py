"""A table on a screen of any width: a column may be left out, no name or number is cropped."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hourglassctl.render import Fitted

HOURS = "hours 0 to 23"
ROW = ("temps:20250101:12", "1,209,600", "120,960,000", "█" * 24)
TABLE = Fitted("title", ("partition", ">lag", ">readings behind", HOURS), [ROW], spare=HOURS)


def shown(width: int, table: Fitted = TABLE) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    assert "…" not in out.getvalue()
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 10_000])
def test_where_there_is_room_everything_is_shown_in_one_line(width: int) -> None:
    (line,) = (line for line in shown(width).splitlines() if ROW[0] in line)

    assert all(cell in line for cell in ROW)


@pytest.mark.parametrize("width", [68, 46])
def test_the_spare_column_goes_first(width: int) -> None:
    narrow = shown(width)
    (line,) = (line for line in narrow.splitlines() if ROW[0] in line)

    assert all(cell in line for cell in ROW[:3])
    assert HOURS not in narrow
    assert "█" not in narrow


@pytest.mark.parametrize("width", [40, 20, 12])
def test_cells_go_on_in_the_next_line_before_anything_is_lost(width: int) -> None:
    heading, *lines = shown(width).splitlines()
    letters = "".join("".join(lines).split())

    assert heading.strip() == "title"
    for cell in ROW[:3]:
        for letter in set(cell):
            assert letters.count(letter) >= cell.count(letter)
    assert all(len(line) <= width for line in lines)


def test_a_row_may_be_shorter_than_the_headings() -> None:
    assert "none" in shown(80, Fitted("title", ("partition", ">lag"), [("none",)]))


def test_names_are_no_markup() -> None:
    assert "[red]" in shown(80, Fitted("title", ("process",), [("[red]",)]))
