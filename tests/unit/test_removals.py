"""What is known of removed entries, from one look to the next."""

from __future__ import annotations

from hourglass.monitoring.stream_stats import Removals, counted_line, uncounted_line


def test_a_metric_does_not_forget_a_loss_while_much_waits() -> None:
    before = Removals(entries=7, uncounted=5)
    assert Removals(entries=9, uncounted=2, counted=1).after(before) == Removals(
        entries=9, uncounted=5, counted=1
    )
    assert Removals(entries=3, uncounted=1).after(before) == Removals(entries=3, uncounted=1)
    assert Removals(entries=9, uncounted=None).after(before).uncounted is None


def test_a_line_says_whether_there_may_be_more() -> None:
    known = Removals(entries=7, uncounted=5, counted=2)
    assert "MAXLEN) 5 entries that had not been counted" in uncounted_line("temps:1", known)
    assert "removed 2 entries after" in counted_line("temps:1", known)
    waiting = Removals(entries=7, uncounted=5)
    assert "at least 5 entries" in uncounted_line("temps:1", waiting)
    assert counted_line("temps:1", waiting) == ""
    assert uncounted_line("temps:1", Removals(entries=7, counted=7)) == ""
