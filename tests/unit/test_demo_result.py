"""The demo's verdict: one hour's loss does not hide another one's gain."""

from __future__ import annotations

from hourglass.cluster.published import Result
from hourglass.model.keys import HOUR_MS
from hourglassctl.audit.compare import Audit, Difference
from hourglassctl.demo.run import DemoResult, expected_hours, judge
from producer.simulator import Sensors

HOUR = 1_735_689_600_000
WANT = {HOUR: Result(10, 500), HOUR + HOUR_MS: Result(10, 600)}


def verdict(
    published: dict[int, Result], late: dict[int, int] | None = None, audit: Audit | None = None
) -> DemoResult:
    return judge(WANT, published, late or {}, produced=20, audit=audit or Audit())


def test_everything_counted_once_is_good() -> None:
    found = verdict(WANT)
    assert found.good
    assert (found.hours_due, found.hours_published, found.exact_sums) == (2, 2, 2)


def test_a_loss_and_a_gain_do_not_cancel() -> None:
    found = verdict({HOUR: Result(9, 450), HOUR + HOUR_MS: Result(11, 650)})
    assert not found.good
    assert (found.lost, found.twice, found.exact_sums) == (1, 1, 0)


def test_a_missing_hour_is_lost() -> None:
    found = verdict({HOUR: Result(10, 500)})
    assert not found.good
    assert found.lost == 10


def test_a_late_reading_is_neither_lost_nor_counted() -> None:
    found = verdict({**WANT, HOUR: Result(9, 450)}, {HOUR: 1})
    assert found.good
    assert (found.lost, found.late, found.exact_sums) == (0, 1, 1)


def test_an_hour_whose_readings_all_came_late_is_no_loss() -> None:
    late = verdict({HOUR: Result(10, 500)}, {HOUR + HOUR_MS: 10})
    lost = verdict({HOUR: Result(10, 500)}, {HOUR + HOUR_MS: 9})
    assert not late.good
    assert not lost.good
    assert late.outcome.startswith("no reading is lost, but some arrived too late")
    assert lost.outcome == "THE RESULT IS WRONG: see the differences"
    assert verdict(WANT).outcome == "every reading was counted once"


def test_a_difference_in_the_audit_is_not_good() -> None:
    assert not verdict(WANT, audit=Audit(differences=[Difference(hour="", what="odd")])).good


def test_what_is_expected_follows_from_the_generators_alone() -> None:
    def sensors() -> Sensors:
        return Sensors(["a", "b"], seed=3, period_ms=1000)

    expected = expected_hours([sensors()], HOUR, HOUR + 2 * HOUR_MS)
    readings = list(sensors().read(HOUR, HOUR + 2 * HOUR_MS))
    assert [each.count for each in expected.values()] == [7200, 7200]
    assert sum(each.sum_milli_f for each in expected.values()) == sum(r.milli_f for r in readings)
