"""Compares the result of a run with known producers to the expected one, hour by hour. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hourglass.cluster.publish_state import Result
from hourglass.model.keys import HOUR_MS
from hourglassctl.audit.compare import Audit
from producer.simulator import Sensors


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The result of the demo. `lost` and `twice` are summed over the hours separately, so that a
    loss in one hour and a surplus in another do not cancel out."""

    hours_due: int
    hours_published: int
    exact_sums: int
    produced: int
    counted: int
    late: int
    lost: int
    twice: int
    differences: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return (
            self.hours_published == self.hours_due
            and self.produced == self.counted + self.late
            and not (self.lost or self.twice or self.differences)
        )

    @property
    def outcome(self) -> str:
        """The result in one line."""
        if self.good:
            return "every reading was counted once"
        if self.late and not (self.lost or self.twice or self.differences):
            return (
                "no reading is lost, but some arrived too late for their hours: the machine was "
                "too busy for this speed; run the demo again when it has less load"
            )
        return "THE RESULT IS WRONG: see the differences"

    def lines(self) -> Sequence[tuple[str, str]]:
        """The lines to show, as names and values."""
        return [
            ("hours due", f"{self.hours_due:,}"),
            ("hours published", f"{self.hours_published:,}"),
            ("averages exact to the thousandth", f"{self.exact_sums:,}"),
            ("readings produced", f"{self.produced:,}"),
            ("readings counted", f"{self.counted:,}"),
            ("readings late", f"{self.late:,}"),
            ("lost", f"{self.lost:,}"),
            ("counted twice", f"{self.twice:,}"),
            *(("difference", each) for each in self.differences),
        ]


def expected_hours(producers: Iterable[Sensors], start_ms: int, end_ms: int) -> dict[int, Result]:
    """The expected result of each hour from `start_ms` to `end_ms`, from the generators alone."""
    counts: dict[int, int] = {}
    sums: dict[int, int] = {}
    for sensors in producers:
        for _, ts_ms, milli_f in sensors.read(start_ms, end_ms):
            hour = ts_ms - ts_ms % HOUR_MS
            counts[hour] = counts.get(hour, 0) + 1
            sums[hour] = sums.get(hour, 0) + milli_f
    return {hour: Result(count, sums[hour]) for hour, count in counts.items()}


def judge(
    expected: Mapping[int, Result],
    published: Mapping[int, Result],
    late: Mapping[int, int],
    *,
    produced: int,
    audit: Audit,
) -> DemoResult:
    """Compare the warehouse's rows with the expected hours.

    late: number of late readings, by hour
    """
    lost = twice = exact = 0
    for hour, want in expected.items():
        have = published.get(hour, Result(0, 0))
        missing = want.count - have.count - late.get(hour, 0)
        lost += max(0, missing)
        twice += max(0, -missing)
        exact += have == want
    return DemoResult(
        hours_due=len(expected),
        hours_published=len(published),
        exact_sums=exact,
        produced=produced,
        counted=sum(each.count for each in published.values()),
        late=sum(late.values()),
        lost=lost,
        twice=twice,
        differences=tuple(f"{each.hour} {each.what}".strip() for each in audit.differences),
    )
