"""Names, types and labels of the metrics are what others build upon: dashboards, alerts, scaling.

Whoever changes one changes metrics.txt too, on purpose, and says so to those who use it.
"""

from __future__ import annotations

from pathlib import Path

from tools.reference import exporters

LIST = Path(__file__).parent / "metrics.txt"


def test_the_metrics_are_those_that_were_promised() -> None:
    declared = {f"{each.name} {each.kind} {','.join(each.labels)}".strip() for each in exporters()}
    assert declared == set(LIST.read_text(encoding="utf-8").splitlines())


def test_every_name_says_its_unit() -> None:
    for each in exporters():
        assert each.name.startswith("hourglass_")
        assert each.unit, each.name
        assert (each.kind == "counter") == each.name.endswith("_total"), each.name
        if "seconds" in each.unit.split():
            assert each.name.endswith("_seconds"), each.name
        assert bool(each.buckets) == (each.kind == "histogram"), each.name
        # What a process counts itself adds up; only of a fact can there be a greatest.
        assert each.across == "sum" or each.kind == "gauge", each.name
